#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# processors: 2
# sanitize: no
# long-timeout: 7200
"""The tool killed with SIGKILL while it saves: at the calls that touch the disk, from the first to
the last, and at random times; one rank, another, or all; over an old checkpoint in its folder, and
beside it. Afterwards `allshard recover`, or a load, gives exactly the old or exactly the new
checkpoint, and the next save is good; and so it is when the recovery is killed in its turn. The
same with nonblocking saves, killed at every call that their threads in the background make. A sample of the kills, chosen by ALLSHARD_SEED; all of them with ALLSHARD_LONG=1."""

import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from tool_support import COUNT_FLAG, MPIEXEC, TOOL, WITH_MPI, Tensor, checkpoint, put

try:
    import safetensors
except ImportError:
    safetensors = None

LONG = os.environ.get("ALLSHARD_LONG", "0") not in ("", "0")
SANITIZED = os.environ.get("ALLSHARD_SANITIZE", "0") not in ("", "0")
SEED = int(os.environ.get("ALLSHARD_SEED", "1"))
FAULTY = str(pathlib.Path(TOOL).parent / "tests" / "tool_faulty")
NONBLOCKING = str(pathlib.Path(TOOL).parent / "tests" / "tool_isave")
ENGINES = ["posix", "direct", "uring"]
MANIFEST = "allshard.manifest.json"
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="allshard-kills-"))
# Processes sleep most of the time that they take to start and to end.
WORKERS = 4
# "next" is what the save after each kill brings.
LIMITS = {"old": 9_000, "new": 18_000, "next": 30_000}


def tensors_of(name):
    source = random.Random(name)
    count, rows = {"old": (6, 20), "new": (5, 23), "next": (2, 30)}[name]
    return [Tensor(f"{name}.{i}.weight", "F32", [rows, 50 + i], source) for i in range(count)]


def files_of(name):
    extra = {"config.json": f'{{"is": "{name}"}}'.encode()}
    if name != "old":
        extra["tokenizer.json"] = b"{}" * 3000
    return extra


class Folder:
    """Checkpoints as they should be found."""

    def __init__(self, root):
        self.root = root
        self.tensors = {name: tensors_of(name) for name in LIMITS}
        self.files = {name: {**checkpoint(self.tensors[name], LIMITS[name]), **files_of(name)}
                      for name in LIMITS}
        self.whole = {name: checkpoint(self.tensors[name], 10**9)["model.safetensors"]
                      for name in LIMITS}
        self.manifests = {}
        for name in LIMITS:
            # The order of an index is the order of a copy.
            put(root / f"from-{name}", self.files[name])
            copy(root / f"from-{name}", root / name, LIMITS[name], "posix")
            self.manifests[name] = self.plain_manifest(root / name)
            assert self.state(root / name) == name, name

    @staticmethod
    def plain_manifest(folder):
        """Without what differs from save to save."""
        manifest = json.loads((folder / MANIFEST).read_text())
        del manifest["checksum"]
        for part in manifest["parts"].values():
            for key in ["created", "engine", "engine_reason", "world_size", "writers"]:
                part.pop(key, None)
        return manifest

    def state(self, folder):
        """"old" or "new" if the folder holds exactly that; "none" if it holds nothing or is not
        there; else what is wrong."""
        if not folder.exists() or not any(folder.iterdir()):
            return "none"
        found = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        if len(found) != len(list(folder.iterdir())):
            return f"leftovers: {sorted(p.name for p in folder.iterdir())}"
        manifest = found.pop(MANIFEST, None)
        for name, files in self.files.items():
            if found == files:
                if manifest is None or self.plain_manifest(folder) != self.manifests.get(
                        name, self.plain_manifest(folder)):
                    return f"the manifest is not that of {name}"
                return self.read(found, self.tensors[name]) or name
        return f"neither old nor new: { {n: len(b) for n, b in sorted(found.items())} }"

    @staticmethod
    def read(found, tensors):
        """As Python's safetensors reads it; None: all is there."""
        if not safetensors:
            return None
        data = {}
        for name, content in found.items():
            if name.endswith(".safetensors"):
                data.update({n: bytes(t["data"]) for n, t in safetensors.deserialize(content)})
        good = data == {t.name: bytes(t.data) for t in tensors}
        return None if good else "safetensors reads something else"


