# SPDX-License-Identifier: Apache-2.0
"""What all peers share: the tensors of a case, which part of them each rank holds, the files they
go into, the check of what was written, and the counters of the process."""

import dataclasses
import json
import os
import resource
import struct
import time

import numpy as np
import torch

CASES = {
    "rows": "every tensor cut along dimension 0, as FSDP does",
    "columns": "matrices cut along dimension 1, as tensor parallelism does; vectors whole",
    "replicated": "every tensor whole on every rank, as data parallelism does",
    "many": "many small tensors (256 KiB), cut along dimension 0",
}

LAYERS = 8


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One bf16 tensor of the model and how the ranks hold it: `dim` is the cut dimension, None if
    every rank holds all of it."""

    name: str
    shape: tuple
    dim: object

    @property
    def nbytes(self):
        return 2 * int(np.prod(self.shape))

    def piece(self, rank, ranks):
        """(offset, shape) of the part of `rank`: torch.chunk's cut, the last parts may be short."""
        offset = [0] * len(self.shape)
        shape = list(self.shape)
        if self.dim is not None:
            step = -(-self.shape[self.dim] // ranks)
            offset[self.dim] = min(rank * step, self.shape[self.dim])
            shape[self.dim] = min(step, self.shape[self.dim] - offset[self.dim])
        return tuple(offset), tuple(shape)


def tensors_of(case, nbytes):
    """The case's tensors in global order, at least `nbytes` in all."""
    if case == "many":
        shape = (256, 512)
        count = -(-nbytes // (2 * 256 * 512))
        return [Tensor(f"model.layers.{i // 64}.experts.{i % 64}.weight", shape, 0)
                for i in range(count)]
    # A decoder: 13 h^2 per layer, and an embedding of 8 h^2.
    hidden = 64
    while 2 * (13 * LAYERS + 8) * hidden * hidden < nbytes:
        hidden += 64
    matrices = []
    vectors = []
    matrices.append(("model.embed_tokens.weight", (8 * hidden, hidden)))
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        vectors.append((at + "input_layernorm.weight", (hidden,)))
        for part in "qkvo":
            matrices.append((f"{at}self_attn.{part}_proj.weight", (hidden, hidden)))
        vectors.append((at + "post_attention_layernorm.weight", (hidden,)))
        for part in ("gate", "up"):
            matrices.append((f"{at}mlp.{part}_proj.weight", (3 * hidden, hidden)))
        matrices.append((f"{at}mlp.down_proj.weight", (hidden, 3 * hidden)))
    cut = {"rows": (0, 0), "columns": (1, None), "replicated": (None, None)}[case]
    return ([Tensor(name, shape, cut[0]) for name, shape in matrices] +
            [Tensor(name, shape, cut[1]) for name, shape in vectors])


def random_piece(index, part, shape):
    """Random bits (nothing that a file system or a device could compress), the same on every rank
    for the same tensor and part."""
    raw = np.random.SFC64([index, part]).random_raw(-(-2 * int(np.prod(shape)) // 8))
    bits = torch.from_numpy(raw.view(np.int16)[:int(np.prod(shape))])
    return bits.view(torch.bfloat16).view(shape)


class Model:
    """The tensors of a case and this rank's parts of them, in memory that has been touched."""

    def __init__(self, case, nbytes, rank, ranks, shard_bytes):
        self.case = case
        self.rank = rank
        self.ranks = ranks
        self.shard_bytes = shard_bytes
        self.tensors = tensors_of(case, nbytes)
        self.nbytes = sum(t.nbytes for t in self.tensors)
        self.index = {t.name: i for i, t in enumerate(self.tensors)}
        self.local = {}
        for i, t in enumerate(self.tensors):
            part = 0 if t.dim is None else rank
            self.local[t.name] = random_piece(i, part, t.piece(rank, ranks)[1])
        # The same files for all: huggingface_hub's own split, of tensors without memory.
        from huggingface_hub import split_torch_state_dict_into_shards
        meta = {t.name: torch.empty(t.shape, dtype=torch.bfloat16, device="meta")
                for t in self.tensors}
        split = split_torch_state_dict_into_shards(meta, max_shard_size=shard_bytes)
        self.files = list(split.filename_to_tensors)
        self.file_of = {name: file for file, names in split.filename_to_tensors.items()
                        for name in names}
        self.names_of = split.filename_to_tensors

    def whole(self):
        """All tensors whole, in global order: what a process has that holds the model alone."""
        result = {}
        for i, t in enumerate(self.tensors):
            if t.dim is None:
                result[t.name] = random_piece(i, 0, t.shape)
            else:
                parts = [random_piece(i, r, t.piece(r, self.ranks)[1]) for r in range(self.ranks)]
                result[t.name] = torch.cat(parts, dim=t.dim)
        return result

    def file_numbers(self):
        """Name -> number of its file, from 1."""
        number = {file: i + 1 for i, file in enumerate(self.files)}
        return {name: number[file] for name, file in self.file_of.items()}

    def write_index(self, folder):
        """model.safetensors.index.json, for the peers that write files but no index."""
        if len(self.files) == 1:
            return
        index = {"metadata": {"total_size": self.nbytes}, "weight_map": self.file_of}
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump(index, f, indent=2)

    def header(self, file):
        """The bytes before the data of a safetensors file of the case, and each tensor's place in
        the file. All tensors have one dtype, so the order of the data is that of the names."""
        table = {"__metadata__": {"format": "pt"}}
        begin = {}
        at = 0
        for name in sorted(self.names_of[file]):
            t = self.tensors[self.index[name]]
            table[name] = {"dtype": "BF16", "shape": list(t.shape),
                           "data_offsets": [at, at + t.nbytes]}
            begin[name] = at
            at += t.nbytes
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        head = struct.pack("<Q", len(text)) + text
        return head, {name: len(head) + at for name, at in begin.items()}, len(head) + at

    def mine_to_check(self):
        """The tensors whose bytes this rank compares: what it alone holds, and its share of what
        all hold."""
        return [t for i, t in enumerate(self.tensors)
                if t.dim is not None or i % self.ranks == self.rank]


def same_bits(a, b):
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int16),
                                              b.contiguous().view(torch.int16))


def check_safetensors(model, folder):
    """Opens the checkpoint as anyone would (index, safetensors) and compares every bit of this
    rank's parts. Returns a list of faults."""
    from safetensors import safe_open

    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as f:
            weight_map = json.load(f)["weight_map"]
    else:
        only = [f for f in os.listdir(folder) if f.endswith(".safetensors")]
        if len(only) != 1:
            return [f"no index and {len(only)} files"]
        with safe_open(os.path.join(folder, only[0]), framework="pt") as f:
            weight_map = {name: only[0] for name in f.keys()}
    faults = []
    if set(weight_map) != set(model.index):
        return [f"{len(weight_map)} names, not the {len(model.index)} of the model"]
    by_file = {}
    for t in model.mine_to_check():
        by_file.setdefault(weight_map[t.name], []).append(t)
    for file, tensors in by_file.items():
        with safe_open(os.path.join(folder, file), framework="pt") as f:
            for t in tensors:
                offset, shape = t.piece(model.rank, model.ranks)
                part = f.get_slice(t.name)
                if tuple(part.get_shape()) != t.shape or part.get_dtype() != "BF16":
                    faults.append(f"{t.name}: shape or dtype differ")
                    continue
                box = tuple(slice(o, o + s) for o, s in zip(offset, shape))
                if not same_bits(part[box], model.local[t.name]):
                    faults.append(f"{t.name}: bits differ")
    return faults


# ------------------------------------------------------------------ the clock

def now():
    """One clock for all processes of the machine."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def quiet_barrier(comm):
    """A barrier whose waiters sleep: ranks that wait take no core from those that work."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.001)


# --------------------------------------------------------------- the counters

class Counters:
    """What the process did since the object was made."""

    def __init__(self):
        try:
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")  # VmHWM begins anew at the present size
        except OSError:
            pass
        self.rss = self.status("VmRSS")
        self.io = self.read_io()
        self.usage = resource.getrusage(resource.RUSAGE_SELF)

    @staticmethod
    def status(key):
        with open("/proc/self/status") as f:
            for line in f:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    @staticmethod
    def read_io():
        with open("/proc/self/io") as f:
            return {k: int(v) for k, v in (line.split(":") for line in f)}

    def result(self):
        io = self.read_io()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        d = {k: io[k] - self.io[k] for k in io}
        return {
            # Pages of files made dirty and direct writes, io_uring's too; not sockets.
            "write_bytes": d["write_bytes"],
            "wchar": d["wchar"],
            # A file read by mmap is in neither unless it had to come from the device.
            "read": max(d["rchar"], d["read_bytes"]),
            "read_device": d["read_bytes"],
            "cpu_s": (usage.ru_utime - self.usage.ru_utime +
                      usage.ru_stime - self.usage.ru_stime),
            "peak_above": max(0, self.status("VmHWM") - self.rss),
            "faults": usage.ru_minflt - self.usage.ru_minflt,
        }
