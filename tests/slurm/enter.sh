#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# enter.sh PYTHON SCRIPT: runs a test in namespaces of its own (network, mounts, processes), in
# which it starts a Slurm of its own. When the test ends, however it ends (killed, too), its daemons,
# jobs and mounts end with it, and no port of theirs was ever open outside.
# Exit status 77 (skipped) where that cannot be.
set -u

skip()
{
    printf 'skipped: %s\n' "$*"
    exit 77
}

PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" -eq 0 ] || skip "a Slurm with nodes of its own needs root"
for tool in unshare nsenter mount ip; do
    command -v "$tool" >/dev/null || skip "$tool is missing (util-linux, iproute2)"
done
for tool in munged slurmctld slurmd sbatch srun squeue scontrol scancel sinfo; do
    command -v "$tool" >/dev/null ||
        skip "$tool is missing (slurmctld, slurmd, slurm-client, slurm-wlm-basic-plugins, munge)"
done
spaces=(--net --uts --ipc --mount --pid --fork --kill-child --mount-proc)
reason=$(unshare "${spaces[@]}" sh -c '
    ip link set lo up && ip link add a0 type veth peer name a1 && mount -t tmpfs none /dev/shm
    ' 2>&1) || skip "no namespaces with networks and mounts here: ${reason##*$'\n'}"
# Whatever goes wrong in there, a log that repeats an error without end must not fill the disk. No
# file of a test is larger than this, in blocks of 1024 bytes.
ulimit -f 200000
exec unshare "${spaces[@]}" "$@"
