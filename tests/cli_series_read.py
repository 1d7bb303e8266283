#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""The commands for a series that scripts call: latest, wait, best, tag and log, with good and bad
input, on one rank and on several: output, exit statuses, and what they leave on disk."""

import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

from series_support import Root, record
from tool_support import TOOL


class Latest(Root):
    def test_latest(self):
        self.assertEqual(self.latest(status=1)[0], "")
        self.series(1, 2, 10)
        self.assertEqual(self.latest(), (str(self.root / "checkpoint-10"), ""))
        self.assertEqual(self.run_tool("latest", f"{self.root}/").stdout,
                         f"{self.root}/checkpoint-10\n")
        os.chdir(self.root)
        self.addCleanup(os.chdir, "/")
        self.assertEqual(self.run_tool("latest", ".").stdout, "./checkpoint-10\n")
        told = self.run_json("latest", self.root, ranks=3)
        self.assertEqual((told["name"], told["step"], told["passed_over"]),
                         ("checkpoint-10", 10, []))
        (self.root / "checkpoint-10" / "model-00001-of-00003.safetensors").unlink()
        told = self.run_json("latest", self.root)
        self.assertEqual((told["name"], [p["name"] for p in told["passed_over"]]),
                         ("checkpoint-2", ["checkpoint-10"]))
        # The link is for people; it is not believed.
        os.symlink("checkpoint-1", self.root / "latest")
        self.assertEqual(self.latest()[0], str(self.root / "checkpoint-2"))
        self.assertIn("leads to \"checkpoint-1\"", self.run_tool("ls", self.root, status=1).stderr)

    def test_equal_steps(self):
        """Of one step the later one is the newer."""
        self.save("a", record(5, ))
        self.save("b", {**record(5), "time": "2026-01-30T12:00:00Z"})
        self.assertEqual(self.latest()[0], str(self.root / "a"))

    def test_none(self):
        done = self.run_tool("latest", self.root, status=1)
        self.assertEqual(done.stdout, "")
        self.assertIn("there is no good checkpoint", done.stderr)
        self.assertIn("there is no good checkpoint: there is no such folder",
                      self.run_tool("latest", self.dir / "nowhere", status=1, ranks=2).stderr)
        self.assertIsNone(self.run_json("latest", self.dir / "nowhere", status=1)["path"])
        folder, = self.series(3)
        (folder / "allshard.manifest.json").write_text("{}")
        # None is good: that is no fresh run.
        for ranks in (0, 2):
            self.refuse(3, "none of 1 is", "latest", self.root, ranks=ranks)
            told = self.run_json("latest", self.root, status=3, ranks=ranks)
            self.assertEqual(told["error"]["code"], "ALLSHARD_CORRUPT")
        self.assertIn("none at all that is named so",
                      self.latest("--pattern", "v{step}", status=1)[1])
        self.refuse(3, "not a folder", "latest", folder / "allshard.manifest.json")

    def test_wrong_usage(self):
        self.refuse(2, "needs one ROOT", "latest")
        self.refuse(2, "has no field", "latest", self.root, "--pattern", "x")
        self.refuse(2, "--step", "latest", self.root, "--step", "5")


class Wait(Root):
    def test_at_once(self):
        self.series(100, 200)
        for step, ranks in ((0, 0), (150, 0), (200, 2)):
            done = self.run_tool("wait", self.root, "--step", step, ranks=ranks)
            self.assertEqual(done.stdout, f"{self.root}/checkpoint-200\n")
        told = self.run_json("wait", self.root, "--step", "100", "--timeout", "0")
        self.assertEqual((told["step"], told["path"]), (200, str(self.root / "checkpoint-200")))

    def test_none(self):
        folder, = self.series(100)
        for timeout in ("0", "0.3"):
            done = self.run_tool("wait", self.root, "--step", "101", "--timeout", timeout, status=1)
            self.assertEqual(done.stdout, "")
            self.assertIn("no good checkpoint of step 101", done.stderr)
        (folder / "model-00002-of-00003.safetensors").unlink()
        told = self.run_json("wait", self.root, "--step", "100", "--timeout", "0", status=1)
        self.assertIsNone(told["path"])
        self.run_tool("wait", self.dir / "nowhere", "--step", "1", "--timeout", "0.2", status=1)

    def start(self, *arguments):
        return subprocess.Popen([TOOL, "wait", *map(str, arguments)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)

    def test_it_comes(self):
        """The root comes, an earlier step, a half-made one, and at last the right one."""
        later = self.dir / "later"
        waiting = self.start(later, "--step", "20", "--timeout", "300")
        self.assertIsNone(waiting.poll())
        later.mkdir()
        self.save("checkpoint-10", record(10), root=later)
        (later / "checkpoint-20").mkdir()
        time.sleep(0.5)
        self.assertIsNone(waiting.poll())
        shutil.rmtree(later / "checkpoint-20")
        self.save("checkpoint-30", record(30), root=self.dir)
        os.rename(self.dir / "checkpoint-30", later / "checkpoint-30")
        out, _ = waiting.communicate(timeout=120)
        self.assertEqual((waiting.returncode, out), (0, f"{later}/checkpoint-30\n"))

    def test_it_can_be_stopped(self):
        waiting = self.start(self.root, "--step", "1")
        time.sleep(0.3)
        self.assertIsNone(waiting.poll())
        waiting.send_signal(signal.SIGTERM)
        waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, -signal.SIGTERM)

    def test_wrong_usage(self):
        self.refuse(2, "--step N must be given", "wait", self.root)
        for step in ("-1", "x", "", "1.5", "99999999999999999999"):
            self.refuse(2, "--step", "wait", self.root, f"--step={step}", "--timeout", "0")
        for timeout in ("-1", "x", "", "nan", "inf", "1 s"):
            self.refuse(2, "--timeout", "wait", self.root, "--step", "1", f"--timeout={timeout}")
        self.refuse(3, "not a folder", "wait", self.source / "model.safetensors.index.json",
                    "--step", "1", "--timeout", "0")


class Best(Root):
    def best(self, *arguments, status=0, ranks=0):
        text = self.run_tool("best", self.root, "--metric", *arguments, status=status,
                             ranks=ranks).stdout
        return [pathlib.Path(line).name for line in text.splitlines()]

    def test_best(self):
        values = {10: 2.5, 20: 1.5, 30: "NaN", 40: 1.5, 50: "Infinity", 60: "-Infinity", 70: 3}
        for step, value in values.items():
            self.save(f"checkpoint-{step}", record(step, metric={"name": "loss", "value": value}))
        self.save("checkpoint-80", record(80, metric={"name": "accuracy", "value": 0.5}))
        self.save("checkpoint-90", record(90))
        self.save("checkpoint-95")
        bad = self.save("checkpoint-99", record(99, metric={"name": "loss", "value": -1e9}))
        (bad / "model-00001-of-00003.safetensors").unlink()
        names = [f"checkpoint-{s}" for s in (60, 40, 20, 10, 70, 50)]
        self.assertEqual(self.best("loss"), names[:1])
        self.assertEqual(self.best("loss", "--min", "--count", "3"), names[:3])
        self.assertEqual(self.best("loss", "--count", "100", ranks=2), names)
        # Of equal ones the newer is better, both ways.
        self.assertEqual(self.best("loss", "--max", "--count", "100"),
                         [f"checkpoint-{s}" for s in (50, 70, 10, 40, 20, 60)])
        self.assertEqual(self.best("accuracy", "--count=2"), ["checkpoint-80"])
        told = self.run_json("best", self.root, "--metric", "loss", "--count", "2")
        self.assertEqual([c["metric"]["value"] for c in told["best"]], ["-Infinity", 1.5])

    def test_none(self):
        self.assertEqual(self.best("loss", status=1), [])
        self.series(5, metric={"name": "loss", "value": 1})
        self.assertEqual(self.best("Loss", status=1), [])
        self.assertEqual(self.run_json("best", self.root, "--metric", "x", status=1)["best"], [])
        self.refuse(3, "no such folder", "best", self.dir / "nowhere", "--metric", "loss")

    def test_wrong_usage(self):
        self.refuse(2, "--metric NAME must be given", "best", self.root)
        self.refuse(2, "exclude each other", "best", self.root, "--metric", "x", "--min", "--max")
        for count in ("0", "-1", "x"):
            self.refuse(2, "--count", "best", self.root, "--metric", "x", f"--count={count}")
        for name in ("", "a\nb", "x" * 257):
            self.refuse(2, "name of a metric", "best", self.root, f"--metric={name}")


class Tag(Root):
    def tags(self, name):
        return [c for c in self.ls()["checkpoints"] if c["name"] == name][0]["tags"]

    def test_tag(self):
        self.series(100, 200)
        self.assertEqual(self.run_tool("tag", self.root, "100", "best", "v1").stdout,
                         "checkpoint-100: best v1\n")
        self.assertEqual(self.tags("checkpoint-100"), ["best", "v1"])
        told = self.run_json("tag", self.root, "checkpoint-100", "best", "more", ranks=2)
        self.assertEqual((told["before"], told["tags"]), (["best", "v1"], ["best", "more", "v1"]))
        told = self.run_json("tag", self.root, "100", "v1", "none", "--remove")
        self.assertEqual(told["tags"], ["best", "more"])
        self.assertEqual(self.run_tool("tag", self.root, "100", "best", "more", "--remove").stdout,
                         "checkpoint-100: no tags\n")
        self.assertEqual(self.tags("checkpoint-100"), [])
        self.assertEqual(sorted(os.listdir(self.root / "checkpoint-100")),
                         sorted(os.listdir(self.template)))
        events = self.run_json("log", self.root)["events"]
        self.assertEqual([(e["event"], e["text"]) for e in events],
                         [("tagged", "best"), ("tagged", "v1"), ("tagged", "more"),
                          ("untagged", "v1"), ("untagged", "best"), ("untagged", "more")])
        self.assertEqual({(e["name"], e["step"]) for e in events}, {("checkpoint-100", 100)})
        # The checkpoint is as whole as it was, and a copy of it has no tags.
        self.run_tool("tag", self.root, "200", "best")
        self.run_tool("verify", self.root / "checkpoint-200")
        self.run_tool("copy", self.root / "checkpoint-200", self.dir / "copy")
        self.assertFalse((self.dir / "copy" / "allshard.tags.json").exists())

    def test_which(self):
        """A name goes before a step; a step must be one checkpoint's."""
        self.save("5", record(7))
        self.save("other", record(5))
        self.save("again", record(7))
        self.assertIn("5: t", self.run_tool("tag", self.root, "5", "t").stdout)
        self.refuse(3, "2 checkpoints have the step 7", "tag", self.root, "7", "t")
        self.run_tool("tag", self.root, "again", "t")
        for word in ("6", "no", "-", "", "../source", "99999999999999999999"):
            self.refuse(2 if word == "" else 3, "", "tag", self.root, "--", word, "t")
        self.assertEqual(self.tags("other"), [])

    def test_damaged_ones_can_be_tagged(self):
        folder, = self.series(5)
        (folder / "model-00001-of-00003.safetensors").unlink()
        self.run_tool("tag", self.root, "5", "look-at-this")
        self.assertEqual(self.member("checkpoint-5")["tags"], ["look-at-this"])

    def test_wrong_usage(self):
        self.series(5)
        for tag in ("a b", "a/b", "a,b", "", "a\tb", "x" * 129):
            self.refuse(2, "", "tag", self.root, "5", "good", tag)
        self.refuse(2, "needs ROOT, STEP or NAME", "tag", self.root, "5")
        self.refuse(3, "no such folder", "tag", self.dir / "nowhere", "5", "t")
        self.assertEqual(self.tags("checkpoint-5"), [])
        many = [f"t{i}" for i in range(256)]
        self.run_tool("tag", self.root, "5", *many)
        self.refuse(3, "256 tags", "tag", self.root, "5", "one-more")
        self.assertEqual(len(self.tags("checkpoint-5")), 256)


