#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
# long-timeout: 600
# processors: 2
# needs: mpi
# sanitize: no
"""Signals to the trainer under Open MPI's mpirun, without a scheduler: what is saved then is good,
and the next run goes on to the very bits of a run that nothing disturbed."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

import train_support
from train_support import MPIEXEC, TRAINER

STEPS = 60
EVERY = 20
LONG = os.environ.get("ALLSHARD_LONG", "0") not in ("", "0")
TOOL = os.environ["ALLSHARD_BIN"]


class Job:
    """The trainer under mpirun, while it runs; what it says is read from a file."""

    def __init__(self, case, ranks, root, *options, patience=None, steps=STEPS):
        self.case, self.root, self.ranks = case, case.dir / root, ranks
        self.log = case.dir / f"{root}.log"
        env = dict(os.environ)
        env.pop("OMPI_MCA_odls_base_sigkill_timeout", None)
        if patience is not None:
            env["OMPI_MCA_odls_base_sigkill_timeout"] = str(patience)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(case.command(ranks, root, steps, *options), env=env,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        case.addCleanup(self.end_all)

    def end_all(self):
        for number in (self.process.pid, *self.processes().values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, line, timeout=60):
        end = time.monotonic() + timeout
        while f"\n{line}" not in self.text():
            self.case.assertLess(time.monotonic(), end, f"no {line}: {self.text()}")
            self.case.assertIsNone(self.process.poll(), self.text())
            time.sleep(0.02)

    def processes(self):
        """{rank: process id}"""
        found = {}
        for folder in pathlib.Path("/proc").iterdir():
            try:
                if not folder.name.isdigit():
                    continue
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if words[0] != TRAINER.encode() or str(self.root).encode() not in words:
                    continue
                for entry in (folder / "environ").read_bytes().split(b"\0"):
                    if entry.startswith(b"PMIX_RANK="):
                        found[int(entry[10:])] = int(folder.name)
            except OSError:
                pass
        return found

    def launcher(self):
        """mpirun's own process."""
        return self.process.pid

    def end(self, timeout=60):
        """Exit status, and what it had said."""
        self.process.wait(timeout)
        return self.process.returncode, self.text()


