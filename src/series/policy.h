/* SPDX-License-Identifier: Apache-2.0
 * When to save and when to stop: the same answer on all ranks, from one small reduction.
 *
 * The main process alone decides by clocks, by the scheduler and by the control file; signals count
 * whichever rank they reach. A thread of the main process, which the first poll starts, asks the
 * scheduler (walltime.h) and looks at the control file (control.h), so that no poll waits for a
 * command or a disk.
 */
#ifndef ALLSHARD_SERIES_POLICY_H
#define ALLSHARD_SERIES_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/comm.h"

/* As allshard_series_options; all 0: no reason but signals, wall time and control. */
typedef struct as_policy_options {
    int64_t every_steps;
    double every_s;
    double overhead_percent;
    double mtbf_s;
    double margin;         /* 0: 1.2 */
    double margin_s;       /* 0: 5; negative: none */
    double first_margin_s; /* 0: 120; negative: none */

    bool walltime;        /* whether the job's time counts; what follows is used only then */
    double end_time;      /* seconds since the epoch; 0: ask the environment and the scheduler */
    bool signals;         /* whether signals are caught; what follows is used only then */
    const int *stop_list; /* NULL with count 0: SIGUSR2 and SIGTERM. Borrowed for the opening. */
    size_t stop_count;
    const int *save_list;
    size_t save_count;

    int64_t (*clock)(void); /* nanoseconds that only go forward; NULL: as_clock */

    /* Of the thread, seconds; 0: as told. */
    double look_s; /* between looks at the control file: 1 */
    double ask_s;  /* between questions to the scheduler: 900, and 300 when less than 1800 are left
                         or a question failed */
    double command_s; /* that a command of the scheduler may take: 30 */
} as_policy_options;

/* As enum allshard_reason. */
enum as_reason {
    AS_REASON_STEPS = 1,
    AS_REASON_SECONDS = 2,
    AS_REASON_OVERHEAD = 4,
    AS_REASON_FAILURES = 8,
    AS_REASON_SIGNAL = 16,
    AS_REASON_WALLTIME = 32,
    AS_REASON_CONTROL = 64
};

/* As allshard_verdict, member by member. */
typedef struct as_verdict {
    bool save;
    bool stop;
    bool requeue;
    int reasons;
    int signal;
    bool held;
    double seconds_left;
    double margin_s;
    double interval_s;

    /* Nothing that the policy knows of: as_policy_poll sets these to 0, who runs the saves fills
     * them in. */
    bool in_flight;
    bool saved;
    int64_t saved_step;
    int failed;
} as_verdict;

enum { AS_POLICY_MORE = 8 };

typedef struct as_policy as_policy;

/* Options are checked, signals are caught from now on, and the main process looks at the control
 * file. `root` (copied) exists. `comm` and `log` are borrowed until the closing. All ranks return the
 * same code: AS_INVALID (numbers out of range, signals that cannot be caught), AS_NOMEM, AS_SYSTEM
 * and those of comm. Collective. */
int as_policy_open(as_policy **out, as_comm *comm, const char *root,
                   const as_policy_options *options, const as_log *log, as_error *e);

/* The verdict at a step. `more` (NULL with count 0; at most AS_POLICY_MORE): values of the caller
 * that go along in the same reduction; every rank gets the largest of all ranks, also where steps
 * differ. AS_INVALID: a step is negative; AS_MISMATCH: steps differ; AS_MPI, AS_TIMEOUT. The code
 * and the text are the same on all ranks. Warnings of the thread are told to the log here.
 * Collective. */
int as_policy_poll(as_policy *p, int64_t step, int64_t *more, int more_count, as_verdict *out,
                   as_error *e);

/* What follows is local, never waits and never fails; all ranks call it alike, but seconds of the
 * main process alone count. */

/* The run goes on from the checkpoint of that step, whose save took so long by its record (0: not
 * known). */
void as_policy_loaded(as_policy *p, int64_t step, double save_seconds);

/* A save of that step begins. Not to be called for one that was refused at once. */
void as_policy_began(as_policy *p, int64_t step);

/* The save that began last is durable. The ranks could not work for blocked_s seconds of it, and
 * durable_s have passed since it began. Words of the control file that asked for it are struck out
 * by the thread. */
void as_policy_saved(as_policy *p, int64_t step, double blocked_s, double durable_s);

/* It failed, or was cancelled: what asked for it asks again, after a while that grows with every
 * failure in a row. */
void as_policy_failed(as_policy *p, int64_t step);

/* Ends the thread (a command that still runs is killed), strikes out the words that were honoured,
 * tells the history of a stop, and gives signals back to the handlers of before. Local: may wait for the disk on the main
 * process. NULL is allowed. */
void as_policy_close(as_policy *p);

#endif
