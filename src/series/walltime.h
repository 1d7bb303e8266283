/* SPDX-License-Identifier: Apache-2.0
 * When the job ends: told by the caller or ALLSHARD_END_TIME, else by the scheduler whose job this
 * is, which is asked now and then, for operators make jobs longer. Until it has answered, and where
 * it does not, what its variables told at the start counts; where nothing is known nothing counts.
 *
 *          job                          command                                    at the start
 *   Slurm  SLURM_JOB_ID, or of an array squeue -h -j ID -o %L                      SLURM_JOB_END_TIME
 *          SLURM_ARRAY_JOB_ID _TASK_ID
 *   PBS    PBS_JOBID                    qstat -f ID                                PBS_WALLTIME
 *   LSF    LSB_JOBID, LSB_JOBINDEX      bjobs -noheader -o time_left ID
 *
 * SLURM_JOB_END_TIME (from Slurm 23.02) does not follow `scontrol update`. PBS_WALLTIME is a length:
 * it counts from the start of this process, hence is late by what the job did before.
 */
#ifndef ALLSHARD_SERIES_WALLTIME_H
#define ALLSHARD_SERIES_WALLTIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "series/run_command.h"

#define AS_END_TIME_VARIABLE "ALLSHARD_END_TIME"

enum as_end_kind {
    AS_END_UNKNOWN, /* also: there is no limit */
    AS_END_EPOCH,   /* seconds since the epoch, by the clock of the day */
    AS_END_CLOCK    /* seconds of as_clock */
};

typedef struct as_end {
    enum as_end_kind kind;
    double seconds;
} as_end;

/* Seconds until then, 0 once it has passed; −1: not known. */
double as_end_left(const as_end *end);

enum as_scheduler { AS_SCHEDULER_NONE, AS_SCHEDULER_SLURM, AS_SCHEDULER_PBS, AS_SCHEDULER_LSF };

typedef struct as_walltime {
    const as_environment *env;
    enum as_scheduler scheduler;
    char job[256]; /* as its command wants it */
    as_end start;  /* by the variables */
    as_end end;    /* what counts */
    bool fixed;    /* told by a person: nobody is asked */
    double next;   /* as_clock, seconds: when to ask */
    double ask_s;  /* 0: by default */
    bool complained;
} as_walltime;

/* Reads the variables, which are borrowed. end_time: of the options, 0: none. AS_INVALID:
 * ALLSHARD_END_TIME is no time. Runs nothing. */
int as_walltime_open(as_walltime *w, const as_environment *env, double end_time, double ask_s,
                     as_error *e);

/* Is it time to ask? */
bool as_walltime_is_due(const as_walltime *w);

/* Runs the command, for at most so many seconds or until *cancel is set. What it answered counts;
 * if it does not, the answer before. The first of failures in a row is told to the log. */
void as_walltime_ask(as_walltime *w, double command_s, const atomic_bool *cancel,
                     const as_log *log);

#endif
