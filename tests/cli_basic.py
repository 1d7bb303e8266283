#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""The commands of the tool with good and bad input, on one rank and on several: exit statuses (the
same on all ranks), messages (once, on stderr), JSON, and the files that copy and demo write."""

import hashlib
import json
import os
import pathlib
import random
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

TOOL = os.environ.get("ALLSHARD_BIN", "allshard")
MPIEXEC = shlex.split(os.environ.get("MPIEXEC", "mpirun"))
COUNT_FLAG = os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")
WITH_MPI = os.environ.get("ALLSHARD_WITH_MPI", "1") not in ("", "0", "OFF")
COMMANDS = ["copy", "ls", "verify", "diff", "recover", "plan", "demo"]
LAYOUTS = {1: ["whole", "replicated", "fsdp", "columns", "flat", "tp=1"],
           2: ["whole", "fsdp", "tp=2", "ep=2"],
           3: ["whole", "replicated", "fsdp", "columns", "flat", "pp=3", "tp=3"],
           8: ["whole", "fsdp", "flat", "tp=2,pp=2,dp=2", "tp=2,ep=4", "dp=8"]}
# Low to high, with bits: tensors lie in a file from high to low.
DTYPES = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
          "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
          "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
          "U64": 64}
RANK = list(DTYPES)


class Tensor:
    """A tensor with random bytes."""

    def __init__(self, name, dtype, shape, source):
        numel = 1
        for n in shape:
            numel *= n
        self.name, self.dtype, self.shape = name, dtype, list(shape)
        self.data = source.randbytes(numel * DTYPES[dtype] // 8)


def safetensors(tensors, metadata={"format": "pt"}):
    """The bytes of a file, as the reference writer makes them."""
    header = {} if metadata is None else {"__metadata__": metadata}
    ordered = sorted(tensors, key=lambda t: (-RANK.index(t.dtype), t.name.encode()))
    at = 0
    for t in ordered:
        header[t.name] = {"dtype": t.dtype, "shape": t.shape,
                          "data_offsets": [at, at + len(t.data)]}
        at += len(t.data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(t.data for t in ordered)


def split(tensors, limit):
    """huggingface_hub's greedy split; empty tensors go where the first of them went."""
    shards, current, size, first_empty, empties = [], [], 0, None, []
    for t in tensors:
        n = len(t.data)
        if n == 0:
            if first_empty is not None:
                empties.append(t)
                continue
            first_empty = t
        if n > limit:
            shards.append([t])
            continue
        if size + n > limit:
            shards.append(current)
            current, size = [], 0
        current.append(t)
        size += n
    if current:
        shards.append(current)
    for shard in shards:
        if first_empty in shard:
            shard += empties
    return shards


def checkpoint(tensors, limit):
    """File name → bytes of the folder that huggingface_hub writes."""
    shards = split(tensors, limit)
    if len(shards) == 1:
        return {"model.safetensors": safetensors(shards[0])}
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    files = {name: safetensors(shard) for name, shard in zip(names, shards)}
    index = {"metadata": {"total_size": sum(len(t.data) for t in tensors)},
             "weight_map": {t.name: name for name, shard in zip(names, shards) for t in shard}}
    text = json.dumps(index, indent=2).replace("\x7f", "\\u007f")
    files["model.safetensors.index.json"] = text.encode()
    return files


def put(folder, files):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()
            if p.name != "allshard.manifest.json"}


