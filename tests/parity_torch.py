#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# sanitize: no
"""Compares files of torch.save as tool_archive lays them out and reads them with other programs.

Always: with CPython's own pickler, which torch.save uses, under stand-ins for torch's classes
(data.pkl must be the same byte for byte), and with zipfile and CPython's unpickler, which read what
was written. Where torch can be imported, here or by the Python that ALLSHARD_TORCH_PYTHON names:
with torch.save, byte for byte but for the serialization id, with torch.load(weights_only=True), and
by reading what torch wrote in any of its ways. Seeded random dicts.

parity_torch.py [--tool PATH] [--seed N] [--count N]"""

import argparse
import collections
import importlib.util
import io
import os
import pathlib
import pickle
import random
import subprocess
import sys
import tempfile
import types
import zipfile

CLASSES = {"F32": "Float", "F16": "Half", "BF16": "BFloat16", "F64": "Double", "I64": "Long",
           "I32": "Int", "I16": "Short", "I8": "Char", "U8": "Byte", "BOOL": "Bool",
           "C64": "ComplexFloat"}
LATER = {"U16": "uint16", "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn",
         "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
         "F8_E5M2FNUZ": "float8_e5m2fnuz"}
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I64": "int64",
         "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
         "C64": "complex64", **LATER}
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
         "BOOL": 1, "C64": 8, "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1,
         "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1}
COUNTS = [0, 1, 2, 999, 1000, 1001, 1999, 2000, 2001]
ID = ".data/serialization_id"

Tensor = collections.namedtuple("Tensor", "name dtype storage first shape strides parameter grad")


def pattern(size, number):
    return bytes((i * 7 + number * 13 + 1) & 0xff for i in range(size))


def dense(shape):
    strides, step = [], 1
    for n in reversed(shape):
        strides.insert(0, step)
        step *= max(n, 1)
    return strides


