# SPDX-License-Identifier: Apache-2.0
"""`allshard verify --deep` counts what numpy and ml_dtypes call NaN and infinite, in files that
safetensors' own writer made and in files whose tensors lie at odd places, with and without a
manifest, on 1 and 3 ranks. Blocks end inside elements. ALLSHARD_SEED changes the values."""
# timeout: 240
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
    from safetensors.numpy import save_file
except ImportError as missing:
    print(f"skipped: {missing} (tests/requirements.txt)")
    sys.exit(77)

TOOL = os.environ["ALLSHARD_BIN"]
WITH_MPI = os.environ.get("ALLSHARD_WITH_MPI", "1") not in ("", "0", "OFF")
MPIEXEC = [os.environ.get("MPIEXEC", "mpirun"), os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")]
SEED = int(os.environ.get("ALLSHARD_SEED", "1"))
FLOATS = {"F64": np.float64, "F32": np.float32, "C64": np.complex64, "F16": np.float16,
          "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
          "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
          "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz}
OTHERS = {"U8": np.uint8, "I64": np.int64, "BOOL": np.bool_, "U16": np.uint16}
NUMPY_WRITES = {"F64", "F32", "F16"}  # that the packages' numpy writer is sure to know


def make(rng, dtype, count, share):
    """Random finite values, of which a share is anything at all."""
    width = np.dtype(dtype).itemsize
    raw = rng.integers(0, 256, count * width, dtype=np.uint8).view(dtype).copy()
    with np.errstate(all="ignore"):
        wide = raw.astype(np.complex64 if np.dtype(dtype).kind == "c" else np.float64)
    keep = rng.random(count) < share
    # All-zero bits are no special value of any type.
    raw[~np.isfinite(wide) & ~keep] = np.zeros(1, np.uint8).repeat(width).view(dtype)[0]
    return raw


def expected(array):
    with np.errstate(all="ignore"):
        if array.dtype.kind == "c":
            parts = [array.real, array.imag]
        else:
            parts = [array.astype(np.float64)]
    nan = np.any([np.isnan(p) for p in parts], axis=0)
    plus = np.any([np.isposinf(p) for p in parts], axis=0)
    minus = np.any([np.isneginf(p) for p in parts], axis=0)
    if not (nan.any() or plus.any() or minus.any()):
        return None
    first = lambda x: int(np.argmax(x)) if x.any() else None
    return [int(nan.sum()), int(plus.sum()), int(minus.sum()), first(nan), first(plus | minus)]


def write(path, tensors, pad):
    """A file with tensors in the order given, whose data begin `pad` bytes off any alignment."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (kind, array) in tensors.items():
        header[name] = {"dtype": kind, "shape": [array.size],
                        "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + pad)
    path.write_bytes(struct.pack("<Q", len(text)) + text +
                     b"".join(a.tobytes() for _, a in tensors.values()))


def verify(path, ranks):
    command = [TOOL, "verify", str(path), "--deep", "--json"]
    if ranks and WITH_MPI:
        command = [*MPIEXEC, str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    return {x["tensor"]: [x["nan"], x["positive_infinities"], x["negative_infinities"],
                          x["first_nan"], x["first_infinity"]]
            for x in result["warnings"] if x.get("kind") == "values"}


def main():
    rng = np.random.default_rng(SEED)
    work = Path(tempfile.mkdtemp(prefix="allshard-deep-"))
    elements = 0
    try:
        for case in range(4):
            tensors = {}
            shares = [0, 0.0001, 0.3, 1]
            for kind, dtype in FLOATS.items():
                for i, share in enumerate(shares):
                    count = int(rng.integers(1, 1 << 20 if i == 1 else 5000))
                    tensors[f"{kind}.{i}"] = (kind, make(rng, dtype, count, share))
            for kind, dtype in OTHERS.items():
                bits = rng.integers(0, 2 if kind == "BOOL" else 256,
                                    1000 * np.dtype(dtype).itemsize, dtype=np.uint8)
                tensors[kind] = (kind, bits.view(dtype))
            want = {n: e for n, (k, a) in tensors.items()
                    if k in FLOATS and (e := expected(a)) is not None}
            elements += sum(a.size for k, a in tensors.values() if k in FLOATS)
            folder = work / f"case-{case}"
            folder.mkdir()
            path = folder / "model.safetensors"
            # Behind tensors of one byte others lie at odd places.
            order = [str(n) for n in rng.permutation(list(tensors))]
            write(path, {n: tensors[n] for n in order}, case)
            for ranks in (0, 3):
                got = verify(path, ranks)
                assert got == want, (case, ranks, {n: (got.get(n), want.get(n))
                                                   for n in got.keys() | want.keys()
                                                   if got.get(n) != want.get(n)})
            # The same tensors with a manifest of small blocks.
            saved = work / f"saved-{case}"
            subprocess.run([TOOL, "copy", str(folder), str(saved), "--block-size",
                            str(64 * (1 + case)), "--max-shard-size", "3MB"], check=True,
                           capture_output=True)
            for ranks in (0, 3):
                assert verify(saved, ranks) == want, (case, ranks)
        # Nothing but NaN and infinities, at odd places and longer than what is read at once: an
        # element that two pieces share is counted once.
        tensors = {}
        for i, kind in enumerate(("F64", "C64", "F32", "F16", "BF16")):
            tensors[f"odd.{i}"] = ("U8", np.zeros(1 + 2 * (i % 2), np.uint8))
            one = np.array([np.nan, np.inf, -np.inf], FLOATS[kind])
            count = (9 << 20) // one.itemsize
            tensors[kind] = (kind, np.resize(one, count))
        write(work / "full.safetensors", tensors, 3)
        want = {n: expected(a) for n, (k, a) in tensors.items() if k in FLOATS}
        for ranks in (0, 2, 3):
            assert verify(work / "full.safetensors", ranks) == want, ranks
        # A file by the real writer.
        tensors = {n: a for n, (k, a) in tensors.items() if k in NUMPY_WRITES}
        assert len(tensors) == 3
        save_file(tensors, work / "real.safetensors", metadata={"format": "pt"})
        got = verify(work / "real.safetensors", 0)
        assert got == {n: e for n in tensors if (e := expected(tensors[n])) is not None}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{elements} floats in 4 checkpoints: what is NaN or infinite is what numpy says")


if __name__ == "__main__":
    main()
