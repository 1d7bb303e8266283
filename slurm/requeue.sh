# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For job scripts that train: starts the ranks in the background, hands signals on to them, and puts
# the job back into the queue when they ask for that. To be sourced, with bash 4 or later:
#
#   . requeue.sh
#   allshard_train ./program --its-options    # by srun or mpirun, again if ranks are killed
#   allshard_close $?                         # puts the job back if it is 75, and leaves the script
#
# The exit status says what is wanted: 0 finished; 75 (EX_TEMPFAIL) saved, and to be started again;
# above 128 killed; anything else failed in a way that another try would not mend.
#
#   ALLSHARD_LAUNCHER  srun or mpirun; not set: srun where it speaks PMIx, mpirun otherwise
#   ALLSHARD_ROOT      the series of checkpoints, for task-prolog.sh and task-epilog.sh
#   ALLSHARD_SLURM     the folder of this file
#   ALLSHARD_SIGNAL    what tells the ranks to save and to stop; not set: USR2
#   ALLSHARD_RETRIES   how often ranks that were killed are started again within the job; not set: 3
#   ALLSHARD_REQUEUES  how often the job may have been put back, by this script, preemption and
#                      dead nodes together; not set: 100

# The launcher's process while there is one; the first stop signal that came, by name.
allshard_launcher=''
allshard_signalled=''

allshard_say()
{
    printf '%s allshard: %s\n' "$(date '+%F %T')" "$*" >&2
}

# allshard_number NAME DEFAULT: the whole number in a variable.
allshard_number()
{
    local value=${!1:-$2}
    case $value in
    *[!0-9]*)
        allshard_say "$1=$value is no number; taken: $2"
        value=$2
        ;;
    esac
    printf '%s\n' "$value"
}

# allshard_trapped NAME: what the traps do. srun and mpirun hand USR2 on to every rank. TERM goes on
# as USR2, too: on TERM mpirun would kill the ranks, and srun would stop waiting for them.
allshard_trapped()
{
    if [ -z "$allshard_signalled" ]; then
        allshard_signalled=$1
        allshard_say "$1: the ranks are told to save and to stop"
    fi
    [ -z "$allshard_launcher" ] ||
        kill -s "${ALLSHARD_SIGNAL:-USR2}" "$allshard_launcher" 2>/dev/null ||
        true
}

# allshard_launch COMMAND...: runs it in the background, since bash looks at a signal only once what
# is in the foreground has ended. Returns its exit status, or 75 if a signal came first.
allshard_launch()
{
    local status again
    [ -z "$allshard_signalled" ] || return 75
    "$@" &
    allshard_launcher=$!
    # A signal between the question above and here found nobody to hand it to.
    [ -z "$allshard_signalled" ] || allshard_trapped "$allshard_signalled"
    while :; do
        # Every trapped signal ends `wait` with a status above 128, as the launcher's own might be.
        status=0
        wait "$allshard_launcher" || status=$?
        if [ "$status" -gt 128 ] && kill -0 "$allshard_launcher" 2>/dev/null; then
            continue
        fi
        break
    done
    # It may have ended just when a signal came. 127: there is nothing more to be told of it.
    again=0
    wait "$allshard_launcher" 2>/dev/null || again=$?
    [ "$again" -eq 127 ] || status=$again
    allshard_launcher=''
    # Ranks that were not ready for the signal yet have died of it; or of srun, which ends those
    # that are a moment later than the first one with status 75.
    if [ -n "$allshard_signalled" ] && [ "$status" -gt 128 ]; then
        allshard_say "the ranks were killed ($status) after $allshard_signalled"
        status=75
    fi
    return "$status"
}