def copy_command(source, target, limit, engine, tool=TOOL, ranks=0):
    launch = [*MPIEXEC, COUNT_FLAG, str(ranks)] if ranks else []
    return [*launch, tool, "copy", str(source), str(target), "--max-shard-size", str(limit),
            "--engine", engine, "--block-size", "8KiB", "--memory", "1MiB", "--layout", "flat"]


def environment(**variables):
    """Single processes of Open MPI that run at the same time take each other's folders away, unless
    they have a place of their own."""
    own = ROOT / f"mpi-{threading.get_ident():x}"
    own.mkdir(exist_ok=True)
    return {**os.environ, "OMPI_MCA_orte_tmpdir_base": str(own), **variables}


def run(command, rule=None, **variables):
    if rule:
        variables["ALLSHARD_FAULT"] = rule
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                          stdin=subprocess.DEVNULL, env=environment(**variables))


def copy(source, target, limit, engine):
    done = run(copy_command(source, target, limit, engine))
    assert done.returncode == 0, done.stderr


class Kills(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(shutil.rmtree, ROOT, ignore_errors=True)
        cls.root = ROOT
        cls.folder = Folder(cls.root)
        cls.random = random.Random(SEED)
        cls.numbers = 0
        cls.lock = threading.Lock()
        print(f"seed {SEED}; {'with' if safetensors else 'without'} Python's safetensors",
              flush=True)

    def case_folder(self):
        with self.lock:
            Kills.numbers += 1
            folder = self.root / f"case-{Kills.numbers}"
        folder.mkdir()
        return folder

    def scene(self, base, beside):
        """Lays out the old checkpoint; the folder to save into."""
        shutil.copytree(self.root / "old", base / "a")
        return base / ("b" if beside else "a")

    # ---- one kill ----

    def look(self, target, before, way, what):
        """What the kill left, by one of three ways; then the next save."""
        told = None
        if way == "load":
            done = run(copy_command(target, target.parent / "loaded", 10**9, "posix"))
            told = "none"
            if done.returncode == 0:
                whole = (target.parent / "loaded" / "model.safetensors").read_bytes()
                told = [n for n, b in self.folder.whole.items() if b == whole][0]
            elif before != "none":
                self.fail(f"{what}: load: {done.stderr}")
        if way != "save":
            done = run([TOOL, "recover", str(target)])
            missing = before == "none" and not target.exists()
            if done.returncode != 0 and not missing:
                self.fail(f"{what}: recover: {done.stderr}")
            state = self.folder.state(target)
            self.assertIn(state, [before, "new"], what)
            self.assertIn(told, [None, state], what)
        copy(self.root / "from-next", target, LIMITS["next"], "posix")
        self.assertEqual(self.folder.state(target), "next", f"{what}: the next save")
        if before == "none":
            self.assertEqual(self.folder.state(target.parent / "a"), "old", f"{what}: beside it")
        return told or (state if way != "save" else "?")

    def check_kill(self, number, beside, engine, ranks, rule, staging=None):
        """One save, killed by a rule; with `staging` a nonblocking one. "new", "old", "none", "?";
        None: it was not killed."""
        base = self.case_folder()
        what = f"{'beside' if beside else 'over'}, {engine}, {ranks} ranks, {staging}, {rule}"
        target = self.scene(base, beside)
        command = copy_command(self.root / "from-new", target, LIMITS["new"], engine,
                               NONBLOCKING if staging else FAULTY, ranks)
        done = run(command, rule, ALLSHARD_TEST_STAGING=staging or "")
        if done.returncode == 0:
            state = self.folder.state(target)
            self.assertEqual(state, "new", what)
            shutil.rmtree(base)
            return None
        self.assertIn(done.returncode, [-9, 137], f"{what}: {done.stderr}")
        if ranks:
            self.wait_for_ranks(target)
        way = ["recover", "load", "recover", "save"][number % 4]
        state = self.look(target, "none" if beside else "old", way, what)
        shutil.rmtree(base)
        return state

    # ---- many ----

    def count_calls(self, beside, engine, ranks, staging=None):
        """Rank → (number of the first call that concerns the folder, number of the last call)."""
        base = self.case_folder()
        target = self.scene(base, beside)
        command = copy_command(self.root / "from-new", target, LIMITS["new"], engine,
                               NONBLOCKING if staging else FAULTY, ranks)
        done = run(command, ALLSHARD_FAULT_TRACE=str(base / "trace"),
                   ALLSHARD_TEST_STAGING=staging or "")
        self.assertEqual(done.returncode, 0, done.stderr)
        calls = []
        for rank in range(max(ranks, 1)):
            lines = (base / f"trace.{rank}").read_text().splitlines()
            first = next(i for i, line in enumerate(lines)
                         if line.split()[1] != "fstatat" and str(target) in line)
            calls.append((first + 1, len(lines)))
        shutil.rmtree(base)
        return calls

    def many(self, jobs):
        """Kills at all those places, several at a time; prints what they gave."""
        start = time.monotonic()
        tally = {}
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            futures = [pool.submit(self.check_kill, i, *job) for i, job in enumerate(jobs)]
            for future in concurrent.futures.as_completed(futures):
                if future.exception():
                    pool.shutdown(cancel_futures=True)
                state = future.result()
                tally[state] = tally.get(state, 0) + 1
                tried = sum(tally.values())
                if tried % 500 == 0:
                    print(f"{tried} of {len(jobs)}, {time.monotonic() - start:.0f} s: {tally}",
                          flush=True)
        late = tally.pop(None, 0)
        kills = sum(tally.values())
        print(f"{kills} saves killed ({tally.get('old', 0)} old, {tally.get('none', 0)} nothing, "
              f"{tally.get('new', 0)} new, {tally.get('?', 0)} left to the next save); {late} "
              f"ended before; {time.monotonic() - start:.0f} s", flush=True)
        self.assertGreater(kills, len(jobs) / 2)
        self.assertGreater(tally.get("old", 0) + tally.get("none", 0), 0)
        self.assertGreater(tally.get("new", 0), 0)

    def pick(self, jobs, most):
        """All of them in the long run; else so many, in their order."""
        if LONG or len(jobs) <= most:
            return jobs
        return [jobs[i] for i in sorted(self.random.sample(range(len(jobs)), most))]

    def test_one_process(self):
        jobs = []
        for beside in [False, True]:
            for engine in ENGINES:
                first, last = self.count_calls(beside, engine, 0)[0]
                jobs += [(beside, engine, 0, f"nth={n},do=kill") for n in range(first, last + 1)]
        print(f"{len(jobs)} places in one process", flush=True)
        self.many(self.pick(jobs, 170))

    @unittest.skipUnless(WITH_MPI, "no MPI in this build")
    def test_three_ranks(self):
        jobs = []
        for beside in [False, True]:
            for engine in ENGINES:
                calls = self.count_calls(beside, engine, 3)
                for rank, deed in [(0, "kill"), (1, "kill"), (0, "killall"), (2, "killall")]:
                    first, last = calls[rank]
                    jobs += [(beside, engine, 3, f"rank={rank},nth={n},do={deed}")
                             for n in range(first, last + 1)]
        print(f"{len(jobs)} places on three ranks", flush=True)
        self.many(self.pick(jobs, 90))

    def test_nonblocking(self):
        jobs = []
        for i, engine in enumerate(ENGINES):
            for ranks in [0, 3] if WITH_MPI else [0]:
                for beside in [False, True]:
                    staging = ["snapshot", "stream"][(i + (ranks > 0) + beside) % 2]
                    calls = self.count_calls(beside, engine, ranks, staging)
                    deeds = [(0, "kill")]
                    deeds += [(1, "kill"), (2, "killall")] if ranks else []
                    for rank, deed in deeds:
                        first, last = calls[rank]
                        jobs += [(beside, engine, ranks, f"rank={rank},nth={n},do={deed}", staging)
                                 for n in range(first, last + 1)]
        print(f"{len(jobs)} places in nonblocking saves", flush=True)
        self.many(self.pick(jobs, 60))

    # ---- at random times ----

    @staticmethod
    def kill_ranks(process):
        """The launcher's children, and it; or the one process."""
        pids = [process.pid]
        try:
            path = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
            pids = [int(p) for p in path.read_text().split()] + pids
        except OSError:
            pass
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def one_random_kill(self, number, ranks, delay):
        base = self.case_folder()
        beside = number % 2 == 1
        engine = ENGINES[number % 3]
        target = self.scene(base, beside)
        what = f"{'beside' if beside else 'over'}, {engine}, {ranks} ranks, killed at random"
        # Half of them in slow motion, so that the moment falls on all calls alike.
        slow = {"ALLSHARD_FAULT": "nth=1-,do=stall:0.002"} if number % 4 < 2 else {}
        command = copy_command(self.root / "from-new", target, LIMITS["new"], engine, FAULTY, ranks)
        with open(base / "log", "w+") as log:
            with subprocess.Popen(command, stdout=log, stderr=log, env=environment(**slow),
                                  stdin=subprocess.DEVNULL) as process:
                while process.poll() is None and not (target / ".allshard").exists():
                    time.sleep(0.0002)
                begin = time.monotonic()
                if delay is None:
                    while process.poll() is None and (target / ".allshard").exists():
                        time.sleep(0.0002)
                    end = time.monotonic()
                    process.wait()
                    return max(end - begin, 0.001)
                time.sleep(delay)
                self.kill_ranks(process)
                process.wait()
        if ranks:
            self.wait_for_ranks(target)
        way = ["recover", "load", "recover", "save"][number // 2 % 4]
        state = self.look(target, "none" if beside else "old", way, what)
        shutil.rmtree(base)
        return state

    def wait_for_ranks(self, target):
        """Ranks of a dead launcher end by themselves, but not at once."""
        deadline = time.monotonic() + 60
        while self.has_open(target) and time.monotonic() < deadline:
            time.sleep(0.01)

    @staticmethod
    def has_open(folder):
        """Does any process still work on the folder?"""
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(folder).encode() in (
                        entry / "cmdline").read_bytes():
                    return True
            except OSError:
                pass
        return False

    def random_kills(self, count, ranks):
        start = time.monotonic()
        lengths = [self.one_random_kill(n, ranks, None) for n in range(4)]
        delays = [self.random.uniform(0, 1.1 * lengths[n % 4]) for n in range(count)]
        tally = {}
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(self.one_random_kill, i, ranks, d)
                       for i, d in enumerate(delays)]
            for future in futures:
                state = future.result()
                tally[state] = tally.get(state, 0) + 1
        print(f"{count} saves on {max(ranks, 1)} rank(s) killed at random times of up to "
              f"{max(lengths):.3f} s: {tally}; {time.monotonic() - start:.0f} s", flush=True)

    def test_random_times(self):
        self.random_kills(300 if LONG else 24, 0)
        if WITH_MPI:
            self.random_kills(200 if LONG else 12, 3)

    # ---- recovery ----

    def killed_recovery(self, base, step):
        """A recovery killed at a step. False: it had fewer."""
        done = run([FAULTY, "recover", str(base / "a")], f"nth={step},do=kill")
        self.assertIn(done.returncode, [0, -9], done.stderr)
        return done.returncode != 0

    def check_recovery(self, place, engine):
        """A save killed at a place; its recovery killed at each step, from the same start each
        time, and at one step after the other. The number of kills."""
        base = self.case_folder()
        target = self.scene(base, False)
        command = copy_command(self.root / "from-new", target, LIMITS["new"], engine, FAULTY)
        self.assertEqual(run(command, f"nth={place},do=kill").returncode, -9)
        shutil.copytree(base, self.root / f"{base.name}-again")
        self.assertEqual(run([TOOL, "recover", str(target)]).returncode, 0)
        truth = self.folder.state(target)
        self.assertIn(truth, ["old", "new"])
        kills = 0
        for in_a_row in [False, True]:
            step = 0
            fresh = True
            while True:
                step += 1
                if fresh or not in_a_row:
                    shutil.rmtree(base)
                    shutil.copytree(self.root / f"{base.name}-again", base)
                    fresh = False
                if not self.killed_recovery(base, step):
                    break
                kills += 1
                if not in_a_row:
                    done = run([TOOL, "recover", str(target)])
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertEqual(self.folder.state(target), truth, (place, step))
            self.assertEqual(self.folder.state(target), truth, (place, step))
        shutil.rmtree(base)
        shutil.rmtree(self.root / f"{base.name}-again")
        return kills

    def test_killed_recovery(self):
        start = time.monotonic()
        places = []
        for engine in ENGINES:
            first, last = self.count_calls(False, engine, 0)[0]
            places += [(n, engine) for n in range(first + 2, last)]
        if LONG:
            places = places[::9]
        else:
            # Most states of the disk lie around the journal and the moves, near the end.
            places = self.random.sample(places, 5)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            kills = sum(pool.map(lambda p: self.check_recovery(*p), places))
        print(f"{kills} recoveries of {len(places)} saves killed; "
              f"{time.monotonic() - start:.0f} s", flush=True)
        self.assertGreater(kills, 50)


if __name__ == "__main__":
    if SANITIZED:
        # A process that is killed shows a sanitizer nothing, and each takes seconds.
        ROOT.rmdir()
        print("skipped: the build has sanitizers")
        raise SystemExit(77)
    unittest.main()
