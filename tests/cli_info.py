#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""allshard info: a row for each thing, with the reason for each no, as text and as JSON, plain and on
ranks. CUDA's driver is the simulated one; what is told of it is of no real device."""

import os
import pathlib
import unittest
import unittest.mock

from tool_support import SANITIZED, WITH_MPI, Case

ROWS = ["mpi", "sharing", "storage", "posix", "direct", "uring", "cuda", "cufile", "kernel", "hdf5", "limits"]
SIMULATED = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", "."), "tests", "simulated")


def environment(**variables):
    return unittest.mock.patch.dict(os.environ, variables)


class Info(Case):
    def setUp(self):
        super().setUp()
        patch = environment(NO_COLOR="1")
        patch.start()
        self.addCleanup(patch.stop)

    def info(self, *arguments, ranks=0):
        """The object of --json; the text has the same rows with the same words."""
        told = self.run_json("info", self.dir, *arguments, ranks=ranks)
        lines = self.run_tool("info", self.dir, *arguments, ranks=ranks).stdout.splitlines()
        rows = {line.split()[0]: line.split(None, 2)[1:] for line in lines[1:] if line[0] != " "}
        self.assertEqual(list(rows), ROWS)
        self.assertTrue(lines[0].startswith(f"allshard {told['version']} on {told['host']}"))
        for name, (word, text) in rows.items():
            self.assertEqual({"yes": True, "no": False, "?": None}[word], told[name]["works"])
            if name != "limits":  # memory comes and goes
                self.assertEqual(text, told[name]["text"])
        return told

    def test_rows(self):
        told = self.info()
        self.assertEqual(told["ok"], True)
        self.assertEqual(told["mpi"]["works"], WITH_MPI)
        self.assertEqual(told["sharing"]["works"], None)
        self.assertEqual(told["storage"]["folder"], str(self.dir))
        self.assertIn(told["storage"]["auto"], told["storage"]["text"])
        self.assertEqual(told["posix"]["works"], True)
        self.assertEqual(told["limits"]["dimensions"], 16)
        self.assertGreater(told["limits"]["open_files"] or 1, 0)
        self.assertEqual(list(self.dir.iterdir()), [])
        for row in ROWS:
            self.assertTrue(told[row]["text"], row)

    def test_the_current_folder(self):
        before = os.getcwd()
        os.chdir(self.dir)
        try:
            self.assertEqual(self.run_json("info")["storage"]["folder"], ".")
        finally:
            os.chdir(before)

    def test_folders(self):
        for ranks in (0, 2):
            self.refuse(3, "/no/such/path", "info", "/no/such/path", ranks=ranks)
        self.refuse(2, "no more than one DIR", "info", "a", "b")
        nowhere = self.run_json("info", "/proc")
        self.assertEqual((nowhere["storage"]["works"], nowhere["direct"]["works"]), (False, False))
        self.assertIn("no trial file", nowhere["storage"]["text"])

    @unittest.skipUnless(WITH_MPI, "built without MPI")
    def test_ranks(self):
        told = self.info(ranks=3)
        self.assertEqual((told["mpi"]["ranks"], told["mpi"]["thread_level"]), (3, "funneled"))
        self.assertEqual(told["sharing"]["pairs"], 3)
        self.assertEqual(told["sharing"]["works"], told["sharing"]["reached"] == 3)
        with environment(ALLSHARD_SHARE="off"):
            told = self.info(ranks=2)
        self.assertEqual((told["sharing"]["works"], told["sharing"]["reached"]), (False, 0))
        self.assertIn("ALLSHARD_SHARE", told["sharing"]["text"])

    def test_no_driver(self):
        empty = self.dir / "empty"
        empty.mkdir()
        (empty / "libcuda.so.1").write_bytes(b"no library")
        with environment(LD_LIBRARY_PATH=str(empty)):
            for arguments in ([], ["--cuda"]):
                told = self.run_json("info", self.dir, *arguments)
                self.assertEqual(told["cuda"]["works"], False)
                self.assertIn("libcuda.so.1: ", told["cuda"]["text"])
                self.assertNotIn("devices", told["cuda"])
            self.assertEqual(told["cufile"]["works"], False)


@unittest.skipUnless((SIMULATED / "libcuda.so.1").exists() and
                     (SIMULATED / "libcufile.so.0").exists(), "no simulated driver was built")
