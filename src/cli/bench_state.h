/* SPDX-License-Identifier: Apache-2.0
 * The model of a benchmark in the memory of the ranks: random bits that are remembered by their
 * hashes, so that what a load brings back can be told from what was saved.
 */
#ifndef ALLSHARD_CLI_BENCH_STATE_H
#define ALLSHARD_CLI_BENCH_STATE_H

#include <stddef.h>
#include <stdint.h>

#include <allshard.h>

#include "base/error.h"
#include "cli/bench_memory.h"
#include "cli/casts.h"
#include "cli/layout.h"
#include "cli/tensors.h"
#include "cli/world.h"

typedef struct as_bench_state {
    const as_tensors *tensors;
    const as_layout *layout;
    const as_casts *casts;
    const as_bench_memory *where;
    int rank;
    allshard_state *state;
    void **memory;  /* per tensor; NULL: no piece, or an empty one */
    uint64_t *sums; /* per tensor, of this rank's piece */
    char *host;     /* where a piece is made or looked at; NULL: where it lies */
} as_bench_state;

/* Bytes of this rank's pieces. Local. */
int64_t as_bench_state_bytes(const as_tensors *t, const as_layout *l, int rank);

/* Declares the pieces of this rank, each at a multiple of `align` bytes (a power of two; 64 at
 * least, as allocators of tensors do), fills them and takes their hashes. `s` has tensors, layout,
 * casts, where and rank set, else zeros. Local; the codes of allshard_state_tensor, AS_NOMEM, AS_CUDA. To be freed
 * also after a failure. */
int as_bench_state_make(as_bench_state *s, allshard *context, int64_t align, as_error *e);

/* Overwrites the pieces, so that a load which leaves something out is found out. Local. AS_CUDA. */
int as_bench_state_spoil(as_bench_state *s, as_error *e);

/* Are the pieces what as_bench_state_make put there? AS_MISMATCH with the first tensor that is
 * not. Local. */
int as_bench_state_check(const as_bench_state *s, as_error *e);

void as_bench_state_free(as_bench_state *s);

#endif
