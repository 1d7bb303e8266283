/* SPDX-License-Identifier: Apache-2.0
 * The thread of the main process that looks at what is slow: the control file, and the scheduler.
 * It makes no MPI call and takes no signal.
 */
#ifndef ALLSHARD_SERIES_WATCHER_H
#define ALLSHARD_SERIES_WATCHER_H

#include "base/error.h"
#include "base/log.h"
#include "series/walltime.h"

typedef struct as_watcher as_watcher;

typedef struct as_watcher_options {
    bool walltime;
    double end_time; /* as as_walltime_open */
    double ask_s;
    double look_s;    /* between looks at the control file */
    double command_s; /* for a command */
} as_watcher_options;

typedef struct as_sight {
    unsigned words; /* of the control file (control.h) */
    as_end end;
} as_sight;

/* Looks at the control file and the environment once, on the calling thread; runs no command.
 * `root` is copied. AS_NOT_FOUND, AS_SYSTEM: it cannot be opened; AS_INVALID: ALLSHARD_END_TIME;
 * AS_NOMEM. What is wrong with the control file is told to the log. */
int as_watcher_open(as_watcher **out, const char *root, const as_watcher_options *options,
                    const as_log *log, as_error *e);

/* Starts the thread, if it does not run; failing that, all stays as it was seen at the opening. */
int as_watcher_start(as_watcher *w, as_error *e);

/* What was seen last. None of these waits for the thread's work. */
as_sight as_watcher_sight(as_watcher *w);

/* Those words are to be struck out of the control file, as soon as the thread comes to it; it tries
 * until that is done. */
void as_watcher_strike(as_watcher *w, unsigned words);

/* Passes on what the thread had to tell. */
void as_watcher_tell(as_watcher *w, const as_log *log);

/* Ends the thread, with a command that runs; strikes out what is left to strike, on the calling
 * thread. NULL is allowed. */
void as_watcher_close(as_watcher *w, const as_log *log);

#endif
