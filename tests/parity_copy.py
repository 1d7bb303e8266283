# SPDX-License-Identifier: Apache-2.0
"""What `allshard copy` writes is, byte for byte, what huggingface_hub and safetensors write.

Random models (seeded) are written by Python as sources, with tensors in any order over any
files; copied under every layout and several numbers of ranks; and compared with the folder that
huggingface_hub's split and safetensors' writer make of the same tensors in the same order.

Most copies run many to one MPI job (tool_copies, made of copy's parts); a sample runs the tool
itself. ALLSHARD_SEED changes the models, ALLSHARD_COUNT their number (60; 10 with sanitizers).
ALLSHARD_LONG=1 does 200 models with all layouts on all numbers of ranks, and runs the tool itself
for each model.
"""
# timeout: 900
# processors: 2
# long-timeout: 14400
# needs: mpi
import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import safetensors
from huggingface_hub.serialization._base import split_state_dict_into_shards_factory

RANKS = (1, 2, 3, 4, 5, 8)
LONG = os.environ.get("ALLSHARD_LONG") == "1"
SANITIZE = os.environ.get("ALLSHARD_SANITIZE") == "1"
SEED = int(os.environ.get("ALLSHARD_SEED", "1"))
MODELS = int(os.environ.get("ALLSHARD_COUNT", "200" if LONG else "10" if SANITIZE else "60"))
TOOL = os.environ["ALLSHARD_BIN"]
COPIES = str(Path(os.environ["ALLSHARD_BUILD_DIR"]) / "tests" / "tool_copies")
MPIEXEC = [os.environ.get("MPIEXEC", "mpirun"), os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")]

# name in the header → (name in safetensors' Python interface, bits)
DTYPES = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3": ("float8_e4m3fn", 8), "F8_E8M0": ("float8_e8m0fnu", 8), "I16": ("int16", 16),
    "U16": ("uint16", 16), "F16": ("float16", 16), "BF16": ("bfloat16", 16), "I32": ("int32", 32),
    "U32": ("uint32", 32), "F32": ("float32", 32), "C64": ("complex64", 64),
    "F64": ("float64", 64), "I64": ("int64", 64), "U64": ("uint64", 64),
    "F4": ("float4_e2m1fn_x2", 4),
}
STEMS = ["w", "layer.weight", "experts.3.up", "é", "\u2028", 'q"uote', "back\\slash", "a/b", "\x7f",
         "tab\t", "日本", "😀", "Z", "a.10", "a.9", "", " ", "<&>", "\x01", "\u0080"]


class Tensor:
    def __init__(self, name, dtype, shape, data):
        self.name, self.dtype, self.shape, self.data = name, dtype, shape, data
        self.buffer = ctypes.create_string_buffer(data, max(len(data), 1))

    def spec(self):
        """What safetensors' byte-level writer takes. Its F4 counts pairs in the last dimension."""
        shape = list(self.shape)
        if self.dtype == "F4":
            shape[-1] //= 2
        return safetensors.TensorSpec(dtype=DTYPES[self.dtype][0], shape=shape,
                                      data_ptr=ctypes.addressof(self.buffer),
                                      data_len=len(self.data))


def random_shape(rng, dtype):
    kind = rng.random()
    if dtype == "F4":  # pairs, so never a scalar
        return [rng.randint(1, 6) for _ in range(rng.randint(0, 2))] + [2 * rng.randint(0, 9)]
    if kind < 0.12:
        return []
    shape = [rng.choice([1, 2, 3, 5, 7, 8, 16, 17, 33]) for _ in range(rng.randint(1, 4))]
    if kind < 0.2:
        shape[rng.randrange(len(shape))] = 0
    while len(shape) > 1 and numel(shape) > 4000:
        shape.pop()
    return shape


def numel(shape):
    n = 1
    for d in shape:
        n *= d
    return n


