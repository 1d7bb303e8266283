# SPDX-License-Identifier: Apache-2.0
"""Real power cuts: power_cuts.c on ext4 and xfs in images on loop devices. (btrfs cannot be shut
down so.) ALLSHARD_SEED gives other moments."""
# timeout: 240
# long-timeout: 1800
# needs: mpi
import os

import power_support as power

CUTS = 200 if power.LONG else 40
SEED = int(os.environ.get("ALLSHARD_SEED", "7"))


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
        image.close()
        tried += CUTS
    if tried == 0:
        power.skip("neither ext4 nor xfs can be made and mounted here")
    power.say(f"power cuts: {tried}")


main()
