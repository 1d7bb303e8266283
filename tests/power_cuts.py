# SPDX-License-Identifier: Apache-2.0
"""Real power cuts on ext4 and xfs in images on loop devices: power_cuts.c, and the tool under mpirun.
(btrfs cannot be shut down so.) ALLSHARD_SEED gives other moments."""
# timeout: 240
# long-timeout: 1800
# needs: mpi
import os
import random
import subprocess
import time

import power_support as power

CUTS = 200 if power.LONG else 40
TOOL_CUTS = 40 if power.LONG else 6
SEED = int(os.environ.get("ALLSHARD_SEED", "7"))


def content(folder):
    """The files by name; of the manifest, which tells the time, only that it is there."""
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = b"" if path.name == "allshard.manifest.json" else path.read_bytes()
    return files


def copy(source, target):
    return [*power.MPIEXEC, power.COUNT_FLAG, "2", str(power.TOOL), "copy", str(source),
            str(target), "--max-shard-size", "5KB" if source.name == "old" else "1MB"]


def tool_cuts(folder, kind, image, count):
    """`allshard copy` on two ranks, cut off at a random time: old or new, and new if it said so."""
    out = folder / f"{kind}-sources"
    out.mkdir()
    power.mpirun(2, power.PROGRAMS / "power_record", out, "fewer", "posix")
    point = folder / kind
    target = point / "tool"
    power.mount(point, image.device, kind)
    expected = {}
    for name in ("new", "old"):
        begin = time.monotonic()
        power.run(copy(out / name, target))
        seconds = time.monotonic() - begin
        expected[name] = content(target)
    source = random.Random(SEED)
    now = "old"
    counts = {}
    for _ in range(count):
        then = "new" if now == "old" else "old"
        # Before the last part of it mpirun is starting the ranks.
        delay = seconds * (0.6 + 0.5 * source.random())
        with subprocess.Popen(copy(out / then, target), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              preexec_fn=power.die_with_parent) as saving:
            time.sleep(delay)
            power.shut_down(point)
            try:
                text = saving.communicate(timeout=60)[0]
            except subprocess.TimeoutExpired:
                power.fail(f"{kind}: a save hangs after the power cut")
        power.unmount(point)
        power.mount(point, image.device, kind)
        power.run([power.TOOL, "ls", target])
        power.run([power.TOOL, "recover", target])
        power.run([power.TOOL, "verify", target])
        found = content(target)
        there = next((name for name in expected if expected[name] == found), None)
        said = "good" if saving.returncode == 0 else "failed"
        if there is None or (said == "good" and there != then):
            power.fail(f"{kind}: the save {said} after {delay} s; there is {there} of {sorted(found)}"
                       f"\n{text}")
        key = f"{said}, {'new' if there == then else 'old'}"
        counts[key] = counts.get(key, 0) + 1
        now = there
    power.unmount(point)
    power.say(f"cuts of the tool: {kind}: {count}; {counts}")


def main():
    folder = power.enter()
    tried = 0
    for kind in ("ext4", "xfs"):
        if not power.has(kind):
            power.say(f"left out: {kind}, which this machine does not have")
            continue
        image = power.Image(folder, kind, 96)
        point = folder / kind
        point.mkdir()
        done = power.mpirun(2, power.PROGRAMS / "power_cuts", image.device, point, kind, CUTS,
                            SEED, 40000, timeout=900)
        power.say(done.stdout.strip())
        tool_cuts(folder, kind, image, TOOL_CUTS)
        image.close()
        tried += CUTS + TOOL_CUTS
    if tried == 0:
        power.skip("neither ext4 nor xfs can be made and mounted here")
    power.say(f"power cuts: {tried}")


main()
