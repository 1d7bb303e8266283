/* SPDX-License-Identifier: Apache-2.0
 * What the handles of allshard.h stand for.
 */
#ifndef ALLSHARD_API_HANDLES_H
#define ALLSHARD_API_HANDLES_H

#include "allshard.h"
#include "base/buffer.h"
#include "commit/names.h"
#include "plan/state.h"
#include "transfer/prepare.h"
#include "transfer/session.h"

enum { AS_POOL_BYTES = 64 << 20 };

struct allshard {
    as_session session;
    as_error error; /* of the last call */
    bool together;  /* the call is a collective one */
    bool cancel_on_close;
    allshard_request *flights; /* api/flights.h */
    int64_t flights_begun;
    allshard_series *series; /* api/series.h: those that are open */
    const char **missing;    /* of the last load; pointers into missing_names */
    size_t missing_count;
    as_buffer missing_names; /* each followed by a NUL */
    const char **unexpected;
    size_t unexpected_count;
    as_buffer unexpected_names;
};

struct allshard_state {
    allshard *context;
    as_state state;
    as_plan_cache plans;
    allshard_request *flight; /* the nonblocking save that is in flight; NULL: none */
};

/* Begins a call: the error and the names of the last one go. */
as_error *as_begin(allshard *as);

/* Goes on beginning a collective call, of that name: once a rank has stalled it ends here, and if
 * calls are checked the ranks meet; nonblocking saves take their next steps. After a code other than
 * AS_OK nothing but as_end may follow. */
int as_meet(allshard *as, const char *function);

/* The same for a call that the ranks need not make at the same time, and so never meet in. */
int as_come(allshard *as, const char *function);

/* Ends it: tells the log of an error and returns its code. */
int as_end(allshard *as);

/* Copies a caller's option structure of `size` bytes, as its library version knew it, over
 * defaults of zero. `known` is what this version knows. AS_INVALID without a size. */
int as_take_options(void *to, size_t known, const void *from, size_t size, const char *what,
                    as_error *e);

#endif
