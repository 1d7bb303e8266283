# SPDX-License-Identifier: Apache-2.0
"""`allshard copy --align`: tensor data begin on the boundary, and readers that have nothing to do
with each other take the files and find the same bytes: the reference (Rust), huggingface_hub's own
header parser, gguf's, tinygrad's, a reader of forty lines that follows the format's text, and
allshard."""
# timeout: 240
# sanitize: no
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

TOOL = os.environ["ALLSHARD_BIN"]
SEED = int(os.environ.get("ALLSHARD_SEED", "11"))
DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "U8": np.uint8, "F64": np.float64}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")


def by_reference(path):
    with safe_open(path, framework="numpy") as f:
        return {name: f.get_tensor(name).tobytes() for name in f.keys()}


def by_text(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    out = {}
    for name, t in header.items():
        begin, end = (8 + length + at for at in t["data_offsets"])
        array = np.frombuffer(data[begin:end], DTYPES[t["dtype"]]).reshape(t["shape"])
        out[name] = array.tobytes()
    assert sum(map(len, out.values())) == len(data) - 8 - length
    return out


def by_hub(path):
    from huggingface_hub import parse_local_safetensors_file_metadata
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    found = parse_local_safetensors_file_metadata(path).tensors
    return {name: data[8 + length + t.data_offsets[0]:8 + length + t.data_offsets[1]]
            for name, t in found.items()}


def by_gguf(path):
    from gguf.utility import SafetensorsLocal
    with SafetensorsLocal(path) as found:
        return {name: found[name].mmap_bytes().tobytes() for name in found.keys()}


def by_tinygrad(path):
    os.environ.setdefault("DEV", "CPU")
    os.environ.setdefault("CACHEDB", str(path.parent / "tinygrad.db"))
    from tinygrad import dtypes
    from tinygrad.nn.state import safe_load
    return {name: bytes(t.bitcast(dtypes.uint8).data()) for name, t in safe_load(str(path)).items()}


def by_allshard(path):
    with tempfile.TemporaryDirectory() as folder:
        run(TOOL, "copy", path, Path(folder) / "again")
        return by_reference(next((Path(folder) / "again").glob("*.safetensors")))


def readers():
    found = {"safetensors": by_reference, "the format's text": by_text, "allshard": by_allshard}
    for name, module, reader in (("huggingface_hub", "huggingface_hub", by_hub),
                                 ("gguf", "gguf.utility", by_gguf),
                                 ("tinygrad", "tinygrad.nn.state", by_tinygrad)):
        try:
            __import__(module)
            found[name] = reader
        except ImportError as reason:
            print(f"without {name}: {reason}")
    return found


def main():
    random = np.random.default_rng(SEED)
    tensors = {}
    for i in range(40):
        dtype = list(DTYPES.values())[i % len(DTYPES)]
        shape = random.integers(1, 30, random.integers(1, 4))
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        tensors[f"layer.{i}.wéight"] = np.frombuffer(random.bytes(size), dtype).reshape(shape)
    expected = {name: t.tobytes() for name, t in tensors.items()}
    wanted = readers()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.safetensors"
        save_file(tensors, source)
        for align in (0, 64, 512, 4096, 65536, 1 << 20):
            for shards in ("5GB", "40KB"):
                target = Path(folder) / f"{align}-{shards}"
                run(TOOL, "copy", source, target, "--align", str(align), "--max-shard-size", shards)
                files = sorted(target.glob("*.safetensors"))
                assert (len(files) > 1) == (shards == "40KB"), files
                for name, reader in wanted.items():
                    found = {}
                    for file in files:
                        length = int.from_bytes(file.read_bytes()[:8], "little")
                        assert (8 + length) % max(align, 8) == 0, (file, length)
                        found.update(reader(file))
                    assert found == expected, f"{name}, --align {align}, shards of {shards}"
    print(f"{len(wanted)} readers: {', '.join(wanted)}")
    if len(wanted) < 5:
        sys.exit(f"only {len(wanted)} readers could be had")


main()
