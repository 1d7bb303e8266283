#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes seed inputs for the fuzzers: make_seeds.py FOLDER [allshard]

One sub-folder for each harness, with what real writers make and with nasty cases by hand. With
the path of the tool, checkpoints that it saves are among them. The corpora in this folder were
grown from these; `./run fuzz` goes on from the corpora, so this is needed only for a new start.
"""

import collections
import csv
import io
import json
import pathlib
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "data" / "golden"
INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
NUMBERS = ["0", "1", "-0", "-1", "1.0", "1e0", "01", "4294967296", "9223372036854775807",
           "9223372036854775808", "18446744073709551615", "18446744073709551616",
           "1e308", "1e309", "1e-400", "1" + "0" * 400, "0." + "0" * 400 + "1", "1e99999999999"]
STRINGS = ['"a"', '""', '"\\u0000"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00\\ud800"',
           '"\\u00e9é😀"', '"\\/\\b\\f\\n\\r\\t\\"\\\\"', '"\x7f"', '"\x1b[2J"', '"\x01"', '"\\x"',
           '"\ufeff"', '"' + "x" * 300 + '"', '"']


def tensor(dtype="F32", shape=(1,), offsets=(0, 4), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def safetensors(header, data=0):
    text = header if isinstance(header, (bytes, str)) else json.dumps(header)
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text + bytes(data)


def headers():
    yield "empty", safetensors("{}")
    yield "zero", b""
    yield "short", b"\x07" * 7
    yield "too-large", struct.pack("<Q", 100_000_001) + b"{}"
    yield "longest", struct.pack("<Q", 100_000_000) + b"{}"
    yield "wraps", struct.pack("<Q", 2**64 - 1) + b"{}"
    yield "bom", safetensors(b"\xef\xbb\xbf{}")
    yield "not-utf8", safetensors(b'{"\xff":1}')
    yield "twice", safetensors('{"a":%s,"a":%s}' % ((json.dumps(tensor()),) * 2), 4)
    yield "metadata", safetensors({"__metadata__": {"a": "b", "": "\0"}, "t": tensor()}, 4)
    yield "metadata-twice", safetensors('{"__metadata__":{"a":"b","a":"c"},"__metadata__":null}')
    yield "deep", safetensors('{"a":{"x":' + "[" * 200 + "]" * 200 + "}}")
    yield "product", safetensors({"a": tensor("I32", (2, 2**63 - 1), (0, 8))}, 8)
    yield "huge", safetensors({"a": tensor("U8", (2**60,), (0, 2**60))})
    yield "past-63", safetensors({"a": tensor("U8", (2**63 + 5,), (0, 2**63 + 5))})
    yield "past-64", safetensors({"a": tensor("U8", (2**64 - 1,), (0, 2**64 - 1))})
    yield "zeros", safetensors({"a": tensor("U8", (0, 2**64 - 1), (0, 0)),
                                "b": tensor("U8", (2**64 - 1, 2**64 - 1, 0), (0, 0))})
    yield "bits", safetensors({"a": tensor("F4", (3,), (0, 2))}, 2)
    yield "six", safetensors({"a": tensor("F6_E3M2", (4,), (0, 3))}, 3)
    yield "hole", safetensors({"a": tensor(offsets=(4, 8))}, 8)
    yield "backwards", safetensors({"a": tensor(offsets=(4, 0))}, 4)
    yield "dims", safetensors({"a": tensor(shape=[1] * 200)}, 4)
    yield "array", safetensors('{"a":["F32",[1],[0,4]]}', 4)
    yield "dtype-map", safetensors('{"a":{"dtype":{"F32":null},"shape":[],"data_offsets":[0,4]}}', 4)
    yield "fields", safetensors({"a": tensor(more={"y": [1, {"z": None}]})}, 4)
    yield "padded", safetensors("\t\n" + json.dumps({"a": tensor()}) + "  \r\n  ", 4)
    yield "nul-name", safetensors('{"a\\u0000b":%s}' % json.dumps(tensor()), 4)
    for i, dtype in enumerate("BOOL F4 F6_E2M3 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 I16 BF16 F16 C64 U64"
                              .split()):
        yield f"dtype-{i}", safetensors({"a": tensor(dtype, (8,), (0, 64))}, 64)
    for i, number in enumerate(NUMBERS):
        text = '{"a":{"dtype":"U8","shape":[%s],"data_offsets":[0,%s]}}' % (number, number)
        yield f"number-{i}", safetensors(text, 1)
    for i, name in enumerate(STRINGS):
        yield f"name-{i}", safetensors('{%s:%s}' % (name, json.dumps(tensor())), 4)
    for path in GOLDEN.glob("*.safetensors"):
        yield path.stem, path.read_bytes()
    with open(GOLDEN / "st_reader_cases.tsv", newline="") as f:
        for i, row in enumerate(csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)):
            if len(row) >= 4 and not row[0].startswith("#"):
                zeros = int(row[2]) if row[2].isdigit() else 0
                yield f"case-{i}", safetensors(bytes.fromhex(row[1]), min(zeros, 256))


def texts():
    yield "null", "null"
    yield "all", '{"a":[1,2.5e-3,true,false,null,"x",{},[]],"b":{"c":{"d":[]}}}'
    yield "nan", '[NaN,Infinity,-Infinity]'
    yield "deep-127", "[" * 127 + "]" * 127
    yield "deep-128", "[" * 128 + "]" * 128
    yield "deep-1000", '{"a":' * 1000 + "1" + "}" * 1000
    yield "deep-1001", "[" * 1001
    yield "digits", "1" * 5000
    yield "trailing", "[1,]"
    yield "behind", "{} x"
    yield "spaces", " \t\r\n[ 1 , 2 ] \n"
    for i, text in enumerate(NUMBERS + STRINGS):
        yield f"value-{i}", text
        yield f"member-{i}", '{"a":%s,%s:1}' % (text, text if text[:1] == '"' else '"b"')


def names():
    yield from ["/a.safetensors", "\\a.safetensors", "C:a.safetensors", "a:b.safetensors",
                "..\\a.safetensors", "../a.safetensors", "foo/../a.safetensors", "", ".", "..",
                "./a.safetensors", ".//a.safetensors", "a..safetensors", "sub/a.safetensors",
                "A.SAFETENSORS", "a.safetensors/", "a.safetensors ", " .safetensors",
                ".safetensors", "a\0.safetensors", "a/./b.safetensors", "a//b.safetensors",
                "\x1b[2J.safetensors", "a\nb.safetensors", "é.safetensors", "con.safetensors",
                "é:a.safetensors", "x" * 300 + ".safetensors", ".allshard/new/a.safetensors",
                "a.bin", "....safetensors", "..." + "/a.safetensors", "\\\\srv\\s\\a.safetensors"]


def indexes():
    good = {"metadata": {"total_size": 8}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    yield "good", json.dumps(good, indent=2)
    yield "no-map", '{"metadata":{}}'
    yield "map-array", '{"weight_map":[]}'
    yield "map-twice", '{"weight_map":{"a":"x.safetensors"},"weight_map":{"b":"y.safetensors"}}'
    yield "twice", '{"weight_map":{"a":"x.safetensors","a":"y.safetensors","b":"./x.safetensors"}}'
    yield "values", '{"weight_map":{"a":1,"b":null,"c":[{}]}}'
    yield "metadata", ('{"metadata":{"total_size":"x","a":"b","a":"c","n":[1],"é":"\\ud800"},'
                       '"weight_map":{}}')
    yield "bom", "\ufeff" + json.dumps(good)
    for i, number in enumerate(NUMBERS):
        yield f"total-{i}", '{"metadata":{"total_size":%s},"weight_map":{}}' % number
    for i, name in enumerate(names()):
        yield f"file-{i}", json.dumps({"weight_map": {"a": name, "b": "x.safetensors"}})
    for i, name in enumerate(STRINGS):
        yield f"name-{i}", '{"weight_map":{%s:"x.safetensors"}}' % name


def part(**changes):
    return {"step": 100, "pattern": "model{suffix}.safetensors", "index": INDEX,
            "created": "2025-01-31T12:00:00Z", "world_size": 8, "block_size": 64,
            "checksum": "xxh3-64", "total_size": 123, "engine": "uring", "engine_reason": "ext4",
            "tensor_count": 12, "files": [
                {"name": SHARDS[0], "size": 100, "role": "shard", "checksums": "0123456789abcdef" * 2},
                {"name": INDEX, "size": 7, "role": "index"},
                {"name": "config.json", "size": 0, "role": "extra", "checksums": ""}],
            "writers": [100, 0], **changes}


def manifests():
    def whole(**parts):
        return json.dumps({"allshard_manifest": 1, "version": "0.1.0", "parts": parts})
    yield "good", whole(model=part())
    yield "two", whole(model=part(), optimizer=part(index=None, step=None, files=[]))
    yield "bare", whole(ema={k: v for k, v in part(index=None).items()
                             if k not in ("step", "engine", "engine_reason", "writers")})
    yield "empty", whole()
    yield "version", '{"allshard_manifest":2,"version":"9","parts":{}}'
    yield "twice", '{"allshard_manifest":1,"allshard_manifest":1}'
    yield "array", "[1]"
    for i, (key, value) in enumerate([
            ("block_size", 0), ("block_size", -1), ("block_size", 2**62), ("total_size", -1),
            ("world_size", 2**63 - 1), ("files", {}), ("files", [1]), ("writers", [-1]),
            ("writers", {}), ("index", "../x"), ("index", ""), ("index", 1), ("step", "x"),
            ("checksum", None), ("engine", 1), ("pattern", "\x1b[2J"), ("created", "")]):
        yield f"field-{i}", whole(model=part(**{key: value}))
    for i, name in enumerate(names()):
        if "\0" not in name:
            yield f"file-{i}", whole(model=part(files=[{"name": name, "size": 1, "role": "extra"}]))
    for i, (size, sums) in enumerate([(2**63 - 1, "0" * 16), (65, "0" * 16), (64, "g" * 16),
                                      (64, "0" * 15), (0, "0" * 16), (-1, ""), (64, "é" * 8)]):
        entry = {"name": "a", "size": size, "role": "shard", "checksums": sums}
        yield f"sums-{i}", whole(model=part(files=[entry]))
    yield "esc", whole(**{"\x1b]0;x\x07": part(index="\x1b[2J.index.json")})


def journals():
    def whole(incoming, outgoing):
        return json.dumps({"allshard_journal": 1, "incoming": incoming, "outgoing": outgoing})
    one = {"name": SHARDS[0], "size": 123}
    yield "good", whole([one, {"name": INDEX, "size": 7}], [INDEX, "model.safetensors"])
    yield "empty", whole([], [])
    yield "both", whole([one], [SHARDS[0]])
    yield "twice", whole([one, one], [])
    yield "size", whole([{"name": "a", "size": -1}], [])
    yield "large", whole([{"name": "a", "size": 2**63 - 1}], [])
    yield "larger", whole([{"name": "a", "size": 2**63}], [])
    yield "meta", whole([{"name": ".allshard", "size": 1}], [".ALLSHARD"])
    yield "shape", '{"allshard_journal":1,"incoming":{},"outgoing":1}'
    yield "version", '{"allshard_journal":3}'
    folders = {"allshard_journal": 2, "folders": True}
    yield "folders", json.dumps({**folders, "incoming": [{"name": "checkpoint-7"}],
                                 "outgoing": ["checkpoint-3", "checkpoint-7"]})
    yield "folders-sized", json.dumps({**folders, "incoming": [one], "outgoing": []})
    for i, name in enumerate(names()):
        if "\0" not in name:
            yield f"name-{i}", whole([{"name": name, "size": 1}], [name])


def owners():
    good = {"allshard_lock": 1, "host": "node1", "machine": "0123456789abcdef",
            "boot": "11111111-2222-3333-4444-555555555555", "pid_namespace": "pid:[4026531836]",
            "pid": 1234, "start": 5678, "created": "2025-01-31T12:00:00Z"}
    yield "good", json.dumps(good) + "\n"
    yield "empty", ""
    for i, (key, value) in enumerate([("pid", 0), ("pid", -1), ("pid", 2**31), ("pid", 1),
                                      ("start", -1), ("start", 2**63 - 1), ("host", "x" * 300),
                                      ("host", "\x1b[2J"), ("boot", ""), ("created", "x" * 24),
                                      ("allshard_lock", 2), ("pid_namespace", "")]):
        yield f"field-{i}", json.dumps({**good, key: value})


def sizes():
    for i, text in enumerate([
            "5GB", "8.2MB", "1.001KB", "4.35KB", "5.1GB", " 10 KB ", "20mb", "1KiB", "1ooKB", "100",
            "", "KB", "infGB", "nanGB", "1e3KB", "1_000KB", "+5KB", ".5KB", "5.KB", "-1KB", "1e999TB",
            "\u00a05KB\u00a0", "\uff11KB", "9223372036854775807", "9223372036854775808", "-1", "5 G B",
            "1__0KB", "1e-5KB", "0x10KB", "64MiB", "16777216TiB", "777", "0888", "1" * 400 + "KB",
            "0." + "1" * 400 + "GB", "\xff", "5\x1bGB", "1e9999999999999999999KB"]):
        yield str(i), text


def patterns():
    for i, text in enumerate([
            "model{suffix}.safetensors", "model.safetensors", "{suffix}.safetensors",
            "a{{b}}{suffix}.safetensors", "{suffix}{suffix}.safetensors", "a{x}.safetensors", "{",
            "}", "{}", "a/{suffix}.safetensors", "../{suffix}.safetensors", "C:{suffix}.safetensors",
            "x" * 240 + "{suffix}.safetensors", "é{suffix}.safetensors", "a{suffix!r}.safetensors",
            "a{suffix:>9}.safetensors", "{suffix}.bin", "\x1b{suffix}.safetensors", "a\\{suffix}"]):
        for k, name in enumerate([SHARDS[0], "model.safetensors", INDEX,
                                  "model-000001-of-000002.safetensors",
                                  "model-99999999999999999999-of-00002.safetensors"]):
            yield f"{i}-{k}", text + "\n" + name


def layouts():
    def row(dtype, shape, name):
        dims = b"".join(bytes([(d.bit_length() + 7) // 8]) +
                        d.to_bytes((d.bit_length() + 7) // 8, "big") for d in shape)
        return bytes([dtype, len(shape)]) + dims + name.encode() + b"\0"
    tensors = (row(17, (8, 6), "model.layers.0.experts.3.w") + row(17, (5,), "b") + row(1, (4, 8), "f4")
               + row(2, (3, 4), "f6") + row(14, (), "scalar") + row(4, (0, 9), "none")
               + row(4, (1, 2**62), "big") + row(4, (1,) * 16, "experts.99999999999999999999.x"))
    for ranks in (1, 2, 3, 4, 8, 24):
        for text in ["whole", "replicated", "fsdp", "columns", "flat", "tp=2", "tp=2,pp=2",
                     "dp=2,ep=2,tp=2", "ep=3", "tp=0", "tp=2147483647,pp=2147483647", "tp=2,tp=2",
                     "tp=", "tp=2,", "x=1", ""]:
            yield f"{ranks}-{text}", bytes([ranks - 1]) + text.encode() + b"\n\n" + tensors
    for name in ["gpt2", "synthetic:7", "synthetic:64", "synthetic:0", "synthetic:-1", "no\x1b",
                 "synthetic:99999999999999999999"]:
        yield name, b"\3fsdp\n" + name.encode() + b"\n"
    yield "dims", b"\0whole\n\n" + row(4, (1,) * 19, "many")


def quotes():
    for i, text in enumerate([
            b"plain", b'"quoted" \\ back', b"\x1b[2J\x07\r\n\t", b"\xff\xfe\xc0\x80\xed\xa0\x80",
            "é😀\u202e\u2066\u200b\ufeff\x7f\x9b\u2028".encode(), b"x" * 400, "é".encode() * 200,
            b"\xf4\x90\x80\x80\xf0\x80\x80\x80", b"\xe2\x82", "\U000e0041\U0010ffff".encode()]):
        yield str(i), text


def commands():
    for i, lines in enumerate([
            ["SRC", "DST", "--max-shard-size", "5GB", "--dtype", "F32=BF16", "--mode", "640",
             "--metadata", "a=b", "--align=4096"],
            ["PATH", "--tensors", "--pattern", "x{suffix}.safetensors", "--json"],
            ["PATH", "--json"], ["A", "B", "--pattern=y{suffix}.safetensors"],
            ["DIR", "--dry-run", "--json"],
            ["--model", "gpt2", "--ranks", "16384", "--layout", "tp=8,pp=4", "--block-size", "4MiB"],
            ["DIR", "--model", "gpt2", "--seed", "1", "--layout", "fsdp"],
            ["DIR", "--model", "mlperf:8b", "--scale", "0.01", "--repeat", "3", "--engine", "uring"]]):
        text = "\n".join(lines).encode()
        for which in range(8):
            yield f"{i}-{which}", bytes([which]) + text
    for which in range(8):
        for k, tail in enumerate([b"--help", b"--hlep", b"--\n--x", b"-", b"--=", b"", b"\n\n",
                                  b"--json=1", b"--pattern", b"\x1b[2J", b"--" + b"x" * 300]):
            yield f"t{which}-{k}", bytes([which]) + tail


PLACES = [INDEX, "model.safetensors", *SHARDS, "allshard.manifest.json", ".allshard/journal",
          ".allshard/new/model.safetensors", ".allshard/new/" + SHARDS[0], ".allshard/new/" + INDEX,
          ".allshard/lock", ".allshard/old/model.safetensors", "sub/a.safetensors",
          "MODEL.SAFETENSORS", "other.safetensors", "config.json"]


def section(name, content, raw=False):
    text = content if isinstance(content, (bytes, str)) else json.dumps(content)
    text = text.encode() if isinstance(text, str) else text
    return bytes([PLACES.index(name) | (0x80 if raw else 0)]) + struct.pack("<H", len(text)) + text


def folders(tool):
    a, b = {"a": tensor(shape=(4,), offsets=(0, 16))}, {"b": tensor("U8", (3, 2), (0, 6))}
    index = {"metadata": {"total_size": 22}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    shards = section(SHARDS[0], a) + section(SHARDS[1], b)
    yield "single", section("model.safetensors", {**a, "__metadata__": {"format": "pt"}})
    yield "two", section(INDEX, index) + shards
    yield "missing", section(INDEX, index) + section(SHARDS[0], a)
    yield "unnamed", section(INDEX, {"weight_map": {"a": SHARDS[0]}}) + section(SHARDS[0], {**a, "c": tensor(offsets=(16, 20))})
    yield "elsewhere", section(INDEX, {"weight_map": {"b": SHARDS[0]}}) + shards
    yield "same", section(INDEX, {"weight_map": {"a": "sub/a.safetensors", "x": "./sub/a.safetensors"}}) + section("sub/a.safetensors", a)
    yield "meta-file", section(INDEX, {"weight_map": {"a": ".allshard/new/model.safetensors"}}) + section(".allshard/new/model.safetensors", a)
    yield "case", section("model.safetensors", a) + section("MODEL.SAFETENSORS", b)
    yield "metadata-ties", section("model.safetensors", {**a, "__metadata__": {"b": "a", "c": "zz"}})
    yield "truncated", section("model.safetensors", safetensors(a, 3), raw=True)
    yield "dims", section("model.safetensors", {"a": tensor(shape=(1,) * 17)})
    yield "f6", section("model.safetensors", {"a": tensor("F6_E2M3", (4, 2), (0, 6)), "b": tensor("F4", (2,), (6, 7))})
    one = part(index=None, files=[{"name": "model.safetensors", "size": 82, "role": "shard", "checksums": "0" * 32}], tensor_count=1, total_size=16)
    manifest = {"allshard_manifest": 1, "version": "0.1.0", "parts": {"model": one}}
    yield "manifest", section("model.safetensors", a) + section("allshard.manifest.json", manifest)
    journal = {"allshard_journal": 1, "incoming": [{"name": "model.safetensors", "size": 82}], "outgoing": [INDEX, *SHARDS]}
    yield "journal", section(INDEX, index) + shards + section(".allshard/new/model.safetensors", a) + section(".allshard/journal", journal)
    yield "journal-bad", section("model.safetensors", a) + section(".allshard/journal", {**journal, "outgoing": ["../x"]})
    yield "lock", section("model.safetensors", a) + section(".allshard/lock", "{}")
    for i, name in enumerate(names()):
        yield f"file-{i}", section(INDEX, {"weight_map": {"a": name}}) + section("sub/a.safetensors", a)
    if tool:
        with tempfile.TemporaryDirectory() as top:
            source = pathlib.Path(top) / "source.safetensors"
            source.write_bytes(safetensors({"a": tensor(shape=(4,), offsets=(0, 16)), "b": tensor("U8", (3, 2), (16, 22))}, 22))
            saved = pathlib.Path(top) / "saved"
            subprocess.run([tool, "copy", source, saved, "--max-shard-size", "16"], check=True,
                           stdout=subprocess.DEVNULL)
            yield "saved", b"".join(section(p.name, p.read_bytes(), raw=True)
                                    for p in sorted(saved.iterdir()))


def zip_of(*entries, **more):
    """Stored records, as Python writes them; what is in `more` is replaced afterwards."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            with z.open(info, "w", force_zip64=more.get("wide", False)) as f:
                f.write(content)
    data = out.getvalue()
    for old, new in more.get("replace", ()):
        assert old in data
        data = data.replace(old, new)
    return data


