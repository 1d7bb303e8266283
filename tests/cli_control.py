#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""`allshard stop`, `save-now` and `hold`: what they write into a series' control file, what they
leave alone, and what they refuse."""

import fcntl
import os
import unittest

from series_support import Root, tensors
from tool_support import checkpoint, put

WORDS = {"stop": "--withdraw", "save-now": "--withdraw", "hold": "--release"}


class Control(Root):
    def setUp(self):
        super().setUp()
        self.file = self.root / "allshard.control"

    def words(self):
        return self.file.read_text() if self.file.exists() else None

    def test_each_word(self):
        self.series(5)
        for name, undo in WORDS.items():
            done = self.run_tool(name, self.root)
            self.assertEqual(len(done.stdout.splitlines()), 1)
            self.assertTrue(done.stdout.startswith(f"{self.root}: "))
            self.assertEqual(done.stderr, "")
            self.assertEqual(self.words(), f"{name}\n")
            self.assertIn("already", self.run_tool(name, self.root).stdout)
            self.assertEqual(self.words(), f"{name}\n")
            self.assertRegex(self.run_tool(name, self.root, undo).stdout, "not .* any more")
            self.assertIsNone(self.words())
            self.run_tool(name, self.root, undo)
            self.assertIsNone(self.words())
        # The tool's other commands read the series as before.
        self.run_tool("hold", self.root)
        self.assertEqual(len(self.ls()["checkpoints"]), 1)

    def test_json_and_ranks(self):
        for ranks in (0, 1, 3):
            told = self.run_json("hold", self.root, ranks=ranks)
            self.assertEqual((told["root"], told["changed"], told["words"]),
                             (str(self.root), True, ["hold"]))
            told = self.run_json("stop", self.root, ranks=ranks)
            self.assertEqual((told["changed"], told["words"]), (True, ["stop", "hold"]))
            told = self.run_json("stop", self.root, ranks=ranks)
            self.assertEqual((told["changed"], told["words"]), (False, ["stop", "hold"]))
            told = self.run_json("save-now", self.root, "--withdraw", ranks=ranks)
            self.assertEqual((told["changed"], told["words"]), (False, ["stop", "hold"]))
            self.run_json("stop", self.root, "--withdraw", ranks=ranks)
            told = self.run_json("hold", self.root, "--release", ranks=ranks)
            self.assertEqual((told["changed"], told["words"]), (True, []))
            self.assertIsNone(self.words())

    def test_what_people_wrote(self):
        self.file.write_text("# the disk is full; Jo\n HOLD # till Monday\nstopp\n")
        done = self.run_tool("save-now", self.root)
        self.assertIn('allshard.control: line 3, "stopp", is passed over', done.stderr)
        self.assertEqual(self.words(),
                         "# the disk is full; Jo\n HOLD # till Monday\nstopp\nsave-now\n")
        self.assertIn("already", self.run_tool("hold", self.root).stdout)
        self.run_tool("hold", self.root, "--release")
        self.assertEqual(self.words(), "# the disk is full; Jo\nstopp\nsave-now\n")
        self.file.write_text("\x1b[2J\n")
        self.assertNotIn("\x1b", self.run_tool("stop", self.root).stderr)

    def test_before_the_first_save(self):
        (self.root / ".allshard").mkdir()
        self.run_tool("hold", self.root)
        self.assertEqual(self.words(), "hold\n")

    def test_wrong_folders(self):
        inner, = self.series(5)
        other = self.dir / "other"
        other.mkdir()
        (other / "notes.txt").write_text("")
        plain = put(self.dir / "plain", checkpoint(tensors(3), 10000))
        for name in WORDS:
            self.refuse(3, "no such", name, self.dir / "nowhere")
            self.refuse(3, "no series of checkpoints", name, other)
            self.refuse(3, "no series of checkpoints", name, inner)
            self.refuse(3, "no series of checkpoints", name, plain)
            self.refuse(3, "not a folder", name, other / "notes.txt")
            self.refuse(3, "no series of checkpoints", name, other, ranks=3)
        for folder in (other, inner, plain):
            self.assertFalse((folder / "allshard.control").exists())

    def test_wrong_usage(self):
        for name, undo in WORDS.items():
            self.refuse(2, "one ROOT", name)
            self.refuse(2, "one ROOT", name, self.root, self.root)
            self.refuse(2, "did you mean", name, self.root, undo[:-1])
        self.refuse(2, "--withdraw", "hold", self.root, "--withdraw")
        self.assertIsNone(self.words())

    def test_something_in_its_place(self):
        os.symlink("/etc/passwd", self.file)
        self.refuse(3, "link", "stop", self.root)
        self.file.unlink()
        self.file.mkdir()
        self.refuse(3, "regular file", "stop", self.root)
        self.file.rmdir()
        self.file.write_text("#" * 70000)
        self.refuse(3, "bytes", "stop", self.root)
        self.file.write_text("hold\n")
        lock = os.open(self.root, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.refuse(3, "try again", "stop", self.root)
        os.close(lock)
        self.assertEqual(self.words(), "hold\n")


if __name__ == "__main__":
    unittest.main()
