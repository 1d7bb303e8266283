/* SPDX-License-Identifier: Apache-2.0
 * A save from the declarations to the commit.
 */
#ifndef ALLSHARD_TRANSFER_SAVE_H
#define ALLSHARD_TRANSFER_SAVE_H

#include "base/log.h"
#include "comm/comm.h"
#include "plan/plan.h"
#include "plan/state.h"

/* All pointers are borrowed for the call. */
typedef struct as_save_call {
    as_comm *comm;
    const as_state *state;
    const char *directory;
    const char *max_shard_size; /* NULL: the default */
    const char *pattern;        /* NULL: the part's */
    const char *const *discard;
    size_t discard_count;
    int64_t block_bytes; /* 0: the default */
    int mode;            /* 0: 0666 less the umask */
    int64_t memory;
    const as_log *log;
    void (*progress)(int64_t done, int64_t total, void *user);
    void *progress_user;
} as_save_call;

enum { AS_BLOCK_BYTES = 4 << 20, AS_BLOCK_UNIT = 64 };

/* AS_INVALID if a block cannot have so many bytes. */
int as_check_block_bytes(int64_t block_bytes, as_error *e);

/* Collective. */
int as_save_run(const as_save_call *call, as_error *e);

/* The plan that as_save_run would carry out; *pattern is the caller's to free. Collective;
 * call->directory does not count. */
int as_save_plan(const as_save_call *call, as_plan *out, char **pattern, as_error *e);

#endif
