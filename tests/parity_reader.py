#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Compares the format room with the Python packages that set the rules: thousands of random and
mutated headers, indexes, file names and sizes go through tool_reader and through safetensors and
huggingface_hub; verdicts and contents must be the same.

parity_reader.py [--tool PATH] [--seed N] [--count N]"""

import argparse
import ctypes
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

import safetensors
from huggingface_hub.serialization import _base, _torch

BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
        "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
        "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
        "U64": 64}
# Those that safetensors can be asked to write.
WRITABLE = {"BOOL": "bool", "F4": "float4_e2m1fn_x2", "U8": "uint8", "I8": "int8",
            "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu",
            "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "I16": "int16",
            "U16": "uint16", "F16": "float16", "BF16": "bfloat16", "I32": "int32",
            "U32": "uint32", "F32": "float32", "C64": "complex64", "F64": "float64",
            "I64": "int64", "U64": "uint64"}
VERDICTS = [("header too small", "HeaderTooSmall"), ("header too large", "HeaderTooLarge"),
            ("invalid header length", "InvalidHeaderLength"),
            ("invalid UTF-8 in header", "InvalidHeader"),
            ("invalid JSON in header", "InvalidHeaderDeserialization"),
            ("invalid offset for tensor", "InvalidOffset"),
            ("overflow computing", "ValidationOverflow"),
            ("The slice is slicing", "MisalignedSlice"),
            ("invalid shape, data type", "TensorInvalidInfo"),
            ("incomplete metadata", "MetadataIncompleteBuffer")]
NAMES = ["w", "a.weight", "a.10", "a.9", "Z", "é", "\U0001f600", "", "__metadata_", "a\"b\\c/",
         "\u2028", "\x7f", "nul\0nul", "dtype", "layers.0.mlp.experts.3.w1", "tab\t", "\u0000"]
OLD_DRIVES = sys.version_info < (3, 12)


def as_hex(data):
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return data.hex() or "-"


# ---- safetensors headers ----

def good_header(rng):
    """A header that is mostly right, as text, and the bytes of data that it asks for."""
    tensors, at = [], 0
    names = rng.sample(NAMES, rng.randint(0, 6))
    for name in names:
        dtype = rng.choice(list(BITS))
        shape = [rng.choice([0, 1, 2, 3, 4, 8]) for _ in range(rng.randint(0, 3))]
        size = BITS[dtype]
        for n in shape:
            size *= n
        size //= 8
        tensors.append((name, dtype, shape, at, at + size))
        at += size
    if tensors and rng.random() < 0.4:
        bend(rng, tensors)
    if rng.random() < 0.3:
        rng.shuffle(tensors)
    members = [tensor_text(rng, *t) for t in tensors]
    if rng.random() < 0.5:
        values = ['{"format":"pt"}', "null", "{}", '{"a":"b","a":"c"}', '{"\\u0061":"\\n"}']
        key = rng.choice(['"__metadata__"', '"__metadata__"', '"\\u005f_metadata__"'])
        members.insert(rng.randint(0, len(members)), f"{key}:{rng.choice(values)}")
    text = "{" + ",".join(members) + "}"
    return text + " " * rng.choice([0, 0, 1, 7, -len(text) % 8]), at


def bend(rng, tensors):
    """Makes one tensor wrong in a way that is right JSON."""
    at = rng.randrange(len(tensors))
    name, dtype, shape, begin, end = tensors[at]
    kind = rng.randrange(7)
    if kind == 0:
        begin, end = begin + rng.choice([-1, 1, 4]), end + rng.choice([0, 1])
    elif kind == 1:
        end = max(0, end + rng.choice([-4, -1, 1, 2**64 - 1 - end]))
    elif kind == 2:
        shape = shape + [rng.choice([2, 3, 2**63, 2**64 - 1, 2**61 - 1, 2**61])]
    elif kind == 3:
        shape = [rng.choice([2, 2**32, 2**64 - 1])] + shape + [rng.choice([2**32, 2**64 - 1, 0])]
    elif kind == 4:
        dtype = rng.choice(list(BITS))
    elif kind == 5:
        begin, end = end, begin
    else:
        name, begin, end = tensors[rng.randrange(len(tensors))][0], begin, end
    tensors[at] = (name, dtype, shape, max(0, begin), end)


def tensor_text(rng, name, dtype, shape, begin, end):
    key = json.dumps(name, ensure_ascii=rng.random() < 0.5)
    kind = rng.random()
    text = f'"{dtype}"' if kind < 0.9 else f'{{"{dtype}":null}}'
    fields = [f'"dtype":{text}', f'"shape":{json.dumps(shape)}', f'"data_offsets":[{begin},{end}]']
    if rng.random() < 0.1:
        return f"{key}:[{text},{json.dumps(shape)},[{begin},{end}]]"
    if rng.random() < 0.2:
        fields.append('"x":' + rng.choice(EXTRAS))
    if rng.random() < 0.3:
        rng.shuffle(fields)
    return f"{key}:{{{','.join(fields)}}}"


EXTRAS = ["null", "true", "[]", "{}", "1e5", "-0", "0.0", "1E400", "-1e400", "0e999999999999", "1e308",
          "1.7976931348623157e308", "1.7976931348623159e308", "18446744073709551616", "1e-999999999999",
          "9" * 400, "9" * 309 + ".5", "0." + "0" * 400 + "1e500", '"\\ud83d\\ude00"', '"\\ud83d"',
          '"\\ude00"', '"\\ud83d\\u0041"', '"\\ud83d\\ud83d\\ude00"', '"\\/"', '"\\x"', '"\\u12"',
          "[" * 120 + "]" * 120, "[" * 125 + "]" * 125, "[" * 126 + "]" * 126,
          '{"a":' * 125 + "1" + "}" * 125, "NaN", "Infinity", "tru", "[1,]", '{"a":1,"a":2}',
          "1.", ".5", "1e", "01", "+1", "- 1", '"\x01"', "1e+5", "1E-5", "-", "[1 2]", '{"a" 1}']
PIECES = ["null", "true", "0", "1", "-1", "-0", "1.0", "1e0", "01", "4", "8", "16", "3", "18446744073709551615",
          "18446744073709551616", "2305843009213693951", "2305843009213693952", '"F32"', '"F4"', '"f32"',
          '"F6_E2M3"', "[]", "{}", "[1]", "[0,4]", "[4,0]", "[2,18446744073709551614]",
          "[0,18446744073709551615,18446744073709551615]", "[18446744073709551615,2,0]", '{"F32":null}',
          '{"F32":{}}', '{"F32":null,"U8":null}', '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"',
          ",", ":", "{", "}", "[", "]", '"', "\\", " ", "\t", "\v", "\0", "\ufeff", "\u2028", "é", "/**/",
          "\\u0041", "\\ud800", "\\udc00", '"w"', '"x":1,', '"w":', "1e400"] + EXTRAS


def mutate(rng, text):
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        at = rng.randint(0, len(text))
        kind = rng.random()
        if kind < 0.35:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind < 0.55:
            text = text[:at] + text[at + rng.randint(1, 4):]
        elif kind < 0.8:
            text = replace_token(rng, text)
        elif kind < 0.9:
            other = rng.randint(0, len(text))
            begin, end = min(at, other), max(at, other)
            text = text[:begin] + text[begin:end] * 2 + text[end:]
        else:
            text = text[:at] + chr(rng.choice([0, 9, 31, 127, 128, 233, 0x20ac])) + text[at + 1:]
    return text


def replace_token(rng, text):
    """Puts a piece in place of a number or word of the text."""
    places = [i for i in range(len(text)) if text[i].isdigit() or text[i] == '"']
    if not places:
        return text
    begin = rng.choice(places)
    end = begin + 1
    if text[begin] == '"':
        end = text.find('"', end) + 1 or len(text)
    else:
        while end < len(text) and text[end].isdigit():
            end += 1
    return text[:begin] + rng.choice(PIECES) + text[end:]


def st_case(rng):
    text, size = good_header(rng)
    if rng.random() < 0.5:
        text = mutate(rng, text)
    header = text.encode("utf-8")
    if rng.random() < 0.08 and header:
        at = rng.randrange(len(header))
        header = header[:at] + bytes([rng.choice([0x80, 0xff, 0xc0, 0xed, 0xf5])]) + header[at + 1:]
    length = len(header)
    if rng.random() < 0.05:
        length = rng.choice([0, 1, length - 1, length + 1, length + size, 100000000, 100000001, 2**32, 2**64 - 1])
    data = rng.randbytes(max(0, size + rng.choice([0] * 12 + [1, -1, 8])))
    file = struct.pack("<Q", length % 2**64) + header + data
    return file[:rng.randint(0, 9)] if rng.random() < 0.01 else file


def st_reference(file):
    try:
        tensors = safetensors.deserialize(file)
    except Exception as error:  # the package's own class and, for what it lets through, panics
        text = str(error)
        for part, verdict in VERDICTS:
            if part in text:
                return verdict, None
        return text, None
    return "OK", tensors


def st_same(file, answer):
    verdict, tensors = st_reference(file)
    words = answer.split(" ")
    # Tensors with the same offsets are checked in an order that changes from call to call.
    for _ in range(40):
        if verdict == words[0]:
            break
        verdict, tensors = st_reference(file)
    if verdict != words[0]:
        return f"safetensors says {verdict}"
    if tensors is None:
        return None
    theirs = sorted((as_hex(n), t["dtype"], list(t["shape"]), bytes(t["data"])) for n, t in tensors)
    ours, places = [], []
    for word in words[1:]:
        name, dtype, rest = word.split(",", 2)
        shape, begin, end = rest[1:].rsplit(",", 2)
        begin, end = int(begin), int(end)
        places.append((begin, end))
        ours.append((name, dtype, json.loads("[" + shape), file[begin:end]))
    if places != sorted(places):
        return "entries are not sorted"
    return None if sorted(ours) == theirs else f"safetensors reads {theirs}"


# ---- sizes ----

SIZE_PIECES = ["5", "10", "1_000", "1__0", "_1", "1_", "0.5", ".5", "5.", ".", "1e3", "1E-2", "1e", "e5", "-1", "+7",
               "--1", " ", "\t", "\u00a0", "\u2003", "\x1c", "\u3000", "１", "٣", "\U0001d7d8", "Ⅷ", "²", "8.2", "1.001",
               "4.35", "5.1", "inf", "nan", "infinity", "-inf", "9e999", "1e-400", "9223372036854775807",
               "9223372036854775808", "-9223372036854775808", "9223372.036854775807", "1e13", "0x10", "1,5",
               "000", "12345678901234567890123", "0." + "1" * 40, "K", "B", "\u212a"]
UNITS = ["KB", "MB", "GB", "TB", "kb", "Mb", "gB", "KiB", "GiB", "PB", "B", "", " KB", "K B", "ＫＢ", "MB ", "\u00a0GB"]


def size_case(rng):
    text = "".join(rng.choice(SIZE_PIECES) for _ in range(rng.choice([0, 1, 1, 1, 2, 3])))
    if rng.random() < 0.3:
        text = f"{rng.uniform(0, 10 ** rng.randint(0, 12)):.{rng.randint(0, 6)}f}"
    return text + rng.choice(UNITS)


def size_reference(text):
    try:
        value = _base.parse_size_to_int(text)
    except OverflowError:
        return "refused"
    except ValueError as error:
        try:
            value = int(text.strip()) if "Unit" in str(error) else None
        except ValueError:
            value = None
    return "refused" if value is None or not -2**63 <= value < 2**63 else str(value)


# ---- shard names and indexes ----

NAME_PIECES = ["model", "-00001-of-00002", ".safetensors", ".SAFETENSORS", ".bin", "/", "\\", "..", ".", "C:", "a:", "é:",
               "1:", ":", "sub", "//", " ", "..\\", "../", "x", "\u2028", "\\\\srv\\share\\", "\\\\?\\", "con"]


def one_spelling(file):
    """We give "./x" and "x", which are one file, as "x"."""
    return re.sub(r"^(\./+(?=.))+", "", file)


def name_case(rng):
    text = "".join(rng.choice(NAME_PIECES) for _ in range(rng.randint(0, 4)))
    return text + (".safetensors" if rng.random() < 0.7 else "")


class Index:
    """huggingface_hub's own reading of an index, with the loading of shards left out."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.file = self.folder / "model.safetensors.index.json"
        _torch.load_state_dict_from_file = lambda *a, **k: {}

    def load_state_dict(self, *_args, **_kwargs):
        pass

    def state_dict(self):
        return {}

    def read(self, data):
        self.file.write_bytes(data)
        try:
            _torch._load_sharded_checkpoint(self, self.folder, strict=False)
        except (ValueError, RecursionError):
            return "refused"
        index = json.loads(data.decode("utf-8"))
        pairs = [f"{as_hex(k)}:{as_hex(one_spelling(v))}" for k, v in index["weight_map"].items()]
        files = index["weight_map"].values()
        if any("\0" in f for f in files):
            return "refused"  # the check lets it pass, open() does not
        if OLD_DRIVES and any(f[1:2] == ":" for f in files):
            return "refused"  # drives other than letters came with Python 3.12
        return " ".join(["OK"] + pairs)