@unittest.skipIf(SANITIZED, "other libraries are not to come before the sanitizer's")
class Simulated(Info):
    def setUp(self):
        super().setUp()
        self.log = self.dir.parent / (self.dir.name + ".cuda-log")
        self.addCleanup(lambda: self.log.unlink(missing_ok=True))
        patch = environment(LD_LIBRARY_PATH=str(SIMULATED), SIM_CUDA_LOG=str(self.log))
        patch.start()
        self.addCleanup(patch.stop)

    def calls(self):
        return self.log.read_text().split() if self.log.exists() else []

    def test_unasked(self):
        with environment(ALLSHARD_CUFILE=""):
            told = self.info()
        for row in ("cuda", "cufile"):
            self.assertEqual(told[row]["works"], None)
            self.assertIn("--cuda", told[row]["text"])
        self.assertEqual(self.calls(), [])

    def test_cufile(self):
        """Whether it works depends on the machine: its folders, /run/udev."""
        with environment(ALLSHARD_CUFILE="off"):
            for arguments in ([], ["--cuda"]):
                told = self.info(*arguments)["cufile"]
                self.assertEqual(told["works"], False)
                self.assertIn("ALLSHARD_CUFILE", told["text"])
        for version in "1", "0":
            with environment(ALLSHARD_CUFILE="", SIM_CUFILE_NVFS=version):
                told = self.info("--cuda")["cufile"]
            if told["works"]:
                self.assertEqual(told["compatible"], version == "0")
                self.assertIn(str(self.dir), told["text"])
            self.assertEqual(list(self.dir.iterdir()), [])
        self.assertEqual(self.calls().count("cuDevicePrimaryCtxRetain"),
                         self.calls().count("cuDevicePrimaryCtxRelease"))

    def test_devices(self):
        with environment(SIM_CUDA_DEVICES="3"):
            told = self.info("--cuda")["cuda"]
            text = self.run_tool("info", self.dir, "--cuda").stdout
        self.assertEqual((told["works"], len(told["devices"])), (True, 3))
        self.assertIn(f"CUDA {told['driver'] // 1000}.{told['driver'] % 1000 // 10}, 3 devices",
                      told["text"])
        for i, device in enumerate(told["devices"]):
            self.assertEqual(device["ordinal"], i)
            self.assertGreater(device["bytes"], 0)
            self.assertRegex(device["pci"], r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.0$")
            self.assertRegex(text, rf" cuda:{i} {device['name']}, .*{device['capability']}.*"
                             + device["pci"])

    def test_cufile_needs_a_context(self):
        refusal = "cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE (46"
        with environment(SIM_CUDA_FAIL="cuDevicePrimaryCtxRetain:-1:46", ALLSHARD_CUFILE=""):
            told = self.info("--cuda")
        for row in "cuda", "cufile":
            self.assertEqual(told[row]["works"], False)
        self.assertIn("2 devices, 2 of no use", told["cuda"]["text"])
        self.assertIn(refusal, told["cufile"]["text"])
        # One device alone: the other one serves.
        with environment(SIM_CUDA_FAIL="cuDevicePrimaryCtxRetain:1:46"):
            told = self.info("--cuda")["cuda"]
        with environment(SIM_CUDA_FAIL="cuDevicePrimaryCtxRetain:1:46"):
            text = self.run_tool("info", self.dir, "--cuda").stdout
        self.assertEqual(told["works"], True)
        self.assertEqual([device["works"] for device in told["devices"]], [False, True])
        self.assertIn(refusal, told["devices"][0]["trouble"])
        self.assertIn(f"cuda:0 is of no use: {refusal}", text)

    def test_advice(self):
        for code, word in ((46, "nvidia-smi"), (100, "CUDA_VISIBLE_DEVICES"),
                           (802, "fabricmanager"), (803, "reboot"), (804, "LD_LIBRARY_PATH"),
                           (999, "nvidia-smi")):
            with environment(SIM_CUDA_FAIL=f"cuInit:-1:{code}"):
                told = self.info("--cuda")
            self.assertEqual(told["cuda"]["works"], False)
            self.assertIn(f"({code}, ", told["cuda"]["text"])
            self.assertIn(word, told["cuda"]["text"])
            self.assertIn("needs CUDA", told["cufile"]["text"])
        with environment(ALLSHARD_CUDA="yes"):
            told = self.info("--cuda")
        self.assertEqual(told["cuda"]["works"], False)
        self.assertIn('ALLSHARD_CUDA is "yes"; it must be', told["cuda"]["text"])

    def test_no_device(self):
        with environment(SIM_CUDA_DEVICES="0"):
            told = self.info("--cuda")["cuda"]
        self.assertEqual(told["works"], False)
        self.assertIn("cuInit: CUDA_ERROR_NO_DEVICE (100", told["text"])

    def test_switched_off(self):
        with environment(ALLSHARD_CUDA="off"):
            told = self.info("--cuda")["cuda"]
        self.assertEqual((told["works"], self.calls()), (False, []))
        self.assertIn("ALLSHARD_CUDA is off", told["text"])

    def test_each_call_that_fails(self):
        patch = environment(ALLSHARD_CUFILE="off")
        patch.start()
        self.addCleanup(patch.stop)
        self.info("--cuda")
        spared = {"cuGetErrorName", "cuGetErrorString",
                  "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease"} # of one device alone
        for name in sorted(set(self.calls()) - spared):
            with environment(SIM_CUDA_FAIL=f"{name}:1:999"):
                told = self.info("--cuda")["cuda"]
            self.assertEqual(told["works"], False, name)
            self.assertIn("(999", told["text"])
            self.assertIn(name.removesuffix("_v2") + ":", told["text"])


if __name__ == "__main__":
    unittest.main()