def zips():
    for path in sorted(GOLDEN.glob("pt113_[dlp]*.bin")) + [GOLDEN / "dduf_py3112.dduf"]:
        if path.read_bytes()[:2] == b"PK":
            yield path.stem, path.read_bytes()
    two = [("a/x", b"12345"), ("a/y", b"")]
    yield "two", zip_of(*two)
    yield "wide", zip_of(*two, wide=True)
    yield "none", zip_of()
    for i, name in enumerate(["../x", "a/../b", "/x", "a//b", "C:x", "a/./b", "a/", "x" * 300, "\u00e9"]):
        yield f"name-{i}", zip_of((name, b"1"))
    yield "backslash", zip_of(("a/x", b"1"), replace=[(b"a/x", b"a\\x")])
    yield "twice", zip_of(("a/x", b"1"), ("a/z", b"2"), replace=[(b"a/z", b"a/x")])
    yield "prefix", b"MZ" + zip_of(*two)
    yield "comment", zip_of(*two)[:-2] + b"\x03\x00abc"
    yield "behind", zip_of(*two) + b"\0"
    yield "cut", zip_of(*two)[:-30]
    yield "disks", zip_of(*two)[:-18] + b"\x01\0" + zip_of(*two)[-16:]


def pickles():
    for path in sorted(GOLDEN.glob("pt113_[dlp]*.bin")):
        if path.read_bytes()[:2] == b"PK":
            with zipfile.ZipFile(path) as z:
                yield path.stem, z.read(f"{path.stem}/data.pkl")
        else:
            yield path.stem, path.read_bytes()
    for protocol in range(6):
        yield f"plain-{protocol}", pickle.dumps({"a": [1, -5, 2**31, 2**70, 1.5, None, True, "é", b"x", (1, 2, 3, 4)],
                                                 "b": collections.OrderedDict(c={})}, protocol)
    tensor = (b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\n%sStorage\nX\1\0\0\0%dX\3\0\0\0cpu"
              b"K%ctQK%c%s%s\x89ccollections\nOrderedDict\n)RtR")
    for i, (cls, key, numel, first, shape, strides) in enumerate([
            (b"Float", 0, 6, 1, b"K\2K\2\x86", b"K\2K\1\x86"), (b"Byte", 1, 0, 0, b"K\0\x85", b"K\1\x85"),
            (b"Long", 3, 1, 0, b")", b")"), (b"Half", 2, 32, 0, b"K\xffK\xff\x86", b"K\0K\0\x86"),
            (b"Half", 2, 32, 0, b"J\xff\xff\xff\xff\x85", b"K\1\x85"),
            (b"Float", 0, 6, 0, b"K\7\x85", b"K\1\x85"), (b"Bool", 0, 24, 3, b"K\5K\4\x86", b"K\4K\1\x86")]):
        yield f"tensor-{i}", b"\x80\2}X\1\0\0\0w" + tensor % (cls, key, numel, first, shape, strides) + b"s."
    f8 = tensor.replace(b"_v2", b"_v3").replace(b")RtR", b")Rctorch\nfloat8_e4m3fn\ntR")
    f8 = f8.replace(b"ctorch\n%sStorage", b"ctorch.storage\n%sStorage")
    yield "untyped", b"\x80\2}X\1\0\0\0w" + f8 % (b"Untyped", 2, 64, 0, b"K\x08\x85", b"K\1\x85") + b"s."
    for i, text in enumerate([b"cos\nsystem\nX\4\0\0\0ls /\x85R", b"cbuiltins\neval\n", b"]q\0h\0a", b"}q\0X\1\0\0\0ah\0s",
                              b"]q\0(h\0h\0h\0h\0eq\1" * 9, b"(" * 99, b"]" * 99 + b"a" * 98, b"\x8b\xff\xff\xff\x7f1",
                              b"\x8a\xff1", b"X\xff\xff\xff\xffx", b"\x8d" + b"\xff" * 8, b"r\xff\xff\xff\xff",
                              b"Nr\xff\xff\0\0", b"h\1", b"K\1t", b"K\1Q", b"NNs", b"\x95\xff\0\0\0\0\0\0\0N",
                              b"\x8c\2os\x8c\6system\x93", b"K\1K\2b", b"ctorch\nSize\n(K\1K\2\x86\x85R", b"ctorch.storage\n_load_from_bytes\n"]):
        yield f"odd-{i}", b"\x80\4" + text + b"."