class Log(Root):
    def test_notes(self):
        self.series(5)
        self.assertIn("nothing has been written", self.run_tool("log", self.root).stdout)
        self.run_tool("log", self.root, "--note", "halved the \"rate\"\n\x1b[1m \u00e9")
        self.run_json("log", self.root, "--note", "second", ranks=2)
        self.run_tool("tag", self.root, "5", "best")
        lines = self.run_tool("log", self.root).stdout.splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  note      halved the "
                                   r'"rate"\\n\\x1b\[1m \u00e9$')
        self.assertRegex(lines[2], r"  tagged    checkpoint-5  step 5  best$")
        self.assertEqual(len(self.run_tool("log", self.root, "--last", "1").stdout.splitlines()), 1)
        events = self.run_json("log", self.root, "--last", "2", ranks=2)["events"]
        self.assertEqual([e["text"] for e in events], ["second", "best"])
        self.assertEqual(self.run_json("log", self.root, "--last", "0")["events"], [])

    def test_damaged_lines(self):
        self.series(5)
        self.run_tool("log", self.root, "--note", "first")
        path = self.root / "allshard.history.jsonl"
        path.write_bytes(path.read_bytes() + b"rubbish\n\xff\xfe\n{\"time\": \"2026")
        done = self.run_tool("log", self.root)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertIn("2 lines cannot be read", done.stderr)
        self.run_tool("log", self.root, "--note", "second")
        told = self.run_json("log", self.root)
        self.assertEqual(([e["text"] for e in told["events"]], told["damaged_lines"]),
                         (["first", "second"], 3))

    def test_refused(self):
        self.refuse(3, "no such folder", "log", self.dir / "nowhere")
        self.refuse(3, "no such folder", "log", self.dir / "nowhere", "--note", "x")
        self.refuse(3, "no series of checkpoints", "log", self.root, "--note", "x")
        self.refuse(3, "no series of checkpoints", "log", self.template)
        self.assertEqual(os.listdir(self.root), [])
        self.refuse(2, "--note", "log", self.root, "--note", "")
        self.refuse(2, "--note", "log", self.root, "--note", "x" * 65537)
        self.refuse(2, "--last", "log", self.root, "--last", "-1")


if __name__ == "__main__":
    unittest.main()
