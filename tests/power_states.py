# SPDX-License-Identifier: Apache-2.0
"""Every state that a power cut could leave of a save, by POSIX's rules: recorded by power_record.c
on two ranks, rebuilt and recovered by power_states.c. Needs no root: nothing is mounted."""
# timeout: 300
# long-timeout: 7200
# needs: mpi
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import power_support as power

PARTS = 6  # which sleep most of the time: a stale lock is waited for
RANKS = 2
SCENES = ["fewer", "same", "single", "first"]
ENGINES = ["posix", "direct", "uring"]
# Combinations that are tried without exception, random ones, and one of so many recoveries.
ALL, RANDOM, AGAIN = (100000, 3000, 400) if power.LONG else (2000, 200, 150)


def states(out, scene, mode, part, parts):
    return [power.PROGRAMS / "power_states", out, scene, RANKS, mode, part, parts, ALL, RANDOM,
            AGAIN]


def run_parts(out, scene):
    """Adds up what the parts print."""
    runs = [subprocess.Popen([str(c) for c in states(out, scene, "all", part, PARTS)],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             preexec_fn=power.die_with_parent)
            for part in range(PARTS)]
    sums = {"states": 0, "old": 0, "new": 0, "wrong": 0, "cut off": 0, "again": 0}
    line = re.compile(r"(\d+) uncertain, (\d+) states: (\d+) old, (\d+) new, (\d+) wrong; "
                      r"recoveries cut off: (\d+), states: (\d+)")
    bad = []
    for one in runs:
        text = one.communicate()[0]
        found = line.search(text)
        if one.returncode != 0 or not found:
            bad.append(text)
            continue
        for key, value in zip(sums, found.groups()[1:]):
            sums[key] += int(value)
        moments = re.search(r"\d+ events, .* uncertain", text).group()
    if bad:
        power.fail("\n".join(bad))
    if sums["old"] == 0 or sums["new"] == 0:
        power.fail(f"{scene}: only one outcome: {sums}")
    power.say(f"{scene}: {moments}; {sums}")
    return sums


def main():
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="allshard-states-", dir=base))
    total = {}
    try:
        for i, scene in enumerate(SCENES):
            # Engines differ in what they do before the journal only: one each, in turn.
            for engine in ENGINES if power.LONG else [ENGINES[i % len(ENGINES)]]:
                out = folder / f"{scene}-{engine}"
                out.mkdir()
                power.mpirun(RANKS, power.PROGRAMS / "power_record", out, scene, engine)
                for key, value in run_parts(out, scene).items():
                    total[key] = total.get(key, 0) + value
            if scene in ("fewer", "first") or power.LONG:
                # The test can fail: disks that lie about fsync are found out.
                done = power.run(states(out, scene, "each" if power.LONG else "broken", 0, 1),
                                 timeout=3000)
                power.say(done.stdout.strip())
            shutil.rmtree(folder)
            folder.mkdir()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    power.say(f"crash states: {total['states'] + total['again']}, "
              f"{total['again']} of them of {total['cut off']} recoveries; {total['old']} old, "
              f"{total['new']} new, {total['wrong']} wrong")


sys.exit(main())