def torches():
    for path in sorted(GOLDEN.glob("pt113_[dlp]*.bin")):
        yield path.stem, path.read_bytes()
    for name, text in pickles():
        yield f"P-{name}", b"P" + text
    yield "script", zip_of(("a/data.pkl", b"\x80\2}."), ("a/constants.pkl", b"\x80\2)."), ("a/version", b"3"))
    yield "big", zip_of(("a/data.pkl", b"\x80\2}."), ("a/version", b"3\n"), ("a/byteorder", b"big"))
    for i, version in enumerate([b"", b"0", b"11", b"3\n\n", b"x", b"9" * 70]):
        yield f"version-{i}", zip_of(("a/data.pkl", b"\x80\2}."), ("a/version", version))
    yield "tar", b"a" * 257 + b"ustar" + b"\0" * 300


def ddufs():
    yield "golden", (GOLDEN / "dduf_py3112.dduf").read_bytes()
    index, config = b'{"vae": 1, "_class_name": "X"}', ("vae/config.json", b"{}")
    yield "good", zip_of(("model_index.json", index), config, ("vae/a.safetensors", b""))
    yield "no-index", zip_of(config)
    yield "list", zip_of(("model_index.json", b"[]"))
    yield "empty", zip_of(("model_index.json", b""))
    for i, name in enumerate(["unet/config.json", "vae/b/c.json", "vae/x.bin", "vae/x.JSON", "json", "vae/a\tb.txt"]):
        yield f"name-{i}", zip_of(("model_index.json", index), config, (name, b"1"))
    yield "no-config", zip_of(("model_index.json", index), ("vae/a.txt", b"1"))
    for i, names in enumerate(["vae/config.json\nvae/w.safetensors\na.txt", "vae/config.json\nvae/config.json",
                               "vae/w.txt", "../x.json", "/a.json", "a/b/c.json", ".json", "a/.json", "é.txt", ""]):
        yield f"W-{i}", b"W" + index + b"\n" + names.encode()


def write(folder, cases):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in cases:
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        (folder / name.replace("/", "_").replace("\x1b", "_")[:60]).write_bytes(data)


def main():
    top = pathlib.Path(sys.argv[1])
    tool = sys.argv[2] if len(sys.argv) > 2 else None
    write(top / "header", headers())
    write(top / "json", ((f"{mode}-{name}", bytes([mode]) + text.encode("utf-8", "surrogateescape"))
                         for mode in (2, 131) for name, text in texts()))
    write(top / "index", indexes())
    write(top / "manifest", manifests())
    write(top / "journal", journals())
    write(top / "owner", owners())
    write(top / "size", sizes())
    write(top / "pattern", patterns())
    write(top / "layout", layouts())
    write(top / "quote", quotes())
    write(top / "args", commands())
    write(top / "folder", folders(tool))
    write(top / "zip", zips())
    write(top / "pickle", pickles())
    write(top / "torch", torches())
    write(top / "dduf", ddufs())


if __name__ == "__main__":
    main()