# allshard_ranks PROGRAM...: the job's ranks, by srun or mpirun.
allshard_ranks()
{
    local here=${ALLSHARD_SLURM:-.} launcher=${ALLSHARD_LAUNCHER:-} status hooks=() lines line
    if [ -z "$launcher" ]; then
        launcher=mpirun
        ! srun --mpi=list 2>&1 | grep -q pmix || launcher=srun
    fi
    case $launcher in
    srun)
        # Since Slurm 22.05 srun no longer takes --cpus-per-task over from sbatch.
        [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
        [ -z "${ALLSHARD_ROOT:-}" ] ||
            hooks=(--task-prolog="$here/task-prolog.sh" --task-epilog="$here/task-epilog.sh")
        # Without --kill-on-bad-exit the others would wait for a killed rank until the time is up.
        allshard_launch srun --mpi=pmix --kill-on-bad-exit=1 ${hooks[@]+"${hooks[@]}"} "$@"
        ;;
    mpirun)
        # What ends a job takes mpirun twice this, in seconds: CONT, a wait, TERM, a wait, KILL. By
        # default it is 1, and a save is killed. Slurm's own patience (KillWait) is 30 s.
        export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-10}
        # It has no hooks: they run here, on the first node.
        if [ -n "${ALLSHARD_ROOT:-}" ]; then
            lines=$("$here/task-prolog.sh")
            while read -r line; do
                case $line in
                "export "*) export "${line#export }" ;;
                "unset "*) unset "${line#unset }" ;;
                "print "*) printf '%s\n' "${line#print }" ;;
                esac
            done <<<"$lines"
        fi
        status=0
        allshard_launch mpirun ${SLURM_NTASKS:+-n "$SLURM_NTASKS"} "$@" || status=$?
        [ -z "${ALLSHARD_ROOT:-}" ] || "$here/task-epilog.sh" || true
        return "$status"
        ;;
    *)
        allshard_say "ALLSHARD_LAUNCHER=$launcher: srun or mpirun"
        return 2
        ;;
    esac
}

# allshard_train PROGRAM...: the ranks; those that were killed (by a memory limit, say) begin again
# from the newest good checkpoint, in the same job, which need not wait in the queue for that.
allshard_train()
{
    local status left name
    left=$(allshard_number ALLSHARD_RETRIES 3)
    for name in TERM USR1 USR2; do
        # shellcheck disable=SC2064 # the name of now
        trap "allshard_trapped $name" "$name"
    done
    while :; do
        status=0
        allshard_ranks "$@" || status=$?
        if [ "$status" -le 128 ] || [ "$left" -eq 0 ]; then
            return "$status"
        fi
        allshard_say "the ranks were killed ($status): started again, $left tries left"
        left=$((left - 1))
    done
}

# The id by which this job can be put back.
allshard_job()
{
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        printf '%s_%s\n' "$SLURM_ARRAY_JOB_ID" "$SLURM_ARRAY_TASK_ID"
    else
        printf '%s\n' "${SLURM_JOB_ID:-}"
    fi
}

# Is the job still this script's to put back? Not if somebody cancelled it, nor if Slurm itself puts
# it back (preemption, scontrol requeue): such a job is COMPLETING while its last processes end. One
# whose time is up is so, too, and Slurm tells that apart. SIGNALING is a running one that is just
# being sent a signal.
allshard_is_ours()
{
    local state
    if state=$(timeout 20 squeue -h -j "$(allshard_job)" -o '%T %r' 2>/dev/null); then
        case $state in
        RUNNING* | SIGNALING* | "COMPLETING TimeLimit"* | TIMEOUT*) return 0 ;;
        *)
            allshard_say "not put back by this script: Slurm says ${state:-nothing} of the job"
            return 1
            ;;
        esac
    fi
    # squeue is missing, or hangs. Slurm sends TERM to jobs that it ends.
    [ "$allshard_signalled" != TERM ] && return 0
    allshard_say "not put back: squeue does not tell whether somebody cancelled the job"
    return 1
}

# allshard_requeue: puts the job back into the queue. 1: it may not be, or cannot; says why.
allshard_requeue()
{
    local most count=${SLURM_RESTART_COUNT:-0} job
    job=$(allshard_job)
    most=$(allshard_number ALLSHARD_REQUEUES 100)
    if [ -z "$job" ]; then
        allshard_say "no job of Slurm: start the script again to go on"
        return 1
    fi
    if [ "$count" -ge "$most" ]; then
        allshard_say "put back $count times already (ALLSHARD_REQUEUES=$most): scontrol requeue $job"
        return 1
    fi
    allshard_is_ours || return 1
    if timeout 60 scontrol requeue "$job"; then
        allshard_say "job $job is back in the queue, for the $((count + 1)). time"
        return 0
    fi
    allshard_say "could not put it back; from a login node: scontrol requeue $job"
    return 1
}

# allshard_close STATUS: ends the script. A job that is back in the queue is killed by Slurm about
# now: what stands behind this in a script may or may not run.
allshard_close()
{
    case $1 in
    0) allshard_say "finished" ;;
    75) allshard_requeue || true ;;
    *) allshard_say "failed with status $1: not put back into the queue" ;;
    esac
    exit "$1"
}
