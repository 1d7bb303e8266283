#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""What `allshard ls ROOT` tells of a series: whole checkpoints, damaged, half-made and strange ones,
those of other tools, and what a stranger puts there."""

import json
import os
import random
import shutil
import subprocess
import time
import unittest

from series_support import FAULTY, NOW, SEAL, Root, record, tensors
from tool_support import Tensor, checkpoint, put, safetensors


class List(Root):
    def test_what_is_told(self):
        self.series(100, 200)
        self.save("checkpoint-300", record(
            300, parent="checkpoint-200", metric={"name": "loss", "value": 2.5},
            fields={"epoch": "3"}, job={"SLURM_JOB_ID": "17"}))
        self.run_tool("tag", self.root, "200", "keep", "best")
        os.symlink("checkpoint-300", self.root / "latest")
        told = self.ls()
        self.assertEqual([c["step"] for c in told["checkpoints"]], [100, 200, 300])
        self.assertEqual((told["newest"], told["latest"], told["damaged"]),
                         ("checkpoint-300", "checkpoint-300", 0))
        last = told["checkpoints"][2]
        self.assertEqual(last["metric"], {"name": "loss", "value": 2.5})
        self.assertEqual((last["parent"], last["fields"], last["job"]),
                         ("checkpoint-200", {"epoch": "3"}, {"SLURM_JOB_ID": "17"}))
        self.assertEqual((last["time"], last["save_seconds"], last["world_size"], last["parts"]),
                         (NOW, 1.25, 4, ["model"]))
        self.assertEqual((last["good"], last["why"], last["manifest"]), (True, None, True))
        self.assertEqual(last["path"], str(self.root / "checkpoint-300"))
        self.assertEqual(last["bytes"], sum(p.stat().st_size for p in
                                            (self.root / "checkpoint-300").iterdir()))
        self.assertEqual(told["checkpoints"][1]["tags"], ["best", "keep"])
        self.assertIsNone(told["checkpoints"][1]["metric"])
        text = self.run_tool("ls", self.root).stdout.splitlines()
        self.assertIn("3 checkpoints", text[0])
        self.assertIn("newest good: checkpoint-300", text[0])
        self.assertEqual(len(text), 5)
        self.assertRegex(text[1], r"^  NAME  .*STEP  .*SAVED IN  PARTS  METRIC    TAGS$")
        self.assertRegex(text[3], r"checkpoint-200   200 .* 1.25 s  model .* best,keep$")
        self.assertRegex(text[4], r"checkpoint-300   300 .* loss 2.5$")
        for ranks in (1, 3):
            self.assertEqual(self.run_json("ls", self.root, ranks=ranks)["newest"],
                             "checkpoint-300")

    def test_steps_are_numbers(self):
        self.series(9, 10, 100, 2)
        self.assertEqual([c["step"] for c in self.ls()["checkpoints"]], [2, 9, 10, 100])
        self.assertEqual(self.latest()[0], str(self.root / "checkpoint-100"))

    def test_a_root_and_no_checkpoint(self):
        # A checkpoint that holds others, as the Trainer leaves its output folder, is itself.
        self.series(5)
        put(self.root, checkpoint(tensors(2), 10000))
        self.assertIn("tensors", self.ls())
        self.assertEqual(self.ls("--series-pattern", "checkpoint-{step}")["newest"],
                         "checkpoint-5")
        # A folder with nothing in it is nothing; one with a series' file is a series.
        empty = self.dir / "empty"
        empty.mkdir()
        self.refuse(3, "no checkpoint", "ls", empty)
        self.assertEqual(self.ls("--series-pattern", "c{step}", root=empty)["checkpoints"], [])
        for name in ("allshard.history.jsonl", "allshard.control"):
            (empty / name).write_text("")
            self.assertEqual(self.ls(root=empty)["checkpoints"], [])
            self.assertIn("without a checkpoint so far", self.run_tool("ls", empty).stdout)
            (empty / name).unlink()
        self.refuse(3, "no such", "ls", self.dir / "nowhere")
        self.refuse(3, "no such", "ls", self.dir / "nowhere", "--series-pattern", "c{step}")
        self.refuse(3, "not a folder", "ls", self.root / "model.safetensors",
                    "--series-pattern", "c{step}")

    def test_wrong_usage(self):
        self.series(5)
        self.refuse(2, "has no field", "ls", self.root, "--series-pattern", "checkpoint")
        self.refuse(2, "single one", "ls", self.root, "--series-pattern", "c{step}", "--tensors")
        self.refuse(2, "single one", "ls", self.root, "--series-pattern", "c{step}", "--pattern",
                    "m{suffix}.safetensors")

    def test_patterns(self):
        self.save("epoch3_step000012", record(12))
        self.save("epoch4_step000020")  # a plain save, without a record
        self.save("other-30", record(30))
        told = self.ls()
        self.assertEqual([c["name"] for c in told["checkpoints"]],
                         ["epoch4_step000020", "epoch3_step000012", "other-30"])
        self.assertIsNone(told["checkpoints"][0]["step"])
        told = self.ls("--series-pattern", "epoch{epoch}_step{step:06}")
        self.assertEqual([c["step"] for c in told["checkpoints"]], [12, 20])
        self.assertEqual(self.latest("--pattern", "epoch{epoch}_step{step:06}")[0],
                         str(self.root / "epoch4_step000020"))

    def test_damage(self):
        """Each thing that can be amiss is found, told with the file, and passed over."""
        self.series(1)
        shard, index = "model-00002-of-00003.safetensors", "model.safetensors.index.json"
        self.assertTrue((self.template / shard).exists())

        def cut(folder, name, left):
            os.truncate(folder / name, left)

        def rewrite(folder, name, change):
            old = (folder / name).read_text()
            new = change(old)
            self.assertNotEqual(old, new)
            (folder / name).write_text(new)

        def damage_of_part(key, value):
            return lambda f: self.edit(f, lambda m: m["parts"]["model"].update({key: value}))

        def header(folder):
            """A header of the same length that tells of another tensor."""
            data = (folder / shard).read_bytes()
            self.assertIn(b"layer.2", data + b"layer.2")
            name = b"layer.2" if b"layer.2" in data else b"layer.3"
            (folder / shard).write_bytes(data.replace(name, b"layer.9"))

        cases = [
            ("missing", lambda f: (f / shard).unlink()),
            ("bytes, but", lambda f: cut(f, shard, 100)),
            ("bytes, but", lambda f: cut(f, shard, 0)),
            ("missing", lambda f: (f / index).unlink()),
            ("bytes, but", lambda f: (f / index).write_text("{}")),
            (index, lambda f: rewrite(f, index, lambda t: t.replace('"weight_map"', '"weight_mop"'))),
            ("layer.9", lambda f: rewrite(f, index, lambda t: t.replace("layer.1", "layer.9"))),
            ("is not in", header),
            ("allshard.manifest.json", lambda f: cut(f, "allshard.manifest.json", 50)),
            ("allshard.manifest.json", lambda f: cut(f, "allshard.manifest.json", 0)),
            ("checksum", lambda f: rewrite(f, "allshard.manifest.json",
                                           lambda t: t.replace('"model"', '"madel"'))),
            ("tensors", damage_of_part("tensor_count", 4)),
            ("bytes were saved", damage_of_part("total_size", 4)),
            ("no index", damage_of_part("index", None)),
            ("\"step\" of \"checkpoint\"",
             lambda f: self.edit(f, lambda m: m["checkpoint"].update(step="x"))),
            ("\"metric\" of \"checkpoint\"",
             lambda f: self.edit(f, lambda m: m["checkpoint"].update(metric=[1]))),
            ("checkpoint", lambda f: self.edit(f, lambda m: m.update(checkpoint=[]))),
            ("not a regular file", lambda f: ((f / shard).unlink(), os.mkfifo(f / shard),
                                              self.edit(f, lambda m: None))),
            ("missing", lambda f: ((f / shard).unlink(), os.symlink("nothing", f / shard))),
            ("weights", lambda f: [p.unlink() for p in f.iterdir()]),
        ]
        for i, (text, spoil) in enumerate(cases):
            with self.subTest(case=i, text=text):
                folder = self.save("checkpoint-2", record(2))
                self.assertTrue(self.member("checkpoint-2", status=0)["good"])
                spoil(folder)
                told = self.ls(status=1)
                self.assertEqual(told["newest"], "checkpoint-1")
                one = told["checkpoints"][1]
                self.assertEqual((one["name"], one["good"], one["step"]), ("checkpoint-2", False, 2))
                if text == "not a regular file":
                    text = shard
                self.assertIn(text, one["why"])
                self.assertNotIn(str(self.root / "checkpoint-2"), one["why"].split(":")[0])
                text = self.run_tool("ls", self.root, status=1).stdout
                self.assertIn("1 damaged", text)
                self.assertIn("      damaged: ", text)
                path, warnings = self.latest()
                self.assertEqual(path, str(self.root / "checkpoint-1"))
                self.assertIn("checkpoint-2 is passed over: ", warnings)
                self.assertTrue(folder.exists())
                shutil.rmtree(folder)

    def test_what_may_change(self):
        """People edit what lies beside the weights."""
        put(self.template, {"config.json": b"{}"})
        self.run_tool("copy", self.template, self.dir / "with", "--max-shard-size", "1200")
        self.template = self.dir / "with"
        folder, = self.series(7)
        (folder / "config.json").write_text("{\"edited\": true}")
        (folder / "notes.txt").write_text("mine")
        self.assertTrue(self.member("checkpoint-7", status=0)["good"])
        (folder / "config.json").unlink()
        self.assertTrue(self.member("checkpoint-7", status=0)["good"])

    def test_checkpoints_of_others(self):
        """No manifest: what keeps the format is good, with no manifest and no record."""
        put(self.root / "checkpoint-10", checkpoint(tensors(1), 1200))
        put(self.root / "checkpoint-20", checkpoint(tensors(1), 10000))
        put(self.root / "checkpoint-20", {"optimizer.pt": b"x" * 1000, "adapter.safetensors":
                                          safetensors(tensors(3))})
        told = self.ls()
        self.assertEqual([(c["step"], c["good"], c["manifest"], c["parts"])
                          for c in told["checkpoints"]],
                         [(10, True, False, []), (20, True, False, [])])
        self.assertLess(abs(told["checkpoints"][0]["age_seconds"]), 600)
        spoiled = [
            ("a shard that no index names", "model.safetensors.index.json", None),
            ("no file", "model-00001-of-00003.safetensors", None),
            ("model-00001-of-00003.safetensors", "model-00001-of-00003.safetensors", b"rubbish"),
            ("model.safetensors.index.json", "model.safetensors.index.json", b"{"),
            ("b.safetensors", "b.safetensors", b"\xff" * 20),
        ]
        for text, name, data in spoiled:
            folder = put(self.root / "checkpoint-30", checkpoint(tensors(1), 1200))
            if data is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(data)
            one = self.member("checkpoint-30")
            self.assertEqual((one["good"], one["step"]), (False, 30))
            self.assertIn(text, one["why"])
            shutil.rmtree(folder)
        (self.root / "checkpoint-40").mkdir()  # half-made: nothing in it so far
        self.assertIn("no weights", self.member("checkpoint-40")["why"])
        (self.root / "tensorboard").mkdir()  # and this is none
        (self.root / "tensorboard" / "events.out").write_text("x")
        self.assertEqual(len(self.ls(status=1)["checkpoints"]), 3)

    def test_half_done_saves(self):
        """A save that was killed in a checkpoint's folder, and one in the root."""
        folder, = self.series(50)
        (folder / ".allshard").mkdir()
        (folder / ".allshard" / "journal").write_text("rubbish")
        self.assertIn("journal", self.member("checkpoint-50")["why"])
        shutil.rmtree(folder / ".allshard")
        staged = self.root / ".allshard" / "new"
        staged.mkdir(parents=True)
        self.save("checkpoint-60", record(60), root=staged)
        self.assertEqual([c["step"] for c in self.ls()["checkpoints"]], [50])
        # Once its journal is there it counts; what is told is where it can be found.
        journal = self.root / ".allshard" / "journal"
        journal.write_text(json.dumps({
            "allshard_journal": 2, "folders": True,
            "incoming": [{"name": "checkpoint-60"}, {"name": "checkpoint-50"}], "outgoing": []}))
        subprocess.run([SEAL, journal], check=True, timeout=60)
        path, warnings = self.latest()
        self.assertEqual(path, str(self.root / "checkpoint-50"))
        self.assertEqual(len(warnings.splitlines()), 1)
        self.assertIn("\"checkpoint-60\" is just taking its place", warnings)
        self.assertIn("allshard recover", warnings)


