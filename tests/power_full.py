# SPDX-License-Identifier: Apache-2.0
"""Full disks: power_full.c on tmpfs, ext4 and xfs, with few bytes and few inodes, saves and
nonblocking saves, and disks that fill up while one is in flight; `allshard
recover` where nothing is free; and a disk that takes every write and fails the fsync."""
# timeout: 300
# long-timeout: 1200
# needs: mpi
import os

import power_support as power

XFS_LEAST = 256 << 10
LEVELS = 40 if power.LONG else 20
FEW_LEVELS = 40 if power.LONG else 14
SIZE = 150000


def tmpfs(folder, name, options):
    (folder / name).mkdir()
    power.run(["mount", "-t", "tmpfs", "-o", options, "none", folder / name])
    return folder / name


def levels(point, what, count, ranks, slack, *how):
    done = power.mpirun(ranks, power.PROGRAMS / "power_full", point, what, count, SIZE, slack, *how,
                        timeout=600)
    power.say(done.stdout.strip())


def fill(point, leave):
    """Until not a block can be had any more; then gives so many bytes back."""
    filler = point / "filler"
    root = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    if not power.is_own(root):
        power.fail(f"{point} is no file system of this test")
    fd = os.open("filler", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root)
    os.close(root)
    with open(fd, "wb", buffering=0) as f:
        for step in (1 << 20, 4096):
            while True:
                try:
                    f.write(bytes(step))
                    os.fsync(f.fileno())
                except OSError:
                    break
        if leave:
            os.ftruncate(f.fileno(), f.tell() - leave)
            os.fsync(f.fileno())
    return filler


def recover_when_full(point, leave=0):
    """What a killed save left, before and after it counted, is recovered without a free block."""
    for when in ("before", "after"):
        folder = point / when
        power.run([power.PROGRAMS / "power_leave", folder, when])
        filler = fill(point, leave)
        done = power.run([power.TOOL, "recover", folder], check=False)
        if done.returncode != 0:
            power.fail(f"recover on a full {point}, {when}: {done.stdout}{done.stderr}")
        power.run([power.PROGRAMS / "power_leave", folder, f"is-{when}"])
        filler.unlink()
    power.say(f"full: {point}: recovered a killed save, before and after it counted")


def fsync_fails(folder):
    """An image that promises more than the tmpfs below it has."""
    below = tmpfs(folder, "thin", "size=60m")
    image = power.Image(below, "ext4", 400, ("-E", "lazy_itable_init=1,lazy_journal_init=1"))
    point = power.mount(folder / "thin-disk", image.device, "ext4", "discard")
    done = power.mpirun(2, power.PROGRAMS / "power_full", point, "fsync", 1, 20000000, 0,
                        timeout=300)
    power.say(done.stdout.strip())
    power.unmount(point)
    image.close()


def main():
    folder = power.enter()
    point = tmpfs(folder, "tmpfs", "size=8m")
    levels(point, "bytes", LEVELS, 3, 0)
    levels(point, "bytes", FEW_LEVELS, 3, 0, "nonblocking")
    levels(point, "bytes", FEW_LEVELS, 3, 0, "late")
    levels(tmpfs(folder, "inodes", "size=8m,nr_inodes=60"), "inodes", 20, 3, 0)
    recover_when_full(tmpfs(folder, "recover", "size=1m"))
    # The second has no extents, and so no fallocate: there it is a write that fails.
    for name, kind, megabytes, make, slack in (
            ("ext4", "ext4", 16, ("-m", "0", "-N", "256"), 8192),
            ("ext4-blocks", "ext4", 16, ("-m", "0", "-N", "256", "-O", "^extents,^64bit"), 8192),
            ("xfs", "xfs", 300, (), 262144)):
        if not power.has(kind):
            power.say(f"left out: {kind}, which this machine does not have")
            continue
        image = power.Image(folder, kind, megabytes, make)
        point = power.mount(folder / name, image.device, kind)
        levels(point, "bytes", LEVELS, 2, slack)
        if kind == "ext4":
            levels(point, "bytes", FEW_LEVELS, 2, slack, "nonblocking")
        if name == "ext4-blocks": # where room is taken by the writes
            levels(point, "bytes", FEW_LEVELS, 2, slack, "late")
        if kind == "ext4":
            levels(point, "inodes", 20, 2, slack)
        # Without some free blocks xfs makes no new name, and so no lock.
        recover_when_full(point, leave=XFS_LEAST if kind == "xfs" else 0)
        power.unmount(point)
        image.close()
    if power.has("ext4"):
        fsync_fails(folder)


main()