def model(seed=1):
    source = random.Random(seed)
    tensors = [Tensor("embed.weight", "F32", [33, 16], source)]
    for i in range(4):
        tensors += [Tensor(f"layers.{i}.attn.weight", "BF16", [16, 24 + i], source),
                    Tensor(f"layers.{i}.attn.bias", "F32", [16], source),
                    Tensor(f"layers.{i}.experts.{i}.w1", "F16", [7, 5, 3], source),
                    Tensor(f"layers.{i}.fp4", "F4", [6, 8], source)]
    tensors += [Tensor("scale", "F64", [], source), Tensor("none", "I64", [0, 3], source),
                Tensor("late \u00e9\u2028\"\\\x7f", "U8", [13], source),
                Tensor("nothing", "F32", [2, 0], source), Tensor("odd", "F6_E2M3", [2, 6], source),
                Tensor("flag", "BOOL", [5], source), Tensor("c", "C64", [3, 2], source)]
    return tensors


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="allshard-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def run_tool(self, *arguments, ranks=0, status=0):
        """Runs the tool; ranks 0: without a launcher. Each rank's status must be `status`."""
        command = [TOOL, *map(str, arguments)]
        if ranks:
            if not WITH_MPI:
                self.skipTest("built without MPI")
            notes = self.dir / "statuses"
            shutil.rmtree(notes, ignore_errors=True)
            notes.mkdir()
            wrapper = ["sh", "-c", 'n=$1; shift; "$@"; echo $? > "$n/$$"', "sh", str(notes)]
            command = [*MPIEXEC, COUNT_FLAG, str(ranks), *wrapper, *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False,
                              stdin=subprocess.DEVNULL)
        told = f"{command}\nstatus {done.returncode}\n{done.stdout}\n{done.stderr}"
        if ranks:
            statuses = [int(p.read_text()) for p in notes.iterdir()]
            self.assertEqual(statuses, [status] * ranks, told)
        else:
            self.assertEqual(done.returncode, status, told)
        if status in (2, 3):
            lines = [x for x in done.stderr.splitlines() if x.startswith("allshard: error: ")]
            self.assertEqual(len(lines), 1, told)
        return done

    def run_json(self, *arguments, ranks=0, status=0):
        result = json.loads(self.run_tool(*arguments, "--json", ranks=ranks, status=status).stdout)
        self.assertEqual(result["ok"], status == 0)
        return result

    def refuse(self, status, text, *arguments, ranks=0):
        """The one error names `text`."""
        done = self.run_tool(*arguments, ranks=ranks, status=status)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stdout, "")


class Usage(Case):
    def test_help(self):
        self.assertIn("Commands:", self.run_tool("--help").stdout)
        self.assertIn("allshard 0.", self.run_tool("--version").stdout)
        for name in COMMANDS:
            done = self.run_tool(name, "--help")
            self.assertIn(f"Usage: allshard {name} ", done.stdout)
            self.assertIn(f"  allshard {name} ", done.stdout.replace("mpirun -n 4 ", "  "))
            self.assertEqual(done.stderr, "")
            self.assertEqual(self.run_tool("help", name).stdout, done.stdout)
            self.assertEqual(max(map(len, done.stdout.splitlines())) <= 100, True)
        self.assertEqual(self.run_tool("copy", "--help", ranks=3).stdout,
                         self.run_tool("copy", "--help").stdout)

    def test_wrong_usage(self):
        for ranks in (0, 3):
            self.refuse(2, "--help", ranks=ranks)
            self.refuse(2, "did you mean verify", "verfy", "x", ranks=ranks)
            self.refuse(2, "--tensor", "ls", "--tensor", "x", ranks=ranks)
            self.refuse(2, "needs SRC and DST", "copy", "a", ranks=ranks)
        for arguments in (["ls"], ["verify", "a", "b"], ["diff", "a"], ["recover"], ["plan"],
                          ["plan", "--model", "gpt2", "x"], ["demo"], ["ls", ""]):
            self.refuse(2, "allshard: error: ", *arguments)

    def test_values_are_checked_before_anything_is_read(self):
        target = self.dir / "out"
        for text, *arguments in (("1KiB", "--max-shard-size", "1KiB"),
                                 ("{suffix}", "--pattern", "foo.safetensors"),
                                 ("octal", "--mode", "999"), ("KEY=VALUE", "--metadata", "x"),
                                 ("multiple of 64", "--block-size", "100"),
                                 ("64MiB", "--memory", "lots")):
            self.refuse(2, text, "copy", "/no/such/source", target, *arguments)
        for layout in ("hole", "tp=3", "tp=2,pp=2", "tp=0", ""):
            self.refuse(2, "--layout", "copy", "/no/such/source", target, "--layout", layout)
        self.refuse(2, "is for 4 ranks", "copy", "/no/such", target, "--layout", "tp=4", ranks=3)
        self.refuse(2, "there is no model", "plan", "--model", "gpt9")
        self.refuse(2, "--dtype", "plan", "--model", "gpt2", "--dtype", "f32")
        self.refuse(2, "--ranks", "plan", "--model", "gpt2", "--ranks", "0")
        self.assertFalse(target.exists())

    def test_missing_paths(self):
        for ranks in (0, 2):
            for command in ("ls", "verify", "recover", "plan"):
                self.refuse(3, "/no/such/path", command, "/no/such/path", ranks=ranks)
            self.refuse(3, "/no/such/path", "diff", "/no/such/path", "/no/such/other", ranks=ranks)
        self.refuse(3, "/no/such/path", "copy", "/no/such/path", self.dir / "out")
        self.refuse(3, "no checkpoint", "verify", self.dir)
        self.assertEqual(self.run_json("ls", "/no/such/path", status=3)["error"]["code"],
                         "ALLSHARD_NOT_FOUND")