def index_case(rng):
    files = [f"model-{i + 1:05d}-of-00003.safetensors" for i in range(3)] + ["sub/x.safetensors", "./x.safetensors"]
    members = []
    for name in rng.sample(NAMES, rng.randint(0, 8)):
        file = rng.choice(files) if rng.random() < 0.98 else name_case(rng)
        value = json.dumps(file) if rng.random() < 0.99 else rng.choice(EXTRAS)
        members.append(f"{json.dumps(name, ensure_ascii=rng.random() < 0.5)}: {value}")
        if rng.random() < 0.05:
            members.append(rng.choice(members))
    parts = ['"weight_map": {' + ", ".join(members) + "}"]
    if rng.random() < 0.7:
        parts.insert(0, '"metadata": {"total_size": ' + rng.choice(["12", "1.5", "-1", '"7"', "NaN"]) + "}")
    if rng.random() < 0.1:
        parts.append(f'"x": {rng.choice(EXTRAS)}')
    text = "{" + ",\n".join(parts) + "}"
    if rng.random() < 0.5:
        text = mutate(rng, text)
    return text.encode("utf-8", "surrogatepass")


# ---- writing ----

def dump_case(rng):
    pairs = {n: rng.choice(NAMES) for n in rng.sample(NAMES + ["total_size"], rng.randint(0, 3))}
    lines = {n: f"model-{rng.randint(1, 9):05d}-of-00009.safetensors"
             for n in rng.sample(NAMES, rng.randint(0, 9))}
    total = rng.choice([0, 40, 2**40, 2**63 - 1])
    words = ["dump", str(total)] + [as_hex(w) for p in pairs.items() for w in p] + [":"]
    words += [as_hex(w) for line in lines.items() for w in line]
    index = {"metadata": {"total_size": total, **pairs}, "weight_map": lines}
    return " ".join(words), as_hex(json.dumps(index, indent=2))


