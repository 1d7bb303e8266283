/* SPDX-License-Identifier: Apache-2.0
 * A series: the checkpoints of a run over time, each of several parts, saved into a root folder all
 * or nothing, and loaded from the newest good one.
 *
 * ROOT/.allshard/ is that of a transaction (commit/transaction.h) whose files are folders:
 * ROOT/.allshard/new/part-0/, part-1/ … are saved into as into any folder, the main process then puts
 * all of it into one folder under the checkpoint's name, and the commit moves that into ROOT.
 */
#ifndef ALLSHARD_SERIES_SERIES_H
#define ALLSHARD_SERIES_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "commit/names.h"
#include "series/fields.h"
#include "series/folder_name.h"
#include "series/record.h"
#include "series/retention.h"
#include "transfer/isave.h"
#include "transfer/load.h"
#include "transfer/save.h"
#include "transfer/session.h"

#define AS_RANKS_PART "ranks"
#define AS_RANKS_KEY "rank_state" /* in the manifest's "checkpoint": bytes of each rank */
#define AS_RANKS_PATTERN "allshard-ranks{suffix}.safetensors"

enum { AS_MOST_PARTS = 64, AS_MOST_RANK_STATE = 64 << 20 };

typedef struct as_series as_series;

typedef struct as_series_options {
    const char *pattern; /* NULL: the default */
    as_keep_rules keep;  /* .metric is copied */
} as_series_options;

/* Borrows the session, makes the root if it is not there, and finishes or clears what dead saves left
 * there. A rank may come with an error. AS_INVALID, AS_PATTERN, AS_MISMATCH, AS_SYSTEM, AS_NOMEM,
 * AS_FORMAT (a damaged journal), and those of the comm. Collective. */
int as_series_open(as_series **out, as_session *session, const char *root,
                   const as_series_options *options, as_error *e);

/* What is to be saved. All is borrowed for the call, but what the parts' states point to as in
 * transfer/save.h and transfer/isave.h. */
typedef struct as_series_call {
    int64_t step;
    as_isave_call
        *parts; /* .save.directory is set here; of which a blocking save takes .save only */
    size_t count;
    const void *rank_state;
    size_t rank_state_bytes;
    const as_fields *fields;
    const char *const *tags;
    size_t tag_count;
    const char *metric; /* NULL: none */
    double metric_value;
    const char *note; /* NULL: none */
} as_series_call;

typedef struct as_series_news {
    int64_t step;
    double blocked_s; /* of this rank's time */
    double durable_s; /* from its begin */
} as_series_news;

/* Collective. A rank may come with an error. No save is in flight (as_series_join). `news` may be
 * NULL. */
int as_series_save(as_series *r, const as_series_call *call, as_series_news *news, as_error *e);

/* Returns when all parts are staged; as_series_flight tells of the parts' saves, in the order of
 * call->parts, so that others can wait for them. Collective, likewise. */
int as_series_isave(as_series *r, const as_series_call *call, as_error *e);

/* Looks for news of the save that is in flight and takes the next steps; never blocks, and is not
 * collective. True if none is in flight any more on this rank. Its outcome stays until
 * as_series_take. */
bool as_series_move(as_series *r);

/* Has a save ended on this rank whose outcome nobody took? */
bool as_series_has_news(const as_series *r);

/* Is a save in flight, or one that nobody took the outcome of? */
bool as_series_in_flight(const as_series *r);

/* The outcome of the nonblocking save that ended last, once: its code, with its record in `e`; AS_OK
 * if there is none. The session's meter gets the sums over its parts. */
int as_series_take(as_series *r, as_series_news *news, as_error *e);

/* Waits until no save is in flight on this rank, nor files of checkpoints that went are being removed
 * by it. Collective. */
void as_series_join(as_series *r);

/* Waits until the save that is in flight is over on this rank. Collective. */
void as_series_await(as_series *r);

/* From any rank; of the save that is in flight. Local. */
void as_series_cancel(as_series *r);

/* Part `i` of the save that is in flight: NULL if there is no such. */
as_isave *as_series_part(const as_series *r, size_t i);

typedef struct as_series_loaded {
    int64_t step;
    const char *name; /* lives until the next call on the series, like all of this */
    int64_t world;
    int64_t passed; /* newer ones that were passed over as damaged */
    const void *rank_state;
    size_t rank_state_bytes;
    const as_fields *fields;
    double save_seconds; /* of its record */
} as_series_loaded;

/* Loads all of calls[0 … count) (.path is set here; .pattern NULL: the manifest's, or the part's) from
 * the checkpoint of a step, or from the newest good one (step < 0). Collective. AS_NOT_FOUND: there
 * is none; AS_CORRUPT: none is good; else as of as_load_run. A rank may come with an error. */
int as_series_load(as_series *r, int64_t step, as_load_call *calls, size_t count,
                   as_buffer *missing, as_buffer *unexpected, as_series_loaded *out, as_error *e);

const char *as_series_root(const as_series *r);

/* Ends: no save is in flight any more (as_series_join). NULL is allowed. Collective. */
void as_series_close(as_series *r);

#endif
