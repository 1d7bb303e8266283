/* SPDX-License-Identifier: Apache-2.0
 * Compares two checkpoints tensor by tensor, however they are sharded, the ranks
 * sharing the work.
 */
#ifndef ALLSHARD_CLI_COMPARE_H
#define ALLSHARD_CLI_COMPARE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/progress.h"
#include "cli/read_checkpoint.h"
#include "cli/world.h"

/* One of the two. */
typedef struct as_side {
    const char *path;
    as_contents contents;
} as_side;

enum as_difference_kind {
    AS_SAME,
    AS_DIFFERENT_DTYPE,
    AS_DIFFERENT_SHAPE,
    AS_DIFFERENT_BYTES,
};

typedef struct as_comparison {
    /* Numbers of tensors, in each side's own order; heap. */
    size_t *only_in[2];
    size_t only_count[2];

    /* Tensors of side 0 and what they are called on side 1; heap. */
    size_t *common[2];
    size_t common_count;

    int64_t different; /* common tensors that differ in any way */

    /* The first of these in side 0's order. */
    enum as_difference_kind kind; /* AS_SAME: there is none */
    size_t tensor[2];             /* its number on each side */
    int64_t byte;                 /* AS_DIFFERENT_BYTES: the first byte that differs */
} as_comparison;

#define AS_COMPARISON_INIT ((as_comparison){0})

/* Compares names, then dtypes and shapes, then bytes, in memory of a few MiB. Collective; all
 * ranks get the same result. AS_BUSY if a file is not what it was when the headers were read. */
int as_compare(as_comparison *out, as_world *w, const as_side sides[2], as_progress *progress,
               as_error *e);

void as_comparison_free(as_comparison *c);

#endif
