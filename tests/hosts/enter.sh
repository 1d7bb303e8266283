#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# enter.sh PYTHON SCRIPT: runs a test in namespaces of its own (network, mounts, processes), in
# which it makes hosts. When the test ends, however it ends, all that it started ends with it, and
# no mount, no interface and no name of it was ever seen outside.
# Exit status 77 (skipped) where that cannot be.
set -u

skip()
{
    printf 'skipped: %s\n' "$*"
    exit 77
}

[ "$(id -u)" -eq 0 ] || skip "hosts need root"
for tool in unshare nsenter mount ip tc; do
    command -v "$tool" >/dev/null || skip "$tool is missing (util-linux, iproute2)"
done
for tool in glusterd glusterfs gluster; do
    command -v "$tool" >/dev/null || skip "$tool is missing (glusterfs-server)"
done
[ -r /dev/fuse ] || skip "there is no /dev/fuse"
spaces=(--net --uts --ipc --mount --pid --fork --kill-child --mount-proc)
reason=$(unshare "${spaces[@]}" sh -c '
    ip link set lo up && ip link add br0 type bridge && mount -t tmpfs none /dev/shm' 2>&1) ||
    skip "no namespaces with bridges and mounts here: ${reason##*$'\n'}"
# Whatever goes wrong in there, a log that repeats an error without end must not fill the disk. No
# file of a test is larger than this, in blocks of 1024 bytes.
ulimit -f 200000
exec unshare "${spaces[@]}" "$@"
