#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""The commands that write (copy, demo): the files, byte for byte, with every layout on one rank and
on several, what comes along, and what is refused."""

import hashlib
import json
import random
import shutil
import struct
import unittest

from tool_support import RANK, WITH_MPI, Case, Tensor, checkpoint, contents, model, put, safetensors

LAYOUTS = {1: ["whole", "replicated", "fsdp", "columns", "flat", "tp=1"],
           2: ["whole", "fsdp", "tp=2", "ep=2"],
           3: ["whole", "replicated", "fsdp", "columns", "flat", "pp=3", "tp=3"],
           8: ["whole", "fsdp", "flat", "tp=2,pp=2,dp=2", "tp=2,ep=4", "dp=8"]}


class Copy(Case):
    def test_every_layout_writes_what_huggingface_writes(self):
        tensors = model()
        source = put(self.dir / "in", checkpoint(tensors, 10**9))
        # A single file is taken in the order of its data.
        ordered = sorted(tensors, key=lambda t: (-RANK.index(t.dtype), t.name.encode()))
        begin = {}
        at = 0
        for t in ordered:
            begin[t.name] = at
            at += len(t.data)
        ordered.sort(key=lambda t: (begin[t.name], begin[t.name] + len(t.data)))
        expected = checkpoint(ordered, 900)
        self.assertGreater(len(expected), 4)
        for ranks, layouts in LAYOUTS.items():
            for layout in layouts if WITH_MPI or ranks == 1 else []:
                target = self.dir / f"out-{ranks}-{layout}"
                self.run_tool("copy", source, target, "--max-shard-size", "900", "--layout", layout,
                              ranks=ranks if ranks > 1 else 0)
                self.assertEqual(contents(target), expected, (ranks, layout))
                self.run_tool("verify", target)

    def test_order_of_an_index_is_kept(self):
        tensors = model()
        random.Random(4).shuffle(tensors)
        source = put(self.dir / "in", checkpoint(tensors, 900))
        index = json.loads((source / "model.safetensors.index.json").read_text())
        order = list(index["weight_map"])
        by_name = {t.name: t for t in tensors}
        self.run_tool("copy", source, self.dir / "out", "--max-shard-size", "1.5KB", ranks=2)
        self.assertEqual(contents(self.dir / "out"),
                         checkpoint([by_name[n] for n in order], 1500))

    def test_other_files_come_along(self):
        source = put(self.dir / "in", {**checkpoint(model(), 2000), "config.json": b"{}",
                                       "tokenizer.model": b"\0\1", "model.bin": b"x",
                                       ".hidden": b"x", "pytorch_model.bin.index.json": b"{}",
                                       "allshard.manifest.json": b"not even JSON"})
        told = self.run_tool("copy", source, self.dir / "out", status=1).stderr
        self.assertIn("allshard.manifest.json: not JSON", told)
        self.assertIn("--no-check", told)
        (source / "sub").mkdir()
        (source / "link.txt").symlink_to(source / "config.json")
        (source / "broken.txt").symlink_to(source / "nothing")
        done = self.run_tool("copy", source, self.dir / "out", "--no-check")
        self.assertIn("broken.txt", done.stderr)
        expected = {"model.safetensors", "config.json", "tokenizer.model", "link.txt"}
        self.assertEqual(contents(self.dir / "out").keys(), expected)
        self.assertEqual((self.dir / "out" / "link.txt").read_bytes(), b"{}")
        self.run_tool("copy", source, self.dir / "bare", "--weights-only", "--no-check")
        self.assertEqual(contents(self.dir / "bare").keys(), checkpoint(model(), 10**9).keys())

    def test_rotten_bytes_are_not_copied(self):
        source = put(self.dir / "in", checkpoint(model(), 900))
        self.run_tool("copy", source, self.dir / "good", "--verify-after-write", ranks=2)
        good = contents(self.dir / "good")
        file = self.dir / "good" / "model.safetensors"
        rotten = bytearray(file.read_bytes())
        rotten[-1] ^= 4
        file.write_bytes(rotten)
        told = self.run_tool("copy", self.dir / "good", self.dir / "out", ranks=2,
                             status=1).stderr
        self.assertIn("model.safetensors: bytes 0 to", told)
        self.assertIn("--no-check", told)
        self.assertFalse((self.dir / "out").exists())
        self.run_tool("copy", self.dir / "good", self.dir / "out", "--no-check", ranks=2)
        self.assertNotEqual(contents(self.dir / "out"), good)

    def test_odd_neighbours_do_not_stop_a_copy(self):
        files = checkpoint(model(), 2000)
        name = "model.safetensors.index.json"
        dotted = {**files, name: files[name].replace(b': "model-', b': "./model-')}
        source = put(self.dir / "in", dotted)
        self.assertIn(b"./model-", dotted[name])
        self.run_tool("verify", source)
        (source / "a\udcffb.txt").write_bytes(b"x")  # no UTF-8
        target = self.dir / "out"
        target.mkdir()
        (target / "allshard.manifest.json").symlink_to("nowhere")
        done = self.run_tool("copy", source, target, "--max-shard-size", "2000")
        self.assertIn("not UTF-8", done.stderr)
        self.assertIn("the old manifest is replaced", done.stderr)
        self.assertEqual(contents(target), files)
        self.run_tool("verify", target)

    def test_folders_that_cannot_be_made(self):
        source = put(self.dir / "in", checkpoint(model(), 2000))
        (self.dir / "dangling").symlink_to("/nowhere/at/all")
        self.refuse(3, "a link to nothing", "copy", source, self.dir / "dangling" / "sub")
        self.refuse(3, "dangling", "copy", source, self.dir / "dangling")
        shutil.copytree(source, self.dir / "again")
        # A link to a shard of DST is SRC = DST, wherever the link lies.
        shard = next((self.dir / "again").glob("model-00001-of-*.safetensors"))
        (self.dir / "link.safetensors").symlink_to(shard)
        self.refuse(2, "DST is the folder", "copy", self.dir / "link.safetensors",
                    self.dir / "again")

    def test_unnamed_tensors_are_left_out_with_a_warning(self):
        source = random.Random(5)
        a, b = (Tensor(n, "U8", [4], source) for n in "ab")
        folder = put(self.dir / "in", {
            "m.safetensors": safetensors([a, b]),
            "model.safetensors.index.json": b'{"weight_map": {"a": "m.safetensors"}}'})
        done = self.run_tool("copy", folder, self.dir / "out", ranks=2)
        self.assertIn("warning", done.stderr)
        self.assertIn('"b"', done.stderr)
        self.assertEqual(contents(self.dir / "out"), checkpoint([a], 10**9))

    def test_options(self):
        source = put(self.dir / "in", checkpoint(model(), 10**9))
        target = self.dir / "new" / "out"
        self.run_tool("copy", source, target, "--max-shard-size=2000", "--mode", "640",
                      "--metadata", "who=me", "--metadata", "why=a=b", "--pattern",
                      "m.v1{suffix}.safetensors", "--block-size", "64", "--memory", "1MiB", ranks=2)
        index = target / "m.v1.safetensors.index.json"
        self.assertEqual(json.loads(index.read_text())["metadata"]["why"], "a=b")
        self.assertEqual(index.stat().st_mode & 0o777, 0o640)
        self.run_tool("verify", target)
        self.run_tool("diff", source, target, ranks=3)
        # A second save of the same pattern replaces the first; other files stay.
        (target / "notes.txt").write_text("mine")
        done = self.run_tool("copy", source, target, "--pattern", "m.v1{suffix}.safetensors", ranks=2)
        ranks = "2 ranks" if WITH_MPI else "1 rank"
        self.assertIn(f" in 1 shard, and 0 other files; {ranks} read in ", done.stdout)
        self.assertEqual(contents(target).keys(), {"m.v1.safetensors", "notes.txt"})

    def test_dtypes(self):
        """Values that no rounding touches, so that the standard library knows what they become."""
        values = [0.0, 1.0, -2.5, 0.15625, 448.0, float("inf")]
        f32 = Tensor("w", "F32", [2, 3], random.Random(1))
        f32.data = struct.pack("<6f", *values)
        f16 = Tensor("h", "F16", [6], random.Random(1))
        f16.data = struct.pack("<6e", *values)
        other = Tensor("i", "I32", [3], random.Random(2))
        source = put(self.dir / "in", checkpoint([f32, f16, other], 10**9))
        expected = [Tensor("w", "BF16", [2, 3], random.Random(1)),
                    Tensor("h", "F64", [6], random.Random(1)), other]
        expected[0].data = b"".join(struct.pack("<f", v)[2:] for v in values)
        expected[1].data = struct.pack("<6d", *values)
        for ranks, layout in ((0, "whole"), (2, "columns"), (3, "flat")):
            target = self.dir / f"out{ranks}"
            told = self.run_json("copy", source, target, "--dtype", "f32=Bf16", "--dtype=F16=F64",
                                 "--layout", layout if WITH_MPI else "whole", ranks=ranks)
            self.assertEqual(contents(target), checkpoint(expected, 10**9))
            self.assertEqual(told["tensor_bytes"], 12 + 48 + 12)
            self.assertEqual(told["casts"], [{"from": "F16", "to": "F64", "tensors": 1},
                                             {"from": "F32", "to": "BF16", "tensors": 1}])
            self.run_tool("verify", target)
        self.assertEqual(self.run_json("copy", source, self.dir / "same")["casts"], [])
        done = self.run_tool("copy", source, self.dir / "none", "--dtype", "BF16=F16", ranks=2)
        self.assertIn("no tensor of type BF16", done.stderr)
        self.assertEqual(contents(self.dir / "none"), contents(source))
        for text, *values in (("FROM=TO", "F32"), ('"F33" is no type', "F33=BF16"),
                              ("I32 cannot be cast to F32", "I32=F32"), ("changes nothing", "F16=f16"),
                              ("both BF16 and F16", "F32=BF16", "F32=F16"), ('"" is no type', "F32=")):
            options = [f"--dtype={v}" for v in values]
            self.refuse(2, text, "copy", source, self.dir / "bad", *options, ranks=2)
        self.assertFalse((self.dir / "bad").exists())

    def test_traces_that_cannot_be_written(self):
        source = put(self.dir / "in", checkpoint(model(), 2000))
        target = self.dir / "out"
        wrong = self.dir / "none" / "trace.json"
        self.refuse(3, f"{wrong}: the trace", "copy", source, target, "--trace", wrong, ranks=2)
        self.assertFalse(target.exists())
        self.refuse(3, "is complete, but its trace is not", "copy", source, target, "--trace",
                    "/dev/full", ranks=2)
        self.run_tool("diff", source, target)

    def test_refuses(self):
        source = put(self.dir / "in", checkpoint(model(), 2000))
        (self.dir / "alias").symlink_to(source)
        for target in (source, f"{source}/", self.dir / "alias"):
            self.refuse(2, "same folder", "copy", source, target, ranks=2)
        single = next(source.glob("*-00001-*"))
        self.refuse(2, "lies in", "copy", single, source)
        self.refuse(2, "DST must be a folder", "copy", source, single)
        busy = self.dir / "busy"
        (busy / "model.safetensors").mkdir(parents=True)
        self.refuse(3, "model.safetensors", "copy", source, busy, ranks=2)
        blocked = put(self.dir / "blocked", {".allshard": b"x"})
        self.refuse(3, str(blocked / ".allshard"), "copy", source, blocked)
        single.write_bytes(single.read_bytes()[:-1])
        self.refuse(1, single.name, "copy", source, self.dir / "out", ranks=3)
        many = Tensor("many", "U8", [1] * 17, random.Random(1))
        put(self.dir / "dims", {"model.safetensors": safetensors([many])})
        self.refuse(3, "17 dimensions", "copy", self.dir / "dims", self.dir / "out", ranks=2)
        put(self.dir / "none", {"model.safetensors.index.json": b'{"weight_map": {}}'})
        self.refuse(3, "no rank declares a tensor", "copy", self.dir / "none", self.dir / "out",
                    ranks=2)
        self.assertFalse((self.dir / "out").exists())


class Demo(Case):
    def test_any_layout_gives_the_same_bytes(self):
        seen = set()
        for ranks, layout in ((0, "whole"), (3, "flat"), (4, "tp=2,pp=2")):
            if ranks and not WITH_MPI:
                continue
            target = self.dir / f"out{ranks}"
            done = self.run_tool("demo", target, "--layout", layout, "--max-shard-size", "200MB",
                                 "--seed", "7", ranks=ranks)
            self.assertIn("124.4 million parameters", done.stdout)
            digest = hashlib.sha256()
            for name, data in sorted(contents(target).items()):
                digest.update(name.encode() + data)
            seen.add(digest.hexdigest())
            self.run_tool("verify", target)
            shutil.rmtree(target)
        self.assertEqual(len(seen), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
