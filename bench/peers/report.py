# SPDX-License-Identifier: Apache-2.0
"""Tables and plot of the results of run.py. Run alone, `report.py FILE.json` writes .md and .svg
anew."""

import json
import sys
from html import escape


def median(values):
    v = sorted(values)
    n = len(v)
    return (v[(n - 1) // 2] + v[n // 2]) / 2 if v else None


def quantile(values, q):
    v = sorted(values)
    at = q * (len(v) - 1)
    low = int(at)
    high = min(low + 1, len(v) - 1)
    return v[low] + (v[high] - v[low]) * (at - low)


def of(entry, side, kind="first"):
    return [s for s in entry.get("saves", []) if s["side"] == side and s["kind"] == kind]


def ratios(entry, key, kind="first"):
    """Ours durable over theirs by `key`, pair by pair."""
    theirs = {s["pair"]: s for s in of(entry, "theirs", kind)}
    return [s["durable_s"] / theirs[s["pair"]][key] for s in of(entry, "ours", kind)
            if s["pair"] in theirs]


def spread(values):
    if not values:
        return "–"
    if len(values) < 3:
        return f"{median(values):.2f}"
    return f"{median(values):.2f} ({quantile(values, .25):.2f}–{quantile(values, .75):.2f})"


def faults(entry):
    return [f"{s['side']}, {s['kind']} pair {s['pair']}: {f}" for s in entry.get("saves", [])
            for f in s["faults"]]


def line(entry):
    """One line for the terminal."""
    r = ratios(entry, "durable_s")
    text = []
    if r:
        text.append(f"ours {median([s['durable_s'] for s in of(entry, 'ours')]):.2f} s, theirs "
                    f"{median([s['shipped_s'] for s in of(entry, 'theirs')]):.2f} s as shipped, "
                    f"{median([s['durable_s'] for s in of(entry, 'theirs')]):.2f} s with fsync; "
                    f"ratio {spread(r)} of {len(r)} pairs")
    if faults(entry):
        text.append(f"WRONG RESULT: {faults(entry)[0]}")
    if "failed" in entry:
        text.append("failed: " + entry["failed"])
    return "; ".join(text) or "nothing measured"


def human(n):
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} B"


def seconds(saves, key):
    return f"{median([s[key] for s in saves]):.2f}" if saves else "–"


def title(entry):
    model = entry.get("model") or {}
    return model.get("title", entry["peer"])


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + \
        ["| " + " | ".join(str(c) for c in r) + " |" for r in rows] + [""]


def calls(entry, side):
    counts = entry.get("calls", {}).get(side)
    if not counts:
        return "–" if counts is None else "none"
    if "failed" in counts:
        return "–"
    return ", ".join(f"{k} {v}" for k, v in sorted(counts.items()))


def markdown(results):
    s = results["settings"]
    m = results.get("machine", {})
    out = ["# allshard beside other writers", "",
           f"{results.get('date', '')}: {s['ranks']} ranks on one machine ({m.get('cpu', '')}, "
           f"{m.get('cores', '?')} cores, {m.get('memory_gib', '?')} GiB, Linux "
           f"{m.get('kernel', '')}, {m.get('file_system', '')}), {human(s['size'])} of random bf16, shards of at most "
           f"{human(s['shard_size'])}, page cache {'dropped' if s['cache_dropped'] else 'kept'} "
           f"before each save. Versions: " +
           ", ".join(f"{k} {v}" for k, v in results.get("versions", {}).items()) + ".", ""]
    cases = []
    for entry in results["results"].values():
        if entry["case"] not in cases:
            cases.append(entry["case"])
    for case in cases:
        entries = [e for e in results["results"].values() if e["case"] == case]
        good = [e for e in entries if of(e, "theirs") and of(e, "ours")]
        out += [f"## {case}", ""]
        if good:
            model = good[0]["model"]
            out += [f"{model['tensors']} tensors, {human(model['bytes'])}, {model['files']} files.",
                    "",
                    "Seconds are medians; a ratio is ours ÷ theirs pair by pair: median "
                    "(quartiles). Below 1, ours is faster. Ours is always durable at its end.", ""]
            out += table(["peer", "theirs as shipped", "theirs + fsync", "ours", "ratio to + fsync",
                          "ratio to as shipped", "second save: ratio to + fsync", "pairs"],
                         [[title(e), seconds(of(e, "theirs"), "shipped_s"),
                           seconds(of(e, "theirs"), "durable_s"),
                           seconds(of(e, "ours"), "durable_s"),
                           spread(ratios(e, "durable_s")), spread(ratios(e, "shipped_s")),
                           spread(ratios(e, "durable_s", "second")),
                           len(ratios(e, "durable_s"))] for e in good])
            out += counters(good)
        bad = [e for e in entries if "failed" in e]
        out += [f"* **{title(e)}** is not complete: {e['failed']}" for e in bad]
        out += [f"* **{title(e)}** WRONG RESULT: {f}" for e in entries for f in faults(e)[:3]]
        out += [""] if bad else []
    notes = {title(e): e["model"]["note"] for e in results["results"].values()
             if e.get("model") and e["model"].get("note")}
    if notes:
        out += ["## The peers", ""] + [f"* **{k}**: {v}" for k, v in notes.items()] + [""]
    return "\n".join(out)


def counters(entries):
    rows = []
    best = max(entries, key=lambda e: len(of(e, "ours")))
    traced = next((e for e in entries if "ours" in e.get("calls", {})), best)
    for name, side, e in [("allshard", "ours", best)] + [(title(e), "theirs", e) for e in entries]:
        saves = of(e, side)
        size = e["model"]["bytes"]

        def mid(key):
            return median([x["counted"][key] for x in saves])

        phases = {k: median([x["phases"][k] for x in saves]) for k in saves[0]["phases"]}
        if side == "ours" and saves[0].get("stats"):
            phases = {k[:-2]: median([x["stats"][k] for x in saves]) for k in
                      ("plan_s", "begin_s", "transfer_s", "commit_s")}
        rows.append([name, f"{mid('written') / size:.2f}", f"{mid('read') / size:.2f}",
                     f"{median([x['disk_bytes'] for x in saves]) / size:.2f}",
                     f"{mid('cpu_s') / size * 1e9:.2f}", human(mid("peak_above_max")),
                     human(mid("peak_above")), calls(e if side == "theirs" else traced, side),
                     ", ".join(f"{k} {v:.2f}" for k, v in phases.items()) or "–"])
    return ["Counted in the processes during the save (÷ the bytes of the tensors), fsync not "
            "included:", ""] + \
        table(["writer", "written", "read", "left on disk", "CPU s per GB",
               "memory above, worst rank", "all ranks", "calls in a traced save", "phases, s"], rows)


# ---------------------------------------------------------------------------- the plot

WIDTH, LEFT, BAR, ROW = 1000, 330, 13, 46
OURS, THEIRS, FSYNC, INK = "#1b6e53", "#8a8f98", "#d3a24a", "#22262b"


def svg(results):
    """Per case and peer: the peer's seconds as shipped and what fsync adds, ours below it, and the
    ratio of the pairs."""
    panels = {}
    for e in results["results"].values():
        if of(e, "ours") and of(e, "theirs"):
            panels.setdefault(e["case"], []).append(e)
    height = 84 + sum(58 + ROW * len(p) for p in panels.values())
    s = results["settings"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
           f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13" '
           f'fill="{INK}">', f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="20" y="28" font-size="17" font-weight="bold">Seconds to save '
           f'{human(s["size"])} from {s["ranks"]} ranks</text>']
    x = 20
    for colour, text in ((THEIRS, "theirs, as shipped"), (FSYNC, "fsync added"),
                         (OURS, "allshard, durable")):
        out += [f'<rect x="{x}" y="42" width="14" height="12" fill="{colour}"/>',
                f'<text x="{x + 20}" y="53">{text}</text>']
        x += 170
    out.append(f'<text x="{WIDTH - 20}" y="53" text-anchor="end">ours ÷ theirs + fsync: median '
               f'(quartiles)</text>')
    y = 84
    for case, entries in panels.items():
        y = panel(out, y, case, entries)
    return "\n".join(out + ["</svg>", ""])


def panel(out, y, case, entries):
    right = WIDTH - 190
    top = max(max(median([s["durable_s"] for s in of(e, "theirs")]),
                  median([s["durable_s"] for s in of(e, "ours")])) for e in entries)
    step = next(k * 10 ** p for p in range(-4, 6) for k in (1, 2, 5) if top / (k * 10 ** p) <= 6)
    scale = (right - LEFT) / top
    bottom = y + 22 + ROW * len(entries)
    out.append(f'<text x="20" y="{y + 12}" font-weight="bold">{escape(case)}</text>')
    for i in range(int(top / step) + 1):
        x = LEFT + i * step * scale
        out += [f'<line x1="{x:.1f}" y1="{y + 20}" x2="{x:.1f}" y2="{bottom}" stroke="#e3e5e8"/>',
                f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" font-size="11">'
                f'{i * step:g}{" s" if i == 0 else ""}</text>']
    for i, e in enumerate(entries):
        at = y + 26 + ROW * i
        shipped = median([s["shipped_s"] for s in of(e, "theirs")]) * scale
        durable = median([s["durable_s"] for s in of(e, "theirs")]) * scale
        ours = median([s["durable_s"] for s in of(e, "ours")]) * scale
        out += [f'<text x="{LEFT - 10}" y="{at + 18}" text-anchor="end">{escape(title(e))}</text>',
                f'<rect x="{LEFT}" y="{at}" width="{durable:.1f}" height="{BAR}" fill="{FSYNC}"/>',
                f'<rect x="{LEFT}" y="{at}" width="{shipped:.1f}" height="{BAR}" fill="{THEIRS}"/>',
                f'<rect x="{LEFT}" y="{at + BAR + 2}" width="{ours:.1f}" height="{BAR}" '
                f'fill="{OURS}"/>',
                f'<text x="{WIDTH - 20}" y="{at + 18}" text-anchor="end">'
                f'{spread(ratios(e, "durable_s"))}</text>']
    return bottom + 36


def main():
    for path in sys.argv[1:]:
        with open(path) as f:
            results = json.load(f)
        stem = path[:-5] if path.endswith(".json") else path
        for ending, text in ((".md", markdown(results)), (".svg", svg(results))):
            with open(stem + ending, "w") as f:
                f.write(text)


if __name__ == "__main__":
    main()