class Spec:
    """A state dict: tensors, storages (bytes), and how it is kept."""

    def __init__(self, rng, version, count=None):
        self.version, self.tensors, self.storages = version, [], []
        self.ordered = rng.random() < 0.5
        self.modules = [("", 1)] if rng.random() < 0.5 else None
        if self.modules and rng.random() < 0.7:
            self.modules += [(f"layer.{i}", rng.choice([1, 2, 300])) for i in range(rng.randrange(4))]
        if not self.ordered:
            self.modules = None
        dtypes = list(CLASSES) + (list(LATER) if version != 1 else [])
        for i in range(rng.randrange(1, 30) if count is None else count):
            if self.tensors and rng.random() < 0.3 and count is None:
                storage = rng.randrange(len(self.storages))
                dtype = next(t.dtype for t in self.tensors if t.storage == storage)
            else:
                storage, dtype = len(self.storages), rng.choice(dtypes)
                numel = rng.choice([0, 1, 2, 7, 24, 300, 70000]) if count is None else 1
                self.storages.append(numel * SIZES[dtype])
            self.add_view(rng, i, storage, dtype)

    def add_view(self, rng, number, storage, dtype):
        numel = self.storages[storage] // SIZES[dtype]
        shape, strides, first = [numel], None, 0
        kind = rng.randrange(6)
        if kind == 0 and numel > 0:
            first = rng.randrange(numel)
            shape = [rng.randrange(numel - first + 1)]
        elif kind == 1 and numel % 2 == 0 and numel > 0:
            shape, strides = [numel // 2, 2], [1, numel // 2]
        elif kind == 2 and numel > 0:
            shape, strides, first = [3, 5], [0, 0], rng.randrange(numel)
        elif kind == 3 and numel % 4 == 0:
            shape = [2, 1, 2, 1, numel // 4]
        elif kind == 4 and numel > 0:
            shape, first = [], numel - 1
        elif kind == 5 and numel > 4:
            shape, strides = [2, numel // 2 - 1], [numel // 2, 1]
        floats = dtype in ("F32", "F64", "F16", "BF16", "C64")
        parameter = rng.random() < 0.2
        grad = floats and rng.random() < 0.3
        name = rng.choice([f"layer.{number}.weight", f"n{number}", f"é\u2028{number}", f"a b/{number}\"\\"])
        self.tensors.append(Tensor(name, dtype, storage, first, shape, strides, parameter, grad))

    def text(self):
        def sizes(values):
            return ",".join(map(str, values)) or "-"
        lines = [f"S {n}" for n in self.storages]
        lines += [f"M {v} {n}" for n, v in self.modules or []]
        for t in self.tensors:
            flags = ("p" if t.parameter else "") + ("g" if t.grad else "") or "-"
            strides = "=" if t.strides is None else sizes(t.strides)
            lines.append(f"T {t.dtype} {t.storage} {t.first} {flags} {sizes(t.shape)} {strides} {t.name}")
        return "\n".join(lines) + "\n"

    def fill(self, make):
        """The dict, of what make(tensor) gives."""
        out = collections.OrderedDict() if self.ordered else {}
        for t in self.tensors:
            out[t.name] = make(t)
        if self.modules:
            out._metadata = collections.OrderedDict()
            for name, version in self.modules:
                out._metadata[name] = {"version": version}
        return out


def write(tool, spec, path, archive):
    kind = "ordered" if spec.ordered else "plain"
    subprocess.run([tool, "torch", path, archive, str(spec.version), kind], input=spec.text().encode(),
                   check=True)


def read(tool, path):
    """The table of a file as tool_archive reads it: name → tuple."""
    lines = subprocess.run([tool, "read", path], check=True, stdout=subprocess.PIPE).stdout.decode()
    table = {}
    for line in lines.splitlines():
        part = line.split(" ")
        if part[0] == "T":
            shape, strides = ([int(n) for n in x.split(",")] if x != "-" else [] for x in part[6:8])
            table[bytes.fromhex(part[9]).decode()] = (part[1], *map(int, part[2:6]), shape, strides)
    return table


# ---- CPython's pickler, with stand-ins for torch ----

class Storage:
    def __init__(self, number, cls, numel):
        self.number, self.cls, self.numel = number, cls, numel


def stand_ins():
    """Modules of torch's names, whose functions give their arguments back."""
    torch, utils, storage = (types.ModuleType(n) for n in ("torch", "torch._utils", "torch.storage"))
    for name in CLASSES.values():
        setattr(torch, name + "Storage", type(name + "Storage", (), {"__module__": "torch"}))
    storage.UntypedStorage = type("UntypedStorage", (), {"__module__": "torch.storage"})
    for name in LATER.values():
        setattr(torch, name, Dtype(name))

    def function(name):
        def call(*arguments):
            return (name, *arguments)
        call.__module__, call.__name__, call.__qualname__ = "torch._utils", name, name
        setattr(utils, name, call)
    for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"):
        function(name)
    sys.modules.update({"torch": torch, "torch._utils": utils, "torch.storage": storage})
    return torch, utils, storage


class Dtype:
    __module__ = "torch"

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def expected_pickle(spec):
    torch, utils, storage = stand_ins()
    classes = {d: getattr(torch, n + "Storage") for d, n in CLASSES.items()}
    storages, keys = {}, {}

    def make(t):
        later = t.dtype in LATER
        if t.storage not in storages:
            size = spec.storages[t.storage]
            storages[t.storage] = Storage(t.storage, storage.UntypedStorage if later else classes[t.dtype],
                                          size if later else size // SIZES[t.dtype])
        strides = dense(t.shape) if t.strides is None else t.strides
        arguments = [storages[t.storage], t.first, tuple(t.shape), tuple(strides),
                     t.grad and not t.parameter, collections.OrderedDict()]
        if later:
            tensor = Call(utils._rebuild_tensor_v3, *arguments, getattr(torch, LATER[t.dtype]))
        else:
            tensor = Call(utils._rebuild_tensor_v2, *arguments)
        if t.parameter:
            tensor = Call(utils._rebuild_parameter, tensor, t.grad, collections.OrderedDict())
        return tensor

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if isinstance(thing, Storage):
                key = keys.setdefault(thing.number, "%d" % len(keys))
                return ("storage", thing.cls, key, "cpu", thing.numel)
            return None

    out = io.BytesIO()
    # What the pickler sees must stay alive: its memo goes by address.
    state = spec.fill(make)
    Pickler(out, 2).dump(state)
    return out.getvalue(), [k for k in keys]


def check_python(tool, spec, path):
    """Our file against zipfile and CPython's pickler."""
    write(tool, spec, path, path.stem)
    text, keys = expected_pickle(spec)
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        names = [n.split("/", 1)[1] for n in z.namelist()]
        assert all(n.startswith(path.stem + "/") for n in z.namelist())
        got = z.read(f"{path.stem}/data.pkl")
        assert got == text, f"data.pkl differs at {next(i for i, (a, b) in enumerate(zip(got + b'?', text + b'?')) if a != b)}"
        order = [str(k) for k in range(len(keys))]
        order = sorted(order) if spec.version in (1, 2) else order
        data = [f"data/{k}" for k in order]
        before = {1: [], 2: ["byteorder"]}.get(spec.version, [".format_version", ".storage_alignment", "byteorder"])
        assert names == ["data.pkl", *before, *data, "version", *([] if spec.version == 1 else [ID])]
        for key, number in enumerate(keys):
            info = z.getinfo(f"{path.stem}/data/{key}")
            assert z.read(info) == pattern(spec.storages[number], number)
        check_table(read(tool, path), spec, path)


def check_table(table, spec, path):
    """What our reader finds in a file that holds the spec."""
    data = pathlib.Path(path).read_bytes()
    assert sorted(table) == sorted(t.name for t in spec.tensors)
    for t in spec.tensors:
        dtype, begin, end, low, high, shape, strides = table[t.name]
        assert (dtype, shape) == (t.dtype, t.shape), t
        assert strides == (dense(t.shape) if t.strides is None else t.strides), t
        assert data[low:high] == pattern(spec.storages[t.storage], t.storage), t
        last = sum((n - 1) * s for n, s in zip(shape, strides)) if 0 not in shape else -1
        first = t.first if last >= 0 else 0
        assert (begin, end) == (low + first * SIZES[t.dtype],
                                low + (first + last + 1) * SIZES[t.dtype]), t


# ---- torch itself ----

def without_id(data):
    """The file with its serialization id, and the CRCs of that, as zeros."""
    data = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        for info in z.infolist():
            if info.filename.endswith(ID):
                at = info.header_offset
                at += 30 + int.from_bytes(data[at + 26:at + 28], "little") + int.from_bytes(data[at + 28:at + 30], "little")
                assert info.file_size == 40 and bytes(data[at:at + 40]).isdigit()
                data[at:at + 40] = bytes(40)
                data[at + 44:at + 48] = bytes(4)
                central = data.rindex(info.filename.encode()) - 46
                data[central + 16:central + 20] = bytes(4)
    return bytes(data)


def torch_state(torch, spec):
    storages = {}

    def make(t):
        dtype = getattr(torch, NAMES[t.dtype])
        if t.storage not in storages:
            flat = torch.frombuffer(bytearray(pattern(spec.storages[t.storage], t.storage) or b"x"),
                                    dtype=torch.uint8)
            flat = flat[:spec.storages[t.storage]].clone()
            if hasattr(flat, "untyped_storage"):
                storages[t.storage] = flat.untyped_storage()
            else:
                storages[t.storage] = torch.storage.TypedStorage(
                    wrap_storage=flat.storage().untyped(), dtype=dtype)
        strides = dense(t.shape) if t.strides is None else t.strides
        tensor = torch.empty(0, dtype=dtype)
        tensor.set_(storages[t.storage], t.first, tuple(t.shape), tuple(strides))
        if t.parameter:
            return torch.nn.Parameter(tensor, requires_grad=t.grad)
        return tensor.requires_grad_() if t.grad else tensor
    return spec.fill(make)


def same_tensor(torch, a, b):
    a, b = a.detach(), b.detach()
    if (a.dtype, a.shape, a.stride(), a.storage_offset()) != (b.dtype, b.shape, b.stride(), b.storage_offset()):
        return False
    return a.contiguous().flatten().view(torch.uint8).equal(b.contiguous().flatten().view(torch.uint8)) if a.numel() and a.dim() else True


def torch_version(torch):
    number = tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2])
    return 1 if number < (2, 1) else 2 if number < (2, 7) else 3


def check_torch(torch, tool, spec, folder, seed):
    state = torch_state(torch, spec)
    theirs, ours = folder / "model-00001-of-00002.bin", folder / "ours" / "model-00001-of-00002.bin"
    ours.parent.mkdir(exist_ok=True)
    torch.save(state, theirs)
    write(tool, spec, ours, ours.stem)
    a, b = without_id(theirs.read_bytes()), without_id(ours.read_bytes())
    assert a == b, f"files differ at byte {next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))}"
    check_table(read(tool, theirs), spec, theirs)
    loaded = torch.load(ours, weights_only=True)
    assert list(loaded) == list(state)
    assert all(same_tensor(torch, loaded[n], state[n]) for n in state)
    if spec.modules and hasattr(loaded, "_metadata"):
        assert loaded._metadata == state._metadata
    # The other ways that torch has: what is read must be the same.
    for protocol, is_zip in ((3, True), (4, True), (5, True), (2, False), (4, False)):
        torch.save(state, theirs, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
        check_table(read(tool, theirs), spec, theirs)
    torch.save({"epoch": seed, "model": state, "list": [1.5, None, "text", (True,)]}, theirs)
    table = read(tool, theirs)
    assert sorted(table) == sorted("model." + t.name for t in spec.tensors)


def check_large(torch, tool, folder):
    """Records past 4 GiB, laid out by torch without their data, where it can."""
    if not hasattr(torch.serialization, "skip_data"):
        return 0
    spec = Spec(random.Random(1), torch_version(torch), 0)
    spec.ordered, spec.modules, spec.storages = False, None, [0xfffffffe, 0xffffffff, 0x100000000, 6]
    spec.tensors = [Tensor(f"t{i}", "U8", i, 0, [n], None, False, False)
                    for i, n in enumerate(spec.storages)]
    theirs, ours = folder / "large.bin", folder / "ours" / "large.bin"
    with torch.serialization.skip_data():
        torch.save({t.name: torch.empty(t.shape, dtype=torch.uint8) for t in spec.tensors}, theirs)
    write(tool, spec, "-" + str(ours), "large")
    sizes = [p.stat().st_size for p in (theirs, ours)]
    table = read(tool, ours)
    assert sizes[0] == sizes[1] and len(table) == len(spec.tensors)
    with zipfile.ZipFile(theirs) as a, zipfile.ZipFile(ours) as b:
        assert a.read("large/data.pkl") == b.read("large/data.pkl")
        for x, y in zip(a.infolist(), b.infolist()):
            assert (x.filename, x.header_offset, x.file_size, x.extra, x.flag_bits) == \
                   (y.filename, y.header_offset, y.file_size, y.extra, y.flag_bits), (x, y)
    theirs.unlink()
    ours.unlink()
    return 1


def with_torch(arguments, folder):
    import torch  # where there is one
    version = torch_version(torch)
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        spec = Spec(random.Random(seed), version)
        try:
            check_torch(torch, arguments.tool, spec, folder, seed)
        except AssertionError:
            print(f"seed {seed}:\n{spec.text()}", file=sys.stderr)
            raise
    for count in (1000, 2000):
        check_torch(torch, arguments.tool, Spec(random.Random(count), version, count), folder, 0)
    large = check_large(torch, arguments.tool, folder)
    print(f"torch {torch.__version__}: {arguments.count} random dicts, 1000 and 2000 tensors"
          f"{', past 4 GiB' if large else ''}: the same bytes, and read in every form")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", default=os.path.join(os.environ.get("ALLSHARD_BUILD_DIR", "."),
                                                       "tests", "tool_archive"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folder = pathlib.Path(top)
        if arguments.torch:
            with_torch(arguments, folder)
            return
        path = folder / "pytorch_model-00001-of-00002.bin"
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            spec = Spec(random.Random(seed), seed % 4)
            try:
                check_python(arguments.tool, spec, path)
            except AssertionError:
                print(f"seed {seed}:\n{spec.text()}", file=sys.stderr)
                raise
        for count in COUNTS:
            for version in (0, 1):
                check_python(arguments.tool, Spec(random.Random(count + version), version, count), path)
        print(f"{arguments.count} random dicts and {2 * len(COUNTS)} of {COUNTS[0]} to {COUNTS[-1]} tensors")
    for name in ("torch", "torch._utils", "torch.storage"):
        sys.modules.pop(name, None)
    python = os.environ.get("ALLSHARD_TORCH_PYTHON")
    if not python and importlib.util.find_spec("torch"):
        python = sys.executable
    if python:
        subprocess.run([python, __file__, "--torch", "--tool", arguments.tool, "--seed",
                        str(arguments.seed), "--count", str(arguments.count)], check=True)
    else:
        print("torch: skipped, it cannot be imported; ALLSHARD_TORCH_PYTHON may name a Python that has it")


if __name__ == "__main__":
    main()