def layout_case(rng):
    specs, words = {}, []
    room = ctypes.create_string_buffer(1 << 20)
    for name in rng.sample(NAMES, rng.randint(0, 9)):
        dtype = rng.choice(list(WRITABLE))
        shape = [rng.choice([0, 1, 2, 5]) for _ in range(rng.randint(0, 3))]
        stored = list(shape)
        if dtype == "F4":
            shape = (shape or [1])[:-1] + [2 * (shape or [1])[-1]]
            stored = shape[:-1] + [shape[-1] // 2]  # as torch counts it, two in a byte
        size = BITS[dtype]
        for n in shape:
            size *= n
        specs[name] = safetensors.TensorSpec(dtype=WRITABLE[dtype], shape=stored,
                                             data_ptr=ctypes.addressof(room), data_len=size // 8)
        words += [as_hex(name), dtype, ",".join(map(str, shape)) or "-"]
    metadata = rng.choice([None, {"format": "pt"}, {"format": "pt", "a\n": "é"}])
    if metadata is None or not specs and not metadata:
        pairs = ["none"]
    else:
        pairs = [as_hex(w) for p in metadata.items() for w in p]
    request = " ".join(["layout"] + pairs + [":"] + words)
    # With several metadata keys their order is random: ask until it is the sorted one.
    for _ in range(200):
        file = bytes(safetensors.serialize(specs, metadata=metadata))
        if not metadata or file.find(b'"a\\n"') <= file.find(b'"format"'):
            break
    header = file[:8 + struct.unpack("<Q", file[:8])[0]]
    return request, as_hex(header)


# ---- the comparison ----

def requests(rng, count, index):
    """(request line, function that gives None for a right answer or what is expected)."""
    def expect(value):
        return lambda answer: None if answer == value else value

    for _ in range(count):
        file = st_case(rng)
        yield "st " + as_hex(file), lambda answer, file=file: st_same(file, answer)
    for _ in range(count // 4):
        text = size_case(rng)
        yield "size " + as_hex(text), expect(size_reference(text))
        name = name_case(rng)
        data = json.dumps({"weight_map": {"w": name}}).encode()
        yield "file " + as_hex(name), expect(index.read(data).split(" ")[0])
        data = index_case(rng)
        yield "index " + as_hex(data), expect(index.read(data))
        yield (lambda case: (case[0], expect(case[1])))(dump_case(rng))
        yield (lambda case: (case[0], expect(case[1])))(layout_case(rng))


def find_tool():
    if "ALLSHARD_TOOL_READER" in os.environ:
        return os.environ["ALLSHARD_TOOL_READER"]
    build = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", "."))
    for path in (build / "tests" / "tool_reader", build / "bin" / "tool_reader", build / "tool_reader"):
        if path.is_file():
            return str(path)
    sys.exit("tool_reader is not there: build it, or name it with --tool")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", default=None)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("ALLSHARD_SEED", "1")))
    parser.add_argument("--count", type=int, default=int(os.environ.get("ALLSHARD_COUNT", "20000")))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        cases = list(requests(rng, arguments.count, Index(folder)))
    text = "".join(line + "\n" for line, _ in cases)
    tool = subprocess.run([arguments.tool or find_tool()], input=text.encode(), capture_output=True,
                          check=False)
    answers = tool.stdout.decode().splitlines()
    faults = 0
    seen = {}
    for (line, check), answer in zip(cases, answers):
        expected = check(answer)
        verdict = f"{line.split(' ')[0]} {answer.split(' ')[0]}"
        if line.startswith("st ") or verdict.endswith("refused"):
            seen[verdict] = seen.get(verdict, 0) + 1
        if expected is not None:
            faults += 1
            if faults <= 20:
                print(f"{line}\n  is answered: {answer}\n  expected: {expected}")
    print(f"seed {arguments.seed}: {len(cases)} cases, {faults} differ; "
          + ", ".join(f"{k}: {v}" for k, v in sorted(seen.items())))
    if tool.returncode != 0 or len(answers) != len(cases):
        print(f"tool_reader ended with {tool.returncode} after {len(answers)} answers\n"
              + tool.stderr.decode(errors="replace")[-4000:])
        return 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
