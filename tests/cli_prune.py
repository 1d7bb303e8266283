#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""allshard prune: rules, dry runs, output and statuses; killed at each call; a tag that comes while it
is at work; a root that is held. And allshard recover of a series."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import time
import unittest

from tool_support import SANITIZED, TOOL, Case

TESTS = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", ".")) / "tests"
FAULTY = TESTS / "tool_faulty"
SERIES = TESTS / "tool_series"
SEED = int(os.environ.get("ALLSHARD_SEED", "1"))
LONG = os.environ.get("ALLSHARD_LONG", "0") not in ("", "0")
TAGS = '{"allshard_tags": 1, "tags": ["keep"]}'


class Prune(Case):
    def setUp(self):
        super().setUp()
        self.root = self.dir / "run"

    def lay(self, steps, root=None, **more):
        """Checkpoints of those steps; more: step_N="KEY=VALUE …"."""
        words = []
        for step in steps:
            words += [f"checkpoint-{step}", str(step), *more.get(f"step_{step}", "").split(), ","]
        subprocess.run([SERIES, str(root or self.root), *words], check=True, timeout=60)

    def left(self, root=None):
        return sorted(int(p.name.split("-")[1]) for p in (root or self.root).iterdir()
                      if p.name.startswith("checkpoint-"))

    def check(self, left, *rules, **more):
        """A dry run tells what the real one does; the JSON of that."""
        before = self.left()
        dry = self.run_json("prune", self.root, *rules, "--dry-run")
        self.assertEqual(self.left(), before)
        self.assertFalse((self.root / ".allshard").exists())
        done = self.run_json("prune", self.root, *rules, **more)
        self.assertEqual(self.left(), left)
        self.assertFalse((self.root / ".allshard").exists())
        self.assertEqual((dry.pop("dry_run"), done.pop("dry_run")), (True, False))
        self.assertEqual(dry, done)
        self.assertEqual(sorted(c["step"] for c in done["checkpoints"] if c["stays"]), left)
        self.assertEqual(done["gone"], len(before) - len(left))
        return done

    def test_each_rule(self):
        loss = {100: 3, 200: 1, 300: 2, 400: 1, 500: 4}
        day = {100: 10, 200: 5, 300: 2.5, 400: 1, 500: 0.1}
        notes = {f"step_{s}": f"loss={loss[s]} time={time.time() - day[s] * 86400}" for s in loss}
        for rules, left in [(["--keep-last", 2], [400, 500]),
                            (["--keep-last", 9], [100, 200, 300, 400, 500]),
                            (["--keep-every", 200], [200, 400, 500]),
                            (["--keep-best", 1], [400, 500]),
                            (["--keep-best", 2, "--metric", "loss"], [200, 400, 500]),
                            (["--keep-best", 2, "--max"], [100, 500]),
                            (["--keep-days", 3], [300, 400, 500]),
                            (["--keep-hours", "30.5"], [400, 500]),
                            (["--keep-days", 2, "--keep-hours", 24], [300, 400, 500]),
                            (["--keep-last=1", "--keep-every=300", "--keep-best=1"],
                             [300, 400, 500])]:
            shutil.rmtree(self.root, ignore_errors=True)
            self.lay(loss, **notes)
            self.check(left, *rules)

    def test_what_always_stays(self):
        self.lay([100, 200, 300, 400, 500, 600], step_100="tag=1", step_300="damaged=1",
                 step_400="foreign=1", step_600="damaged=1")
        (self.root / "notes").mkdir()
        (self.root / "notes" / "a.txt").write_text("of a person")
        (self.root / "model").mkdir()
        shutil.copy(self.root / "checkpoint-400" / "model.safetensors", self.root / "model")
        done = self.check([100, 300, 400, 500, 600], "--keep-every", 1000,
                          "--pattern", "checkpoint-{step}")
        reasons = {c["step"]: c["reasons"] for c in done["checkpoints"]}
        self.assertEqual(reasons, {100: ["tagged"], 200: [], 300: ["damaged"],
                                   400: ["not of a series"], 500: ["newest good"],
                                   600: ["damaged"]})
        self.assertTrue((self.root / "notes" / "a.txt").exists())
        # Without a pattern all that is a checkpoint is looked at; what no series saved stays.
        done = self.run_json("prune", self.root, "--keep-last", 1)
        self.assertEqual(done["gone"], 0)
        self.assertIn("model", [c["name"] for c in done["checkpoints"]])

    def test_latest_stays(self):
        """Where a run went back, the one that was saved last is not the newest."""
        self.lay([100, 200, 300, 400])
        (self.root / "latest").symlink_to("checkpoint-200")
        done = self.check([200, 400], "--keep-last", 1)
        self.assertEqual(done["checkpoints"][1]["reasons"], ["in use"])
        self.assertTrue((self.root / "latest").exists())

    def test_what_may_not_be_moved_stays(self):
        """A folder that this user may not write to cannot be renamed into another one: a prune that
        tried would leave a journal that nobody can carry out, and no save could begin."""
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        self.lay([100, 200, 300])
        if user:
            for path in [self.dir, self.root, *self.root.rglob("*")]:
                os.chown(path, user["user"], user["group"])
        self.addCleanup((self.root / "checkpoint-100").chmod, 0o755)
        (self.root / "checkpoint-100").chmod(0o555)
        try:
            done = subprocess.run([TOOL, "prune", self.root, "--keep-last", "1", "--json"],
                                  stdout=subprocess.PIPE, timeout=60, check=False, cwd="/", **user)
        except PermissionError:
            self.skipTest("the build folder is not for other users")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.left(), [100, 300])
        self.assertEqual([c["reasons"] for c in json.loads(done.stdout)["checkpoints"]],
                         [["may not be moved"], [], ["newest good", "last"]])
        self.assertFalse((self.root / ".allshard").exists())

    def test_what_may_not_be_removed_holds_up_nobody(self):
        """A checkpoint can hold a folder of a person's in which this user may remove nothing."""
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        self.lay([100, 200, 300, 400])
        for step in 100, 200:
            notes = self.root / f"checkpoint-{step}" / "notes"
            notes.mkdir()
            (notes / "text").write_text("mine")
        if user:
            for path in [self.dir, self.root, *self.root.rglob("*")]:
                os.chown(path, user["user"], user["group"])
        for step in 100, 200:
            (self.root / f"checkpoint-{step}" / "notes").chmod(0o555)

        def let_go():
            for path in self.root.rglob("notes"):
                path.chmod(0o755)

        self.addCleanup(let_go)

        def tool(*words, status=0):
            try:
                done = subprocess.run([TOOL, *words], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, timeout=60, check=False,
                                      cwd="/", **user)
            except PermissionError:
                self.skipTest("the build folder is not for other users")
            self.assertEqual(done.returncode, status, done.stderr)
            return done.stderr

        for left in [200, 300, 400], [300, 400], [400]:
            self.assertIn('cannot remove "text"',
                          tool("prune", self.root, "--keep-last", str(len(left))))
            self.assertEqual(self.left(), left)
        self.assertIn('cannot remove "text"', tool("recover", self.root, status=3))
        let_go()
        tool("recover", self.root)
        self.assertFalse((self.root / ".allshard").exists())

    def test_an_empty_staging_folder_is_no_news(self):
        """A save beside this one that comes or goes can leave it for a moment."""
        self.lay([100, 200])
        (self.root / ".allshard" / "new").mkdir(parents=True)
        self.assertEqual(self.run_tool("prune", self.root, "--keep-last", 1).stderr, "")
        (self.root / ".allshard" / "new").mkdir(parents=True)
        (self.root / ".allshard" / "new" / "file").write_text("x")
        self.assertIn("staged files: 1",
                      self.run_tool("prune", self.root, "--keep-last", 1).stderr)

    def test_text(self):
        self.lay([100, 200, 300], step_200="tag=1")
        told = self.run_tool("prune", self.root, "--keep-last", 1, "--dry-run").stdout
        self.assertRegex(told, r"(?m)^  checkpoint-100 +\S+ k?B  would go$")
        self.assertRegex(told, r"(?m)^  checkpoint-200 +\S+ k?B  stays: tagged$")
        self.assertRegex(told, r"(?m)^  checkpoint-300 +\S+ k?B  stays: newest good, last$")
        self.assertRegex(told, r": 1 of 3 checkpoints would go, \S+ k?B\. Nothing was changed; "
                         "without --dry-run it is done.\n$")
        told = self.run_tool("prune", self.root, "--keep-last", 1).stdout
        self.assertRegex(told, r"(?m)^  checkpoint-100 +\S+ k?B  gone$")
        self.assertRegex(told, r": 1 of 3 checkpoints are gone, ")
        self.assertRegex(self.run_tool("prune", self.root, "--keep-last", 1).stdout,
                         ": 0 of 2 checkpoints are gone")
        lines = (self.root / "allshard.history.jsonl").read_text().splitlines()
        self.assertEqual(len(lines), 1)
        event = json.loads(lines[0])
        self.assertEqual((event["event"], event["name"], event["step"]),
                         ("pruned", "checkpoint-100", 100))
        self.assertRegex(event["text"], r"^\d+ bytes$")
        (self.dir / "empty").mkdir()
        self.assertIn("there is no checkpoint here",
                      self.run_tool("prune", self.dir / "empty", "--keep-last", 1).stdout)

    def test_wrong_usage(self):
        self.lay([100, 200])
        for text, *words in [
                ("nothing is removed without one", self.root),
                ("nothing is removed without one", self.root, "--dry-run"),
                ("--metric and --max go with --keep-best", self.root, "--keep-last", 1, "--max"),
                ("--metric and --max go", self.root, "--keep-last", 1, "--metric", "loss"),
                ("--keep-last", self.root, "--keep-last", 0),
                ("--keep-last", self.root, "--keep-last", "-1"),
                ("--keep-every", self.root, "--keep-every", "x"),
                ("--keep-days takes a number above 0", self.root, "--keep-days", "0"),
                ("--keep-days takes a number above 0", self.root, "--keep-days", "nan"),
                ("--keep-hours takes a number above 0", self.root, "--keep-hours", "2h"),
                ("step", self.root, "--keep-last", 1, "--pattern", "{step}{step}"),
                ("one ROOT", "--keep-last", 1)]:
            self.refuse(2, text, "prune", *words)
        self.assertEqual(self.left(), [100, 200])

    def test_no_such_root(self):
        for rule in [[], ["--dry-run"]]:
            self.refuse(3, "no/such", "prune", self.dir / "no" / "such", "--keep-last", 1, *rule)
        self.assertFalse((self.dir / "no").exists())
        (self.dir / "file").write_text("")
        self.refuse(3, "file", "prune", self.dir / "file", "--keep-last", 1)

    def test_ranks_share_it(self):
        self.lay(range(100, 2100, 100))
        done = self.check([1900, 2000], "--keep-last", 2, ranks=3)
        self.assertEqual(done["gone"], 18)

    # ---- trouble ----

    def faulty(self, rule, *words, **variables):
        return subprocess.run([FAULTY, *map(str, words)], capture_output=True, text=True,
                              timeout=120, check=False, stdin=subprocess.DEVNULL,
                              env={**os.environ, "ALLSHARD_FAULT": rule, **variables})

    def count_calls(self, *words):
        trace = self.dir / "trace"
        self.assertEqual(self.faulty("", *words, ALLSHARD_FAULT_TRACE=str(trace)).returncode, 0)
        return (self.dir / "trace.0").read_text().splitlines()

    @unittest.skipIf(SANITIZED, "killed processes show a sanitizer nothing, and take long")
    def test_killed_anywhere(self):
        """All of them are gone, or none; and what recovery gives, a prune gives again."""
        self.lay([100, 200, 300, 400], self.dir / "before", step_200="tag=1")
        shutil.copytree(self.dir / "before", self.root)
        calls = len(self.count_calls("prune", self.root, "--keep-last", 1))
        places = range(1, calls + 1)
        if not LONG:
            places = sorted(random.Random(SEED).sample(places, 40))
        found = set()
        for place in places:
            shutil.rmtree(self.root)
            shutil.copytree(self.dir / "before", self.root)
            done = self.faulty(f"nth={place},do=kill", "prune", self.root, "--keep-last", "1")
            self.assertEqual(done.returncode, -9, f"call {place}: {done.stderr}")
            self.run_tool("recover", self.root)
            self.assertIn(self.left(), [[100, 200, 300, 400], [200, 400]], f"call {place}")
            self.assertFalse((self.root / ".allshard").exists())
            found.add(len(self.left()))
            if place % 4 == 0:
                self.check([200, 400], "--keep-last", 1)
        print(f"{len(places)} of {calls} calls killed, seed {SEED}", flush=True)
        self.assertEqual(found, {2, 4})

    def test_a_tag_that_comes_meanwhile(self):
        self.lay([100, 200, 300], self.dir / "before")
        shutil.copytree(self.dir / "before", self.root)
        calls = self.count_calls("prune", self.root, "--keep-last", 1)
        # The renames out of the root: the plan is made, and nothing has gone.
        moves = [i + 1 for i, c in enumerate(calls) if " renameat " in c and "checkpoint-" in c]
        self.assertEqual(len(moves), 2, calls)
        shutil.rmtree(self.root)
        shutil.copytree(self.dir / "before", self.root)
        with subprocess.Popen([FAULTY, "prune", self.root, "--keep-last", "1", "--json"],
                              env={**os.environ, "ALLSHARD_FAULT": f"nth={moves[0]},do=stall:2"},
                              stdout=subprocess.PIPE, text=True) as job:
            while not (self.root / ".allshard" / "journal").exists() and job.poll() is None:
                time.sleep(0.001)
            # And another prune, or a save, finds the root held.
            self.refuse(3, "a save or another prune is at work here", "prune", self.root,
                        "--keep-last", 1)
            (self.root / "checkpoint-200" / "allshard.tags.json").write_text(TAGS)
            told = json.loads(job.communicate(timeout=60)[0])
        self.assertEqual(job.returncode, 0)
        self.assertEqual(self.left(), [200, 300])
        self.assertEqual(told["gone"], 1)
        self.assertEqual([c["came_back"] for c in told["checkpoints"]], [False, True, False])
        self.assertFalse((self.root / ".allshard").exists())
        self.check([200, 300], "--keep-last", 1)

    def test_no_such_metric(self):
        """A name that is spelt wrong must not let the best go."""
        self.lay([100, 200], step_100="loss=1", step_200="loss=2")
        for words in [[], ["--dry-run"]]:
            self.refuse(3, 'no checkpoint here was saved with the metric "los"', "prune", self.root,
                        "--keep-best", 1, "--metric", "los", *words)
        self.assertEqual(self.left(), [100, 200])
        self.assertFalse((self.root / ".allshard").exists())
        self.check([100, 200], "--keep-best", 1, "--metric", "los", "--keep-every", 100)
        self.check([100, 200], "--keep-best", 1, "--metric", "loss")

    # ---- recover ----

    def test_recover_tells_the_bytes(self):
        """Those in the staged parts of a series' checkpoint, too; links are not followed."""
        self.lay([100])
        staged = self.root / ".allshard" / "new"
        inner = staged / "part-0" / ".allshard" / "new"
        inner.mkdir(parents=True)
        (inner / "model.safetensors").write_bytes(b"x" * 1000)
        (staged / "part-0" / "config.json").write_bytes(b"x" * 200)
        (staged / "draft").write_bytes(b"x" * 30)
        (inner / "link").symlink_to(self.root / "checkpoint-100")
        told = self.run_json("recover", self.root, "--dry-run")
        self.assertEqual((told["cleared"], told["cleared_bytes"]), (["draft", "part-0"], 1230))
        self.assertIn("1230 bytes", self.run_tool("recover", self.root).stdout)
        self.assertEqual(self.left(), [100])
        self.assertFalse((self.root / ".allshard").exists())

    def test_recover_a_series(self):
        self.lay([100, 200, 300], step_200="damaged=1")
        told = self.run_tool("recover", self.root).stdout
        self.assertIn(": nothing to recover.\n", told)
        self.assertRegex(told, r"(?m)^3 checkpoints, 1 of them damaged; the newest good one is "
                         "checkpoint-300\\.$")
        self.assertRegex(told, r"(?m)^  checkpoint-200: .*model\.safetensors")
        for words in [[], ["--dry-run"]]:
            done = self.run_json("recover", self.root, *words)
            series = done["series"]
            self.assertEqual((series["checkpoints"], series["newest"]), (3, "checkpoint-300"))
            self.assertEqual([d["name"] for d in series["damaged"]], ["checkpoint-200"])
            self.assertIn("model.safetensors", series["damaged"][0]["why"])
        self.lay([100], self.dir / "rotten", step_100="damaged=1")
        told = self.run_tool("recover", self.dir / "rotten").stdout
        self.assertIn("1 checkpoint, damaged; none is good", told)
        self.lay([100, 200], self.dir / "good")
        (self.dir / "good" / "latest").symlink_to("checkpoint-150")
        self.assertIn("\n2 checkpoints, all good; the newest is checkpoint-200.\n",
                      self.run_tool("recover", self.dir / "good").stdout)
        self.assertEqual(os.readlink(self.dir / "good" / "latest"), "checkpoint-200")
        # One in which no manifest can be read is one all the same.
        for folder in (self.dir / "good").glob("checkpoint-*"):
            (folder / "allshard.manifest.json").write_text("x")
        self.assertIn("\n2 checkpoints, all damaged; none is good",
                      self.run_tool("recover", self.dir / "good").stdout)
        # A checkpoint is no series.
        done = self.run_json("recover", self.root / "checkpoint-300")
        self.assertIsNone(done["series"])

    @unittest.skipIf(SANITIZED, "killed processes show a sanitizer nothing, and take long")
    def test_recover_a_killed_prune(self):
        self.lay([100, 200, 300])
        self.faulty("call=renameat,nth=3,do=kill", "prune", self.root, "--keep-last", "1")
        self.assertTrue((self.root / ".allshard" / "journal").exists())
        told = self.run_tool("recover", self.root, "--dry-run").stdout
        self.assertRegex(told, r"(?m)^  old, gone checkpoint-100$")
        told = self.run_tool("recover", self.root).stdout
        self.assertRegex(told, "a prune had been cut off after it counted. It was finished")
        self.assertRegex(told, r"(?m)^1 checkpoint, good: checkpoint-300\.$")
        self.assertEqual(self.left(), [300])


if __name__ == "__main__":
    unittest.main()
