/* SPDX-License-Identifier: Apache-2.0
 * Walks a plan's parts block by block, in file order.
 */
#ifndef ALLSHARD_TRANSFER_BLOCKS_H
#define ALLSHARD_TRANSFER_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan/plan.h"

/* A range of one file inside one block, and the parts that lie in it (to be clipped to it). */
typedef struct as_block {
    int32_t file;
    int64_t low;
    int64_t high;
    size_t first_part;
    size_t last_part; /* one past the last */
} as_block;

typedef struct as_block_walk {
    const as_plan *plan;
    int64_t largest_gap; /* parts with more bytes between them are not taken together */
    bool whole;          /* blocks have all their bytes, those that no part wants too */
    size_t part;
    int64_t at; /* in the part's file; what lies before is done */
} as_block_walk;

as_block_walk as_block_walk_begin(const as_plan *plan, int64_t largest_gap);

/* Blocks from end to end, up to the file's, as they were hashed. */
as_block_walk as_block_walk_begin_whole(const as_plan *plan);

/* False at the end. */
bool as_block_walk_next(as_block_walk *walk, as_block *out);

/* Of all blocks that are left. */
int64_t as_block_walk_bytes(as_block_walk walk);

#endif
