#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""The tool on systems that are unusual or go bad: no O_DIRECT, no fsync, no renames, no hard links,
a folder that can only be read from some moment on, a limit of files' sizes, a stranger's folder, a
link in the place of a shard. What can be done another way is; else the error says what is wrong,
and the old checkpoint is whole."""

import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import unittest

from tool_support import (COUNT_FLAG, MPIEXEC, TOOL, WITH_MPI, Case, Tensor, checkpoint, contents,
                          put)

FAULTY = str(pathlib.Path(TOOL).parent / "tests" / "tool_faulty")
SEED = int(os.environ.get("ALLSHARD_SEED", "1"))
NOBODY = 65534


def model(name):
    source = random.Random(name)
    return [Tensor(f"{name}.{i}", "F32", [20 + i, 60], source) for i in range(5)]


OLD = {**checkpoint(model("old"), 6_000), "config.json": b"old"}
NEW = {**checkpoint(model("new"), 12_000), "config.json": b"new"}
SHARDS = sorted(name for name in NEW if name.startswith("model-"))


class Faults(Case):
    def setUp(self):
        super().setUp()
        # A stranger may look, but not change.
        self.dir.chmod(0o755)
        put(self.dir / "in", NEW)
        put(self.dir / "from-old", OLD)
        self.run_tool("copy", self.dir / "from-old", self.dir / "kept", "--max-shard-size", 6000)
        self.begin()

    def begin(self):
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        shutil.copytree(self.dir / "kept", self.dir / "out")

    def save(self, rule=None, engine="posix", ranks=0, tool=FAULTY, source=None, target=None,
             arguments=(), **options):
        ranks = ranks if WITH_MPI else 0
        launch = [*MPIEXEC, COUNT_FLAG, str(ranks)] if ranks else []
        command = [*launch, tool, "copy", str(source or self.dir / "in"),
                   str(target or self.dir / "out"), "--max-shard-size", "12000", "--engine", engine,
                   "--layout", "flat", "--memory", "1MiB", *arguments]
        environment = {**os.environ, **({"ALLSHARD_FAULT": rule} if rule else {})}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                              stdin=subprocess.DEVNULL, env=environment, **options)

    def check(self, files, what):
        self.assertEqual(contents(self.dir / "out"), files, what)

    def recover(self):
        done = subprocess.run([TOOL, "recover", str(self.dir / "out")], capture_output=True,
                              text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    # ---- the injection itself ----

    def test_rules(self):
        for rule in ["call=pwrit", "nth=x", "do=EWHAT", "do=stall", "rank=one", "what=1", "pwrite",
                     "nth=1,do=kill:3", ";".join(["do=count"] * 9)]:
            self.assertEqual(self.save(rule).returncode, 2, rule)
        self.check(OLD, "a wrong rule")
        # Of another rank's rule only the count is kept.
        done = self.save("rank=3,do=kill;rank=0,call=pwrite+fsync,nth=2-3,do=count")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.check(NEW, "rules that do nothing")

    def test_counts_and_trace(self):
        environment = {**os.environ, "ALLSHARD_FAULT_COUNT": str(self.dir / "count"),
                       "ALLSHARD_FAULT_TRACE": str(self.dir / "trace")}
        done = subprocess.run([FAULTY, "copy", self.dir / "in", self.dir / "out",
                               "--max-shard-size", "12000"], env=environment, check=False,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = (self.dir / "trace.0").read_text().splitlines()
        counts = dict(line.split() for line in (self.dir / "count.0").read_text().splitlines())
        self.assertEqual(int(counts["any"]), len(lines))
        self.assertEqual(int(counts["renameat"]), sum(" renameat " in line for line in lines))
        self.assertTrue(any(f"{self.dir}/out/.allshard/new/{SHARDS[0]} " in line and " renameat " in
                            line and f" {self.dir}/out/{SHARDS[0]} = 0" in line for line in lines))

    # ---- what can be done without ----

    def test_done_another_way(self):
        rules = ["call=opendirect,nth=1-,do=EINVAL", "call=fallocate,nth=1-,do=EOPNOTSUPP",
                 "call=linkat,nth=1-,do=EPERM", "call=linkat,nth=1-,do=EOPNOTSUPP",
                 "call=flock,nth=1-,do=ENOLCK", "call=flock,nth=1-,do=EOPNOTSUPP",
                 "call=statx+fstatfs,nth=1-,do=ENOSYS", "call=sync_file_range,nth=1-,do=ENOSYS",
                 "call=uring_init,nth=1-,do=EPERM", "call=uring_register,nth=1-,do=ENOMEM",
                 "call=uring_submit,nth=2-,do=EBUSY", "call=pthread_create,nth=1-,do=EAGAIN",
                 "call=close,nth=1-,do=EIO", "call=opendirect,nth=1-,do=EINVAL;"
                 "call=fallocate,nth=1-,do=EOPNOTSUPP;call=linkat,nth=1-,do=EPERM;"
                 "call=flock,nth=1-,do=ENOLCK"]
        for i, rule in enumerate(rules):
            for engine in ["direct", "uring"]:
                self.begin()
                done = self.save(rule, engine, ranks=3 if i == len(rules) - 1 else 0)
                self.assertEqual(done.returncode, 0, f"{rule}, {engine}: {done.stderr}")
                self.check(NEW, (rule, engine))

    def test_must_be_had(self):
        for rule, text in [("call=fsync,nth=1-,do=EIO", "Input/output error"),
                           ("call=fsync,nth=1-,do=EINVAL", "Invalid argument"),
                           ("call=fsync,nth=1-,do=EOPNOTSUPP", "not supported"),
                           ("call=renameat,nth=1-,do=EPERM", "Operation not permitted"),
                           ("call=renameat,nth=1-,do=EXDEV", "cross-device"),
                           ("call=mkdirat,nth=1-,do=EROFS", "Read-only file system"),
                           ("call=create,nth=1-,do=EDQUOT", "Disk quota exceeded"),
                           ("call=space,nth=1-,do=full", "No space left on device")]:
            for ranks in [0, 3] if "full" in rule else [0]:
                self.begin()
                done = self.save(rule, "posix", ranks)
                self.assertEqual(done.returncode, 3, f"{rule}: {done.stderr}")
                self.assertIn(text, done.stderr)
                self.assertIn(str(self.dir / "out"), done.stderr)
                self.check(OLD, rule)

    def test_can_only_be_read_from_then_on(self):
        places = random.Random(SEED).sample(range(20, 200), 15) + [1]
        for place in places:
            self.begin()
            done = self.save(f"call=any,nth={place}-,only=change,do=EROFS")
            saved = done.returncode == 0
            self.assertIn(done.returncode, [0, 3], done.stderr)
            self.recover()
            found = contents(self.dir / "out")
            self.assertIn(found, [NEW] if saved else [OLD, NEW], (place, done.stderr))
            if found == NEW and not saved:
                self.assertIn("recover", done.stderr)

    # ---- limits and strangers ----

    def test_file_size_limit(self):
        # One process: several need larger files to talk to each other.
        for engine in ["posix", "direct", "uring"]:
            self.begin()
            done = self.save(engine=engine, preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY)))
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn("File too large", done.stderr)
            self.check(OLD, engine)
        # Where nobody ignores the signal it kills, as the library leaves signals alone.
        self.begin()
        done = self.save("call=create,nth=2,do=limit:8000")
        self.assertEqual(done.returncode, -signal.SIGXFSZ, done.stderr)
        self.recover()
        self.check(OLD, "killed by SIGXFSZ")

    def run_as_nobody(self, *arguments):
        def become_nobody():
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        own = self.dir / "nobody's"
        own.mkdir(exist_ok=True)
        own.chmod(0o777)
        return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True,
                              timeout=120, check=False, stdin=subprocess.DEVNULL, cwd="/",
                              env={**os.environ, "TMPDIR": str(own), "HOME": str(own),
                                   "OMPI_MCA_orte_tmpdir_base": str(own)},
                              preexec_fn=become_nobody)

    def test_stranger(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        try:
            reachable = self.run_as_nobody("--version").returncode == 0
        except (OSError, subprocess.SubprocessError):
            reachable = False
        if not reachable:
            self.skipTest("another user cannot run what was built here")
        for target in ["out", "out/below", "nowhere"]:
            done = self.run_as_nobody("copy", self.dir / "in", self.dir / target)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn(str(self.dir / target), done.stderr)
            self.assertIn("Permission denied", done.stderr)
        self.check(OLD, "a stranger's save")
        done = self.run_as_nobody("copy", self.dir / "missing", self.dir / "x")
        self.assertIn("no such", done.stderr)
        (self.dir / "out" / sorted(OLD)[1]).chmod(0o600)
        done = self.run_as_nobody("verify", self.dir / "out")
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn("Permission denied", done.stdout + done.stderr)

    def test_readers_get_through_a_killed_save(self):
        """Who may read the files may look through the journal, whatever the saver's umask."""
        for mode, expected in [("644", 0o44), ("640", 0o40), ("600", 0)]:
            self.begin()
            done = self.save("call=renameat,nth=2,do=kill", arguments=["--mode", mode],
                             preexec_fn=lambda: os.umask(0o077))
            self.assertNotEqual(done.returncode, 0)
            meta = self.dir / "out" / ".allshard"
            for path in [meta, meta / "new", meta / "journal"]:
                found = path.stat().st_mode & 0o44
                self.assertEqual(found, expected, f"{path} of a save with mode {mode}")
                if path.is_dir():
                    self.assertEqual(path.stat().st_mode & 0o11, expected >> 2, str(path))
            self.recover()
            self.assertFalse(meta.exists())

    def test_link_in_the_place_of_a_shard(self):
        precious = self.dir / "precious"
        precious.write_bytes(b"not to be written")
        for name in [SHARDS[0], "model.safetensors.index.json", "config.json"]:
            for target in [precious, self.dir / "nothing"]:
                self.begin()
                place = self.dir / "out" / name
                place.unlink(missing_ok=True)
                place.symlink_to(target)
                done = self.save("call=renameat,nth=1-,do=EPERM")
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertEqual(os.readlink(place), str(target))
                done = self.save()
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertFalse(place.is_symlink())
                self.check(NEW, name)
                self.assertEqual(precious.read_bytes(), b"not to be written")
                self.assertFalse((self.dir / "nothing").exists())


if __name__ == "__main__":
    unittest.main()
