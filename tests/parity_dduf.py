#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 200
# sanitize: no
"""Compares DDUF files with huggingface_hub: random entries, laid out by tool_archive, must be the same
bytes as export_entries_as_dduf writes here, be read by read_dduf_file, and be read by tool_archive as
read_dduf_file reads them. Entries that break a rule must be refused by both, but for what is listed in
STRICTER. Sparse files with CPython's zipfile past its limits of zip64.

parity_dduf.py [--tool PATH] [--seed N] [--count N]"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import zipfile

from huggingface_hub import export_entries_as_dduf, read_dduf_file
from huggingface_hub.errors import DDUFCorruptedFileError, DDUFExportError

STYLE = "new" if sys.version_info >= (3, 11, 4) else "old"
CONFIGS = ["config.json", "tokenizer_config.json", "preprocessor_config.json", "scheduler_config.json"]
BAD = ["vae/w.bin", "vae/a.JSON", "a/b/c.json", "other/config.json", "lonely/w.safetensors",
       "back\\slash.json", "vae/config.json"]
# What huggingface_hub takes and we do not: names that lead elsewhere, or have nothing before the dot.
STRICTER = ["../up.json", "./a.txt", "json", "/a.json"]


def pattern(size, number):
    return bytes((i * 7 + number * 13 + 1) & 0xff for i in range(size))


def entries_of(rng):
    """(name, bytes or number of bytes that come later), mostly good."""
    folders = rng.sample(["vae", "unet", "text_encoder", "tok", "é"], rng.randrange(4))
    index = {f: ["diffusers", "X"] for f in folders}
    index["_class_name"] = "Pipe"
    if rng.random() < 0.1 and folders:
        del index[folders[0]]
    out = [("model_index.json", json.dumps(index, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode())]
    for folder in folders:
        names = rng.sample(CONFIGS, rng.choice([0, 1, 1, 1, 1, 1, 2]))
        out += [(f"{folder}/{n}", b"{}") for n in names]
        out += [(f"{folder}/w{i}.safetensors", rng.choice([0, 1, 999, 70000])) for i in range(rng.randrange(3))]
    out += [("readme.txt", b"hello")] if rng.random() < 0.3 else []
    if rng.random() < 0.15:
        out.append((rng.choice(BAD), b"x"))
    if rng.random() < 0.03:
        out.pop(0)
    if rng.random() < 0.5:
        rng.shuffle(out)
    return out


def lay_out(tool, path, entries):
    lines = [f"B {c.decode()} {n}" if isinstance(c, bytes) else f"R {c} {n}" for n, c in entries]
    done = subprocess.run([tool, "dduf", path, STYLE], input="\n".join(lines).encode() + b"\n",
                          stdout=subprocess.PIPE, check=False)
    assert done.returncode in (0, 3), done
    return done.returncode == 0, done.stdout.decode()


def read(tool, path):
    done = subprocess.run([tool, "entries", path], stdout=subprocess.PIPE, check=False)
    assert done.returncode in (0, 3), done
    if done.returncode:
        return None
    lines = [line.split(" ", 3) for line in done.stdout.decode().splitlines()]
    return {name: (int(a), int(b) - int(a)) for _, a, b, name in lines}


def check(tool, folder, entries):
    """Whether both took them."""
    theirs, ours = folder / "theirs.dduf", folder / "ours.dduf"
    whole = [(n, c if isinstance(c, bytes) else pattern(c, i)) for i, (n, c) in enumerate(entries)]
    try:
        export_entries_as_dduf(theirs, whole)
        good = True
    except DDUFExportError:
        good = False
    took, text = lay_out(tool, ours, entries)
    assert took == good, text
    if good:
        assert ours.read_bytes() == theirs.read_bytes()
        table = {n: (e.offset, e.length) for n, e in read_dduf_file(ours).items()}
        assert read(tool, theirs) == table
    else:
        # The same entries in a file that zipfile has no objection to: both refuse to read it.
        with zipfile.ZipFile(theirs, "w") as z:
            for name, content in {n: c for n, c in whole}.items():
                z.writestr(zipfile.ZipInfo(name), content)
        try:
            read_dduf_file(theirs)
            good = True
        except (DDUFCorruptedFileError, json.JSONDecodeError):
            good = False
        assert (read(tool, theirs) is not None) == good
    return took


def check_large(tool, folder):
    """Sizes and places around 2^31 and 2^32: the directory must be that of zipfile, whose writer is
    told of them without the data."""
    sizes = [0x7fffffff, 5, 0x80000000, 7, 0xfffffffe, 0x100000000, 3]
    index = ("model_index.json", b'{"v":1}')
    entries = [index, ("v/config.json", b"{}")] + [(f"v/{i}.safetensors", n) for i, n in enumerate(sizes)]
    ours, theirs = folder / "large.dduf", folder / "zip.dduf"
    assert lay_out(tool, "-" + str(ours), entries)[0]
    with zipfile.ZipFile(theirs, "w") as z:
        for name, content in entries:
            if isinstance(content, bytes):
                with z.open(name, "w", force_zip64=True) as f:
                    f.write(content)
                continue
            with z.open(name, "w", force_zip64=True) as f:
                z.fp.seek(content, os.SEEK_CUR)
                f._file_size = f._compress_size = content
    assert ours.stat().st_size == theirs.stat().st_size
    with zipfile.ZipFile(ours) as a, zipfile.ZipFile(theirs) as b:
        begin = b.start_dir
        for x, y in zip(a.infolist(), b.infolist()):
            assert (x.filename, x.header_offset, x.file_size, x.extra, x.extract_version, x.create_version) == \
                   (y.filename, y.header_offset, y.file_size, y.extra, y.extract_version, y.create_version)
        assert a.start_dir == begin
    with open(ours, "rb") as a, open(theirs, "rb") as b:
        a.seek(begin)
        b.seek(begin)
        mine, other = bytearray(a.read()), bytearray(b.read())
    # CRCs apart: no data were there to be summed.
    for text in (mine, other):
        at = 0
        while text[at:at + 4] == b"PK\1\2":
            text[at + 16:at + 20] = bytes(4)
            at += 46 + sum(int.from_bytes(text[at + k:at + k + 2], "little") for k in (28, 30, 32))
    assert mine == other
    assert read(tool, ours) is not None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", default=os.path.join(os.environ.get("ALLSHARD_BUILD_DIR", "."),
                                                       "tests", "tool_archive"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=150)
    arguments = parser.parse_args()
    took = 0
    with tempfile.TemporaryDirectory() as top:
        folder = pathlib.Path(top)
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            entries = entries_of(random.Random(seed))
            try:
                took += check(arguments.tool, folder, entries)
            except AssertionError:
                print(f"seed {seed}: {entries}", file=sys.stderr)
                raise
        for name in STRICTER:
            assert not lay_out(arguments.tool, folder / "x.dduf", [("model_index.json", b"{}"), (name, b"1")])[0]
        check_large(arguments.tool, folder)
    print(f"{arguments.count} random lists of entries, {took} of them good, and a file of 14 GiB (sparse)")


if __name__ == "__main__":
    main()
