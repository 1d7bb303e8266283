#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""allshard bench --device: tensors in the memory of devices, here of simulated ones, come back as they
were saved; what is not there is refused. On a machine with a driver and no simulation, nothing is
tried."""

import os
import pathlib
import unittest
import unittest.mock

from tool_support import SANITIZED, WITH_MPI, Case

SIMULATED = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", "."), "tests", "simulated")


def environment(**variables):
    return unittest.mock.patch.dict(os.environ, variables)


@unittest.skipUnless((SIMULATED / "libcuda.so.1").exists(), "no simulated driver was built")
@unittest.skipIf(SANITIZED, "other libraries are not to come before the sanitizer's")
class Device(Case):
    def setUp(self):
        super().setUp()
        patch = environment(LD_LIBRARY_PATH=str(SIMULATED), SIM_CUDA_DEVICES="2")
        patch.start()
        self.addCleanup(patch.stop)

    def bench(self, *arguments, ranks=0):
        return self.run_json("bench", self.dir / "new", "--size", "3MiB", "--repeat", "1",
                             *arguments, ranks=ranks)

    def test_ranks_and_layouts(self):
        """Every load is compared with what was saved: that there is a result says that it was."""
        for ranks in (1, 3) if WITH_MPI else (0,):
            for more in ([], ["--nonblocking"], ["--dtype", "F32=BF16"]):
                with self.subTest(ranks=ranks, more=more):
                    told = self.bench("--device", "cuda", "--layout", "columns", "--layout", "fsdp",
                                      *more, ranks=ranks)
                    self.assertTrue(told["device"].startswith("cuda:0 ("), told["device"])
                    self.assertEqual(len(told["layouts"]), 2)

    def test_a_device_of_its_own(self):
        self.assertTrue(self.bench("--device", "cuda:1")["device"].startswith("cuda:1 ("))
        self.assertIsNone(self.bench()["device"])

    def test_gpu_direct_tells_why_not(self):
        with environment(ALLSHARD_CUFILE="off"):
            told = self.bench("--device", "cuda", "--engine", "gds")["layouts"][0]
        self.assertIn("GPU-direct", told["engine_reason"])
        self.assertIn("ALLSHARD_CUFILE", told["engine_reason"])

    def test_refuses(self):
        folder = self.dir / "new"
        for status, text, arguments in (
                (2, "neither cuda nor cuda:0", ["--device", "cudax"]),
                (2, "neither cuda nor cuda:0", ["--device", "cuda:"]),
                (2, "neither cuda nor cuda:0", ["--device", "cuda:-1"]),
                (3, "2 devices", ["--device", "cuda:2"]),
                (2, "--device", ["--engine", "gds"])):
            with self.subTest(arguments):
                done = self.run_tool("bench", folder, "--size", "3MiB", *arguments, status=status)
                self.assertIn(text, done.stderr)
        with environment(LD_LIBRARY_PATH=str(self.dir / "nowhere")):
            if not self.run_json("info", self.dir, "--cuda")["cuda"]["works"]:
                done = self.run_tool("bench", folder, "--size", "3MiB", "--device", "cuda", status=3)
                self.assertIn("CUDA", done.stderr)
        self.assertFalse(folder.exists())


if __name__ == "__main__":
    unittest.main()
