# SPDX-License-Identifier: Apache-2.0
"""`allshard verify` and the bytes: rot in shards, index, accompanying files and manifest on several
numbers of ranks, files that are cut, longer, gone, swapped or another checkpoint's, copies that have
the bytes (--against) and the commands that bring them over, NaN and infinities (--deep).
ALLSHARD_SEED changes places and bits."""
# timeout: 300
import json
import os
import random
import re
import shlex
import shutil
import struct
import subprocess
import unittest

from tool_support import Case, Tensor, checkpoint, contents, model, put, safetensors

SEED = int(os.environ.get("ALLSHARD_SEED", "1"))
MANIFEST = "allshard.manifest.json"
INDEX = "model.safetensors.index.json"


def tensors_of(path):
    """(name, begin, end) in the file, and where the data begin."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    return [(k, 8 + length + v["data_offsets"][0], 8 + length + v["data_offsets"][1])
            for k, v in header.items() if k != "__metadata__"], 8 + length


def change(path, at, bit=0):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0] ^ 1 << bit
        f.seek(at)
        f.write(bytes([byte]))


class Verify(Case):
    def setUp(self):
        super().setUp()
        self.source = random.Random(SEED)

    def save(self, name="saved", limit="2000", block="64", extra=(), seed=1):
        """A checkpoint with a manifest; several shards, a config."""
        source = put(self.dir / f"{name}-source",
                     {**checkpoint(model(seed), 2000), "config.json": b'{"a": 1}'})
        self.run_tool("copy", source, self.dir / name, "--max-shard-size", limit, "--block-size",
                      block, *extra)
        shutil.rmtree(source)
        return self.dir / name

    def found(self, folder, *arguments, ranks=0, status=1):
        result = self.run_json("verify", folder, *arguments, ranks=ranks, status=status)
        return result["faults"]

    def test_good(self):
        folder = self.save()
        size = sum(p.stat().st_size for p in folder.iterdir() if p.name != MANIFEST)
        blocks = sum(-(-p.stat().st_size // 64) for p in folder.iterdir() if p.name != MANIFEST)
        for ranks in (0, 1, 2, 3):
            for engine in ("auto", "posix", "direct", "uring"):
                result = self.run_json("verify", folder, "--engine", engine, ranks=ranks)
                self.assertEqual(result["faults"] + result["warnings"], [])
                self.assertEqual(result["read"]["bytes"], size)
                self.assertEqual(result["read"]["blocks_compared"], blocks)
                self.assertIsNone(result["not_compared"])
        text = self.run_tool("verify", folder, ranks=2).stdout
        self.assertIn("blocks compared with their checksums", text)
        self.assertEqual(text.count("\n"), 1)

    def test_more_ranks_than_blocks(self):
        folder = self.save(limit="1GB", block="1MiB")
        self.run_tool("verify", folder, ranks=5)
        change(folder / "config.json", 3)
        faults = self.found(folder, ranks=5)
        self.assertEqual([x["file"] for x in faults], ["config.json"])

    def test_rot_anywhere(self):
        folder = self.save()
        names = sorted(p.name for p in folder.iterdir())
        for i in range(24):
            path = folder / names[i % len(names)]
            at = self.source.randrange(path.stat().st_size)
            bit = self.source.randrange(8)
            change(path, at, bit)
            faults = self.found(folder, ranks=i % 4)
            self.assertIn(path.name, [x["file"] for x in faults], (path.name, at, bit))
            if path.name.endswith(".safetensors"):
                placed = [x for x in faults if x["file"] == path.name and "begin" in x]
                self.assertEqual(len(placed), 1)
                self.assertTrue(placed[0]["begin"] <= at < placed[0]["end"], (at, placed))
            change(path, at, bit)
        self.assertEqual(self.found(folder, status=0), [])

    def test_what_is_told_of_a_block(self):
        folder = self.save()
        path = sorted(folder.glob("*.safetensors"))[0]
        tensors, data = tensors_of(path)
        for name, begin, end in tensors:
            if begin == end:
                continue
            at = self.source.randrange(begin, end)
            change(path, at)
            fault, = [x for x in self.found(folder, ranks=2) if "begin" in x]
            low = at // 64 * 64
            high = min(low + 64, path.stat().st_size)
            inside = [n for n, b, e in tensors if b < e and b < high and e > low]
            self.assertEqual((fault["begin"], fault["end"], fault["blocks"]), (low, high, 1))
            self.assertEqual(sorted(fault["tensors"]), sorted(inside))
            self.assertEqual(fault["tensor_count"], len(inside))
            self.assertIn(name, inside)
            self.assertEqual(fault["header"], low < data)
            self.assertEqual(fault["kind"], "differs")
            self.assertRegex(fault["saved"], "^[0-9a-f]{16}$")
            self.assertNotEqual(fault["saved"], fault["found"])
            self.assertEqual(fault["tensor"],
                             inside[0] if len(inside) == 1 and low >= data else None)
            text = self.run_tool("verify", folder, status=1).stdout
            self.assertIn(f"bytes {low} to {high - 1} are not those that were saved", text)
            change(path, at)

    def test_consecutive_blocks_are_one_fault(self):
        folder = self.save()
        path = sorted(folder.glob("*.safetensors"))[0]
        for ranks in (0, 2, 3):
            for at in range(640, 1280, 64):
                change(path, at + self.source.randrange(64))
            faults = self.found(folder, ranks=ranks)
            self.assertEqual([(x["begin"], x["end"], x["blocks"]) for x in faults],
                             [(640, 1280, 10)])
            self.assertIsNone(faults[0]["saved"])
            shutil.rmtree(folder)
            folder = self.save()

    def test_accompanying_files(self):
        folder = self.save()
        (folder / "config.json").write_bytes(b'{"a": 2}')
        self.assertEqual([x["file"] for x in self.found(folder)], ["config.json"])
        (folder / "config.json").write_bytes(b'{"a": 12}')
        result = self.run_json("verify", folder)
        self.assertEqual([x["file"] for x in result["warnings"]], ["config.json"])

    def test_several_parts(self):
        folder = self.save()
        other = put(self.dir / "optimizer", checkpoint(model(7), 3000))
        self.run_tool("copy", other, folder, "--pattern", "optimizer{suffix}.safetensors",
                      "--max-shard-size", "3000", "--block-size", "128")
        whole = self.run_json("verify", folder, ranks=2)
        self.assertEqual(whole["warnings"], [])
        self.assertEqual(whole["tensors"], 2 * len(model()))
        one = self.run_json("verify", folder, "--pattern", "model{suffix}.safetensors")
        self.assertEqual(one["tensors"], len(model()))
        self.assertLess(one["read"]["bytes"], whole["read"]["bytes"])
        path = sorted(folder.glob("optimizer*.safetensors"))[0]
        change(path, path.stat().st_size - 1)
        fault, = self.found(folder, ranks=3)
        self.assertEqual(fault["file"], path.name)
        self.assertEqual(len(fault["tensors"]), fault["tensor_count"])
        self.assertGreater(fault["tensor_count"], 0)
        self.assertEqual(self.found(folder, "--pattern", "model{suffix}.safetensors", status=0), [])
        change(path, 30)
        self.assertEqual({x["file"] for x in self.found(folder)}, {path.name})
        path.unlink()
        self.assertEqual([x["file"] for x in self.found(folder)], [path.name])

    def test_cut_longer_gone_and_swapped(self):
        folder = self.save()
        shards = sorted(folder.glob("*.safetensors"))
        kept = {p: p.read_bytes() for p in shards}
        cut = kept[shards[0]]
        for size in (0, 7, 8, 100, len(cut) // 2, len(cut) - 1):
            shards[0].write_bytes(cut[:size])
            self.assertEqual([x["file"] for x in self.found(folder, ranks=2)], [shards[0].name])
        for more in (1, 64, 5000):
            shards[0].write_bytes(cut + bytes(more))
            self.assertEqual([x["file"] for x in self.found(folder)], [shards[0].name])
        # What is left of a file is compared all the same.
        shards[0].write_bytes(cut[:-1])
        change(shards[0], 700)
        self.assertIn((shards[0].name, 640),
                      [(x["file"], x.get("begin")) for x in self.found(folder)])
        shards[0].write_bytes(cut)
        shards[1].unlink()
        self.assertEqual([x["file"] for x in self.found(folder, ranks=2)], [shards[1].name])
        shards[1].write_bytes(cut)
        shards[0].write_bytes(kept[shards[1]])
        self.assertEqual({x["file"] for x in self.found(folder)} & {p.name for p in shards},
                         {shards[0].name, shards[1].name})

    def test_a_manifest_of_another_checkpoint(self):
        folder = self.save()
        other = self.save("other", seed=2)
        shutil.copy(other / MANIFEST, folder / MANIFEST)
        result = self.run_json("verify", folder, status=1)
        shards = {p.name for p in folder.glob("*.safetensors")}
        self.assertTrue(shards <= {x["file"] for x in result["faults"]})
        third = self.save("third", limit="5000")
        shutil.copy(third / MANIFEST, folder / MANIFEST)
        self.run_json("verify", folder, status=1)
        for text in (b"", b"{}", b"[" * 100000, b"\xff" * 1000, b'{"allshard_manifest": 1}'):
            (folder / MANIFEST).write_bytes(text)
            self.assertEqual([x["file"] for x in self.found(folder, ranks=2)], [MANIFEST])

    def test_one_file_of_a_checkpoint(self):
        folder = self.save()
        first, second = sorted(folder.glob("*.safetensors"))[:2]
        at = first.stat().st_size - 1
        change(second, second.stat().st_size - 1)
        for ranks in (0, 2):
            result = self.run_json("verify", first, ranks=ranks)
            self.assertEqual(result["read"]["bytes"], first.stat().st_size)
            change(first, at)
            fault, = self.found(first, ranks=ranks)
            self.assertEqual((fault["file"], fault["end"]), (first.name, at + 1))
            self.assertEqual(fault["kind"], "differs")
            change(first, at)
        os.truncate(first, at)
        self.assertTrue(self.found(first))
        manifest = (folder / MANIFEST).read_bytes()
        alone = put(self.dir / "alone", checkpoint(model(), 1 << 30)) / "model.safetensors"
        self.assertIn("no manifest", self.run_json("verify", alone)["not_compared"])
        shutil.copy(alone, first)
        self.assertIn(MANIFEST, " ".join(x["text"] for x in self.found(first)))
        (alone.parent / MANIFEST).write_bytes(manifest)
        self.assertIn("does not mention", self.run_json("verify", alone)["not_compared"])
        (alone.parent / MANIFEST).write_bytes(manifest[:-20])
        self.assertEqual([x["file"] for x in self.found(alone)], [MANIFEST])

    def test_without_checksums(self):
        folder = put(self.dir / "anyone", checkpoint(model(), 2000))
        result = self.run_json("verify", folder, ranks=2)
        self.assertIn("no manifest", result["not_compared"])
        self.assertIsNone(result["read"])
        self.assertIn("no manifest", self.run_tool("verify", folder).stdout)
        plain = self.save("plain", extra=["--checksum", "none"])
        self.assertIn("no checksums", self.run_json("verify", plain)["not_compared"])
        folder = self.save()
        path = sorted(folder.glob("*.safetensors"))[0]
        change(path, path.stat().st_size - 1)
        result = self.run_json("verify", folder, "--no-checksums")
        self.assertIsNone(result["read"])
        self.assertIn("as asked", result["not_compared"])
        self.refuse(2, "--no-checksums", "verify", folder, "--no-checksums", "--against", plain)
        self.refuse(2, "no engine named", "verify", folder, "--engine", "fast")

    # ---- copies

    def mend(self, folder, copy, ranks=0):
        """Runs the commands that verify names; what it says of each run."""
        result = self.run_json("verify", folder, "--against", copy, ranks=ranks, status=1)
        for command in result["mend"]:
            self.assertIn(shlex.split(command)[0], ("dd", "cp"))
            subprocess.run(command, shell=True, check=True, capture_output=True)
        return result

    def rot(self, folder, count=6):
        for path in sorted(folder.glob("*.safetensors")):
            begin = tensors_of(path)[1]
            for _ in range(count):
                change(path, self.source.randrange(begin // 64 * 64 + 64, path.stat().st_size))

    def test_a_copy_has_it_all(self):
        folder = self.save("it's a \"model\" $HOME")
        copy = self.dir / "the copy"
        shutil.copytree(folder, copy)
        for ranks in (0, 1, 3):
            self.rot(folder)
            change(sorted(folder.glob("*.safetensors"))[0], 20)
            change(folder / INDEX, 30)
            change(folder / "config.json", 0)
            result = self.mend(folder, copy, ranks)
            self.assertTrue(all("can be had from" in x["text"] for x in result["faults"]
                                if "begin" in x))
            self.assertEqual(self.found(folder, ranks=ranks, status=0), [])

    def test_commands_name_what_cannot_be_printed(self):
        """What is printed of such a name is another name, which is there, too."""
        folder = self.save("a\nfolder\x1b[2J of\u202eso's")
        copy = self.dir / "co\\py\tof it"
        shutil.copytree(folder, copy)
        decoys = [self.dir / "a\\nfolder\\x1b[2J of\\u202eso's", self.dir / "co\\py\\tof it"]
        for decoy in decoys:
            shutil.copytree(folder, decoy)
            self.rot(decoy)
        held = [contents(decoy) for decoy in decoys]
        self.rot(folder, 2)
        printed = self.run_tool("verify", folder, "--against", copy, status=1).stdout
        commands = re.findall("^  ((?:dd|cp) .*)$", printed, re.MULTILINE)
        self.assertTrue(commands)
        for command in commands:
            subprocess.run(["bash", "-c", command], check=True, capture_output=True)
        self.assertEqual(self.found(folder, status=0), [])
        self.assertEqual([contents(decoy) for decoy in decoys], held)

    def test_a_file_and_a_copy_of_it(self):
        folder = self.save(limit="1GB")
        copy = self.dir / "copy"
        shutil.copytree(folder, copy)
        file = folder / "model.safetensors"
        for path, other in ((folder, copy / file.name), (file, copy), (file, copy / file.name)):
            self.rot(folder)
            self.assertTrue(self.mend(path, other)["mend"])
            self.assertEqual(self.found(folder, status=0), [])

    def test_what_was_lost(self):
        folder = self.save()
        copy = self.dir / "copy"
        shutil.copytree(folder, copy)
        shards = sorted(folder.glob("*.safetensors"))
        shards[0].unlink()
        os.truncate(shards[1], 700)
        (folder / "config.json").write_bytes(b'{"a": 3}')
        result = self.mend(folder, copy, ranks=2)
        self.assertIn("cp", [shlex.split(x)[0] for x in result["mend"]])
        self.assertIn("lost", [x.get("kind") for x in result["faults"]])
        self.assertEqual(self.found(folder, status=0), [])
        # A file that is too long is left to the user.
        shards[0].write_bytes(shards[0].read_bytes() + b"x")
        self.assertEqual(self.mend(folder, copy)["mend"], [])

    def test_another_sharding_has_it(self):
        folder = self.save()
        for limit, align in (("1GB", "0"), ("3500", "4096"), ("600", "64")):
            copy = self.save(f"copy-{limit}", limit=limit, block="4096", extra=["--align", align])
            for ranks in (0, 2):
                self.rot(folder)
                result = self.mend(folder, copy, ranks)
                self.assertTrue(all("where the same tensors are" in x["text"]
                                    for x in result["faults"]), result["faults"])
                for x in result["replicas"]:
                    self.assertTrue((copy / x["from_file"]).is_file())
                self.assertEqual(self.found(folder, status=0), [])

    def test_a_copy_that_has_it_not(self):
        folder = self.save()
        kept = self.dir / "kept"
        shutil.copytree(folder, kept)
        path = sorted(folder.glob("*.safetensors"))[1]
        at = tensors_of(path)[1] // 64 * 64 + 64
        change(path, at)
        # Another step: the same names, shapes and sizes, other bytes.
        other = self.save("other", seed=2)
        for ranks in (0, 2):
            result = self.mend(folder, other, ranks)
            self.assertEqual((result["mend"], result["replicas"]), ([], []))
            self.assertIn("cannot be had from", result["faults"][0]["text"])
        # Rotten in the same block.
        copy = self.dir / "copy"
        shutil.copytree(kept, copy)
        change(copy / path.name, at + 1)
        self.assertEqual(self.mend(folder, copy)["mend"], [])
        # One block of two.
        change(path, at + 64)
        result = self.mend(folder, copy)
        self.assertIn("1 of the 2 blocks can be had", result["faults"][0]["text"])
        self.assertEqual(len(result["mend"]), 1)
        fault, = self.found(folder)
        self.assertEqual(fault["begin"], at)
        # No checkpoint, but the file.
        few = put(self.dir / "few", {path.name: (kept / path.name).read_bytes(), INDEX: b"[]"})
        result = self.mend(folder, few)
        self.assertEqual([x["file"] for x in result["warnings"]], [str(few)])
        self.assertEqual(self.found(folder, status=0), [])
        self.refuse(3, "no such file or folder", "verify", folder, "--against",
                    self.dir / "nowhere", ranks=2)
        # Nothing rotten: nothing to say.
        result = self.run_json("verify", folder, "--against", few, ranks=2)
        self.assertEqual((result["mend"], result["replicas"], result["warnings"]), ([], [], []))

    def test_many_commands_are_told_in_short(self):
        folder = self.save()
        copy = self.dir / "copy"
        shutil.copytree(folder, copy)
        path = max(folder.glob("*.safetensors"), key=lambda p: p.stat().st_size)
        for at in range(0, path.stat().st_size, 128):
            change(path, at)
        text = self.run_tool("verify", folder, "--against", copy, status=1).stdout
        count = len(self.mend(folder, copy)["mend"])
        self.assertEqual(text.count("  dd if="), min(count, 20))
        if count > 20:
            self.assertIn(f"and {count - 20} more", text)
        self.assertEqual(self.found(folder, status=0), [])

    # ---- values

    def test_deep(self):
        values = [1.0, float("nan"), float("inf"), -float("inf"), 2.0]
        t = Tensor("x", "F32", [5], self.source)
        t.data = struct.pack("<5f", *values)
        plain = Tensor("y", "F32", [3], self.source)
        plain.data = struct.pack("<3f", 1, 2, 3)
        for name, files in (("single", {"model.safetensors": safetensors([t, plain])}),
                            ("index", checkpoint([t, plain], 16))):
            folder = put(self.dir / name, files)
            self.assertEqual(self.run_json("verify", folder)["warnings"], [])
            for ranks in (0, 2):
                result = self.run_json("verify", folder, "--deep", ranks=ranks)
                one, = result["warnings"]
                self.assertEqual({k: one[k] for k in ("tensor", "dtype", "nan", "first_nan",
                                                      "positive_infinities",
                                                      "negative_infinities", "first_infinity")},
                                 {"tensor": "x", "dtype": "F32", "nan": 1, "first_nan": 1,
                                  "positive_infinities": 1, "negative_infinities": 1,
                                  "first_infinity": 2})
        text = self.run_tool("verify", self.dir / "single" / "model.safetensors", "--deep").stdout
        self.assertIn('tensor "x": 1 NaN, the first at element 1; 2 infinities (1 of them negative),'
                      ' the first at element 2', text)
        saved = self.dir / "saved"
        self.run_tool("copy", self.dir / "single", saved, "--block-size", "64")
        result = self.run_json("verify", saved, "--deep", ranks=3)
        self.assertEqual([x["tensor"] for x in result["warnings"]], ["x"])
        self.assertEqual(result["read"]["bytes"],
                         (saved / "model.safetensors").stat().st_size)


if __name__ == "__main__":
    unittest.main()