def random_model(rng):
    """Tensors in global order."""
    names = set()
    dtypes = rng.sample(sorted(DTYPES), rng.randint(1, 6))
    tensors = []
    for i in range(rng.choice([1, 1, 2, 3, 5, 9, 17, 40])):
        name = rng.choice(STEMS) + (f".{i}" if rng.random() < 0.7 else "")
        if name in names:
            name += f"#{i}"
        names.add(name)
        dtype = rng.choice(dtypes)
        shape = random_shape(rng, dtype)
        tensors.append(Tensor(name, dtype, shape, rng.randbytes(numel(shape) * DTYPES[dtype][1] // 8)))
    rng.shuffle(tensors)
    return tensors


def write_file(path, tensors, metadata):
    safetensors.serialize_file({t.name: t.spec() for t in tensors}, str(path), metadata)
    os.chmod(path, 0o644)


def write_source(rng, folder, tensors):
    """Any files, and an index that gives the order; or, at times, one file."""
    folder.mkdir()
    if rng.random() < 0.15:
        write_file(folder / "model.safetensors", tensors, {"format": "pt", "other": "x"})
        header = json.loads(read_header(folder / "model.safetensors"))
        header.pop("__metadata__")
        place = {name: k for k, name in enumerate(header)}
        tensors.sort(key=lambda t: (header[t.name]["data_offsets"], place[t.name]))
        return
    count = rng.randint(1, 4)
    where = {t.name: f"part-{rng.randrange(count)}.safetensors" for t in tensors}
    for name in set(where.values()):
        write_file(folder / name, [t for t in tensors if where[t.name] == name], None)
    index = {"metadata": {"total_size": 7}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def read_header(path):
    data = path.read_bytes()
    return data[8:8 + int.from_bytes(data[:8], "little")]


def write_expected(folder, tensors, limit, pattern, metadata):
    """huggingface_hub's save_torch_state_dict, without torch."""
    folder.mkdir()
    split = split_state_dict_into_shards_factory(
        {t.name: t for t in tensors}, filename_pattern=pattern, max_shard_size=limit,
        get_storage_size=lambda t: len(t.data),
        get_storage_id=lambda t: None if t.data else "empty")
    by_name = {t.name: t for t in tensors}
    for name, keys in split.filename_to_tensors.items():
        own = {"format": "pt"}
        if not split.is_sharded:
            own.update(metadata)
        write_file(folder / name, [by_name[k] for k in keys], own)
    if split.is_sharded:
        index = {"metadata": {**split.metadata, **metadata}, "weight_map": split.tensor_to_filename}
        name = pattern.format(suffix="") + ".index.json"
        (folder / name).write_text(json.dumps(index, indent=2))


def same_file(got, expected):
    """Byte for byte; of a header with two or more metadata keys their order is open (safetensors
    writes them at random), so it is compared as a value, with its length."""
    if got.read_bytes() == expected.read_bytes():
        return True
    if not got.name.endswith(".safetensors"):
        return False
    ours, theirs = read_header(got), read_header(expected)
    a, b = json.loads(ours), json.loads(theirs)
    several = len(a.get("__metadata__", {})) > 1
    strip = lambda h: list((k, v) for k, v in h.items() if k != "__metadata__")
    return (several and len(ours) == len(theirs) and a.get("__metadata__") == b.get("__metadata__")
            and strip(a) == strip(b)
            and got.read_bytes()[8 + len(ours):] == expected.read_bytes()[8 + len(theirs):])


def compare(got, expected, what):
    ours = sorted(p.name for p in got.iterdir() if p.name != "allshard.manifest.json")
    theirs = sorted(p.name for p in expected.iterdir())
    if ours != theirs:
        sys.exit(f"{what}: files {ours}, expected {theirs}")
    for name in theirs:
        if not same_file(got / name, expected / name):
            sys.exit(f"{what}: {name} differs; kept: {got} and {expected}")


def parallel_layouts(rng, ranks):
    """Some ways to write the number of ranks as a product of tp, pp, dp, ep."""
    found = []
    for tp in range(1, ranks + 1):
        for pp in range(1, ranks + 1):
            for dp in range(1, ranks + 1):
                if ranks % (tp * pp * dp) == 0:
                    found.append(f"tp={tp},pp={pp},dp={dp},ep={ranks // (tp * pp * dp)}")
    return found if LONG else rng.sample(found, min(2, len(found)))


def random_limit(rng, tensors):
    sizes = [len(t.data) for t in tensors if t.data] or [1]
    return rng.choice([
        rng.choice(sizes), rng.choice(sizes) + 1, max(sizes) - 1, sum(sizes), sum(sizes) - 1,
        "1KB", "1.001KB", "4.35KB", "0.5KB", " 10 kb ", "1MB", 0, 100, rng.randint(1, 5000)])


class Case:
    """A model with its source, its expected folder, and the copies that are to be like it."""

    def __init__(self, rng, number, root):
        self.number = number
        self.tensors = random_model(rng)
        self.source = root / f"{number}-source"
        self.expected = root / f"{number}-expected"
        write_source(rng, self.source, self.tensors)
        self.limit = random_limit(rng, self.tensors)
        self.pattern = rng.choice(["model{suffix}.safetensors"] * 3 + ["m.variant{suffix}.safetensors"])
        self.metadata = {} if rng.random() < 0.7 else {rng.choice(["step", "total_size", "é"]): "7 x"}
        write_expected(self.expected, self.tensors, self.limit, self.pattern, self.metadata)
        ranks = RANKS if LONG else rng.sample(RANKS, 2)
        self.copies = []
        for n in ranks:
            for layout in ["whole", "replicated", "fsdp", "columns", "flat",
                           *parallel_layouts(rng, n)]:
                block = rng.choice([64, 128, 512, 4096, 4 << 20])
                memory = rng.choice([1, 16 * block, 64 << 20])
                target = root / f"{number}-{n}-{layout}"
                self.copies.append((n, layout, block, memory, target))

    def lines(self):
        metadata = next((f"{k}={v}" for k, v in self.metadata.items()), "-")
        for n, layout, block, memory, target in self.copies:
            yield (f"{n}\t{layout}\t{self.limit}\t{self.pattern}\t{block}\t{memory}\t{metadata}\t"
                   f"{self.source}\t{target}\n")

    def check(self):
        for n, layout, _, _, target in self.copies:
            compare(target, self.expected, f"model {self.number} (seed {SEED}), {n} ranks, {layout}")

    def check_tool(self, rng, root):
        n, layout, block, _, _ = rng.choice(self.copies)
        target = root / f"{self.number}-tool"
        command = [TOOL, "copy", str(self.source), str(target), "--layout", layout,
                   f"--max-shard-size={self.limit}", "--pattern", self.pattern,
                   "--block-size", str(block)]
        for k, v in self.metadata.items():
            command += ["--metadata", f"{k}={v}"]
        if n > 1:
            command = [*MPIEXEC, str(n), *command]
        run(command)
        compare(target, self.expected, f"model {self.number} (seed {SEED}), the tool on {n} ranks, {layout}")


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    rng = random.Random(SEED)
    started = time.monotonic()
    copies = tools = 0
    batch = 10
    for number, first in enumerate(range(0, MODELS, batch)):
        # Most of them in memory: it is bytes that are compared, and a disk takes its time.
        memory = "/dev/shm" if number % 3 and os.access("/dev/shm", os.W_OK | os.X_OK) else None
        folder = Path(tempfile.mkdtemp(prefix="allshard-parity-", dir=memory))
        cases = [Case(rng, k, folder) for k in range(first, min(first + batch, MODELS))]
        jobs = folder / "jobs"
        jobs.write_text("".join(line for case in cases for line in case.lines()))
        run([*MPIEXEC, "8", COPIES, str(jobs)])
        for case in cases:
            case.check()
            copies += len(case.copies)
            if LONG or case.number % 5 == 0:
                case.check_tool(rng, folder)
                tools += 1
        shutil.rmtree(folder)
    print(f"{MODELS} models (seed {SEED}): {copies} copies and {tools} runs of the tool are byte for "
          f"byte what huggingface_hub and safetensors write ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
