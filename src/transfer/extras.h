/* SPDX-License-Identifier: Apache-2.0
 * What goes with the tensors: the user's metadata and small files, of all ranks.
 */
#ifndef ALLSHARD_TRANSFER_EXTRAS_H
#define ALLSHARD_TRANSFER_EXTRAS_H

#include "comm/comm.h"
#include "format/pairs.h"
#include "plan/state.h"

/* A small file and the lowest rank that declares it. */
typedef struct as_extra_file {
    char *name; /* heap, owned */
    int64_t size;
    as_hash hash;
    int rank;
} as_extra_file;

typedef struct as_extras {
    as_pairs metadata; /* main process only */
    as_buffer files;   /* as_extra_file[]; on every rank */
} as_extras;

/* Collective. AS_MISMATCH if two ranks give one key two values, or one file name two contents;
 * AS_INVALID for a file name that is not plain or belongs to the checkpoint (`pattern`). */
int as_extras_gather(as_extras *x, as_comm *c, const as_state *s, const char *pattern, as_error *e);

void as_extras_free(as_extras *x);

static inline size_t as_extras_count(const as_extras *x)
{
    return x->files.size / sizeof(as_extra_file);
}

static inline const as_extra_file *as_extras_file(const as_extras *x, size_t i)
{
    return (const as_extra_file *)(const void *)x->files.data + i;
}

#endif
