#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# simulated: cuda
# timeout: 300
# sanitize: no
"""A program that has not touched CUDA is not made to: the tool, on a machine that has a driver (a
simulated one, which writes down every call), neither calls nor loads it unless it is told to. And
the same file runs where there is no driver at all."""

import os
import re
import shutil
import subprocess
import unittest

import tool_support
from tool_support import TOOL, Case

# What is run; ./ is a folder for it, ./in a checkpoint.
RUNS = [("verify", "./in"), ("copy", "./in", "./out", "--layout", "fsdp"),
        ("diff", "./in", "./out"), ("recover", "./out"),
        ("bench", "./bench", "--size", "4MiB", "--repeat", "1", "--layout", "fsdp"),
        ("bench", "./bench", "--size", "4MiB", "--repeat", "1", "--layout", "fsdp",
         "--nonblocking"),
        ("plan", "--model", "gpt2", "--layout", "fsdp")]


class Untouched(Case):
    def setUp(self):
        super().setUp()
        self.log = self.dir / "calls"
        self.loads = self.dir / "loads"
        self.more = {}
        tool_support.put(self.dir / "in", tool_support.checkpoint(tool_support.model(), 4000))

    def environment(self):
        return {**(super().environment() or os.environ), "SIM_CUDA_LOG": str(self.log),
                **self.more}

    def all_runs(self, ranks):
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        for run in RUNS:
            self.run_tool(*[x.replace("./", f"{self.dir}/") for x in run], ranks=ranks)

    def no_driver(self):
        """The environment without the simulated driver."""
        path = os.environ["LD_LIBRARY_PATH"].split(":")
        self.assertTrue(os.path.exists(os.path.join(path[0], "libcuda.so.1")))
        return ":".join(path[1:])

    @staticmethod
    def was_loaded(trace):
        return re.search(r"calling init:.*libcuda\.so", trace) is not None

    def test_makes_no_call(self):
        self.more = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(self.loads)}
        self.all_runs(ranks=0)
        self.more = {}
        self.all_runs(ranks=2)
        self.assertFalse(self.log.exists(), "calls of CUDA were made")
        traces = [p.read_text(errors="replace") for p in self.dir.glob("loads.*")]
        self.assertTrue(any("calling init" in t for t in traces), "the loader told nothing")
        self.assertFalse([t for t in traces if self.was_loaded(t)], "libcuda.so.1 was loaded")
        self.run_tool("info", self.dir / "in")  # says that it is there
        self.assertFalse(self.log.exists(), "info made calls of CUDA")

    def test_makes_calls_when_told_to(self):
        """Or the log and the loader's trace would show nothing in any case."""
        self.more = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(self.loads)}
        self.run_tool("info", "--cuda")
        self.assertIn("cuInit", self.log.read_text().split())
        trace = "".join(p.read_text(errors="replace") for p in self.dir.glob("loads.*"))
        self.assertTrue(self.was_loaded(trace))
        self.log.unlink()
        self.more = {"ALLSHARD_CUDA": "on"}
        self.run_tool("bench", self.dir / "bench", "--size", "4MiB", "--repeat", "1")
        calls = self.log.read_text().split()
        self.assertIn("cuInit", calls)
        self.assertFalse([x for x in calls if "Memcpy" in x or "MemAlloc" in x])

    def test_runs_without_a_driver(self):
        self.more = {"LD_LIBRARY_PATH": self.no_driver()}
        self.all_runs(ranks=2)
        self.assertFalse(self.log.exists())
        self.more["ALLSHARD_CUDA"] = "on"
        run = [TOOL, "bench", str(self.dir / "bench"), "--size", "4MiB", "--repeat", "1"]
        done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False,
                              env=self.environment())
        if "libcuda" in done.stderr:  # a machine with a driver goes on
            self.assertEqual(done.returncode, 3)
            self.assertIn("ALLSHARD_CUDA", done.stderr)

    def test_needs_no_library_of_cuda(self):
        tool = shutil.which("readelf")
        if not tool:
            self.skipTest("no readelf here")
        folder = os.environ["ALLSHARD_BUILD_DIR"]
        libraries = [x for x in os.listdir(folder) if x.startswith("liballshard.so")]
        for file in [TOOL] + [os.path.join(folder, x) for x in libraries]:
            told = subprocess.run([tool, "-d", file], capture_output=True, text=True, check=True)
            needed = re.findall(r"NEEDED.*\[(.*)\]", told.stdout)
            self.assertIn("libc.so.6", needed)
            self.assertFalse([x for x in needed if "cuda" in x or "cufile" in x])


if __name__ == "__main__":
    unittest.main()
