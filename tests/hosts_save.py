#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# processors: 2
# needs: mpi
"""Three hosts with a shared GlusterFS folder (hosts/network.py), and mpirun over TCP among them:
what is saved is what one host saves; a save that is under way keeps others out; and whatever
happens to a host in the middle of a save, the folder holds the old or the new checkpoint, and the
next job goes on."""

import filecmp
import json
import os
import pathlib
import random
import re
import shlex
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "hosts"))
import network  # noqa: E402
from tool_support import Tensor, checkpoint, put  # noqa: E402

TOOL = os.environ["ALLSHARD_BIN"]
MPIEXEC = os.environ.get("MPIEXEC", "mpirun")
# What a dead host's lock waits for; 30 s where nobody says anything else.
LEASE_S = 3
LIMIT = 20_000_000
# mpirun asks its daemons whether they are there; by its own defaults it waits for minutes.
PATIENCE = {"oob_tcp_keepalive_time": 2, "oob_tcp_keepalive_intvl": 1, "oob_tcp_keepalive_probes": 2}
SEED = int(os.environ.get("ALLSHARD_TEST_SEED", random.SystemRandom().randrange(10**6)))
net = None


def mpirun(hosts, each, *arguments, patience=True):
    """The command line of a job with so many ranks on each host."""
    asks = [word for name, value in PATIENCE.items() for word in ("--mca", name, value)]
    return shlex.join(map(str, [
        MPIEXEC, "--mca", "plm_rsh_agent", network.HERE / "agent.py", "--mca", "btl",
        "self,vader,tcp", *(asks if patience else []), "-x", f"ALLSHARD_LEASE={LEASE_S}", "-H",
        ",".join(f"{h.name}:{each}" for h in hosts), "-n", len(hosts) * each, *arguments]))


# How often TCP sends again what a host that is gone does not confirm, which keeps it from asking
# whether it is there: 5 is about 13 s; 15, the kernel's own, a quarter of an hour.
RETRIES = "/proc/sys/net/ipv4/tcp_retries2"


class Job(threading.Thread):
    """A job that runs beside the test, started on the first of its hosts."""

    def __init__(self, hosts, each, *arguments, patience):
        super().__init__(daemon=True)
        self.host = hosts[0]
        self.command = mpirun(hosts, each, *arguments, patience=patience)
        self.retries = 5 if patience else 15
        self.text, self.status = "", None
        self.start()

    def run(self):
        try:
            self.text, self.status = self.host.ask(
                f"echo {self.retries} >{RETRIES}; echo $$ >/dev/shm/job; exec {self.command}", timeout=200)
        except OSError as fault:
            self.text = str(fault)

    def end(self, timeout):
        """Has it ended by itself by then?"""
        self.join(timeout)
        return not self.is_alive()

    def kill_launcher(self):
        """mpirun alone, without a chance to tell anybody."""
        self.host.ask("kill -9 $(cat /dev/shm/job)")


def wait_until(look, what, timeout=60):
    end = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.01)


