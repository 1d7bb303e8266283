/* SPDX-License-Identifier: Apache-2.0
 * A bar on the terminal for anything that takes longer than a second.
 */
#ifndef ALLSHARD_CLI_PROGRESS_H
#define ALLSHARD_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/output.h"

typedef struct as_progress {
    const as_output *out;
    const char *what; /* "writing" */
    double began;     /* as_seconds */
    double drawn;     /* when the bar was drawn last; 0: never */
} as_progress;

/* `out` and `what` must outlive it. */
void as_progress_begin(as_progress *p, const as_output *out, const char *what);

/* Bytes, or anything else that is counted; `user` is an as_progress. Cheap to call often. Fits
 * allshard_options.progress. */
void as_progress_update(int64_t done, int64_t total, void *user);

/* Wipes the bar away. */
void as_progress_end(as_progress *p);

#endif
