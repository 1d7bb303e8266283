/* SPDX-License-Identifier: Apache-2.0
 * A thread that does one job at a time for the calling thread, and tells it when it is done. It
 * makes no MPI call and takes no signal.
 */
#ifndef ALLSHARD_TRANSFER_BACKGROUND_H
#define ALLSHARD_TRANSFER_BACKGROUND_H

#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"

typedef struct as_background as_background;

typedef int as_job(void *user, as_error *e);

/* AS_NOMEM; AS_SYSTEM if no thread can be made. */
int as_background_open(as_background **out, as_error *e);

/* Waits for the job that is under way. NULL is allowed. */
void as_background_close(as_background *b);

/* No other job may be under way. */
void as_background_start(as_background *b, as_job *job, void *user);

/* Is no job under way? Never blocks. */
bool as_background_idle(as_background *b);

/* Until then. */
void as_background_wait(as_background *b);

/* Of the job that ended last: its code, with its record in `e`, once; AS_OK if it was taken. */
int as_background_take(as_background *b, as_error *e);

/* Where a job tells what it has to tell: lines are kept until the calling thread passes them on. */
as_log as_background_log(as_background *b);
void as_background_tell(as_background *b, const as_log *to);

#endif
