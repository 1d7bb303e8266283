#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# long-timeout: 1200
# processors: 2
# needs: mpi
"""The trainer under slurm/train.sbatch in a real Slurm (slurm/cluster.py): whatever ends a run in
the middle, the job goes on by itself, and ends with the weights, and with the losses of every step,
of a run that nothing disturbed. All scenes play at the same time, in jobs of their own.

ALLSHARD_SLURM_SCENES=a,b plays only those; ALLSHARD_LONG=1 also those that take minutes."""

import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "slurm"))
import cluster  # noqa: E402
from cluster import Job, ask, wait_until  # noqa: E402

SOURCE = pathlib.Path(os.environ["ALLSHARD_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["ALLSHARD_BUILD_DIR"])
TOOL = os.environ["ALLSHARD_BIN"]
TRAINER = str(BUILD / "tests" / "train_gpt2" / "train_gpt2")
TEXT = SOURCE / "docs" / "cli.md"
LONG = os.environ.get("ALLSHARD_LONG", "0") not in ("", "0")
SEED = int(os.environ.get("ALLSHARD_TEST_SEED", random.SystemRandom().randrange(10**6)))
PARTITIONS = {
    "main": (["n1", "n2", "n3"], ""),
    # High jobs push low ones aside: what runs has so many seconds, and goes back into the queue.
    "low": (["p1"], f"PriorityTier=1 PreemptMode=REQUEUE GraceTime={cluster.GRACE_S}"),
    "high": (["p1"], "PriorityTier=10 PreemptMode=OFF"),
    # Nodes that are lost.
    "lossy": (["l1", "l2", "l3"], ""),
    "lossy2": (["m1", "m2", "m3"], ""),
}
LONG_PARTITIONS = {
    "low2": (["p2"], f"PriorityTier=1 PreemptMode=REQUEUE GraceTime={cluster.GRACE_S}"),
    "high2": (["p2"], "PriorityTier=10 PreemptMode=OFF"),
    "lossy3": (["o1", "o2", "o3"], ""),
}
STEPS = 120
EVERY = 25
slurm = None
references = {}
reference_lock = threading.Lock()


def environment(**more):
    """sbatch hands it to the job."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "ALLSHARD_"))}
    own["SLURM_CONF"] = os.environ["SLURM_CONF"]
    own.update(ALLSHARD=TOOL, ALLSHARD_SLURM=str(SOURCE / "slurm"),
               # The scenes say when the time is up; short limits would have every run stop at once.
               ALLSHARD_END_TIME=str(int(time.time()) + 86400),
               # With shared memory besides, steps on several of these nodes crashed in MPI_Init, in four
               # of four runs of all scenes on a busy machine: Open MPI's reader of TCP got a message
               # before anybody was there for it. By TCP alone none did, in five.
               OMPI_MCA_btl="self,tcp",
               # mpirun waits for twice this when ranks leave with 75, too.
               OMPI_MCA_odls_base_sigkill_timeout="2")
    own.update(more)
    return {k: v for k, v in own.items() if v is not None}


class Run:
    """A run of the trainer in jobs: its series, its log, and what it has to be compared with."""

    def __init__(self, name, ranks=4, steps=STEPS, delay_ms=80, tp=1):
        self.name, self.ranks, self.steps, self.tp = name, ranks, steps, tp
        self.delay_ms = delay_ms
        self.folder = slurm.folder / "runs" / name
        self.folder.mkdir(parents=True)
        self.root = self.folder / "series"
        self.log = self.folder / "log"
        self.jobs = []
        self.began = time.monotonic()

    def program(self):
        return [TRAINER, "--root", self.root, "--steps", self.steps, "--every", EVERY,
                "--delay-ms", self.delay_ms, "--tp", self.tp, TEXT]

    def submit(self, *options, script="train.sbatch", nodes=1, **more):
        own = [f"--output={self.log}", f"--nodes={nodes}", f"--ntasks-per-node={self.ranks // nodes}",
               f"--job-name={self.name}", f"--chdir={self.folder}"]
        job = Job(*own, *options, SOURCE / "slurm" / script, self.root, *self.program(),
                  env=environment(**more))
        self.jobs.append(job)
        return job

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def steps_done(self):
        """(step, loss) as they were told, those that were done twice too."""
        return [(int(s), loss) for s, loss in re.findall(r"^step (\d+) loss (\S+)$", self.text(), re.M)]

    def begins(self):
        """The steps from which runs went on; 0: a fresh one."""
        return [int(s) for s in re.findall(r"^(?:resumed|fresh) step (\d+)", self.text(), re.M)]

    def tell(self):
        return f"{self.name}: jobs {[j.seen for j in self.jobs]}\n{self.text()[-20000:]}"

    def wait_for_step(self, step, timeout=90):
        def look():
            if self.ended_early():
                raise AssertionError(f"ended before step {step}: {self.tell()}")
            return any(s >= step for s, _ in self.steps_done())
        wait_until(look, lambda: f"step {step} of {self.tell()}", timeout, 0.2)

    def wait_for_end(self, timeout=150):
        # A job that is back in the queue begins when its old credential is void. Not before, as
        # `scontrol update StartTime=now` would have it: steps of such a job cannot be started.
        wait_until(lambda: all([job.ended() for job in self.jobs]),
                   lambda: f"the end of {self.tell()}", timeout, 0.5)

    def ended_early(self):
        return all(job.ended() for job in self.jobs)

    def processes(self):
        """{rank: process id} of the ranks that run, of srun and mpirun alike."""
        found = {}
        for folder in pathlib.Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if words[0] != TRAINER.encode() or str(self.root).encode() not in words:
                    continue
                for entry in (folder / "environ").read_bytes().split(b"\0"):
                    name, _, value = entry.partition(b"=")
                    if name == b"PMIX_RANK":
                        found[int(value)] = int(folder.name)
            except OSError:
                pass
        return found

    def rank_process(self, rank):
        return wait_until(lambda: self.processes().get(rank),
                          lambda: f"the process of rank {rank} of {self.tell()}", 20)

    def script_process(self):
        """The process of the job script."""
        for folder in pathlib.Path("/proc").iterdir():
            try:
                if (folder.name.isdigit() and pathlib.Path(os.readlink(folder / "cwd")) == self.folder
                        and b"/slurm_script\0" in (folder / "cmdline").read_bytes()):
                    return int(folder.name)
            except OSError:
                pass
        raise AssertionError(f"no job script: {self.tell()}")

    def newest(self):
        """What is good is told by the library, not by names."""
        done = subprocess.run([TOOL, "latest", str(self.root)], capture_output=True, text=True,
                              check=False, env=environment())
        return done.stdout.strip()

    def weights(self):
        """The files of the last checkpoint that hold numbers."""
        last = self.root / f"checkpoint-{self.steps}"
        return {p.name: p.read_bytes() for p in last.glob("*.safetensors")}

    def final(self):
        found = re.findall(r"^final step (\d+) weights (\S+) optimizer (\S+)$", self.text(), re.M)
        return found[-1] if found else None

    def check(self, case, begins=2, end="COMPLETED"):
        """It has finished, as if nothing had happened. Returns how many steps were done twice."""
        good = reference(self.ranks, self.steps, self.tp)
        case.assertEqual(self.jobs[-1].seen[-1].split()[0], end, self.tell())
        case.assertIsNotNone(self.final(), self.tell())
        case.assertEqual(self.final(), good.final(), self.tell())
        mine, theirs = self.weights(), good.weights()
        case.assertTrue(theirs)
        case.assertEqual(sorted(mine), sorted(theirs))
        for name, data in theirs.items():
            case.assertTrue(mine[name] == data, f"{self.name}: {name} differs from the undisturbed run's")
        # Every step is there, and whenever it was done, with the same loss.
        curve = dict(good.steps_done())
        done = self.steps_done()
        case.assertEqual(sorted(curve), list(range(1, self.steps + 1)))
        case.assertEqual(sorted({s for s, _ in done}), sorted(curve))
        for step, loss in done:
            case.assertEqual(loss, curve[step], f"{self.name}: loss of step {step}")
        case.assertGreaterEqual(len(self.begins()), begins, self.tell())
        again = len(done) - self.steps
        print(f"{self.name}: {self.ranks} ranks, went on from {self.begins()}, {again} steps done "
              f"twice, {time.monotonic() - self.began:.0f} s", flush=True)
        return again


def reference(ranks, steps, tp):
    """A run that nothing disturbs, outside of the jobs."""
    with reference_lock:
        key = (ranks, steps, tp)
        if key not in references:
            run = Run(f"reference-{ranks}-{steps}-{tp}", ranks, steps, 0, tp)
            with open(run.log, "wb") as log:
                done = subprocess.run(
                    [os.environ.get("MPIEXEC", "mpirun"), "-n", str(ranks),
                     *map(str, run.program())], stdout=log, stderr=log, check=False, timeout=400,
                    env=environment(), stdin=subprocess.DEVNULL)
            if done.returncode:
                raise AssertionError(f"the undisturbed run: {done.returncode}\n{run.text()}")
            references[key] = run
        return references[key]


def saving(run):
    """Is a save under way?"""
    return (run.root / ".allshard").exists() or any(run.root.glob("*/.allshard"))


def kill_in_a_save(run):
    """Kills a rank while a save is under way, for certain: another rank is stopped first, and the
    save then waits for it."""
    for _ in range(20):
        processes = wait_until(lambda: len(p := run.processes()) == run.ranks and p, "ranks", 60)
        stopped = processes[run.ranks - 1]
        wait_until(lambda: saving(run), lambda: f"a save of {run.tell()}", 60, 0.0005)
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(0.3)
        if saving(run):
            os.kill(processes[1], signal.SIGKILL)
            os.kill(stopped, signal.SIGKILL)
            return
        os.kill(stopped, signal.SIGCONT)
        time.sleep(0.2)
    raise AssertionError(f"no save could be met: {run.tell()}")


# ---- scenes: each plays in a thread; what it returns is checked by the test of the same name ----

def scene_time_limit():
    """(a) The signal before the time limit, which Slurm sends when it looks at limits: every 30 s."""
    run = Run("time_limit", steps=400, delay_ms=80)
    job = run.submit("--time=1", "--signal=B:USR2@50", ALLSHARD_LAUNCHER="srun")
    wait_until(lambda: len(run.begins()) > 1, lambda: f"another run of {run.tell()}", 120, 0.2)
    # Once is enough: the rest of it has time.
    ask("scontrol", "update", f"JobId={job.id}", "TimeLimit=10")
    run.wait_for_end()
    return run


def scene_time_that_remains():
    """(a) No signal: the trainer asks Slurm for the time that remains, and stops before the end."""
    run = Run("time_that_remains", steps=2300, delay_ms=80)
    job = run.submit("--time=3", "--signal=B:URG@1", ALLSHARD_LAUNCHER="srun", ALLSHARD_END_TIME=None)
    wait_until(lambda: len(run.begins()) > 1, lambda: f"another run of {run.tell()}", 300, 0.5)
    ask("scontrol", "update", f"JobId={job.id}", "TimeLimit=60")
    run.wait_for_end(300)
    return run


def scene_signal_mpirun():
    """The same signal at a known time, with mpirun over three nodes; as a task of an array, which
    has an id of its own to be put back by."""
    run = Run("signal_mpirun", ranks=6)
    job = run.submit("--array=7", nodes=3, ALLSHARD_LAUNCHER="mpirun")
    run.wait_for_step(40)
    ask("scancel", "--signal=USR2", "--batch", job.running())
    run.wait_for_end()
    return run


def requeue(name, launcher):
    run = Run(name, ranks=6)
    job = run.submit(nodes=3, ALLSHARD_LAUNCHER=launcher)
    run.wait_for_step(40)
    ask("scontrol", "requeue", job.id)
    run.wait_for_end()
    return run


def scene_requeue():
    """(b) An operator puts the job back; three nodes, srun."""
    return requeue("requeue", "srun")


def scene_requeue_mpirun():
    return requeue("requeue_mpirun", "mpirun")


def scene_preempt():
    """(b) A job of a higher partition wants the node."""
    run = Run("preempt")
    run.submit("--partition=low", ALLSHARD_LAUNCHER="srun")
    run.wait_for_step(30)
    high = Job("--partition=high", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
    run.wait_for_end()
    wait_until(high.ended, "the job that pushed the other aside")
    return run


def scene_preempt_mpirun():
    """(b) mpirun on one node learns of it only when the seconds of grace are over."""
    run = Run("preempt_mpirun", steps=400)
    run.submit("--partition=low2", ALLSHARD_LAUNCHER="mpirun")
    run.wait_for_step(30)
    high = Job("--partition=high2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
    run.wait_for_end(200)
    wait_until(high.ended, "the job that pushed the other aside")
    return run


def scene_storm():
    """Whatever comes, again and again, at times of its own."""
    run = Run("storm", steps=500, delay_ms=60)
    dice = random.Random(SEED)
    job = run.submit(ALLSHARD_LAUNCHER="srun", ALLSHARD_RETRIES="100")
    for _ in range(8):
        begins = len(run.begins())
        wait_until(lambda: run.ended_early() or len(run.processes()) == run.ranks,
                   lambda: f"ranks of {run.tell()}", 120, 0.2)
        time.sleep(dice.uniform(0, 5))
        what = dice.choice(("kill", "kill", "signal", "requeue"))
        processes = run.processes()
        if what == "kill" and processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(sorted(processes.values())), signal.SIGKILL)
        elif what == "signal":
            ask("scancel", "--signal=USR2", "--batch", job.id, check=False)
        elif what == "requeue":
            ask("scontrol", "requeue", job.id, check=False)
        print(f"storm: {what} after step {(run.steps_done() or [(0, '')])[-1][0]}", flush=True)
        wait_until(lambda n=begins: run.ended_early() or len(run.begins()) > n,
                   lambda: f"another run of {run.tell()}", 120, 0.2)
    run.wait_for_end()
    return run


def scene_killed_rank():
    """(c)"""
    run = Run("killed_rank")
    run.submit(ALLSHARD_LAUNCHER="srun")
    run.wait_for_step(40)
    os.kill(run.rank_process(2), signal.SIGKILL)
    run.wait_for_end()
    return run


def scene_killed_rank_mpirun():
    run = Run("killed_rank_mpirun", ranks=12, tp=2)
    run.submit(nodes=3, ALLSHARD_LAUNCHER="mpirun")
    run.wait_for_step(40)
    os.kill(run.rank_process(7), signal.SIGKILL)
    run.wait_for_end()
    return run


def scene_killed_save():
    """(d)"""
    run = Run("killed_save", ranks=12)
    run.submit(nodes=3, ALLSHARD_LAUNCHER="srun")
    run.wait_for_step(EVERY + 2)
    kill_in_a_save(run)
    run.wait_for_end()
    return run


def scene_requeued_save():
    """(d) A save that the end of the job meets."""
    run = Run("requeued_save")
    job = run.submit(ALLSHARD_LAUNCHER="srun")
    run.wait_for_step(EVERY + 2)
    wait_until(lambda: saving(run), "a save", 60, 0.001)
    ask("scontrol", "requeue", job.id)
    run.wait_for_end()
    return run


def lose_node(name, partition, launcher, which):
    run = Run(name)
    job = run.submit(f"--partition={partition}", nodes=2, ALLSHARD_LAUNCHER=launcher)
    run.wait_for_step(40)
    nodes = ask("squeue", "-h", "-j", job.id, "-o", "%B %N").split()
    first = nodes[0]
    everyone = ask("scontrol", "show", "hostnames", nodes[1]).split()
    slurm.nodes[first if which == "first" else next(n for n in everyone if n != first)].kill()
    run.wait_for_end(200)
    return run


def scene_lost_node():
    """(e) Power goes on a node that is not the script's."""
    return lose_node("lost_node", "lossy", "srun", "other")


def scene_lost_node_mpirun():
    return lose_node("lost_node_mpirun", "lossy2", "mpirun", "other")


def scene_lost_first_node():
    """(e) The job script's own node."""
    return lose_node("lost_first_node", "lossy3", "srun", "first")


def scene_cancel():
    """A job that somebody cancels stays so, and what it had saved is good."""
    run = Run("cancel")
    job = run.submit(ALLSHARD_LAUNCHER="srun")
    run.wait_for_step(40)
    job.cancel()
    wait_until(job.ended, lambda: f"the end of {run.tell()}")
    return run


def scene_array():
    run = Run("array")
    run.submit("--array=1-4%1", script="train-array.sbatch", ALLSHARD_LAUNCHER="srun")
    run.wait_for_step(40)
    # scancel does not reach a task's script while others of the array wait (22.05).
    os.kill(run.script_process(), signal.SIGUSR2)
    run.wait_for_end()
    return run


def scene_chain():
    run = Run("chain")
    for _ in range(4):
        run.submit(script="train-chain.sbatch", ALLSHARD_LAUNCHER="srun")
    run.wait_for_step(40)
    ask("scancel", "--signal=USR2", "--batch", run.jobs[0].id)
    run.wait_for_end()
    return run


class Train(unittest.TestCase):
    def play(self, name):
        if name not in scenes:
            self.skipTest("not played in this run")
        return scenes[name].result()

    def test_time_limit(self):
        run = self.play("time_limit")
        self.assertEqual(run.check(self), 0)
        self.assertIn("USR2: the ranks are told to save and to stop", run.text())

    def test_signal_mpirun(self):
        self.assertEqual(self.play("signal_mpirun").check(self), 0)

    def test_requeue(self):
        # TERM came: nothing is lost.
        self.assertEqual(self.play("requeue").check(self), 0)

    def test_requeue_mpirun(self):
        self.play("requeue_mpirun").check(self)

    def test_time_that_remains(self):
        run = self.play("time_that_remains")
        self.assertEqual(run.check(self), 0)
        self.assertNotIn("told to save and to stop", run.text())
        self.assertRegex(run.text(), r"stopping at step \d+ because of (\w+, )*walltime")

    def test_preempt_mpirun(self):
        self.play("preempt_mpirun").check(self)

    def test_storm(self):
        self.play("storm").check(self)

    def test_lost_first_node(self):
        run = self.play("lost_first_node")
        run.check(self)
        self.assertGreater(run.jobs[0].restarts(), 0)

    def test_preempt(self):
        self.assertEqual(self.play("preempt").check(self), 0)

    def test_killed_rank(self):
        run = self.play("killed_rank")
        run.check(self)
        self.assertIn("started again", run.text())
        self.assertEqual(run.jobs[0].restarts(), 0)

    def test_killed_rank_mpirun(self):
        run = self.play("killed_rank_mpirun")
        run.check(self)
        self.assertEqual(run.jobs[0].restarts(), 0)

    def test_killed_save(self):
        run = self.play("killed_save")
        self.assertGreater(run.check(self), 0)

    def test_requeued_save(self):
        self.play("requeued_save").check(self)

    def test_lost_node(self):
        run = self.play("lost_node")
        run.check(self)
        self.assertGreater(run.jobs[0].restarts(), 0)

    def test_lost_node_mpirun(self):
        run = self.play("lost_node_mpirun")
        run.check(self)
        self.assertGreater(run.jobs[0].restarts(), 0)

    def test_cancel(self):
        run = self.play("cancel")
        self.assertIn("CANCELLED", run.jobs[0].seen[-1], run.tell())
        self.assertEqual(len(run.begins()), 1)
        self.assertEqual(run.jobs[0].restarts(), 0)
        self.assertRegex(run.newest(), rf"^{run.root}/checkpoint-\d+$")
        last = int(run.newest().rpartition("-")[2])
        # TERM came: it saved the last step that it did.
        self.assertEqual(last, run.steps_done()[-1][0])

    def test_array(self):
        # Of the tasks that waited those that were not needed are cancelled.
        run = self.play("array")
        self.assertEqual(run.check(self, end="CANCELLED"), 0)
        self.assertEqual(len(run.begins()), 2)

    def test_chain(self):
        run = self.play("chain")
        # Of the jobs that waited those that were not needed are cancelled.
        states = [job.seen[-1].split()[0] for job in run.jobs]
        self.assertEqual(states, ["COMPLETED", "COMPLETED", "CANCELLED", "CANCELLED"], run.tell())
        run.jobs = run.jobs[:2]
        self.assertEqual(run.check(self), 0)


scenes = {}
# These take minutes.
LONG_SCENES = {"time_that_remains", "preempt_mpirun", "storm", "lost_first_node"}


def main():
    global slurm
    begin = time.monotonic()
    launcher = os.environ.get("MPIEXEC", "mpirun")
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False)
    if "OpenRTE" not in version.stdout and "Open MPI" not in version.stdout:
        print(f"skipped: {launcher} is not Open MPI's, which speaks PMIx with Slurm")
        return 77
    try:
        slurm = cluster.Cluster(BUILD, {**PARTITIONS, **(LONG_PARTITIONS if LONG else {})})
    except cluster.NotHere as reason:
        print(f"skipped: {reason}")
        return 77
    try:
        print(f"Slurm is up after {time.monotonic() - begin:.1f} s; seed {SEED}", flush=True)
        names = {name[len("scene_"):] for name in globals() if name.startswith("scene_")}
        chosen = os.environ.get("ALLSHARD_SLURM_SCENES")
        names = set(chosen.split(",")) if chosen else names - (set() if LONG else LONG_SCENES)
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            for name in sorted(names):
                scenes[name] = pool.submit(globals()[f"scene_{name}"])
            done = unittest.main(verbosity=2, exit=False)
        if not done.result.wasSuccessful():
            print(slurm.logs())
        of = sum(name.startswith("scene_") for name in globals())
        print(f"{len(names)} of {of} scenes, {time.monotonic() - begin:.1f} s with everything", flush=True)
        return 0 if done.result.wasSuccessful() else 1
    finally:
        slurm.stop()


if __name__ == "__main__":
    sys.exit(main())
