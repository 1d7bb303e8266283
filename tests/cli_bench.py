#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""allshard bench: its figures follow from its samples, it writes what it says, it refuses what it
cannot do, and it leaves its folder as it was. No test looks at how fast anything is."""

import json
import math
import os
import resource
import signal
import statistics
import subprocess
import time
import unittest

from tool_support import TOOL, WITH_MPI, Case

SAVE = {"write_gib_s", "durable_s", "blocking_s", "counts_s", "plan_s", "plan_cached", "begin_s",
        "transfer_s", "copy_s", "checksum_s", "io_s", "sync_s", "wait_s", "commit_s", "clean_s",
        "cpu_s", "cpu_s_per_gb", "bytes_written", "written_ratio", "bytes_read", "peak_bytes",
        "bytes_sent", "bytes_shared", "bytes_uncopied"}
LOAD = {"read_gib_s", "load_s", "cpu_s", "cpu_s_per_gb", "bytes_read", "read_ratio", "peak_bytes",
        "plan_s", "transfer_s"}
FLIGHT = (SAVE - {"write_gib_s"}) | {
    "staged_s", "staged_cpu_s", "tests", "tests_s", "longest_test_s", "bytes_staged",
    "snapshot_bytes", "touched_bytes"}
GIB = 2**30


def rate(count, seconds):
    return count / GIB / seconds


class Bench(Case):
    def bench(self, *arguments, ranks=0):
        """Runs it in a new folder that must be gone afterwards."""
        folder = self.dir / "new" / "data"
        result = self.run_json("bench", folder, *arguments, ranks=ranks)
        self.assertFalse((self.dir / "new").exists())
        return result

    def check_metric(self, metric, repeat):
        samples = metric["samples"]
        self.assertEqual(len(samples), repeat)
        known = sorted(x for x in samples if x is not None)
        if not known:
            self.assertIsNone(metric["median"])
            return
        self.assertAlmostEqual(metric["median"], statistics.median(known))
        self.assertEqual((metric["min"], metric["max"]), (known[0], known[-1]))
        if len(known) > 1:
            low, _, high = statistics.quantiles(known, n=4, method="inclusive")
            self.assertAlmostEqual(metric["q1"], low)
            self.assertAlmostEqual(metric["q3"], high)

    def check_layout(self, layout, repeat, baseline):
        groups = ["save", "load"] + (["plain_direct", "plain_buffered", "plain_read", "ratios"]
                                     if baseline else [])
        for group in groups:
            for metric in layout[group].values():
                self.check_metric(metric, repeat)
        for group in ("plain_direct", "plain_buffered", "plain_read", "ratios"):
            self.assertEqual(group in layout, baseline)
        self.assertEqual(layout["save"].keys(), SAVE)
        self.assertLessEqual(LOAD, layout["load"].keys())
        self.assertEqual(layout["first"]["save"].keys(), SAVE)
        self.assertEqual(layout["verified_loads"], repeat + 1)
        size = layout["checkpoint_bytes"]
        for r in range(repeat):
            def at(group, key):
                return layout[group][key]["samples"][r]
            self.assertGreater(at("save", "durable_s"), 0)
            self.assertGreaterEqual(at("save", "peak_bytes"), 0)
            self.assertGreaterEqual(at("save", "blocking_s") + 1e-6, at("save", "durable_s"))
            self.assertAlmostEqual(at("save", "write_gib_s"), rate(size, at("save", "durable_s")))
            self.assertAlmostEqual(at("load", "read_gib_s"), rate(size, at("load", "load_s")))
            self.assertAlmostEqual(at("save", "cpu_s_per_gb"),
                                   at("save", "cpu_s") / (size / 1e9))
            if baseline:
                self.check_ratios(layout, r)

    def check_ratios(self, layout, r):
        plain = [layout[g]["write_gib_s"]["samples"][r] for g in ("plain_direct", "plain_buffered")]
        if layout["plain_direct_refused"]:
            self.assertIsNone(plain[0])
        ours = layout["save"]["write_gib_s"]["samples"][r]
        self.assertAlmostEqual(layout["ratios"]["write"]["samples"][r],
                               ours / max(x for x in plain if x is not None))
        self.assertAlmostEqual(layout["ratios"]["read"]["samples"][r],
                               layout["load"]["read_gib_s"]["samples"][r] /
                               layout["plain_read"]["read_gib_s"]["samples"][r])

    def check_flights(self, layout, repeat):
        """Figures of nonblocking saves, and of what they are compared with in the same turn."""
        groups = {"save": SAVE, "nonblocking": FLIGHT, "memcpy": {"gib_s", "seconds", "cpu_s"},
                  "loop": {"per_s", "alone_per_s", "per_cpu_s", "alone_per_cpu_s"},
                  "ratios": {"blocking", "staged_cpu", "durable", "slowdown_percent",
                             "cpu_slowdown_percent"}}
        for group, keys in groups.items():
            self.assertEqual(layout[group].keys(), keys)
            for metric in layout[group].values():
                self.check_metric(metric, repeat)
                if group in ("memcpy", "loop", "ratios"):
                    self.assertNotIn(None, metric["samples"])
        for group in ("load", "plain_direct", "plain_buffered", "plain_read"):
            self.assertNotIn(group, layout)
        self.assertEqual(layout["first"].keys(), {"save", "nonblocking"})
        self.assertEqual(layout["first"]["nonblocking"].keys(), FLIGHT)
        self.assertEqual(layout["verified_loads"], 2 * (repeat + 1))
        for r in range(repeat):
            def at(group, key):
                return layout[group][key]["samples"][r]
            self.assertGreaterEqual(at("nonblocking", "tests"), 1)
            self.assertGreater(at("nonblocking", "staged_s"), 0)
            self.assertGreater(at("nonblocking", "durable_s"), at("nonblocking", "staged_s"))
            self.assertGreaterEqual(at("nonblocking", "blocking_s") + 1e-6,
                                    at("nonblocking", "staged_s"))
            self.assertAlmostEqual(at("ratios", "blocking"),
                                   at("nonblocking", "blocking_s") / at("memcpy", "seconds"))
            self.assertAlmostEqual(at("ratios", "staged_cpu"),
                                   at("nonblocking", "staged_cpu_s") / at("memcpy", "cpu_s"))
            self.assertAlmostEqual(at("ratios", "durable"),
                                   at("nonblocking", "durable_s") / at("save", "durable_s"))
            self.assertGreaterEqual(at("nonblocking", "tests_s"),
                                    at("nonblocking", "longest_test_s"))
            self.assertAlmostEqual(at("ratios", "slowdown_percent"),
                                   100 * (1 - at("loop", "per_s") / at("loop", "alone_per_s")))
            self.assertAlmostEqual(
                at("ratios", "cpu_slowdown_percent"),
                100 * (1 - at("loop", "per_cpu_s") / at("loop", "alone_per_cpu_s")))

    def test_nonblocking(self):
        layouts = ["whole", "fsdp", "replicated", "columns", "flat"]
        for ranks, staging in ((0, "snapshot"), (1, "stream"), (2, "stream"), (4, "snapshot")):
            repeat = 2 if ranks == 4 else 1
            result = self.bench("--size", "2MiB", "--repeat", str(repeat), "--nonblocking",
                                "--max-shard-size", "1MB", "--staging", staging,
                                *[f"--layout={x}" for x in layouts], ranks=ranks)
            self.assertEqual(result["ranks"], ranks if ranks and WITH_MPI else 1)
            self.assertTrue(result["nonblocking"])
            self.assertEqual(result["options"]["staging"], staging)
            self.assertEqual([x["layout"] for x in result["layouts"]], layouts)
            for layout in result["layouts"]:
                self.check_flights(layout, repeat)
                self.assertEqual(layout["staging"], staging)
                # All that is written was staged, and as much is copied plainly: files less index,
                # manifest and what the headers are padded to.
                size = layout["checkpoint_bytes"]
                for staged in layout["nonblocking"]["bytes_staged"]["samples"]:
                    self.assertGreaterEqual(staged, result["tensor_bytes"])
                    self.assertLessEqual(staged, size)
                for rate_, seconds in zip(layout["memcpy"]["gib_s"]["samples"],
                                          layout["memcpy"]["seconds"]["samples"]):
                    self.assertGreaterEqual(round(rate_ * seconds * GIB), result["tensor_bytes"])
                    self.assertLessEqual(round(rate_ * seconds * GIB), size)

    def test_nonblocking_and_its_options(self):
        """They reach the library, and the loop keeps off the processors of the background."""
        cpus = sorted(os.sched_getaffinity(0))
        trace = self.dir / "trace.json"
        result = self.bench("--size", "1MiB", "--repeat", "1", "--nonblocking", "--staging", "auto",
                            "--snapshot-memory", "64MiB", "--cpus", str(cpus[-1]), "--io-threads",
                            "2", "--copy-threads", "1", "--io-priority", "idle", "--bandwidth",
                            "1GB", "--engine", "posix", "--trace", trace, ranks=2)
        told = result["options"]
        self.assertEqual(
            (told["staging"], told["snapshot_memory"], told["cpus"], told["io_threads"],
             told["copy_threads"], told["io_priority"], told["bandwidth"]),
            ("auto", 64 << 20, str(cpus[-1]), 2, 1, "idle", 10**9))
        self.assertIn(told["loop_cpu"], cpus)
        if len(cpus) > 1:
            self.assertNotEqual(told["loop_cpu"], cpus[-1])
        self.assertEqual(result["layouts"][0]["staging"], "snapshot")
        self.assertEqual(result["layouts"][0]["nonblocking_engine"], "posix")
        self.check_flights(result["layouts"][0], 1)
        self.assertGreater(len(json.loads(trace.read_text())["traceEvents"]), 10)

    def test_nonblocking_in_the_room_that_is_there(self):
        """A limit that is too small for a snapshot makes a stream of it, or an error."""
        small = ["--size", "8MiB", "--repeat", "1", "--nonblocking", "--block-size", "64KiB",
                 "--snapshot-memory", "1MiB"]
        result = self.bench(*small)
        self.assertEqual(result["layouts"][0]["staging"], "stream")
        self.assertIn("snapshot", result["layouts"][0]["staging_reason"])
        self.check_flights(result["layouts"][0], 1)
        self.refuse(3, "snapshot", "bench", self.dir / "data", *small, "--staging", "snapshot")
        self.assertFalse((self.dir / "data").exists())

    def test_nonblocking_in_tables(self):
        text = self.run_tool("bench", self.dir / "data", "--size", "64KiB", "--repeat", "2",
                             "--nonblocking", "--markdown", "--layout", "whole", "--layout",
                             "columns", ranks=2).stdout
        for word in ("÷ memcpy", "loop loses %", "÷ save", "snapshot", "equal", "longest test",
                     "the loop runs on processor"):
            self.assertIn(word, text)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        self.assertEqual(len(rows), 5 * 4)
        for i in range(0, len(rows), 4):
            self.assertEqual(len({line.count("|") for line in rows[i:i + 4]}), 1, rows[i:i + 4])

    def test_figures_follow_from_samples(self):
        for ranks in (0, 3):
            result = self.bench("--size", "3MiB", "--repeat", "3", "--baseline", "--layout",
                                "whole", "--layout=columns", "--layout", "replicated",
                                "--max-shard-size", "1MB", ranks=ranks)
            self.assertEqual(result["ranks"], ranks if ranks and WITH_MPI else 1)
            self.assertEqual(result["load_ranks"], result["ranks"])
            self.assertEqual((result["hosts"], result["repeat"]), (1, 3))
            self.assertEqual([x["layout"] for x in result["layouts"]],
                             ["whole", "columns", "replicated"])
            # Exactly as asked for, less a part of a row of the embedding.
            self.assertLess(3 * 2**20 - result["tensor_bytes"], 2 * 128)
            self.assertGreaterEqual(3 * 2**20, result["tensor_bytes"])
            for layout in result["layouts"]:
                self.check_layout(layout, 3, True)
                self.assertGreater(layout["shards"], 2)
                self.assertGreater(layout["checkpoint_bytes"], result["tensor_bytes"])

    def test_without_plain_loops(self):
        result = self.bench("--model", "mlperf:8b", "--scale", "1/8000", "--repeat", "1",
                            "--layout", "fsdp", "--layout", "flat", "--checksum", "none",
                            "--align", "4096", "--engine", "posix", ranks=3)
        # 15 GiB of weights, and six times as much for the optimizer.
        self.assertAlmostEqual(result["tensor_bytes"] / (7 * 15 * 2**30 / 8000), 1, delta=0.01)
        self.assertEqual(result["options"]["checksum"], "none")
        self.assertEqual(result["options"]["align"], 4096)
        for layout in result["layouts"]:
            self.check_layout(layout, 1, False)

    def test_casts(self):
        for arguments, memory in ((["--size", "1MiB", "--dtype", "F32=BF16"], 2),
                                  (["--size", "1MiB", "--dtype", "f64=f8_e4m3"], 8),
                                  (["--size", "1MiB", "--dtype", "BF16=F32"], 0.5),
                                  (["--size", "1MiB", "--dtype", "F16=F8_E5M2"], 2)):
            result = self.bench(*arguments, "--repeat", "1", "--layout", "columns", ranks=2)
            self.assertEqual(result["memory_bytes"], result["tensor_bytes"] * memory)
            self.assertEqual(len(result["casts"]), 1)
            self.check_layout(result["layouts"][0], 1, False)

    def test_loads_on_fewer_ranks(self):
        """Every load is compared with what was saved: that it is there at all says that M ranks
        got their shares of it. A single rank has nobody to get bytes from."""
        layouts = ("whole", "fsdp", "replicated", "columns", "flat")
        for load_ranks in (1, 2, 3):
            if load_ranks > 1 and not WITH_MPI:
                continue
            result = self.bench("--size", "3MiB", "--repeat", "1", "--baseline", "--load-ranks",
                                str(load_ranks), "--max-shard-size", "1MB",
                                *[f"--layout={x}" for x in layouts], ranks=3)
            self.assertEqual(result["ranks"], 3 if WITH_MPI else 1)
            self.assertEqual(result["load_ranks"], load_ranks)
            self.assertEqual([x["layout"] for x in result["layouts"]], list(layouts))
            moved = {}
            for layout in result["layouts"]:
                self.check_layout(layout, 1, True)
                moved[layout["layout"]] = [
                    a + b for a, b in zip(layout["load"]["bytes_sent"]["samples"],
                                          layout["load"]["bytes_shared"]["samples"])]
            if load_ranks == 1:
                self.assertEqual(moved, {x: [0] for x in layouts})
            else:
                # Each byte is read once, and given to all others.
                self.assertGreaterEqual(min(moved["replicated"]),
                                        (load_ranks - 1) * result["tensor_bytes"])

    def test_loads_on_fewer_ranks_what_was_cast(self):
        """An element is the same whatever piece it lies in, also where it is rounded."""
        for cast in ("F32=BF16", "F64=F8_E4M3"):
            result = self.bench("--size", "1MiB", "--dtype", cast, "--repeat", "1", "--load-ranks",
                                "2" if WITH_MPI else "1", "--layout", "columns", "--layout",
                                "flat", ranks=3)
            for layout in result["layouts"]:
                self.check_layout(layout, 1, False)

    def test_load_ranks_and_factors(self):
        if not WITH_MPI:
            self.skipTest("this build has one rank only")
        folder = self.dir / "data"
        result = self.bench("--size", "1MiB", "--repeat", "1", "--load-ranks", "2", "--layout",
                            "tp=2", ranks=2)
        self.assertEqual(result["load_ranks"], 2)
        self.refuse(2, "--layout tp=2 is for 2 ranks, the product of its factors, and --load-ranks "
                    "is 1; give --load-ranks 2", "bench", folder, "--load-ranks", "1", "--layout",
                    "tp=2", ranks=2)
        self.refuse(2, "--load-ranks is 3, but 2 ranks run; it must be a number from 1 to 2",
                    "bench", folder, "--load-ranks", "3", ranks=2)
        self.assertFalse(folder.exists())

    def test_load_ranks_in_tables(self):
        told = "Saved by all ranks, loaded and plainly read by "
        text = self.run_tool("bench", self.dir / "data", "--size", "64KiB", "--repeat", "1",
                             "--load-ranks", "1", ranks=2).stdout
        self.assertIn(told + "rank 0 alone", text)
        if WITH_MPI:
            text = self.run_tool("bench", self.dir / "data", "--size", "64KiB", "--repeat", "1",
                                 "--load-ranks", "2", ranks=3).stdout
            self.assertIn(told + "ranks 0 to 1", text)
        text = self.run_tool("bench", self.dir / "data", "--size", "64KiB", "--repeat", "1",
                             ranks=2).stdout
        self.assertNotIn(told, text)

    def test_bytes_of_a_save(self):
        """What the kernel counts is what a checkpoint holds: nothing is written twice, and
        nothing of it is read (blocks of the file system and pages of the program may be, if
        somebody on the machine drops its caches meanwhile)."""
        before = self.kernel_counted()
        (self.dir / "probe").write_bytes(os.urandom(1 << 20))
        if self.kernel_counted() == before:
            self.skipTest("the kernel counts no bytes for this file system")
        for ranks in (0, 3):
            for engine in ("direct", "posix"):
                result = self.bench("--size", "48MiB", "--repeat", "2", "--engine", engine,
                                    "--layout", "whole", "--layout", "replicated", ranks=ranks)
                for layout in result["layouts"]:
                    for ratio in layout["save"]["written_ratio"]["samples"]:
                        self.assertAlmostEqual(ratio, 1, delta=0.005,
                                               msg=(ranks, engine, layout["layout"]))
                    self.assertLess(layout["save"]["bytes_read"]["min"],
                                    layout["checkpoint_bytes"] / 100)

    @staticmethod
    def kernel_counted():
        with open("/proc/self/io", encoding="ascii") as file:
            return int(dict(line.split(": ") for line in file)["write_bytes"])

    def test_tables(self):
        folder = self.dir / "data"
        folder.mkdir()
        text = self.run_tool("bench", folder, "--size", "64KiB", "--repeat", "2", "--baseline",
                             "--layout", "whole", "--layout", "fsdp").stdout
        for word in ("GiB/s", "durable", "O_DIRECT", "CPU s/GB", "whole", "fsdp", "equal"):
            self.assertIn(word, text)
        self.assertNotIn("\x1b", text)
        text = self.run_tool("bench", folder, "--size", "64KiB", "--repeat", "1",
                             "--markdown").stdout
        rows = [line for line in text.splitlines() if line.startswith("|")]
        self.assertEqual(len(rows), 4 * 3)
        for i in range(0, len(rows), 3):
            self.assertEqual(len({line.count("|") for line in rows[i:i + 3]}), 1, rows[i:i + 3])
        self.assertEqual(list(folder.iterdir()), [])

    def test_stripes_elsewhere(self):
        """That they mean nothing here is told once, and not by every save."""
        done = self.run_tool("bench", self.dir / "data", "--size", "64KiB", "--repeat", "2",
                             "--stripe-count", "4", "--json", ranks=2)
        told = 0 if json.loads(done.stdout)["file_system"] == "lustre" else 1
        self.assertEqual(done.stderr.count("not on Lustre"), told)

    def test_leaves_what_was_there(self):
        folder = self.dir / "data"
        (folder / "allshard-bench.1").mkdir(parents=True)
        (folder / "allshard-bench.1" / "mine").write_text("mine")
        (folder / "model.safetensors").write_text("mine, too")
        self.run_json("bench", folder, "--size", "64KiB", "--repeat", "1", ranks=2)
        self.assertEqual(sorted(p.name for p in folder.rglob("*")),
                         ["allshard-bench.1", "mine", "model.safetensors"])
        self.run_json("bench", folder, "--size", "64KiB", "--repeat", "1", "--baseline", "--keep",
                      "--layout", "whole", "--layout", "flat", ranks=2)
        kept = folder / "allshard-bench.2"
        self.assertEqual(sorted(p.name for p in kept.iterdir()), ["1.whole", "2.flat"])
        for one in kept.iterdir():
            self.run_tool("verify", one)
        self.run_tool("diff", kept / "1.whole", kept / "2.flat")
        self.assertEqual((folder / "model.safetensors").read_text(), "mine, too")

    def test_trace(self):
        trace = self.dir / "trace.json"
        self.bench("--size", "64KiB", "--repeat", "1", "--trace", trace, ranks=3)
        events = json.loads(trace.read_text())
        events = events["traceEvents"] if isinstance(events, dict) else events
        self.assertEqual({x["pid"] for x in events}, {0, 1, 2} if WITH_MPI else {0})

    def test_a_trace_that_cannot_be_written(self):
        """It is told before anything is done."""
        (self.dir / "traces").mkdir()
        for trace in (self.dir / "none" / "trace.json", self.dir / "traces"):
            self.refuse(3, f"{trace}: the trace", "bench", self.dir / "data", "--size", "64KiB",
                        "--trace", trace, ranks=2)
            self.assertFalse((self.dir / "data").exists())

    def test_a_signal_ends_it(self):
        folder = self.dir / "data"
        folder.mkdir()
        with subprocess.Popen([TOOL, "bench", folder, "--size", "1MiB", "--repeat", "1000"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until = time.monotonic() + 60
            while not any(folder.glob("*/*/model.safetensors")) and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 3)
        self.assertIn("stopped by a signal", told)
        self.assertEqual(list(folder.iterdir()), [])

    def test_a_failure_leaves_nothing(self):
        """A file may not pass 1 MiB: the first save fails in the middle."""
        folder = self.dir / "new" / "data"
        small = 1 << 20
        done = subprocess.run(
            [TOOL, "bench", folder, "--size", "8MiB"], capture_output=True, text=True, timeout=60,
            check=False, stdin=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, small)))
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("model.safetensors", done.stderr)
        self.assertFalse((self.dir / "new").exists())

    def test_refuses(self):
        folder = self.dir / "data"
        for text, arguments in (
                ("--size is", ["--size", "much"]),
                ("too small", ["--size", "1000"]),
                ("exclude each other", ["--size", "1MiB", "--model", "gpt2"]),
                ("exclude each other", ["--json", "--markdown"]),
                ("there is no model", ["--model", "gpt9"]),
                ("there is no workload", ["--model", "mlperf:9b"]),
                ("--scale is 3", ["--model", "mlperf:8b", "--scale", "3"]),
                ("--scale goes with", ["--size", "1MiB", "--scale", "1/2"]),
                ("--dtype is", ["--dtype", "F32"]),
                ("model too large", ["--size", "2305843009213693952"]),
                ("--repeat is 0", ["--repeat", "0"]),
                ("--load-ranks is 0", ["--load-ranks", "0"]),
                ("--load-ranks is", ["--load-ranks", "-1"]),
                ("--load-ranks is", ["--load-ranks", "two"]),
                ("--load-ranks is", ["--load-ranks", ""]),
                ("--load-ranks is 1000000", ["--load-ranks", "1000000"]),
                ("exclude each other", ["--load-ranks", "1", "--trace", "x"]),
                ("--nonblocking and", ["--nonblocking", "--baseline"]),
                ("--nonblocking and", ["--nonblocking", "--load-ranks", "1"]),
                ("--cpus goes", ["--cpus", "0"]),
                ("--staging goes", ["--staging", "auto"]),
                ("--bandwidth goes", ["--bandwidth", "1MB"]),
                ("--staging is", ["--nonblocking", "--staging", "slow"]),
                ("--snapshot-memory is", ["--nonblocking", "--snapshot-memory", "0"]),
                ("--io-threads is", ["--nonblocking", "--io-threads", "17"]),
                ("--copy-threads is", ["--nonblocking", "--copy-threads", "0"]),
                ("--bandwidth is", ["--nonblocking", "--bandwidth", "fast"]),
                ("processor", ["--nonblocking", "--cpus", "0,1000"]),
                ("processor", ["--nonblocking", "--cpus", "2-1"]),
                ("idle", ["--nonblocking", "--io-priority", "best-effort:8"]),
                ("--engine is", ["--engine", "fast"]),
                ("--align is", ["--align", "3000"]),
                ("--checksum is", ["--checksum", "md5"]),
                ("--writers-per-node is", ["--writers-per-node", "0"]),
                ("--creators is", ["--creators", "-1"]),
                ("--stripe-size is", ["--stripe-size", "1000"]),
                ("--block-size is", ["--block-size", "63"]),
                ("--max-shard-size", ["--max-shard-size", "x"]),
                ("layout", ["--layout", "whole", "--layout", "diagonal"])):
            with self.subTest(arguments):
                done = self.run_tool("bench", folder, *arguments, ranks=2, status=2)
                self.assertIn(text.split()[0], done.stderr)
                self.assertIn(text.split()[-1], done.stderr)
        self.refuse(2, "one DIR", "bench")
        self.assertFalse(folder.exists())
        folder.write_text("a file")
        self.refuse(3, str(folder), "bench", folder, "--size", "64KiB", ranks=2)

    def test_refuses_what_has_no_room(self):
        folder = self.dir / "new" / "data"
        disk = os.statvfs(self.dir)
        free = disk.f_bavail * disk.f_frsize
        self.refuse(3, "on disk, but", "bench", folder, "--size", str(free * 2), ranks=2)
        self.assertFalse((self.dir / "new").exists())
        with open("/proc/meminfo", encoding="ascii") as file:
            memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
        if WITH_MPI:
            # Two pools would fit, but the rank that loads alone has one for each.
            pool = memory["MemAvailable"] * 2 // 5
            self.refuse(3, "of memory, but", "bench", folder, "--size", "64KiB", "--memory",
                        str(pool), "--load-ranks", "1", ranks=2)
            self.assertFalse((self.dir / "new").exists())
        size = math.ceil(memory["MemAvailable"] * 1.2)
        if size * 1.1 > free:
            self.skipTest("there is less disk than memory")
        self.refuse(3, "of memory, but", "bench", folder, "--size", str(size), ranks=2)
        self.assertFalse((self.dir / "new").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