class Signals(train_support.Case):
    def setUp(self):
        super().setUp()
        # A test of signals, not of what a job's time is.
        os.environ["ALLSHARD_END_TIME"] = str(int(time.time()) + 86400)

    def latest(self, root):
        """The step of the newest good checkpoint, which the tool has verified."""
        done = subprocess.run([TOOL, "latest", self.dir / root], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = done.stdout.strip()
        good = subprocess.run([TOOL, "verify", path], capture_output=True, text=True, check=False)
        self.assertEqual(good.returncode, 0, good.stdout + good.stderr)
        return int(path.rpartition("-")[2])

    def goes_on(self, root, ranks, step, steps=STEPS):
        """The next run begins there and ends as an undisturbed one does."""
        whole = self.train(ranks, f"{root}-whole", steps, "--every", EVERY)
        rest = self.train(ranks, root, steps, "--every", EVERY)
        self.assertEqual(rest.began[0][:2], ("resumed", str(step)))
        self.assertEqual(rest.final, whole.final)
        self.assertEqual(rest.losses, {s: loss for s, loss in whole.losses.items() if int(s) > step})
        for part in ("model", "optimizer"):
            self.assertEqual(train_support.tensors_of(self.dir / root / f"checkpoint-{steps}", part),
                             train_support.tensors_of(
                                 self.dir / f"{root}-whole" / f"checkpoint-{steps}", part))

    def stopped(self, job, status=75):
        """It has saved where it stopped; that step."""
        got, text = job.end()
        self.assertEqual(got, status, text)
        self.assertIn("because of signal", text)
        done = [int(line.split()[1]) for line in text.splitlines() if line.startswith("step ")]
        self.assertEqual(self.latest(job.root.name), done[-1], text)
        return done[-1]

    def test_usr2_to_mpirun(self):
        job = Job(self, 4, "usr2", "--every", EVERY, "--delay-ms", 40)
        job.wait_for("step 25 ")
        os.kill(job.launcher(), signal.SIGUSR2)
        self.goes_on("usr2", 4, self.stopped(job))

    def test_signals_to_single_ranks(self):
        for rank, number in ((0, signal.SIGUSR2), (2, signal.SIGTERM)):
            name = f"rank-{rank}"
            job = Job(self, 3, name, "--every", EVERY, "--delay-ms", 40)
            job.wait_for("step 5 ")
            os.kill(job.processes()[rank], number)
            self.goes_on(name, 3, self.stopped(job))

    def term(self, patience):
        """TERM to mpirun: to the ranks CONT, after so many seconds TERM, after as many KILL. It reads
        nothing of what they print from then on: a rank that prints 16 KiB before its TERM stands still."""
        job = Job(self, 4, "term", "--every", EVERY, "--delay-ms", 400 if patience > 10 else 40,
                  steps=10**6, patience=patience)
        job.wait_for("step 25 ")
        os.kill(job.launcher(), signal.SIGTERM)
        begin = time.monotonic()
        got, text = job.end(4 * patience + 60)
        self.assertNotEqual(got, 0, text)
        # mpirun may pass on nothing that ranks print after its TERM: the history has it.
        history = [json.loads(line) for line in
                   (job.root / "allshard.history.jsonl").read_text().splitlines()]
        stop = history[-1]
        self.assertEqual(stop["event"], "stop", history[-3:])
        self.assertIn("signal", stop["text"])
        self.assertEqual(self.latest("term"), stop["step"], text)
        print(f"with {patience} s mpirun ended {time.monotonic() - begin:.1f} s after TERM, and the "
              f"ranks had saved step {stop['step']}", flush=True)
        rest = self.train(4, "term", stop["step"] + 5)
        self.assertEqual(rest.began[0][:2], ("resumed", str(stop["step"])))

    def test_term_to_mpirun_with_patience(self):
        self.term(60 if LONG else 5)

    def test_term_to_mpirun_kills_a_save(self):
        """Without that parameter. A rank is kept from its part of the save for as long as mpirun
        waits before it kills them all."""
        job = Job(self, 4, "killed", "--every", EVERY, "--delay-ms", 40, steps=10**6)
        job.wait_for(f"saved step {EVERY}\n")
        slow = job.processes()[3]
        while True:
            while not (job.root / ".allshard").exists():
                self.assertIsNone(job.process.poll(), job.text())
                time.sleep(0.0005)
            os.kill(slow, signal.SIGSTOP)
            time.sleep(0.3)
            if (job.root / ".allshard").exists():
                break
            os.kill(slow, signal.SIGCONT)
        newest = self.latest("killed")
        os.kill(job.launcher(), signal.SIGTERM)
        while job.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(slow, signal.SIGSTOP) # mpirun wakes it first
            time.sleep(0.002)
        got, text = job.end()
        self.assertNotEqual(got, 0, text)
        self.assertTrue((job.root / ".allshard").exists(), text)
        self.assertEqual(self.latest("killed"), newest)
        self.goes_on("killed", 4, newest, steps=newest + 30)

    def test_term_to_mpirun_without_patience(self):
        """The save of so small a model takes less than the second that there is."""
        job = Job(self, 4, "second", "--every", EVERY, "--delay-ms", 40)
        job.wait_for("step 25 ")
        os.kill(job.launcher(), signal.SIGTERM)
        got, text = job.end()
        self.assertNotEqual(got, 0, text)
        saved = [int(line.split()[2]) for line in text.splitlines() if line.startswith("saved")]
        newest = self.latest("second")
        # Killed between the last rename and the line that tells of it?
        self.assertGreaterEqual(newest, saved[-1])
        self.goes_on("second", 4, newest)


if __name__ == "__main__":
    version = subprocess.run([MPIEXEC[0], "--version"], capture_output=True, text=True, check=False)
    if "OpenRTE" not in version.stdout and "Open MPI" not in version.stdout:
        print(f"skipped: {MPIEXEC[0]} is not Open MPI's, whose signals these are")
        sys.exit(77)
    unittest.main(verbosity=2)
