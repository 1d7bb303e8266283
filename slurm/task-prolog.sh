#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# srun --task-prolog=task-prolog.sh: runs as the user before each task. Slurm puts the lines "export
# NAME=value" of its output into the task's environment, and shows what stands behind "print".
#
#   ALLSHARD_ROOT     the series of checkpoints; ALLSHARD_LATEST becomes the path of its newest good
#                     one, and is not set if there is none
#   ALLSHARD_STAGING  a folder on the node (/local/scratch, say) in which jobs stage data, each in
#                     ALLSHARD_STAGING/allshard-JOBID. Those of this user's jobs that are over are
#                     removed; this job's is made, and its path exported as ALLSHARD_STAGED
#   ALLSHARD          the tool, if it is not on PATH
#
# Whatever goes wrong here, the task begins: it looks for the newest good checkpoint itself.

# One task of each node cleans up; what is left of a job is not missed.
clean_staging()
{
    local folder job mine=${SLURM_JOB_ID:-} running
    # Only what squeue knows for certain is over is removed: without it, nothing.
    running=$(timeout 10 squeue -h -u "$(id -un)" -t all -o '%A %T' 2>/dev/null) || return 0
    for folder in "$ALLSHARD_STAGING"/allshard-*; do
        if [ ! -d "$folder" ] || [ -L "$folder" ] || [ ! -O "$folder" ]; then
            continue
        fi
        job=${folder##*/allshard-}
        case $job in
        "$mine" | '' | *[!0-9]*) continue ;;
        esac
        if ! grep -qE "^$job (RUNNING|SUSPENDED|COMPLETING|CONFIGURING|STOPPED|PENDING)" \
            <<<"$running"; then
            rm -rf -- "$folder" && echo "print allshard: removed $folder, of a job that is over"
        fi
    done
}

if [ -n "${ALLSHARD_STAGING:-}" ] && [ -d "$ALLSHARD_STAGING" ]; then
    [ "${SLURM_LOCALID:-0}" != 0 ] || clean_staging
    if [ -n "${SLURM_JOB_ID:-}" ] && mkdir -p "$ALLSHARD_STAGING/allshard-$SLURM_JOB_ID"; then
        echo "export ALLSHARD_STAGED=$ALLSHARD_STAGING/allshard-$SLURM_JOB_ID"
    fi
fi

# The tool is no rank of the job: with a task's variables it would join the ranks' start.
for name in $(compgen -e); do
    case $name in
    SLURM_* | PMIX_* | PMI_* | OMPI_MCA_ess* | OMPI_COMM_* | OMPI_UNIVERSE_*) unset "$name" ;;
    esac
done
if [ -n "${ALLSHARD_ROOT:-}" ] &&
    latest=$(timeout 30 "${ALLSHARD:-allshard}" latest "$ALLSHARD_ROOT" 2>/dev/null); then
    echo "export ALLSHARD_LATEST=$latest"
else
    echo "unset ALLSHARD_LATEST"
fi
exit 0