class Ls(Case):
    def test_folder(self):
        tensors = model()
        files = checkpoint(tensors, 2000)
        folder = put(self.dir / "in", files)
        for ranks in (0, 2):
            result = self.run_json("ls", folder, "--tensors", ranks=ranks)
            self.assertEqual(result["tensors"], len(tensors))
            self.assertEqual(result["tensor_bytes"], sum(len(t.data) for t in tensors))
            self.assertEqual({f["name"]: f["bytes"] for f in result["files"]},
                             {n: len(d) for n, d in files.items() if "index" not in n})
            named = {t["name"]: (t["dtype"], t["shape"]) for t in result["tensor_list"]}
            self.assertEqual(named, {t.name: (t.dtype, t.shape) for t in tensors})
        text = self.run_tool("ls", folder).stdout
        self.assertIn("model-00001-of-", text)
        self.assertNotIn("\x1b", text)

    def test_names_cannot_command_the_terminal(self):
        folder = put(self.dir / "in", {"model.safetensors": safetensors(
            [Tensor("a\x1b[2Jb\u009b", "U8", [1], random.Random(1))])})
        text = self.run_tool("ls", folder, "--tensors").stdout
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\u009b", text)
        self.assertIn("\\x1b[2Jb", text)

    def test_bad_file(self):
        folder = put(self.dir / "in", {"model.safetensors": b"\xff" * 100})
        self.refuse(1, "model.safetensors", "ls", folder, ranks=2)


