#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the cost of a plan grows with ranks and tensors.

Runs `allshard plan --simulate --json` over a row of sizes and writes plan_scaling.md (tables),
plan_scaling.json (all figures) and plan_scaling.svg (two plots on logarithmic axes) into a folder.
Standard library only.

    bench/plan_scaling.py --allshard build/allshard --out docs/data
    bench/plan_scaling.py --allshard build/allshard --out /tmp/x --quick
"""
import argparse
import json
import math
import os
import platform
import subprocess
import sys

MODEL, LAYOUT = "llama-3-405b", "fsdp"
RANKS = [64, 256, 1024, 4096, 16384]
TENSORS = [1000, 10000, 100000, 1000000]
TENSOR_RANKS = 1024
TARGETS = [
    ("llama-3-405b", "fsdp", 16384),
    ("deepseek-v3", "ep=64,pp=16,dp=16", 16384),
    ("synthetic:1000000", "fsdp", 1024),
]


def simulate(tool, model, layout, ranks):
    command = [tool, "plan", "--model", model, "--layout", layout, "--ranks", str(ranks),
               "--simulate", "--json"]
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"failed with exit status {done.returncode}: {' '.join(command)}")
    result = json.loads(done.stdout)
    writers = result["writer_bytes"]
    simulation = result["simulation"]
    return {
        "model": model, "layout": layout, "ranks": ranks, "tensors": result["tensors"],
        "shards": len(result["shards"]), "total_size": result["total_size"],
        "pieces_described": simulation["pieces_described"],
        "empty_pieces_left_out": simulation["empty_pieces_left_out"],
        "largest": simulation["largest"], "mean": simulation["mean"],
        "least_written": min(writers), "most_written": max(writers),
        "simulation_seconds": simulation["simulation_seconds"],
        "simulation_memory_bytes": simulation["simulation_memory_bytes"],
    }


def number(value):
    return f"{value:,}"


def mib(value):
    return f"{value / 2**20:,.1f}" if value < 100 * 2**20 else f"{value / 2**20:,.0f}"


COLUMNS = [
    ("model", lambda r: f"{r['model']}, {r['layout']}"),
    ("ranks", lambda r: number(r["ranks"])),
    ("tensors", lambda r: number(r["tensors"])),
    ("pieces", lambda r: number(r["pieces_described"])),
    ("empty", lambda r: number(r["empty_pieces_left_out"])),
    ("CPU s, worst rank", lambda r: f"{r['largest']['cpu_seconds']:.3f}"),
    ("mean", lambda r: f"{r['mean']['cpu_seconds']:.4f}"),
    ("MiB, worst rank", lambda r: mib(r["largest"]["memory_bytes"])),
    ("mean", lambda r: mib(r["mean"]["memory_bytes"])),
    ("messages", lambda r: number(r["largest"]["messages"])),
    ("MiB sent", lambda r: mib(r["largest"]["message_bytes"])),
    ("written, least … most MiB",
     lambda r: f"{mib(r['least_written'])} … {mib(r['most_written'])}"),
    ("simulated in s", lambda r: f"{r['simulation_seconds']:.0f}"),
    ("with MiB", lambda r: mib(r["simulation_memory_bytes"])),
]


def table(rows):
    lines = ["| " + " | ".join(title for title, _ in COLUMNS) + " |",
             "|---" + "|--:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(show(r) for _, show in COLUMNS) + " |" for r in rows]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------- the plot

CURVES = [
    ("CPU ms, worst rank", "#c0392b", lambda r: 1000 * r["largest"]["cpu_seconds"]),
    ("CPU ms, mean", "#e59866", lambda r: 1000 * r["mean"]["cpu_seconds"]),
    ("MiB, worst rank", "#1f618d", lambda r: r["largest"]["memory_bytes"] / 2**20),
    ("MiB, mean", "#85c1e9", lambda r: r["mean"]["memory_bytes"] / 2**20),
]
WIDTH, HEIGHT, MARGIN = 420, 320, 56


def panel(rows, key, title, left):
    """One plot: both axes logarithmic, a decade has the same length everywhere in it."""
    xs = [r[key] for r in rows]
    ys = [max(curve(r), 1e-3) for r in rows for _, _, curve in CURVES]
    low_x, high_x = math.log10(min(xs)), math.log10(max(xs))
    low_y, high_y = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def place(x, y):
        width = (math.log10(x) - low_x) / ((high_x - low_x) or 1)
        height = (math.log10(max(y, 1e-3)) - low_y) / ((high_y - low_y) or 1)
        return left + MARGIN + width * WIDTH, MARGIN + (1 - height) * HEIGHT

    out = [f'<text x="{left + MARGIN}" y="30" font-size="15">{title}</text>']
    for power in range(low_y, high_y + 1):
        x, y = place(min(xs), 10**power)
        out.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x + WIDTH:.1f}" y2="{y:.1f}" '
                   'stroke="#ddd"/>')
        out.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for x_value in xs:
        x, y = place(x_value, 10**low_y)
        out.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{x_value:,}</text>')
    for k, (name, colour, curve) in enumerate(CURVES):
        points = [place(r[key], curve(r)) for r in rows]
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
                   + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<text x="{left + MARGIN + 8}" y="{MARGIN + 14 + 15 * k}" fill="{colour}">'
                   f'{name}</text>')
    return out


def plot(by_ranks, by_tensors):
    wide = 2 * (WIDTH + MARGIN) + 2 * MARGIN
    tall = HEIGHT + 2 * MARGIN
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="{wide}" height="{tall}" fill="white"/>']
    out += panel(by_ranks, "ranks", f"{MODEL}, {LAYOUT}: cost of the plan over ranks", 0)
    out += panel(by_tensors, "tensors",
                 f"small tensors, fsdp over {TENSOR_RANKS:,} ranks: cost over tensors",
                 WIDTH + 2 * MARGIN)
    return "\n".join(out + ["</svg>"]) + "\n"


def machine():
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    cpu = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    return f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--allshard", default="allshard", help="the tool; default: from the PATH")
    parser.add_argument("--out", default=".", help="folder for the three files; default: here")
    parser.add_argument("--quick", action="store_true", help="small sizes, no targets")
    args = parser.parse_args()
    ranks = RANKS[:3] if args.quick else RANKS
    tensors = TENSORS[:3] if args.quick else TENSORS
    by_ranks = [simulate(args.allshard, MODEL, LAYOUT, n) for n in ranks]
    by_tensors = [simulate(args.allshard, f"synthetic:{n}", "fsdp", TENSOR_RANKS) for n in tensors]
    done = {(r["model"], r["layout"], r["ranks"]): r for r in by_ranks + by_tensors}
    targets = [] if args.quick else [done.get(t) or simulate(args.allshard, *t) for t in TARGETS]
    os.makedirs(args.out, exist_ok=True)
    stem = os.path.join(args.out, "plan_scaling")
    with open(stem + ".json", "w", encoding="utf-8") as file:
        json.dump({"machine": machine(), "ranks": by_ranks, "tensors": by_tensors,
                   "targets": targets}, file, indent=1)
        file.write("\n")
    with open(stem + ".md", "w", encoding="utf-8") as file:
        file.write(f"Measured on: {machine()}\n\nOver ranks:\n\n{table(by_ranks)}\n"
                   f"Over tensors:\n\n{table(by_tensors)}\n")
        if targets:
            file.write(f"Large jobs:\n\n{table(targets)}\n")
    with open(stem + ".svg", "w", encoding="utf-8") as file:
        file.write(plot(by_ranks, by_tensors))


if __name__ == "__main__":
    main()