class Hosts(unittest.TestCase):
    def setUp(self):
        self.random = random.Random(f"{SEED}{self.id()}")
        self.name = self.id().rpartition(".")[2]
        self.target = net.shared / self.name
        self.one, self.two, self.three = net.nodes
        for host in net.nodes:
            if host.process is None or host.process.poll() is not None:
                net.restart(host)

    def tell(self, text):
        print(f"{self.name}: {text}", flush=True)

    def tool(self, hosts, each, *arguments, status=0, timeout=100):
        """Output of a job that must end with that status."""
        text, got = hosts[0].ask(mpirun(hosts, each, TOOL, *arguments), timeout=timeout)
        self.assertEqual(got, status, text)
        return text

    def save(self, seed, layout="fsdp"):
        return ["copy", net.shared / f"model-{seed}", self.target, "--layout", layout,
                "--max-shard-size", LIMIT]

    def holds(self, seed):
        """Is that model in the folder, byte for byte, and nothing else?"""
        here, good = net.brick / self.name, net.brick / f"model-{seed}"
        names = [p.name for p in good.iterdir()]
        same, _, _ = filecmp.cmpfiles(here, good, names, shallow=False)
        found = {p.name for p in here.iterdir()}
        return len(same) == len(names) and found == {*names, "allshard.manifest.json"}

    def reads_as(self, host):
        """1 or 2: which of the two checkpoints a reader sees while nothing has been recovered."""
        for seed in (1, 2):
            text, status = host.ask(TOOL, "diff", self.target, net.shared / f"model-{seed}")
            if status == 0:
                return seed
            self.assertEqual(status, 1, text)
        raise AssertionError(f"neither old nor new: {text}")

    def staged(self):
        """Bytes that a save under way has staged so far."""
        try:
            files = [p.stat() for p in (net.brick / self.name / ".allshard" / "new").iterdir()]
        except OSError:
            return 0
        return sum(s.st_size for s in files)

    def save_in_the_middle(self, hosts, slow, patience=True):
        """An old checkpoint, and a save over it that has come as far as its data."""
        self.tool(hosts, 2, *self.save(1))
        for host in slow:
            host.slow("50mbit")
        job = Job(hosts, 2, TOOL, *self.save(2), patience=patience)
        wait_until(self.staged, f"staged files; the job says: {job.text}")
        time.sleep(self.random.uniform(0, 1))
        self.assertTrue(job.is_alive(), job.text)
        return job

    def next_save(self, hosts, seed=2):
        """The next job saves, whatever was left, and nothing else is in the folder then."""
        begin = time.monotonic()
        text = self.tool(hosts, 2, *self.save(seed))
        self.assertTrue(self.holds(seed), os.listdir(net.brick / self.name))
        self.tell(f"the next job saved in {time.monotonic() - begin:.1f} s")
        return text

    # ---- nothing happens ----

    def test_hosts_write_the_bytes_of_one_host(self):
        cases = [(net.nodes, 1, "tp=3"), (net.nodes, 2, "tp=2,pp=3"), (net.nodes, 1, "columns"),
                 ([self.two, self.three], 2, "tp=2,dp=2"), ([self.three, self.one], 1, "flat")]
        for hosts, each, layout in cases:
            self.tool(hosts, each, *self.save(1, layout))
            self.assertTrue(self.holds(1), layout)
        self.tell(f"{len(cases)} layouts")

    def test_engines_work_on_the_shared_folder(self):
        source = net.shared / "model-1"
        for engine in ("auto", "posix", "direct", "uring"):
            text = self.tool(net.nodes, 1, "copy", source, self.target, "--engine", engine,
                             "--max-shard-size", LIMIT, "--layout", "columns", "--json")
            # The launcher's warnings come with it.
            begin, end = text.find("{"), text.rfind("}") + 1
            self.assertTrue(0 <= begin < end, text)
            result = json.loads(text[begin:end])
            self.tell(text[:begin] + text[end:].strip())
            self.tell(f"{engine}: {result['engine']} ({result['engine_reason']}), "
                      f"{result['write_seconds']:.2f} s")
            self.assertTrue(self.holds(1), engine)
            if engine != "auto":
                self.assertEqual(result["engine"], engine)

    def test_hosts_load_what_hosts_saved(self):
        source = net.shared / "model-1"
        self.tool(net.nodes, 2, "copy", source, self.target, "--max-shard-size", "7MB",
                  "--layout", "fsdp")
        self.tool([self.three, self.two], 1, "diff", source, self.target)
        self.tool(net.nodes, 1, "verify", self.target)
        back = net.shared / f"{self.name}-back"
        self.tool(net.nodes, 1, "copy", self.target, back, "--max-shard-size", LIMIT,
                  "--layout", "columns")
        self.name = back.name
        self.assertTrue(self.holds(1))

    # ---- two at once ----

    def test_a_save_keeps_other_hosts_out(self):
        job = self.save_in_the_middle([self.one, self.two], [self.two])
        text = self.tool([self.three], 2, *self.save(1), status=3)
        self.assertRegex(text, r"process \d+ on host node1 has held this folder since 20")
        lock = json.loads((net.brick / self.name / ".allshard" / "lock").read_text())
        self.assertIn(f"process {lock['pid']} ", text)
        self.two.fast()
        self.assertTrue(job.end(60), "the save that was first hangs")
        self.assertEqual(job.status, 0, job.text)
        self.assertTrue(self.holds(2))
        self.tell(re.search(r"process .* has held.*", text).group())

    # ---- a host fails ----

    def test_a_killed_host_ends_the_job(self):
        job = self.save_in_the_middle(net.nodes, [self.three])
        self.three.kill()
        self.job_ends(job, [self.one, self.two])
        self.next_save([self.one, self.two])

    def test_the_lock_of_a_killed_host_is_found_stale(self):
        job = self.save_in_the_middle(net.nodes, [self.three])
        self.one.kill()
        job.end(5)
        self.tell(f"the folder reads as {self.reads_as(self.two)}")
        text = self.next_save([self.two, self.three])
        self.assertRegex(text, r"took over the lock of a dead save \(process \d+ on node1\)")

    def test_a_launcher_that_dies_leaves_nothing_waiting(self):
        job = self.save_in_the_middle(net.nodes, [self.three])
        job.kill_launcher()
        begin = time.monotonic()
        left = wait_until(lambda: not any(self.ranks(h) for h in net.nodes),
                          "the ranks to end after mpirun's death", 60)
        self.assertTrue(left)
        self.tell(f"all ranks had ended {time.monotonic() - begin:.1f} s after mpirun; the folder "
                  f"reads as {self.reads_as(self.two)}")
        self.three.fast()
        self.next_save(net.nodes)

    def job_ends(self, job, hosts):
        """A host is gone: every rank that can be reached ends with mpirun. Whether mpirun notices
        is between it and TCP; if it does not, the test is the operator who ends it."""
        begin = time.monotonic()
        if job.end(40):
            self.assertNotEqual(job.status, 0, job.text)
            how = f"ended with {job.status} after {time.monotonic() - begin:.1f} s"
        else:
            job.kill_launcher()
            how = "noticed nothing within 40 s and was ended"
        self.tell(f"mpirun {how}; the folder reads as {self.reads_as(self.two)}")
        for host in hosts:
            wait_until(lambda h=host: not self.ranks(h), f"the ranks of {host.name} to end", 60)

    def ranks(self, host):
        """Process ids of the tool on a host."""
        text, _ = host.ask("for p in /proc/[0-9]*; do [ \"$(readlink $p/exe)\" = "
                           f"{shlex.quote(TOOL)} ] && basename $p; done; true")
        return text.split()

    def end_ranks(self, host):
        for pid in self.ranks(host):
            host.ask(f"kill -9 {pid}")

    def test_a_host_that_is_cut_off(self):
        job = self.save_in_the_middle(net.nodes, [self.three])
        self.three.cut()
        self.job_ends(job, [self.one, self.two])
        self.next_save([self.one, self.two])
        self.come_back(self.three)
        self.three.fast()
        self.assertTrue(self.holds(2))
        self.next_save(net.nodes, seed=1)

    def come_back(self, host):
        """Joins a host that was cut off. What is left there wakes up in a folder that is not its
        own any more, and is ended if it does not end by itself."""
        probe = shlex.quote(str(net.shared / "hello"))

        def works():
            try:
                return host.ask(f"touch {probe} && rm {probe}")[1] == 0
            except OSError:
                return False

        host.join()
        wait_until(works, f"the shared folder on {host.name}")
        self.tell(f"{len(self.ranks(host))} ranks were left on {host.name}, which had been cut off")

    def test_a_main_process_that_was_cut_off_does_no_harm(self):
        """Its lock is taken over while it is away, and it learns so when it is back. mpirun does
        not notice the cut by itself, which would spoil that."""
        job = self.save_in_the_middle(net.nodes, [self.three], patience=False)
        self.one.cut()
        self.assertEqual(self.reads_as(self.two), 1)
        for host in (self.two, self.three):
            self.end_ranks(host)
        self.three.fast()
        text = self.next_save([self.two, self.three], seed=1)
        self.assertRegex(text, r"took over the lock of a dead save \(process \d+ on node1\)")
        self.come_back(self.one)
        wait_until(lambda: self.ranks(self.one) == [], "the job that was cut off to end")
        self.assertTrue(job.end(60), "mpirun does not end")
        self.tell(f"its job ended with {job.status}: {job.text.strip().splitlines()[:1]}")
        self.assertTrue(self.holds(1), os.listdir(net.brick / self.name))
        self.next_save(net.nodes)


def main():
    global net
    begin = time.monotonic()
    launcher = shlex.split(MPIEXEC)[0]
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False)
    if "OpenRTE" not in version.stdout and "Open MPI" not in version.stdout:
        print(f"skipped: {launcher} is not Open MPI's, whose remote shell is the test's own")
        return 77
    try:
        net = network.Network(3, os.environ.get("ALLSHARD_BUILD_DIR", "."))
    except network.NotHere as reason:
        print(f"skipped: {reason}")
        return 77
    try:
        print(f"hosts are up after {time.monotonic() - begin:.1f} s; seed {SEED}", flush=True)
        for seed in (1, 2):
            source = random.Random(seed)
            tensors = [Tensor(f"layers.{i:02}.w", "BF16", [1000 + i, 1536], source)
                       for i in range(16)]
            put(net.folder / f"model-{seed}", checkpoint(tensors, LIMIT))
            net.nodes[0].must("cp", "-r", net.folder / f"model-{seed}", net.shared)
        done = unittest.main(verbosity=2, exit=False)
        print(f"{time.monotonic() - begin:.1f} s with everything", flush=True)
        return 0 if done.result.wasSuccessful() else 1
    finally:
        net.stop()


if __name__ == "__main__":
    sys.exit(main())