class Verify(Case):
    def check(self, files, faults=(), warnings=(), path=None):
        """Each fault and warning is (file, tensor, part of the text); nothing else is found."""
        shutil.rmtree(self.dir / "in", ignore_errors=True)
        folder = put(self.dir / "in", files)
        result = self.run_json("verify", path or folder, status=1 if faults else 0)
        for kind, expected in (("faults", faults), ("warnings", warnings)):
            found = result[kind]
            self.assertEqual([(x["file"], x["tensor"]) for x in found],
                             [(x[0], x[1]) for x in expected], result)
            for one, wanted in zip(found, expected):
                self.assertIn(wanted[2], one["text"])
        lines = self.run_tool("verify", path or folder, status=1 if faults else 0).stdout
        self.assertEqual(lines.count("\n"), len(faults) + len(warnings) + 1)

    def test_good(self):
        self.check(checkpoint(model(), 2000))
        self.check(checkpoint(model(), 10**9))
        self.check({**checkpoint(model(), 2000), "config.json": b"{", "x.bin": b"?"})
        folder = put(self.dir / "one", checkpoint(model(), 10**9))
        self.assertIn("good", self.run_tool("verify", folder / "model.safetensors", ranks=2).stdout)

    def test_index_against_headers(self):
        source = random.Random(2)
        a, b, c = (Tensor(n, "U8", [4], source) for n in "abc")
        one, two, index = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                           "model.safetensors.index.json")

        def files(weight_map, total=8, first=(a,), second=(b,)):
            return {one: safetensors(first), two: safetensors(second),
                    index: json.dumps({"metadata": {"total_size": total},
                                       "weight_map": weight_map}).encode()}
        good = {"a": one, "b": two}
        self.check(files(good))
        self.check(files(good, total=7), warnings=[(index, None, "total_size")])
        self.check(files({"a": two, "b": two, "c": one}, total=8, first=(a, c)),
                   [(two, "a", f"it is in {one}")], [(one, "a", "does not name")])
        odd = Tensor("odd", "F4", [2, 3], source)
        self.check({"model.safetensors": safetensors([odd])},
                   warnings=[("model.safetensors", "odd", "torch")])
        self.check(files({**good, "x": one}), [(one, "x", "in no file")])
        self.check(files(good, second=(b, c)), warnings=[(two, "c", "does not name")])
        missing = files(good)
        del missing[two]
        self.check(missing, [(two, None, "not there")])
        self.check({**files(good), index: b'{"weight_map": {"a": "../x.safetensors"}}'},
                   [(index, None, "")])
        self.check({**files(good), index: b"[]"}, [(index, None, "")])

    def test_stale_and_stray_files(self):
        good = checkpoint(model(), 2000)
        single = safetensors(model())
        stale = "model-00007-of-00009.safetensors"
        self.check({**good, "model.safetensors": single},
                   [("model.safetensors", None, "stale")])
        self.check({**good, stale: single}, [(stale, None, "stale")])
        self.check({"model.safetensors": single, stale: single}, [(stale, None, "stale")])
        self.check({**good, "other.safetensors": single},
                   warnings=[("other.safetensors", None, "not part")])
        folder = put(self.dir / "left", good)
        (folder / ".allshard").mkdir()
        result = self.run_json("verify", folder, status=1)
        self.assertEqual(result["faults"][0]["file"], ".allshard")
        self.assertIn("allshard recover", result["faults"][0]["text"])
        self.run_tool("recover", folder)
        self.run_tool("verify", folder)

    def test_metadata_is_a_matter_of_warnings(self):
        t = model()
        name = "model.safetensors"
        self.check({name: safetensors(t, None)}, warnings=[(name, None, "__metadata__")])
        self.check({name: safetensors(t, {})}, warnings=[(name, None, "format")])
        self.check({name: safetensors(t, {"format": "tf"})}, warnings=[(name, None, "tf")])

    def test_damage_is_found_and_survived(self):
        source = random.Random(3)
        good = safetensors(model())
        folder = put(self.dir / "in", {})
        length = struct.unpack("<Q", good[:8])[0]
        for i in range(40):
            data = bytearray(good)
            if i % 4 == 0:
                data = data[:source.randrange(len(data))]
            elif i % 4 == 1:
                data += source.randbytes(source.randrange(1, 9))
            else:
                for _ in range(i % 4):
                    data[source.randrange(8 + length)] = source.randrange(256)
            (folder / "model.safetensors").write_bytes(data)
            done = subprocess.run([TOOL, "verify", folder], capture_output=True, check=False,
                                  timeout=60)
            self.assertIn(done.returncode, (0, 1), done)
            self.assertEqual(done.stderr, b"")
            if i % 4 < 2:
                self.assertEqual(done.returncode, 1)
                self.assertTrue(done.stdout.startswith(b"fault:   model.safetensors: "), done)


