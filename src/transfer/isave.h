/* SPDX-License-Identifier: Apache-2.0
 * A nonblocking save: staged while the ranks are together, then moved on by looks that never
 * block, while a thread in the background does all that touches the disk.
 */
#ifndef ALLSHARD_TRANSFER_ISAVE_H
#define ALLSHARD_TRANSFER_ISAVE_H

#include <stdbool.h>

#include "io/manners.h"
#include "transfer/save.h"

/* As in allshard.h. */
enum as_staging { AS_STAGE_AUTO, AS_STAGE_SNAPSHOT, AS_STAGE_STREAM };
enum as_phase { AS_PHASE_WRITING = 1, AS_PHASE_AGREEING, AS_PHASE_COMMITTING, AS_PHASE_OVER };

/* Borrowed for the call of as_isave_begin. */
typedef struct as_isave_call {
    as_save_call save;
    enum as_staging staging; /* the same on all ranks */
    int io_threads;          /* 0: the engine's choice */
    int copy_threads;        /* 0: the rank's share of its processors */
    as_manners manners;
} as_isave_call;

typedef struct as_isave as_isave;

/* Returns when the save is staged. The state's plan (save.cache) stays as it is until as_isave_end:
 * no other save of the state may begin. After a failure *out is NULL and nothing is left. A rank
 * may come with an error. Collective. */
int as_isave_begin(as_isave **out, const as_isave_call *call, as_error *e);

/* Looks for news and takes the next steps. Never blocks. Not collective, but nothing goes on
 * unless all ranks call it. True if it is over on this rank. */
bool as_isave_move(as_isave *s);

/* Once it is over: its code, with its record in `e`. */
int as_isave_outcome(const as_isave *s, as_error *e);

/* Until it is over on this rank. AS_TIMEOUT, AS_MPI: it is over for this rank, whatever becomes of
 * it. Collective. */
void as_isave_wait(as_isave *s);

/* From any rank. */
void as_isave_cancel(as_isave *s);

/* Gives lane and memory back; outcome, progress and meters stay. It is over. Local. */
void as_isave_end(as_isave *s);

/* What was measured becomes the session's. */
void as_isave_publish_meters(as_isave *s, as_session *session);

typedef struct as_isave_progress {
    enum as_phase phase;
    enum as_staging staging;
    int64_t bytes_written;
    int64_t bytes_total;
} as_isave_progress;

/* From any thread. */
as_isave_progress as_isave_progress_of(const as_isave *s);

/* NULL is allowed. The save was ended. */
void as_isave_free(as_isave *s);

#endif
