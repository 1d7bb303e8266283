#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the house rules that a compiler does not: which room of src/ includes which (a room may
use itself and the rooms before it), who may include mpi.h and allshard.h, that nothing but the arena
maps memory (a file that is mapped and cut by somebody kills the reader), and that no source file has
more than 500 lines. Prints one line per fault."""

import pathlib
import re
import sys

ROOMS = ["base", "tensor", "format", "plan", "device", "io", "comm", "commit", "transfer",
         "series", "api", "cli"]
MAY_INCLUDE_MPI = {"comm", "transfer", "series", "api", "cli"}
MAY_MAP = {  # memory, no files
    "src/comm/arena.c",
    "src/device/cuda_channel.c",
    "src/io/gds_lane.c",
    "src/io/reserve.c",
}
MOST_LINES = 500
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def faults_in(root, path):
    room = path.relative_to(root / "src").parts[0]
    text = path.read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        name = match.group(1) or match.group(2)
        line = text.count("\n", 0, match.start()) + 1
        if name in ("mpi.h", "allshard.h"):
            if room not in MAY_INCLUDE_MPI:
                yield line, f"room {room} may not include {name}"
            continue
        if match.group(2):
            continue
        other = name.split("/")[0]
        if other not in ROOMS:
            yield line, f'"{name}": name the file from src/, as in "base/error.h"'
        elif not (root / "src" / name).is_file():
            yield line, f'"{name}" is not there'
        elif ROOMS.index(other) > ROOMS.index(room):
            yield line, f"room {room} may not use the later room {other}"
    for match in re.finditer(r"\bmmap(64)?\s*\(", text):
        if str(path.relative_to(root)) not in MAY_MAP:
            yield text.count("\n", 0, match.start()) + 1, "read files, do not map them"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    faults = []
    source = sorted((root / "src").rglob("*.[ch]"))
    for path in source:
        if path.relative_to(root / "src").parts[0] not in ROOMS:
            faults.append(f"{path.relative_to(root)}: not in one of the rooms")
            continue
        faults += [f"{path.relative_to(root)}:{line}: {text}" for line, text in
                   faults_in(root, path)]
    long_ones = source + sorted(root.glob("tests/*.[ch]")) + sorted(root.glob("examples/*.c"))
    for path in long_ones:
        lines = path.read_bytes().count(b"\n")
        if lines > MOST_LINES:
            faults.append(f"{path.relative_to(root)}: {lines} lines, {MOST_LINES} at the most")
    for fault in faults:
        print(fault)
    print(f"{len(source)} files in src/, {len(faults)} faults")
    return 1 if faults or not source else 0


if __name__ == "__main__":
    sys.exit(main())