class Diff(Case):
    def test_same_and_different(self):
        tensors = model()
        a = put(self.dir / "a", checkpoint(tensors, 2000))
        b = put(self.dir / "b", checkpoint(tensors[::-1], 10**9))
        changed = model()
        changed[5].data = changed[5].data[:20] + b"\xff\xfe" + changed[5].data[22:]
        c = put(self.dir / "c", checkpoint(changed, 500))
        fewer = put(self.dir / "d", checkpoint(changed[1:] + model(9)[:1], 700))
        for ranks in (0, 1, 2, 3, 8):
            self.assertTrue(self.run_json("diff", a, b, ranks=ranks)["same"])
            result = self.run_json("diff", a, c, ranks=ranks, status=1)
            self.assertEqual(result["different"], 1)
            self.assertEqual(result["first_difference"],
                             {"tensor": changed[5].name, "kind": "bytes", "byte": 20,
                              "element": 20 * 8 // DTYPES[changed[5].dtype]})
        self.assertEqual(self.run_json("diff", a, fewer, ranks=3, status=1)["different"], 2)
        self.assertIn("First difference", self.run_tool("diff", a, fewer, status=1).stdout)

    def test_heads_and_names(self):
        source = random.Random(1)
        a = put(self.dir / "a", checkpoint([Tensor("x", "F32", [2, 3], source),
                                            Tensor("left", "U8", [1], source)], 10**9))
        for dtype, shape, kind in (("I32", [2, 3], "dtype"), ("F32", [3, 2], "shape"),
                                   ("F32", [6], "shape")):
            b = put(self.dir / "b", checkpoint([Tensor("x", dtype, shape, source),
                                                Tensor("right", "U8", [1], source)], 10**9))
            result = self.run_json("diff", a, b, status=1)
            self.assertEqual(result["first_difference"]["kind"], kind)
            self.assertEqual((result["only_in_a"], result["only_in_b"]), (["left"], ["right"]))


class Plan(Case):
    def test_models_and_paths(self):
        result = self.run_json("plan", "--model", "gpt2", "--ranks", "4", "--layout", "tp=2,pp=2",
                               "--max-shard-size", "100MB")
        self.assertEqual(result["parameters"], 124439808)
        self.assertEqual(result["total_size"], 497759232)
        self.assertEqual(sum(x["tensors"] for x in result["shards"]), 148)
        self.assertEqual(sum(result["writer_bytes"]), sum(x["bytes"] for x in result["shards"]))
        tensors = model()
        files = checkpoint(tensors, 2000)
        folder = put(self.dir / "in", files)
        for layout, ranks in (("whole", 3), ("fsdp", 5), ("tp=2,ep=2", 4), ("replicated", 2)):
            result = self.run_json("plan", folder, "--layout", layout, "--ranks", ranks,
                                   "--max-shard-size", "2000")
            self.assertEqual({x["name"]: x["bytes"] for x in result["shards"]},
                             {n: len(d) for n, d in files.items() if "index" not in n})
        self.assertIn("go from rank to rank", self.run_tool("plan", folder, ranks=2).stdout)
        self.refuse(2, "is for 2 ranks", "plan", folder, "--layout", "tp=2", "--ranks", "3")


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
        order = list(json.loads((source / "model.safetensors.index.json").read_text())["weight_map"])
        by_name = {t.name: t for t in tensors}
        self.run_tool("copy", source, self.dir / "out", "--max-shard-size", "1.5KB", ranks=2)
        self.assertEqual(contents(self.dir / "out"),
                         checkpoint([by_name[n] for n in order], 1500))

    def test_other_files_come_along(self):
        source = put(self.dir / "in", {**checkpoint(model(), 2000), "config.json": b"{}",
                                       "tokenizer.model": b"\0\1", "model.bin": b"x",
                                       ".hidden": b"x", "pytorch_model.bin.index.json": b"{}",
                                       "allshard.manifest.json": b"not even JSON"})
        (source / "sub").mkdir()
        (source / "link.txt").symlink_to(source / "config.json")
        (source / "broken.txt").symlink_to(source / "nothing")
        done = self.run_tool("copy", source, self.dir / "out")
        self.assertIn("broken.txt", done.stderr)
        expected = checkpoint(model(), 10**9).keys() | {"config.json", "tokenizer.model", "link.txt"}
        self.assertEqual(contents(self.dir / "out").keys(), expected)
        self.assertEqual((self.dir / "out" / "link.txt").read_bytes(), b"{}")
        self.run_tool("copy", source, self.dir / "bare", "--weights-only")
        self.assertEqual(contents(self.dir / "bare").keys(), checkpoint(model(), 10**9).keys())

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
        self.run_tool("copy", source, target, "--pattern", "m.v1{suffix}.safetensors")
        self.assertEqual(contents(target).keys(), {"m.v1.safetensors", "notes.txt"})

    def test_refuses(self):
        source = put(self.dir / "in", checkpoint(model(), 2000))
        (self.dir / "alias").symlink_to(source)
        for target in (source, f"{source}/", self.dir / "alias"):
            self.refuse(2, "same folder", "copy", source, target, ranks=2)
        single = next(source.glob("*-00001-*"))
        self.refuse(2, "lies in", "copy", single, source)
        self.refuse(2, "DST must be a folder", "copy", source, single)
        single.write_bytes(single.read_bytes()[:-1])
        self.refuse(1, single.name, "copy", source, self.dir / "out", ranks=3)
        many = Tensor("many", "U8", [1] * 17, random.Random(1))
        put(self.dir / "dims", {"model.safetensors": safetensors([many])})
        self.refuse(3, "17 dimensions", "copy", self.dir / "dims", self.dir / "out", ranks=2)
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
    print(TOOL, file=sys.stderr)
    unittest.main(verbosity=2)
