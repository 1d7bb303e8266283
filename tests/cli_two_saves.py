#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# processors: 2
# sanitize: no
# long-timeout: 1800
# needs: mpi
"""Jobs that use one folder at once: two that save, one of two that is killed, and readers while it
is overwritten. With ALLSHARD_LONG=1 ten times as many rounds."""

import os
import pathlib
import random
import re
import shutil
import subprocess
import threading
import time
import unittest

from tool_support import COUNT_FLAG, MPIEXEC, TOOL, Case, checkpoint, contents, model, put

FAULTY = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", ".")) / "tests" / "tool_faulty"
FACTOR = 10 if os.environ.get("ALLSHARD_LONG", "0") not in ("", "0") else 1
BUSY = re.compile(r"allshard: error: .*/\.allshard/lock: process \d+ on host \S+ has held this folder "
                  r"since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ; wait until it ends")


class TwoSaves(Case):
    def setUp(self):
        super().setUp()
        self.random = random.Random(os.environ.get("ALLSHARD_SEED", "7"))
        # Of one name and of others, so that each save replaces some files and removes others.
        self.limit = {"old": "700", "a": "900", "b": "500"}
        self.want = {}
        self.whole = {}  # what a reader makes of each
        for name, limit in self.limit.items():
            put(self.dir / name, checkpoint(model(ord(name[0])), 10**9))
            self.want[name] = self.copied(name, f"want-{name}", limit)
            self.whole[name] = self.copied(f"want-{name}", f"whole-{name}", "1GB")
        self.folder = self.dir / "folder"

    def copied(self, source, target, limit):
        self.run_tool("copy", self.dir / source, self.dir / target, "--max-shard-size", limit)
        return contents(self.dir / target)

    def place(self, which, fault):
        """Open MPI's processes that end take away folders that others, which begin, have just made;
        so who runs beside others has a place of its own."""
        return {**os.environ, "ALLSHARD_FAULT": fault,
                "OMPI_MCA_orte_tmpdir_base": str(self.dir / f"ompi-{which}")}

    def start(self, which, ranks, fault=""):
        """A save in the background; its processes write their statuses into a folder."""
        notes = self.dir / f"statuses-{which}"
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        command = ["sh", "-c", 'n=$1; shift; "$@"; echo $? > "$n/$$"', "sh", str(notes),
                   str(FAULTY), "copy", str(self.dir / which), str(self.folder),
                   "--max-shard-size", self.limit[which]]
        if ranks:
            command = [*MPIEXEC, COUNT_FLAG, str(ranks), *command]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True,
                                env=self.place(which, fault))

    def end(self, which, ranks, job):
        """Statuses of its ranks, and what it told."""
        told = job.communicate(timeout=120)[1]
        statuses = [int(p.read_text()) for p in (self.dir / f"statuses-{which}").iterdir()]
        return statuses, told

    def stall(self):
        """Somewhere in the save the main process stands still, so that the two meet."""
        call = self.random.choice(["fsync", "pwrite", "renameat", "unlinkat", "linkat", "create"])
        return (f"rank=0,call={call},nth={self.random.randint(1, 6)},"
                f"do=stall:{self.random.uniform(0.05, 0.4):.2f}")

    def fresh(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.random.random() < 0.8:
            put(self.folder, self.want["old"])

    def found(self):
        """Which checkpoint the folder holds, and nothing besides."""
        self.assertFalse((self.folder / ".allshard").exists())
        now = contents(self.folder)
        return [name for name, files in self.want.items() if files == now]

    def test_one_wins_or_both_in_turn(self):
        refused = in_turn = 0
        for number in range(50 * FACTOR):
            self.fresh()
            ranks = {"a": 2, "b": 0 if number % 5 == 4 else 2}
            order = self.random.sample(["a", "b"], 2)
            jobs = {}
            for which in order:
                jobs[which] = self.start(which, ranks[which], self.stall())
                time.sleep(self.random.choice([0, 0, 0.1, 0.25]))
            good = []
            for which, job in jobs.items():
                statuses, told = self.end(which, ranks[which], job)
                self.assertEqual(len(statuses), ranks[which] or 1, told)
                self.assertEqual(len(set(statuses)), 1, told)
                if statuses[0] == 0:
                    good.append(which)
                else:
                    self.assertEqual(statuses[0], 3, told)
                    self.assertRegex(told, BUSY)
            self.assertGreater(len(good), 0)
            refused += len(good) == 1
            in_turn += len(good) == 2
            found = self.found()
            self.assertEqual(len(found), 1)
            self.assertIn(found[0], good)
            self.run_tool("verify", self.folder)
        print(f"{refused + in_turn} rounds: one was refused in {refused}, one after the other in "
              f"{in_turn}")
        self.assertGreater(refused, 0)

    def test_one_is_killed(self):
        counts = {}
        for _ in range(10 * FACTOR):
            self.fresh()
            had_old = self.folder.exists()
            kill = f"rank=0,call=change,nth={self.random.randint(1, 90)},do=killall"
            a = self.start("a", 2, kill)
            time.sleep(self.random.choice([0, 0.2, 0.5]))
            b = self.start("b", 2, self.stall())
            _, told_a = self.end("a", 2, a)
            statuses, told = self.end("b", 2, b)
            self.assertEqual(len(set(statuses)), 1, told)
            if statuses[0] != 0:
                self.assertRegex(told, BUSY)
            if self.folder.exists():
                self.run_tool("recover", self.folder)
            found = self.found() if self.folder.exists() else ["none"]
            if not had_old and not any(self.folder.glob("*")):
                found = ["none"]
            self.assertEqual(len(found), 1, told_a + told)
            if statuses[0] == 0 and a.returncode != 0:
                # It came last, or was complete before the other one was killed after its own.
                self.assertIn(found[0], ["a", "b"])
            counts[found[0]] = counts.get(found[0], 0) + 1
            if found[0] != "none":
                self.run_tool("verify", self.folder)
        print(f"one of two killed, what was there then: {counts}")

    def overwrite(self, times, faults):
        for number in range(times):
            which = "ab"[number % 2]
            done = subprocess.run(
                [str(FAULTY), "copy", str(self.dir / which), str(self.folder), "--max-shard-size",
                 self.limit[which]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                env=self.place(which, faults()), timeout=60, check=False)
            if done.returncode != 0:
                self.trouble.append(done.stderr)

    def test_readers_meanwhile(self):
        put(self.folder, self.want["old"])
        self.trouble = []
        stalls = random.Random(11)

        def faults():
            call = stalls.choice(["renameat", "unlinkat", "fsync"])
            return (f"call={call},nth={stalls.randint(1, 12)},"
                    f"do=stall:{stalls.uniform(0.02, 0.2):.2f}")

        saver = threading.Thread(target=self.overwrite, args=(50 * FACTOR, faults))
        saver.start()
        counts = {"copied": 0, "busy": 0, "verified": 0, "verified, a save under way": 0}
        out = self.dir / "out"
        number = 0
        while saver.is_alive():
            number += 1
            shutil.rmtree(out, ignore_errors=True)
            ranks = 2 if number % 8 == 0 else 0
            command = [*MPIEXEC, COUNT_FLAG, "2"] if ranks else []
            if number % 2:
                command += [TOOL, "verify", str(self.folder)]
            else:
                command += [TOOL, "copy", str(self.folder), str(out), "--max-shard-size", "1GB"]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=60, check=False)
            told = done.stdout + done.stderr
            if number % 2 and done.returncode == 0:
                counts["verified"] += 1
            elif done.returncode == 3:
                self.assertIn("saves keep", told)
                counts["busy"] += 1
            elif number % 2:
                self.assertEqual(done.returncode, 1, told)
                self.assertIn("or is under way", told)
                self.assertRegex(told, r"\b1 (fault|problem)", told)
                counts["verified, a save under way"] += 1
            else:
                self.assertEqual(done.returncode, 0, told)
                now = contents(out)
                self.assertEqual(len([x for x in self.whole.values() if x == now]), 1)
                counts["copied"] += 1
        saver.join()
        self.assertEqual(self.trouble, [])
        self.assertEqual(len(self.found()), 1)
        self.run_tool("verify", self.folder)
        print(f"{50 * FACTOR} saves, read meanwhile: {counts}")
        self.assertGreater(counts["copied"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
