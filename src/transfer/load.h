/* SPDX-License-Identifier: Apache-2.0
 * A load from the path to the last byte in place.
 */
#ifndef ALLSHARD_TRANSFER_LOAD_H
#define ALLSHARD_TRANSFER_LOAD_H

#include <stdbool.h>

#include "plan/state.h"
#include "transfer/session.h"

/* All pointers are borrowed for the call. */
typedef struct as_load_call {
    as_session *session;
    const as_state *state;
    const char *path;
    const char *pattern; /* NULL: the part's; for "model" else the only one that is there */
    int64_t block_bytes; /* 0: the default */
    bool allow_missing;
    bool allow_unexpected;
    bool no_checksums;  /* blocks are not compared with the manifest */
    const char *engine; /* NULL: "auto" */
    void *cuda_stream;  /* NULL: the legacy default stream */
} as_load_call;

/* Collective. *missing and *unexpected (empty, the caller's) get the names, sorted, each
 * followed by a NUL, the same on all ranks; also after AS_NAMES. */
int as_load_run(const as_load_call *call, as_buffer *missing, as_buffer *unexpected, as_error *e);

#endif
