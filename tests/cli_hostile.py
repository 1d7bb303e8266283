#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Hostile checkpoints at the command line: what is printed about them commands no terminal, fakes
no line and tells no secret; counts and sizes that lie cost neither memory nor time."""

import json
import os
import resource
import struct
import subprocess
import unittest

from tool_support import TOOL, Case, put

CONTROLS = ["\x1b[2J\x1b[1;1H\x1b]0;owned\x07", "x\nallshard: error: fake",
            "a\rb\x9b2J\u202egnp.exe\u2066x\u200b\x7f\ufeff"]
# A process with sanitizers takes its time: a sample, then.
SANITIZED = os.environ.get("ALLSHARD_SANITIZE", "0") not in ("", "0", "OFF")
if SANITIZED:
    CONTROLS = CONTROLS[1:]
SHOWN = set("\n…") | {chr(c) for c in range(0x20, 0x7f)}


def header(tensors, metadata=None):
    entries = {} if metadata is None else {"__metadata__": metadata}
    for i, name in enumerate(tensors):
        entries[name] = {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]}
    text = json.dumps(entries).encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(text)) + text + bytes(len(tensors))


def raw(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


class Hostile(Case):
    def check_printed(self, done):
        """Nothing but text and the ends of our own lines."""
        for text in (done.stdout, done.stderr):
            self.assertEqual(set(text) - SHOWN, set(), repr(text))
            self.assertNotIn("\nallshard: error: fake", "\n" + text)

    def run_any(self, *arguments, **more):
        done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=60, **more)
        self.assertIn(done.returncode, (0, 1, 2, 3), done.stderr)
        done.stdout = done.stdout.decode("utf-8", "surrogateescape")
        done.stderr = done.stderr.decode("utf-8", "surrogateescape")
        self.check_printed(done)
        return done

    # ---- names that command a terminal ----

    def test_tensor_names(self):
        for i, name in enumerate(CONTROLS):
            folder = put(self.dir / str(i), {"model.safetensors": header([name, "plain"],
                                                                         {name: name})})
            done = self.run_any("ls", folder, "--tensors")
            self.assertEqual(done.returncode, 0)
            self.assertEqual(len(done.stdout.splitlines()), 5, done.stdout)
            names = {t["name"] for t in self.run_json("ls", folder, "--tensors")["tensor_list"]}
            self.assertEqual(names, {name, "plain"})
            self.assertTrue(self.run_any("ls", folder, "--tensors", "--json").stdout.isascii())
            self.run_any("verify", folder)
            self.run_any("plan", folder, "--tensors")
            other = put(self.dir / f"{i}-other", {"model.safetensors": header(["plain"])})
            self.assertEqual(self.run_any("diff", folder, other).returncode, 1)
            self.assertEqual(self.run_any("diff", other, folder).returncode, 1)
            copied = self.dir / f"{i}-copy"
            self.assertEqual(self.run_any("copy", folder, copied).returncode, 0)
            self.run_any("verify", copied)
            # In errors of the reader, too.
            bad = header([name]).replace(b'"U8"', b'"U7"')
            done = self.run_any("verify", put(self.dir / f"{i}-bad", {"model.safetensors": bad}))
            self.assertEqual(done.returncode, 1)

    def test_file_names(self):
        for i, name in enumerate(CONTROLS):
            shard = name + ".safetensors"
            index = json.dumps({"weight_map": {"t": shard}}).encode()
            folder = put(self.dir / str(i), {"model.safetensors.index.json": index,
                                             name + ".json": b"{}", "other" + shard: header([])})
            for command in ("ls", "verify", "recover"):
                self.run_any(command, folder)
            self.assertEqual(self.run_any("ls", folder).returncode, 1)
            put(folder, {shard: header(["t"])})
            self.assertEqual(self.run_any("ls", folder, "--tensors").returncode, 0)
            self.run_any("verify", folder)
            self.run_any("copy", folder, self.dir / f"{i}-copy")
            self.run_any("copy", folder, self.dir / f"{i}-{name}")
            self.run_any("ls", self.dir / name)
            self.run_any("ls", folder, "--pattern", name)
            self.run_any(name)
            self.run_any("ls", "--" + name)

    def test_bytes_that_are_no_text(self):
        folder = os.fsencode(put(self.dir / "bytes", {"config.json": b"{}"}))
        for name in (b"\xff\x9b2J.safetensors", b"model\xc2\x9b.safetensors"):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(header(["t"]))
            for command in (b"ls", b"verify"):
                done = subprocess.run([os.fsencode(TOOL), command, os.path.join(folder, name)],
                                      capture_output=True, check=False)
                for text in (done.stdout, done.stderr):
                    self.assertNotIn(b"\x9b", text)
                    text.decode()
        self.run_any("ls", self.dir / "bytes")
        self.run_any("verify", self.dir / "bytes")

    def test_journal_and_lock(self):
        folder = put(self.dir / "folder", {"model.safetensors": header(["t"])})
        for i, name in enumerate(CONTROLS):
            put(folder / ".allshard", {
                "lock": json.dumps({"allshard_lock": 1, "host": name, "machine": "", "boot": "x",
                                    "pid_namespace": "", "pid": 1, "start": 1,
                                    "created": name[:20]}).encode(),
                "journal": json.dumps({"allshard_journal": 1, "checksum": name}).encode()})
            self.run_any("ls", folder)
            self.run_any("verify", folder)

    def test_huge_texts(self):
        name = "n" * 1_000_000
        folder = put(self.dir / "huge", {"model.safetensors": header([name]).replace(b"U8", b"U7")})
        done = self.run_any("verify", folder)
        self.assertLess(len(done.stdout) + len(done.stderr), 2000)
        index = json.dumps({"weight_map": {"t": name + ".safetensors"}}).encode()
        folder = put(self.dir / "index", {"model.safetensors.index.json": index})
        for command in ("ls", "verify"):
            done = self.run_any(command, folder)
            self.assertLess(len(done.stdout) + len(done.stderr), 20000)

    # ---- secrets ----

    def test_contents_of_files(self):
        secret = "root:$6$correcthorsebatterystaple$" * 50
        folder = self.dir / "secret"
        environment = {**os.environ, "SECRET_TOKEN": "tok-5b1e"}
        for target in ("model.safetensors", "model.safetensors.index.json",
                       "allshard.manifest.json", ".allshard/journal", ".allshard/lock"):
            put(folder, {"model.safetensors": header(["t"])})
            (folder / ".allshard").mkdir(exist_ok=True)
            for how in ("written", "linked")[SANITIZED:]:
                place = folder / target
                place.unlink(missing_ok=True)
                shadow = put(self.dir, {"shadow": secret.encode()}) / "shadow"
                if how == "linked":
                    place.symlink_to(shadow)
                else:
                    place.write_text(secret)
                # A lock that cannot be read is watched for half a minute before it is told of.
                recover = [["recover", "--dry-run"]] if target != ".allshard/lock" else []
                for command in (["ls"], ["verify"], ["verify", "--json"], ["copy"], *recover):
                    more = [self.dir / "copied"] if command == ["copy"] else []
                    done = self.run_any(*command, folder, *more, env=environment)
                    for text in (done.stdout, done.stderr):
                        self.assertNotIn("correcthorse", text)
                        self.assertNotIn("tok-5b1e", text)
                place.unlink(missing_ok=True)
            (folder / ".allshard/lock").unlink(missing_ok=True)

    # ---- counts that lie ----

    def check_cheap(self, folder, status=1, commands=(["ls"], ["verify"], ["plan"])):
        """As much memory as a small process has, and a few seconds, are enough."""
        def limit():
            resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
            if not SANITIZED:
                resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        for command in commands[SANITIZED:]:
            done = self.run_any(*command, folder, preexec_fn=limit)
            self.assertEqual(done.returncode, status, (folder, command, done.stderr))

    def test_lies(self):
        big = 2**62
        files = {
            "length": struct.pack("<Q", 100_000_000) + b"{}",
            "longer": struct.pack("<Q", 2**64 - 8) + b"{}",
            "deep": raw(b'{"a":{"x":' + b"[" * 1_000_000),
            "objects": raw(b'{"a":{"x":' + b'{"y":' * 500_000),
            "digits": raw(b'{"a":{"dtype":"U8","shape":[' + b"9" * 1_000_000 + b"]}}"),
            "product": raw(b'{"a":{"dtype":"U8","shape":[4294967296,4294967296],'
                           b'"data_offsets":[0,0]}}'),
            "sixty-three": raw(b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}'
                               % (big, big)),
            "dims": raw(b'{"a":{"dtype":"U8","shape":[' + b"1," * 1_000_000 + b"2],"
                        b'"data_offsets":[0,1]}}', b"x"),
            "twice": raw(b"{" + b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,2]},' * 50_000
                         + b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,2]}}', b"x"),
            "overlap": raw(b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
                           b'"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}', b"x" * 6),
            "utf-8": raw(b'{"\xed\xa0\x80":1}'),
        }
        for name, data in files.items():
            self.check_cheap(put(self.dir / name, {"model.safetensors": data}))

    def test_lying_indexes(self):
        good = header(["t"])
        maps = {
            "deep": b'{"weight_map":' + b'{"a":' * 1_000_000,
            "arrays": b'{"x":' + b"[" * 1_000_000,
            "digits": b'{"metadata":{"total_size":' + b"9" * 4301 + b"}}",
            "files": json.dumps({"weight_map": {f"t{i}": f"{i}.safetensors"
                                                for i in range(20_000)}}).encode(),
            "twice": b'{"weight_map":{' + b'"t":"x.safetensors",' * 50_000 + b'"u":1}}',
        }
        for name, data in maps.items():
            self.check_cheap(put(self.dir / name, {"model.safetensors.index.json": data,
                                                   "model.safetensors": good}))

    def test_sparse_files(self):
        """Large by their size, empty by their bytes."""
        folder = put(self.dir / "sparse", {})
        for name in ("model.safetensors", "model.safetensors.index.json", "allshard.manifest.json"):
            place = folder / name
            place.touch()
            os.truncate(place, 1 << 40)
            if name.endswith("manifest.json"):
                self.check_cheap(folder, 0, [["ls"], ["plan"]])
                self.check_cheap(folder, 1, [["plan"], ["verify"]][not SANITIZED:])
            else:
                self.check_cheap(folder, 3 if name.endswith(".index.json") else 1)
            place.unlink()
            if name == "model.safetensors.index.json":
                put(folder, {"model.safetensors": header(["t"])})


if __name__ == "__main__":
    unittest.main()
