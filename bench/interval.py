#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what a thousand jobs with random failures lose with saves so far apart, and with the
interval that the policy finds.

    ALLSHARD_PLOT_DATA=data.tsv build/tests/test_policy_runs
    bench/interval.py data.tsv docs/interval.svg

Lost are the time of saves and the work that has to be done again, as a share of the useful time;
restarts, which are the same for all, are not in it. Standard library only."""

import argparse
import math
import sys

WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 400, 230, 62, 84, 84, 86

STYLE = """
.paper { fill: #ffffff; }
text { font: 13px sans-serif; fill: #22262b; }
.small { font-size: 11px; }
.head { font-size: 15px; font-weight: bold; }
.grid { stroke: #dfe2e6; }
.curve { fill: none; stroke: #4c86c6; stroke-width: 2; }
.dot { fill: #4c86c6; }
.near { fill: #9fd3a4; fill-opacity: 0.45; }
.policy { fill: #d9564a; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #16191d; }
  text { fill: #dfe3e8; }
  .grid { stroke: #363b42; }
  .curve { stroke: #5b94d3; }
  .dot { fill: #5b94d3; }
  .near { fill: #3f7d47; fill-opacity: 0.45; }
  .policy { fill: #e0695e; }
}
"""


def read(path):
    """{name: (points of fixed intervals, point of the policy)}, in the order of the file."""
    scenes = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            kind, name, interval, share = line.rstrip("\n").split("\t")
            fixed, policy = scenes.setdefault(name, ([], []))
            (fixed if kind == "fixed" else policy).append((float(interval), float(share) * 100))
    if not scenes or not all(fixed and len(policy) == 1 for fixed, policy in scenes.values()):
        sys.exit(f"{path} is not what test_policy_runs writes")
    return scenes


def nice_step(most):
    """1, 2 or 5 times a power of ten, four to nine of which make the axis."""
    power = 10 ** math.floor(math.log10(most / 4))
    return next(f * power for f in (1, 2, 5, 10) if most / (f * power) <= 9)


def duration(seconds):
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Panel:
    """Intervals on a logarithmic axis, shares from 0."""

    def __init__(self, name, fixed, policy, left, top):
        self.name, self.fixed, self.policy = name, fixed, policy
        self.left, self.top = left, top
        xs = [x for x, _ in fixed]
        self.low, self.high = math.log(min(xs)), math.log(max(xs))
        self.most = max(y for _, y in fixed) * 1.08
        self.best = min(fixed, key=lambda p: p[1])

    def place(self, x, y):
        return (self.left + (math.log(x) - self.low) / (self.high - self.low) * WIDTH,
                self.top + (1 - y / self.most) * HEIGHT)

    def axes(self, out):
        step = nice_step(self.most)
        y_value = 0.0
        while y_value <= self.most:
            _, y = self.place(self.best[0], y_value)
            out.append(f'<line class="grid" x1="{self.left}" y1="{y:.1f}" '
                       f'x2="{self.left + WIDTH}" y2="{y:.1f}"/>')
            out.append(f'<text class="small" x="{self.left - 8}" y="{y + 4:.1f}" '
                       f'text-anchor="end">{y_value:g} %</text>')
            y_value = round(y_value + step, 9)
        count = len(self.fixed)
        for i in range(0, count, (count - 1) // 4 or 1):
            x, y = self.place(self.fixed[i][0], 0)
            out.append(f'<line class="grid" x1="{x:.1f}" y1="{self.top}" x2="{x:.1f}" '
                       f'y2="{y:.1f}"/>')
            out.append(f'<text class="small" x="{x:.1f}" y="{y + 17:.1f}" '
                       f'text-anchor="middle">{duration(self.fixed[i][0])}</text>')

    def draw(self, out):
        out.append(f'<text class="head" x="{self.left}" y="{self.top - 14}">{self.name}</text>')
        # The band within a tenth of the best.
        _, above = self.place(self.best[0], self.best[1] * 1.1)
        _, below = self.place(self.best[0], self.best[1])
        out.append(f'<rect class="near" x="{self.left}" y="{above:.1f}" width="{WIDTH}" '
                   f'height="{below - above:.1f}"/>')
        self.axes(out)
        points = [self.place(*p) for p in self.fixed]
        out.append('<polyline class="curve" points="'
                   + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')
        out += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
        x, y = self.place(*self.policy[0])
        out.append(f'<circle class="policy" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        out.append(f'<text x="{x:.1f}" y="{y - 30:.1f}" text-anchor="middle">'
                   f'{self.policy[0][1]:.2f} % of the useful time;</text>')
        out.append(f'<text x="{x:.1f}" y="{y - 14:.1f}" text-anchor="middle">'
                   f'best fixed {self.best[1]:.2f} %</text>')


def legend(out):
    y = 34
    out.append(f'<circle class="dot" cx="72" cy="{y - 4}" r="3"/>')
    out.append(f'<text x="84" y="{y}">lost with a fixed interval</text>')
    out.append(f'<circle class="policy" cx="278" cy="{y - 4}" r="6"/>')
    out.append(f'<text x="292" y="{y}">with the policy\'s (its mean)</text>')
    out.append(f'<rect class="near" x="488" y="{y - 12}" width="20" height="14"/>')
    out.append(f'<text x="516" y="{y}">within 10 % of the best</text>')


def draw(scenes):
    columns = 2
    rows = (len(scenes) + columns - 1) // columns
    wide = LEFT + columns * WIDTH + (columns - 1) * GAP_X + 34
    tall = TOP + rows * (HEIGHT + GAP_Y) - 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" '
           f'width="{wide}" height="{tall}">',
           f"<style>{STYLE}</style>", f'<rect class="paper" width="{wide}" height="{tall}"/>']
    legend(out)
    for i, (name, (fixed, policy)) in enumerate(scenes.items()):
        left = LEFT + i % columns * (WIDTH + GAP_X)
        top = TOP + i // columns * (HEIGHT + GAP_Y)
        Panel(name, fixed, policy, left, top).draw(out)
        if i // columns == rows - 1:
            out.append(f'<text class="small" x="{left + WIDTH / 2:.1f}" y="{top + HEIGHT + 38}" '
                       'text-anchor="middle">from the begin of a save to the begin of the next'
                       '</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="what test_policy_runs has written")
    parser.add_argument("out", help="the picture")
    args = parser.parse_args()
    picture = draw(read(args.data))
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(picture)


if __name__ == "__main__":
    main()
