#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws one nonblocking save, and the blocking one that follows it, from a trace.

    mpirun -n 4 allshard bench DIR --nonblocking --repeat 1 --layout fsdp --trace trace.json
    bench/timeline.py trace.json docs/nonblocking.svg

Of each rank there are two rows: the program, which waits while its weights are copied and computes
afterwards, and what is done in the background. Standard library only."""

import argparse
import json
import sys

WIDTH, LEFT, RIGHT = 1000, 150, 24
TALL, GAP = 15, 12  # of a row, between ranks

STYLE = """
.paper { fill: #ffffff; }
text { font: 13px sans-serif; fill: #22262b; }
.small { font-size: 11px; }
.head { font-size: 15px; font-weight: bold; }
.grid { stroke: #dfe2e6; }
.compute { fill: #9fd3a4; } .wait { fill: #d9564a; }
.write { fill: #4c86c6; } .count { fill: #8a57b5; } .clean { fill: #a9adb4; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #16191d; }
  text { fill: #dfe3e8; }
  .grid { stroke: #363b42; }
  .compute { fill: #3f7d47; } .wait { fill: #e0695e; }
  .write { fill: #5b94d3; } .count { fill: #b48ad8; } .clean { fill: #6f757e; }
}
"""

LEGEND = [("wait", "the program waits", 148), ("compute", "the program computes", 172),
          ("write", "bytes are written and synced", 214),
          ("count", "the main process makes it count", 238), ("clean", "leftovers go", 100)]


class Trace:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        self.spans = [e for e in events if e["ph"] == "X"]
        self.ranks = sorted({s["pid"] for s in self.spans})

    def find(self, name, rank, main, window):
        """(begin, end, bytes) of spans that begin in the window, in order; of the program's thread
        or of the others."""
        return sorted((s["ts"], s["ts"] + s["dur"], s["args"]["bytes"]) for s in self.spans
                      if s["pid"] == rank and s["name"] == name and (s["tid"] == 0) == main
                      and window[0] <= s["ts"] < window[1])


def windows(trace, rank):
    """From the plan of the last nonblocking save of a rank to the next plan; and of the first
    blocking save after it, or None."""
    everything = (float("-inf"), float("inf"))
    starts = [span[0] for span in trace.find("plan", rank, True, everything)] + [float("inf")]
    all_ = list(zip(starts, starts[1:]))
    flights = [i for i, w in enumerate(all_) if trace.find("stage", rank, True, w)]
    if not flights:
        sys.exit(f"the trace has no nonblocking save of rank {rank}")
    # A save has a plan before it begins, a load after that.
    saves = [w for w in all_[flights[-1] + 1:] if is_save(trace, rank, w)]
    return all_[flights[-1]], saves[0] if saves else None


def is_save(trace, rank, window):
    begin = trace.find("begin", rank, True, window)
    transfer = trace.find("transfer", rank, True, window)
    return bool(begin and transfer and begin[0][0] < transfer[0][0])


def draw_nonblocking(trace, rank, window):
    """Bars of both rows, and when the program goes on; in the trace's µs."""
    written = trace.find("transfer", rank, False, window)
    over = written[0][0]
    calls = [span for name in ("plan", "begin", "stage")
             for span in trace.find(name, rank, True, window) if span[0] <= over]
    begin, end = min(c[0] for c in calls), max(c[1] for c in calls)
    background = [("write", *written[0][:2])]
    for name, kind in (("commit", "count"), ("clean", "clean")):
        background += [(kind, *span[:2]) for span in trace.find(name, rank, False, window)]
    return [("wait", begin, end)], background, end


def draw_blocking(trace, rank, window):
    written = trace.find("transfer", rank, True, window)[0]
    commit = trace.find("commit", rank, True, window)[0]
    clean = trace.find("clean", rank, True, window)[:1] if rank == 0 else []
    end = max([commit[1]] + [span[1] for span in clean])
    background = [("write", *written[:2])]
    if rank == 0:
        background.append(("count", *commit[:2]))
    background += [("clean", *span[:2]) for span in clean]
    return [("wait", window[0], end)], background, end


class Drawing:
    def __init__(self):
        self.parts = []
        self.y = 0.0

    def text(self, x, y, words, kind="", anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
                          f'{words}</text>')

    def bar(self, kind, x0, x1, y, tall=TALL):
        self.parts.append(f'<rect class="{kind}" x="{x0:.1f}" y="{y:.1f}" '
                          f'width="{max(x1 - x0, 0.7):.1f}" height="{tall}"/>')

    def legend(self):
        x = 20.0
        for kind, words, wide in LEGEND:
            self.bar(kind, x, x + 14, self.y - 11, 13)
            self.text(x + 20, self.y, words)
            x += wide + 26

    def panel(self, title, rows, axis):
        """`rows`: of each rank (program, background, when it goes on), in µs from the beginning;
        `axis`: how long, and between two lines."""
        longest, step = axis
        scale = (WIDTH - LEFT - RIGHT) / longest
        self.y += 34
        self.text(20, self.y, title, "head")
        self.y += 14
        bottom = self.y + len(rows) * (2 * TALL + GAP)
        for k in range(int(longest / step) + 1):
            x = LEFT + k * step * scale
            self.parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{self.y:.1f}" '
                              f'y2="{bottom:.1f}"/>')
            self.text(x, bottom + 13, f"{k * step / 1000:.0f} ms", "small", "middle")
        for rank, (program, background, end) in enumerate(rows):
            self.text(LEFT - 10, self.y + 12, f"rank {rank}: program", "small", "end")
            self.text(LEFT - 10, self.y + 12 + TALL, "background", "small", "end")
            self.bar("compute", LEFT + end * scale, LEFT + longest * scale, self.y)
            for y, bars in ((self.y, program), (self.y + TALL, background)):
                for kind, x0, x1 in bars:
                    self.bar(kind, LEFT + x0 * scale, LEFT + x1 * scale, y)
            self.y += 2 * TALL + GAP
        self.y = bottom + 20

    def write(self, path):
        tall = self.y + 10
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall:.0f}" '
                       f'width="{WIDTH}" height="{tall:.0f}">\n<style>{STYLE}</style>\n')
            file.write(f'<rect class="paper" width="{WIDTH}" height="{tall:.0f}"/>\n')
            file.write("\n".join(self.parts) + "\n</svg>\n")


def shifted(rows):
    origin = min(bar[1] for program, _, _ in rows for bar in program)

    def move(bars):
        return [(kind, begin - origin, end - origin) for kind, begin, end in bars]
    return [(move(program), move(background), end - origin) for program, background, end in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace")
    parser.add_argument("out")
    args = parser.parse_args()
    trace = Trace(args.trace)
    found = [windows(trace, rank) for rank in trace.ranks]
    size = sum(trace.find("stage", r, True, f)[0][2] for r, (f, _) in zip(trace.ranks, found))
    ranks = f"{len(trace.ranks)} rank" + ("s" if len(trace.ranks) > 1 else "")
    panels = [(f"Nonblocking save: {size / 2**30:.2f} GiB from {ranks}",
               shifted([draw_nonblocking(trace, r, f) for r, (f, _) in zip(trace.ranks, found)]))]
    if all(save for _, save in found):
        panels.append(("Blocking save of the same",
                       shifted([draw_blocking(trace, r, s)
                                for r, (_, s) in zip(trace.ranks, found)])))
    longest = 1.04 * max(bar[2] for _, rows in panels for program, background, _ in rows
                         for bar in program + background)
    step = next(s for s in (1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 1e8)
                if longest / s <= 10)
    drawing = Drawing()
    drawing.y = 26.0
    drawing.legend()
    for title, rows in panels:
        drawing.panel(title, rows, (longest, step))
    drawing.write(args.out)


if __name__ == "__main__":
    main()