class Hostile(Root):
    def test_strange_things(self):
        self.series(1)
        outside = self.dir / "outside"
        self.save("x", record(99), root=outside)
        os.symlink(outside / "x", self.root / "checkpoint-99")  # no links to folders
        os.symlink("checkpoint-77", self.root / "checkpoint-77")
        os.mkfifo(self.root / "checkpoint-2")
        (self.root / "checkpoint-3").write_text("a file")
        (self.root / "allshard.history.jsonl").mkdir()
        self.save(".checkpoint-4", record(4))
        told = self.ls()
        self.assertEqual([c["name"] for c in told["checkpoints"]], ["checkpoint-1"])
        self.assertEqual(self.latest(), (str(self.root / "checkpoint-1"), ""))
        self.refuse(3, "allshard.history.jsonl", "log", self.root)
        self.refuse(3, "no checkpoint", "tag", self.root, "99", "t")
        self.refuse(3, "no checkpoint", "tag", self.root, "checkpoint-99", "t")
        self.assertFalse((outside / "x" / "allshard.tags.json").exists())

    def test_names(self):
        """Line ends, escape sequences and broken UTF-8 in names are shown, not obeyed."""
        evil = [b"a\nb", b"\x1b[31mred", b"bro\xffken", "\u202egnp".encode()]
        self.series(1)
        for i, name in enumerate(evil):
            self.save(os.fsdecode(name), record(10 + i))
        text = self.run_tool("ls", self.root).stdout
        self.assertEqual(len(text.splitlines()), 2 + 1 + len(evil))
        self.assertIn("a\\nb", text)
        self.assertIn("\\x1b[31mred", text)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\u202e", text)
        self.assertEqual(len(self.ls()["checkpoints"]), 1 + len(evil))
        # A script gets whole lines or nothing. The last of them is UTF-8, and a name like any.
        path, warnings = self.latest("--pattern", "checkpoint-{step}")
        self.assertEqual((path, warnings), (str(self.root / "checkpoint-1"), ""))
        shutil.rmtree(self.root / os.fsdecode(evil[3]))
        path, warnings = self.latest()
        self.assertEqual(path, str(self.root / "checkpoint-1"))
        self.assertEqual(warnings.count("control characters"), 3)
        self.assertEqual(len(warnings.splitlines()), 3)

    def test_manifests(self):
        """Huge, deep, and lying ones are damage like any, soon told."""
        self.series(1)
        folder, = self.series(2)
        path = folder / "allshard.manifest.json"
        good = path.read_bytes()
        for text in (b"[" * 100000, b"{\"a\":" * 50000, b"\x00" * 1000, b"\xff\xfe", b"null",
                     good + b"x", good.replace(b"parts", b"ports")):
            path.write_bytes(text)
            begin = time.monotonic()
            self.assertFalse(self.member("checkpoint-2")["good"])
            self.assertLess(time.monotonic() - begin, 60)
        path.write_bytes(b"")
        os.truncate(path, 300 << 20)  # sparse
        self.assertIn("more than a manifest can have", self.member("checkpoint-2")["why"])
        path.write_bytes(good)
        for name in ("../outside", "/etc/passwd", "a/b", ".allshard", ""):
            self.edit(folder, lambda m, n=name: m["parts"]["model"]["files"][0].update(name=n))
            self.assertIn("files", self.member("checkpoint-2")["why"])
        path.write_bytes(good)
        self.edit(folder, lambda m: m["checkpoint"].update(step=2**63 - 1, time="9999-12-31T23:59:59Z"))
        self.assertEqual(self.member("checkpoint-2", status=0)["step"], 2**63 - 1)
        self.assertIn("ahead", self.run_tool("ls", self.root).stdout)
        self.edit(folder, lambda m: m["checkpoint"].update(
            metric={"name": "loss", "value": "NaN"}, fields={f"f{i}": "x" * 4096 for i in range(64)}))
        self.assertEqual(self.member("checkpoint-2", status=0)["metric"]["value"], "NaN")
        self.edit(folder, lambda m: m["checkpoint"].update(fields={f"f{i}": "x" for i in range(65)}))
        self.assertFalse(self.member("checkpoint-2")["good"])

    def test_indexes(self):
        """An index of others names files outside, or a great many."""
        for i, name in enumerate(("../../source/model-00001-of-00003.safetensors", "/etc/passwd",
                                  "C:x.safetensors", "x" * 5000 + ".safetensors")):
            put(self.root / f"checkpoint-{i}", {"model.safetensors.index.json": json.dumps(
                {"metadata": {}, "weight_map": {"layer.0.weight": name}}).encode()})
            self.assertFalse(self.member(f"checkpoint-{i}")["good"])
        one = safetensors([Tensor("a", "U8", [1], random.Random(1))])
        files = {f"f{i}.safetensors": one for i in range(300)}
        files["model.safetensors.index.json"] = json.dumps(
            {"metadata": {}, "weight_map": {**{f"t{i}": "f0.safetensors" for i in range(30000)},
                                            **{f"u{i}": f"f{i}.safetensors" for i in range(300)}}}
        ).encode()
        put(self.root / "checkpoint-9", files)
        self.assertIn("is not in", self.member("checkpoint-9")["why"])

    def test_tags_that_cannot_be_read(self):
        """They do not make a checkpoint bad, and are told as unknown."""
        folder, = self.series(5)
        (folder / "allshard.tags.json").write_text("rubbish")
        self.assertEqual((self.member("checkpoint-5", status=0)["good"],
                          self.member("checkpoint-5", status=0)["tags"]), (True, None))
        self.assertRegex(self.run_tool("ls", self.root).stdout.splitlines()[-1], r"\?$")
        self.refuse(1, "allshard.tags.json", "tag", self.root, "5", "t")
        self.assertEqual((folder / "allshard.tags.json").read_text(), "rubbish")

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_what_may_not_be_read(self):
        folder, = self.series(5)
        folder.chmod(0)
        self.addCleanup(folder.chmod, 0o700)
        self.assertFalse(self.member("checkpoint-5")["good"])

    def test_faults(self):
        """What the disk refuses is one checkpoint's damage; no descriptors are everybody's."""
        if not FAULTY.exists():
            self.skipTest("this build has no tool_faulty")
        self.series(1, 2)

        def run(rule, *arguments):
            return subprocess.run([FAULTY, *map(str, arguments)], capture_output=True, text=True,
                                  timeout=120, check=False, stdin=subprocess.DEVNULL,
                                  env={**os.environ, "ALLSHARD_FAULT": rule})

        self.assertEqual(run("do=count", "ls", self.root).returncode, 0)
        worst = 0
        for call in ("openat", "pread", "fstat", "fstatat", "readdir", "fdopendir"):
            for nth in range(1, 60, 7):
                done = run(f"call={call},nth={nth},do=EIO", "ls", self.root, "--json")
                self.assertIn(done.returncode, (0, 1, 3), done.stderr)
                told = json.loads(done.stdout)
                if done.returncode == 1:
                    self.assertGreaterEqual(told["damaged"], 1)
                    worst += 1
        self.assertGreater(worst, 5)
        done = run("call=pread,nth=1-,do=EIO", "latest", self.root)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("Input/output error", done.stderr)
        done = run("call=openat,nth=4-,do=EMFILE", "latest", self.root)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        for call in ("pwrite", "fsync", "renameat", "create"):
            done = run(f"call={call},nth=1,do=EIO", "tag", self.root, "1", "t")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertRegex(done.stderr, "/checkpoint-1.*allshard\\.tags\\.json")
            names = os.listdir(self.root / "checkpoint-1")
            self.assertEqual([n for n in names if n.startswith("allshard.tags.json")], [])


if __name__ == "__main__":
    unittest.main()
