# SPDX-License-Identifier: Apache-2.0
"""What the tests of examples/train_gpt2 share: runs of the trainer, and what became of them."""

import json
import os
import pathlib
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", "build/release"))
SOURCE = pathlib.Path(os.environ.get("ALLSHARD_SOURCE_DIR",
                                     pathlib.Path(__file__).resolve().parent.parent))
TRAINER = os.environ.get("ALLSHARD_TRAINER", str(BUILD / "tests/train_gpt2/train_gpt2"))
MPIEXEC = shlex.split(os.environ.get("MPIEXEC", "mpirun"))
COUNT_FLAG = os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")
TEXTS = sorted(map(str, (SOURCE / "docs").glob("*.md")))
SANITIZED = os.environ.get("ALLSHARD_SANITIZE", "0") not in ("", "0", "OFF")
LOOK_FOR_LEAKS = 5 # of so many runs with sanitizers the first does, as in tool_support.py


def tensors_of(folder, part):
    """Name → (dtype, shape, bytes) of a part of a checkpoint, by nothing but the format."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob(f"{part}*.safetensors")):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        for name, tensor in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                found[name] = (tensor["dtype"], tensor["shape"],
                               data[8 + size + begin:8 + size + end])
    return found


class Run:
    """One run of the trainer that is over: its lines by what they tell."""

    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.losses = dict(re.findall(r"^step (\d+) loss (\S+)$", self.out, re.M))
        self.saving = {step: sums for step, sums in
                       re.findall(r"^saving step (\d+) because of .* (weights \w+ optimizer \w+)$",
                                  self.out, re.M)}
        self.saved = re.findall(r"^saved step (\d+)$", self.out, re.M)
        self.began = re.findall(r"^(fresh|resumed) step (\d+)(?: from (\S+) of (\d+) ranks)? "
                                r"(weights \w+ optimizer \w+)$", self.out, re.M)
        self.final = re.findall(r"^final step (\d+) (weights \w+ optimizer \w+)$", self.out, re.M)


class Case(unittest.TestCase):
    def setUp(self):
        self.launches = 0
        self.new_folder()

    def new_folder(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="allshard-train-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def command(self, ranks, root, steps, *options, tp=1):
        return [*MPIEXEC, COUNT_FLAG, str(ranks), TRAINER, "--root", str(self.dir / root),
                "--steps", str(steps), "--tp", str(tp), *map(str, options), *TEXTS]

    def environment(self):
        """Of one run of the trainer."""
        self.launches += 1
        if not SANITIZED or self.launches % LOOK_FOR_LEAKS == 1:
            return None
        options = os.environ.get("ASAN_OPTIONS", "")
        return {**os.environ, "ASAN_OPTIONS": f"{options}:detect_leaks=0:fast_unwind_on_malloc=1"}

    def train(self, ranks, root, steps, *options, tp=1, status=0):
        done = subprocess.run(self.command(ranks, root, steps, *options, tp=tp),
                              capture_output=True, text=True, timeout=300, check=False,
                              stdin=subprocess.DEVNULL, env=self.environment())
        self.assertEqual(done.returncode, status, f"{done.args}\n{done.stdout}\n{done.stderr}")
        return Run(done)

    def same_checkpoint(self, one, other):
        """All tensors of both parts, bit for bit. How many there are."""
        count = 0
        for part in ("model", "optimizer"):
            a, b = tensors_of(self.dir / one, part), tensors_of(self.dir / other, part)
            self.assertTrue(a)
            self.assertEqual(sorted(a), sorted(b))
            for name, tensor in a.items():
                self.assertEqual(tensor, b[name], name)
            count += len(a)
        return count
