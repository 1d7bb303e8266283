# SPDX-License-Identifier: Apache-2.0
"""What the cli_*.py tests share: checkpoints made as the Python libraries make them, and a test
case that runs the tool on one rank or several. Standard library only.

With AddressSanitizer four fifths of a run are the look for leaks, among those of MPI. Only the
first run of a test and each fifth after it looks for them; the programs on ranks (mpi_*) always
do."""

import json
import os
import pathlib
import random
import shlex
import shutil
import struct
import subprocess
import tempfile
import unittest

TOOL = os.environ.get("ALLSHARD_BIN", "allshard")
MPIEXEC = shlex.split(os.environ.get("MPIEXEC", "mpirun"))
COUNT_FLAG = os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")
SANITIZED = os.environ.get("ALLSHARD_SANITIZE", "0") not in ("", "0", "OFF")
LOOK_FOR_LEAKS = 5
WITH_MPI = os.environ.get("ALLSHARD_WITH_MPI", "1") not in ("", "0", "OFF")
# Low to high, with bits: tensors lie in a file from high to low.
DTYPES = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
          "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
          "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
          "U64": 64}
RANK = list(DTYPES)


class Tensor:
    """A tensor with random bytes."""

    def __init__(self, name, dtype, shape, source):
        numel = 1
        for n in shape:
            numel *= n
        self.name, self.dtype, self.shape = name, dtype, list(shape)
        self.data = source.randbytes(numel * DTYPES[dtype] // 8)


def safetensors(tensors, metadata={"format": "pt"}):
    """The bytes of a file, as the reference writer makes them."""
    header = {} if metadata is None else {"__metadata__": metadata}
    ordered = sorted(tensors, key=lambda t: (-RANK.index(t.dtype), t.name.encode()))
    at = 0
    for t in ordered:
        header[t.name] = {"dtype": t.dtype, "shape": t.shape,
                          "data_offsets": [at, at + len(t.data)]}
        at += len(t.data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(t.data for t in ordered)


def split(tensors, limit):
    """huggingface_hub's greedy split; empty tensors go where the first of them went."""
    shards, current, size, first_empty, empties = [], [], 0, None, []
    for t in tensors:
        n = len(t.data)
        if n == 0:
            if first_empty is not None:
                empties.append(t)
                continue
            first_empty = t
        if n > limit:
            shards.append([t])
            continue
        if size + n > limit:
            shards.append(current)
            current, size = [], 0
        current.append(t)
        size += n
    if current:
        shards.append(current)
    for shard in shards:
        if first_empty in shard:
            shard += empties
    return shards


def checkpoint(tensors, limit):
    """File name → bytes of the folder that huggingface_hub writes."""
    shards = split(tensors, limit)
    if len(shards) == 1:
        return {"model.safetensors": safetensors(shards[0])}
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    files = {name: safetensors(shard) for name, shard in zip(names, shards)}
    index = {"metadata": {"total_size": sum(len(t.data) for t in tensors)},
             "weight_map": {t.name: name for name, shard in zip(names, shards) for t in shard}}
    text = json.dumps(index, indent=2).replace("\x7f", "\\u007f")
    files["model.safetensors.index.json"] = text.encode()
    return files


def put(folder, files):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()
            if p.name != "allshard.manifest.json"}


def model(seed=1):
    source = random.Random(seed)
    tensors = [Tensor("embed.weight", "F32", [33, 16], source)]
    for i in range(4):
        tensors += [Tensor(f"layers.{i}.attn.weight", "BF16", [16, 24 + i], source),
                    Tensor(f"layers.{i}.attn.bias", "F32", [16], source),
                    Tensor(f"layers.{i}.experts.{i}.w1", "F16", [7, 5, 3], source),
                    Tensor(f"layers.{i}.fp4", "F4", [6, 8], source)]
    tensors += [Tensor("scale", "F64", [], source), Tensor("none", "I64", [0, 3], source),
                Tensor("late \u00e9\u2028\"\\\x7f", "U8", [13], source),
                Tensor("nothing", "F32", [2, 0], source), Tensor("odd", "F6_E2M3", [2, 6], source),
                Tensor("flag", "BOOL", [5], source), Tensor("c", "C64", [3, 2], source)]
    return tensors


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="allshard-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.launches = 0

    def environment(self):
        """Of one run of the tool."""
        self.launches += 1
        if not SANITIZED or self.launches % LOOK_FOR_LEAKS == 1:
            return None
        options = os.environ.get("ASAN_OPTIONS", "")
        return {**os.environ, "ASAN_OPTIONS": f"{options}:detect_leaks=0:fast_unwind_on_malloc=1"}

    def run_tool(self, *arguments, ranks=0, status=0):
        """Runs the tool; ranks 0: without a launcher. Each rank's status must be `status`."""
        command = [TOOL, *map(str, arguments)]
        ranks = ranks if WITH_MPI else 0
        if ranks:
            notes = self.dir / "statuses"
            shutil.rmtree(notes, ignore_errors=True)
            notes.mkdir()
            wrapper = ["sh", "-c", 'n=$1; shift; "$@"; echo $? > "$n/$$"', "sh", str(notes)]
            command = [*MPIEXEC, COUNT_FLAG, str(ranks), *wrapper, *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False,
                              stdin=subprocess.DEVNULL, env=self.environment())
        told = f"{command}\nstatus {done.returncode}\n{done.stdout}\n{done.stderr}"
        if ranks:
            statuses = [int(p.read_text()) for p in notes.iterdir()]
            self.assertEqual(statuses, [status] * ranks, told)
        else:
            self.assertEqual(done.returncode, status, told)
        if status in (2, 3):
            lines = [x for x in done.stderr.splitlines() if x.startswith("allshard: error: ")]
            self.assertEqual(len(lines), 1, told)
        return done

    def run_json(self, *arguments, ranks=0, status=0):
        result = json.loads(self.run_tool(*arguments, "--json", ranks=ranks, status=status).stdout)
        self.assertEqual(result["ok"], status == 0)
        return result

    def refuse(self, status, text, *arguments, ranks=0):
        """The one error names `text`."""
        done = self.run_tool(*arguments, ranks=ranks, status=status)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stdout, "")
