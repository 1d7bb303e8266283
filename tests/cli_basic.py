#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""Usage and the commands that read (ls, verify, diff, plan, recover), with good and bad input, on
one rank and on several: exit statuses (the same on all ranks), messages (once, on stderr), JSON."""

import json
import os
import random
import shutil
import struct
import subprocess
import unittest
import unittest.mock

from tool_support import (COUNT_FLAG, DTYPES, MPIEXEC, TOOL, WITH_MPI, Case, Tensor, checkpoint,
                          model, put, safetensors)

COMMANDS = ["copy", "ls", "verify", "diff", "recover", "plan", "demo", "bench", "info", "log",
            "latest", "wait", "tag", "best", "prune", "stop", "save-now", "hold"]


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
        for name in ("plan", "demo"):
            self.assertRegex(self.run_tool(name, "--help").stdout,
                             r"gpt2, llama-3-8b,[^-]* [^=]*deepseek-v3\n")
        self.assertEqual(self.run_tool("copy", "--help", ranks=3).stdout,
                         self.run_tool("copy", "--help").stdout)

    def test_wrong_usage(self):
        for ranks in (0, 3):
            self.refuse(2, "--help", ranks=ranks)
            self.refuse(2, "did you mean verify?", "verfy", "x", ranks=ranks)
            self.refuse(2, "did you mean --tensors?", "ls", "--tensor", "x", ranks=ranks)
            self.refuse(2, "--tensor", "ls", "--tensor", "x", ranks=ranks)
            self.refuse(2, "needs SRC and DST", "copy", "a", ranks=ranks)
        for arguments in (["ls"], ["verify", "a", "b"], ["diff", "a"], ["recover"], ["plan"],
                          ["plan", "--model", "gpt2", "x"], ["demo"], ["ls", ""]):
            self.refuse(2, "allshard: error: ", *arguments)

    def test_wrong_usage_in_json(self):
        """Wherever --json stands; what is no option does not ask for it."""
        for arguments in (["ls", "--tensor", "x", "--json"], ["ls", "--json", "--tensor", "x"],
                          ["stop", "x", "--release", "--json"], ["tag", "x", "", "a", "--json"],
                          ["plan", "--json", "--model"]):
            for ranks in (0, 3):
                told = json.loads(self.run_tool(*arguments, ranks=ranks, status=2).stdout)
                self.assertEqual((told["ok"], told["error"]["code"]), (False, "ALLSHARD_INVALID"))
        self.refuse(2, "--tensor", "ls", "--tensor", "--", "--json")

    def test_values_are_checked_before_anything_is_read(self):
        target = self.dir / "out"
        for text, *arguments in (("1KiB", "--max-shard-size", "1KiB"),
                                 ("{suffix}", "--pattern", "foo.safetensors"),
                                 ("octal", "--mode", "999"), ("KEY=VALUE", "--metadata", "x"),
                                 ("0, files that nobody may read", "--mode", "0"),
                                 ("multiple of 64", "--block-size", "100"),
                                 ("64MiB", "--memory", "lots")):
            self.refuse(2, text, "copy", "/no/such/source", target, *arguments)
        for layout in ("hole", "tp=3", "tp=2,pp=2", "tp=0", ""):
            self.refuse(2, "--layout", "copy", "/no/such/source", target, "--layout", layout)
        self.refuse(2, "start 4 ranks", "copy", "/no/such", target, "--layout", "tp=4")
        self.refuse(2, "is for 4 ranks", "copy", "/no/such", target, "--layout", "tp=4", ranks=3)
        self.refuse(2, "there is no model", "plan", "--model", "gpt9")
        self.refuse(2, "--dtype", "plan", "--model", "gpt2", "--dtype", "f32")
        self.refuse(2, "--ranks", "plan", "--model", "gpt2", "--ranks", "0")
        self.assertFalse(target.exists())

    def test_the_environment_is_checked(self):
        for ranks in (0, 2):
            for name, value, text in (("ALLSHARD_TIMEOUT", "soon", "a number of seconds"),
                                      ("ALLSHARD_TIMEOUT", "-1", "0, or 0.01"),
                                      ("ALLSHARD_CHECK_CALLS", "yes", "0 or 1"),
                                      ("ALLSHARD_CUDA", "yes", "auto, off or on")):
                with unittest.mock.patch.dict(os.environ, {name: value}):
                    self.refuse(2, text, "demo", self.dir / "out", ranks=ranks)

    def test_no_colours_in_a_pipe(self):
        folder = put(self.dir / "in", checkpoint(model(), 2000))
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        for launcher in [[]] + [[*MPIEXEC, COUNT_FLAG, n] for n in ("1", "2") if WITH_MPI]:
            for arguments in (["verify", folder], ["ls", folder], ["ls", "/no/such"]):
                done = subprocess.run([*launcher, TOOL, *arguments], capture_output=True,
                                      check=False, env=environment, stdin=subprocess.DEVNULL)
                self.assertNotIn(b"\x1b", done.stdout + done.stderr, (launcher, arguments))

    def test_output_that_gets_lost_is_an_error(self):
        folder = put(self.dir / "in", checkpoint(model(), 2000))
        for arguments in (["ls", folder], ["verify", folder, "--json"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([TOOL, *arguments], stdout=full, stderr=subprocess.PIPE,
                                      check=False)
            self.assertEqual(done.returncode, 3)
            self.assertIn(b"could not be written", done.stderr)

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

    def test_what_is_wrong_with_the_journal_is_a_fault(self):
        single = safetensors(model())
        folder = put(self.dir / "in", {"model.safetensors": single})
        (folder / ".allshard").write_bytes(b"x")
        told = str(folder / ".allshard")
        result = self.run_json("verify", folder, status=1)
        self.assertEqual([x["file"] for x in result["faults"]], [".allshard"])
        self.assertIn(told, result["faults"][0]["text"])
        self.assertEqual(result["tensors"], len(model()))
        self.refuse(3, told, "recover", folder)
        self.refuse(3, told, "ls", folder, ranks=2)
        (folder / ".allshard").unlink()
        (folder / ".allshard").mkdir()
        (folder / ".allshard" / "journal").write_bytes(b"{}")
        for path in (folder, folder / "model.safetensors"):
            result = self.run_json("verify", path, status=1)
            self.assertEqual([x["file"] for x in result["faults"]], [".allshard"])
            self.assertIn(told, result["faults"][0]["text"])
            self.assertEqual(result["tensors"], len(model()))
        (folder / "model.safetensors").write_bytes(single[:-1])
        faults = self.run_json("verify", folder, status=1)["faults"]
        self.assertEqual([x["file"] for x in faults], [".allshard", "model.safetensors"])

    def test_one_fault_for_one_problem(self):
        source = put(self.dir / "from", checkpoint(model(), 2000))
        folder = self.dir / "to"
        self.run_tool("copy", source, folder, "--max-shard-size", "2000")
        shards = sorted(folder.glob("*.safetensors"))
        shards[0].write_bytes(shards[0].read_bytes()[:-1])
        shards[1].unlink()
        faults = self.run_json("verify", folder, status=1)["faults"]
        self.assertEqual([x["file"] for x in faults], [shards[0].name, shards[1].name])

    def test_manifest_against_files(self):
        source = put(self.dir / "from", {**checkpoint(model(), 2000), "config.json": b"{}"})
        folder = self.dir / "to"
        self.run_tool("copy", source, folder, "--max-shard-size", "2000")
        self.assertEqual(self.run_json("verify", folder)["warnings"], [])
        (folder / "config.json").write_bytes(b"{ }")
        warnings = self.run_json("verify", folder)["warnings"]
        self.assertEqual([x["file"] for x in warnings], ["config.json"])
        manifest = folder / "allshard.manifest.json"
        kept = manifest.read_bytes()
        manifest.write_bytes(kept.replace(b"model", b"modem", 1))
        faults = self.run_json("verify", folder, status=1)["faults"]
        self.assertEqual([x["file"] for x in faults], [manifest.name])
        # Another tool writes other weights under the same names, and leaves the manifest.
        manifest.write_bytes(kept)
        source = random.Random(6)
        put(folder, checkpoint([Tensor(t.name, t.dtype, [2 * n for n in t.shape[:1]] + t.shape[1:],
                                       source) for t in model()], 4000))
        self.assertIn(manifest.name, self.run_tool("verify", folder, status=1).stdout)

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
        lines = self.run_tool("diff", a, fewer, status=1).stdout.splitlines()
        self.assertTrue(lines[0].startswith("First difference: "), lines)
        self.assertIn(f"of {len(tensors)} common tensors 2 differ", lines[1])
        source = random.Random(2)
        many = put(self.dir / "many", checkpoint(
            [Tensor(f"t{i}", "U8", [1], source) for i in range(25)], 10**9))
        lines = self.run_tool("diff", many, a, status=1).stdout.splitlines()
        self.assertEqual(lines[20], f"Only in {many}: \u2026 5 more")
        self.assertEqual(len(self.run_json("diff", many, a, status=1)["only_in_a"]), 25)

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
        self.assertNotIn("CPU time", self.run_tool("plan", folder, ranks=2).stdout)
        self.refuse(2, "is for 2 ranks", "plan", folder, "--layout", "tp=2", "--ranks", "3")
        self.refuse(2, "give --ranks 2", "plan", folder, "--layout", "tp=2", ranks=3)
        for layout in ("fsdp", "replicated", "dp=1000000"):
            self.refuse(3, "are available", "plan", "--model", "deepseek-v3", "--layout", layout,
                        "--ranks", "1000000")

    def test_what_the_plan_itself_costs(self):
        arguments = ["plan", "--model", "synthetic:1000", "--layout", "fsdp", "--ranks", "64",
                     "--simulate"]
        result = self.run_json(*arguments)
        cost = result["simulation"]
        # 250 of each of four kinds, of 8, 16, 32 and 16 rows
        self.assertEqual(cost["pieces_described"], 250 * (8 + 16 + 32 + 16))
        self.assertEqual(cost["empty_pieces_left_out"],
                         64 * 1000 - cost["pieces_described"])
        for key in ("cpu_seconds", "memory_bytes", "messages", "message_bytes"):
            self.assertGreater(cost["largest"][key], 0)
            self.assertLessEqual(cost["mean"][key], cost["largest"][key])
        self.assertGreater(cost["simulation_memory_bytes"], cost["largest"]["memory_bytes"])
        # all blocks are of many pieces, and go round evenly
        self.assertLessEqual(max(result["writer_bytes"]) - min(result["writer_bytes"]), 4 << 20)
        text = self.run_tool(*arguments).stdout
        for word in ("CPU time", "memory", "messages", "simulated in"):
            self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
