#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# srun --task-epilog=task-epilog.sh: runs as the user after each task. That of rank 0 verifies the
# newest checkpoint and removes what is not to be kept. Slurm kills an epilog after a few seconds,
# hence the limit; what it did not get to is done by the next one. Also to be called by hand, or by a
# job script, where it may take longer.
#
#   ALLSHARD_ROOT            the series of checkpoints; not set: nothing is done
#   ALLSHARD_PRUNE           options of `allshard prune`, such as "--keep-last 3 --keep-every 10000";
#                            not set: nothing is removed
#   ALLSHARD_EPILOG_SECONDS  4
#   ALLSHARD                 the tool, if it is not on PATH
#
# Exit status (of which srun takes no notice): 0; 1 if the newest checkpoint is bad.

[ "${SLURM_PROCID:-0}" = 0 ] && [ -n "${ALLSHARD_ROOT:-}" ] || exit 0
tool=${ALLSHARD:-allshard}
# The tool is no rank of the job: with a task's variables it would look for the others.
for name in $(compgen -e); do
    case $name in
    SLURM_* | PMIX_* | PMI_* | OMPI_MCA_ess* | OMPI_COMM_* | OMPI_UNIVERSE_*) unset "$name" ;;
    esac
done
seconds=${ALLSHARD_EPILOG_SECONDS:-4}
case $seconds in
'' | *[!0-9]*) seconds=4 ;;
esac
end=$((SECONDS + seconds))

limited()
{
    local left=$((end - SECONDS))
    [ "$left" -gt 0 ] || return 124
    timeout "$left" "$@"
}

status=0
if latest=$(limited "$tool" latest "$ALLSHARD_ROOT" 2>/dev/null); then
    text=$(limited "$tool" verify "$latest" 2>&1) || status=$?
    case $status in
    0) echo "allshard: $latest is good" ;;
    124) echo "allshard: $latest was not verified, which takes longer than $seconds s" ;;
    *)
        printf '%s\n' "$text"
        echo "allshard: $latest is damaged; the next run goes on from one before it"
        ;;
    esac
fi

# Nothing is removed after something was found to be bad: a person looks at it first.
if [ -n "${ALLSHARD_PRUNE:-}" ] && { [ "$status" -eq 0 ] || [ "$status" -eq 124 ]; }; then
    read -r -a options <<<"$ALLSHARD_PRUNE"
    limited "$tool" prune "$ALLSHARD_ROOT" "${options[@]}" ||
        echo "allshard: prune $ALLSHARD_ROOT ${options[*]}: status $?"
fi
[ "$status" -eq 0 ] || [ "$status" -eq 124 ] || exit 1
