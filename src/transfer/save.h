/* SPDX-License-Identifier: Apache-2.0
 * A save from the declarations to the commit.
 */
#ifndef ALLSHARD_TRANSFER_SAVE_H
#define ALLSHARD_TRANSFER_SAVE_H

#include <stdbool.h>

#include "plan/plan.h"
#include "plan/state.h"
#include "transfer/session.h"

typedef struct as_plan_cache as_plan_cache; /* prepare.h */

/* All pointers are borrowed for the call. Members but directory as in allshard_save_options. */
typedef struct as_save_call {
    as_session *session;
    const as_state *state;
    as_plan_cache *cache; /* keeps the plan of this state for the next save */
    const char *directory;
    const char *max_shard_size; /* NULL: the default */
    const char *pattern;        /* NULL: the part's */
    const char *const *discard;
    size_t discard_count;
    int64_t block_bytes; /* 0: the default */
    int mode;            /* 0: 0666 less the umask */
    const char *engine;  /* NULL: "auto" */
    int64_t align;
    bool no_checksums;
    bool read_back;       /* what was written is read from storage and compared */
    int writers_per_node; /* 0: all ranks write */
    int creators;         /* 0: no limit */
    int stripe_count;
    int64_t stripe_bytes;
    void *cuda_stream; /* NULL: the legacy default stream */
    bool inner;        /* as in as_txn_options */
} as_save_call;

/* The largest one stays below 1 GiB with all that goes with it in a message. */
enum { AS_BLOCK_BYTES = 4 << 20, AS_BLOCK_UNIT = 64, AS_MOST_BLOCK_BYTES = 512 << 20 };

/* AS_INVALID if a block cannot have so many bytes. */
int as_check_block_bytes(int64_t block_bytes, as_error *e);

/* Collective. */
int as_save_run(const as_save_call *call, as_error *e);

/* The plan that as_save_run would carry out; *pattern is the caller's to free. Collective;
 * call->directory and call->cache do not count. */
int as_save_plan(const as_save_call *call, as_plan *out, char **pattern, as_error *e);

#endif
