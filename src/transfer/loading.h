/* SPDX-License-Identifier: Apache-2.0
 * One look of a load at its checkpoint: the files, the manifest's checksums, and the
 * tables that the headers tell, spread over the ranks.
 */
#ifndef ALLSHARD_TRANSFER_LOADING_H
#define ALLSHARD_TRANSFER_LOADING_H

#include "commit/view.h"
#include "plan/plan.h"
#include "plan/request.h"
#include "transfer/load.h"
#include "transfer/load_checks.h"

typedef struct as_loading {
    const as_load_call *call;
    char *pattern; /* heap; NULL: the model, or the only checkpoint that is there */
    as_view *view;
    as_opener opener;
    as_checkpoint checkpoint; /* main process only */
    as_load_checks checks;
    bool indexed;
    as_buffer names;  /* of the files, each followed by a NUL; on every rank */
    as_buffer places; /* size_t[]: where each begins */
    as_buffer read;   /* as_read_file[]: the headers that this rank read */
    as_buffer sums;   /* uint64_t[]: of the blocks that are read next */
    as_plan plan;     /* made by the caller */
} as_loading;

/* Opens the checkpoint at l->call->path and reads all headers, each on one rank. Collective. */
int as_loading_open(as_loading *l, as_error *e);

/* Ready for another look. `call` and `pattern` stay. */
void as_loading_close(as_loading *l);

/* After as_loading_close, for good; `pattern` is freed too. */
void as_loading_free(as_loading *l);

static inline size_t as_loading_file_count(const as_loading *l)
{
    return l->places.size / sizeof(size_t);
}

static inline const char *as_loading_file(const as_loading *l, size_t i)
{
    return l->names.data + ((const size_t *)(const void *)l->places.data)[i];
}

/* All of them; NULL if this rank read none. */
static inline as_read_file *as_loading_reads(const as_loading *l)
{
    return (as_read_file *)(void *)l->read.data;
}

static inline as_read_file *as_loading_read(const as_loading *l, size_t i)
{
    return as_loading_reads(l) + i;
}

static inline size_t as_loading_read_count(const as_loading *l)
{
    return l->read.size / sizeof(as_read_file);
}

#endif
