# SPDX-License-Identifier: Apache-2.0
"""What `allshard copy --dtype` saves are the values that numpy and ml_dtypes cast to: bit for bit,
but for NaN, of which only that it is one counts.

Random bit patterns, all patterns of the narrow types, and values on and beside the halves, of every
type cast to every other, on 1 and 3 ranks with tensors cut into columns and flat ranges.
ALLSHARD_SEED changes the patterns.

F64 is cast to BF16 by ml_dtypes (and torch) by way of F32, which rounds twice; allshard rounds once.
Where F32 cannot hold the value those two may be a last bit apart, so that F64 is given values that
F32 holds there, and test_cast.c sees to the others.
"""
# timeout: 300
# sanitize: no
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import ml_dtypes
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing} (tests/requirements.txt)")
    sys.exit(77)

TOOL = os.environ["ALLSHARD_BIN"]
WITH_MPI = os.environ.get("ALLSHARD_WITH_MPI", "1") not in ("", "0", "OFF")
MPIEXEC = [os.environ.get("MPIEXEC", "mpirun"), os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")]
SEED = int(os.environ.get("ALLSHARD_SEED", "1"))
TYPES = {"F64": np.float64, "F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16,
         "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
RUNS = [(3, "columns"), (3, "flat"), (1, "whole")]
BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def bits(array):
    return array.view(BITS[array.itemsize])


def all_of(dtype):
    """All values of a narrow type."""
    size = np.dtype(dtype).itemsize
    return np.arange(1 << 8 * size).astype(BITS[size]).view(dtype)


def halves(dtype):
    """In F32: values of a narrow type, what lies halfway between two, and the neighbours of both."""
    with np.errstate(all="ignore"):
        values = all_of(dtype).astype(np.float64)
        values = np.sort(values[np.isfinite(values)])
        points = np.concatenate([values, (values[:-1] + values[1:]) / 2]).astype(np.float32)
        return np.concatenate([points, np.nextafter(points, np.float32(np.inf)),
                               np.nextafter(points, np.float32(-np.inf))])


def values_of(rng, name):
    """Patterns of a type, each of its casts' difficult ones among them."""
    dtype = TYPES[name]
    size = np.dtype(dtype).itemsize
    if size <= 2:
        return np.concatenate([all_of(dtype)] * (1 if size == 2 else 3))
    hard = np.concatenate([halves(TYPES[n]) for n in ("F8_E4M3", "F8_E5M2", "F16", "BF16")])
    if name == "F32":
        random = np.frombuffer(rng.bytes(1_200_000), np.uint32).view(np.float32)
        return np.concatenate([hard, random])
    with np.errstate(all="ignore"):
        wide = np.frombuffer(rng.bytes(400_000), np.uint64).view(np.float64)
        near = np.frombuffer(rng.bytes(400_000), np.uint32).view(np.float32).astype(np.float64)
        return np.concatenate([hard.astype(np.float64), near, wide])


def safe_for_two_roundings(values):
    """F64 that F32 holds: the value itself."""
    with np.errstate(all="ignore"):
        return values.astype(np.float32).astype(np.float64)


def write(path, tensors):
    header, at = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            f.write(array.tobytes())


def read(folder):
    tensors = {}
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        length = struct.unpack_from("<Q", data)[0]
        for name, entry in json.loads(data[8:8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                array = np.frombuffer(data[8 + length + begin:8 + length + end], TYPES[entry["dtype"]])
                tensors[name] = entry["dtype"], array.reshape(entry["shape"])
    return tensors


def check(what, given, got, expected):
    with np.errstate(all="ignore"):
        nan = np.isnan(expected.astype(np.float64))
        wrong = np.where(nan, ~np.isnan(got.astype(np.float64)), bits(got) != bits(expected))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        sys.exit(f"{what} (seed {SEED}): {int(wrong.sum())} of {wrong.size} differ; the first is {given[i]!r} "
                 f"({int(bits(given)[i]):#x}): {int(bits(got)[i]):#x}, expected {int(bits(expected)[i]):#x}")
    return int(nan.sum())


def copy(ranks, layout, source, target, casts):
    command = [TOOL, "copy", source, target, "--layout", layout, "--max-shard-size", "400KB",
               "--block-size", "4096", "--json"]
    for pair in casts:
        command += ["--dtype", pair]
    if ranks > 1:
        command = [*MPIEXEC, str(ranks), *command]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main():
    rng = np.random.default_rng(SEED)
    root = Path(tempfile.mkdtemp(prefix="allshard-cast-"))
    given = {}
    for name in TYPES:
        values = values_of(rng, name)
        given[name] = values[:values.size // 7 * 7]
    elements = nans = 0
    for to in TYPES:
        tensors = {}
        for name, values in given.items():
            if (name, to) == ("F64", "BF16"):
                values = safe_for_two_roundings(values)
            tensors[f"{name}.w"] = name, values.reshape(-1, 7)
        source = root / f"{to}-source"
        source.mkdir()
        write(source / "model.safetensors", tensors)
        casts = [f"{name}={to}".lower() if i % 2 else f"{name}={to}"
                 for i, name in enumerate(TYPES) if name != to]
        for ranks, layout in RUNS if WITH_MPI else RUNS[-1:]:
            target = root / f"{to}-{layout}"
            told = copy(ranks, layout, source, target, casts)
            saved = read(target)
            assert saved.keys() == tensors.keys(), saved.keys()
            assert told["tensor_bytes"] == sum(a.nbytes for _, a in saved.values()), told
            assert sorted((c["from"], c["to"], c["tensors"]) for c in told["casts"]) == sorted(
                (n, to, 1) for n in TYPES if n != to), told
            for key, (name, values) in tensors.items():
                dtype, got = saved[key]
                assert dtype == to and got.shape == values.shape, (key, dtype, got.shape)
                with np.errstate(all="ignore"):
                    expected = values.astype(TYPES[to])
                nans += check(f"{name} to {to}, {ranks} ranks, {layout}", values.ravel(), got.ravel(),
                              expected.ravel())
                elements += got.size
            shutil.rmtree(target)
        shutil.rmtree(source)
    shutil.rmtree(root)
    print(f"{elements} elements, {nans} NaN among them, are what ml_dtypes {ml_dtypes.__version__} and numpy "
          f"{np.__version__} cast to (seed {SEED})")


if __name__ == "__main__":
    main()
