/* SPDX-License-Identifier: Apache-2.0
 * Evens out what ranks write: how many of the blocks that may go to anyone each rank gets.
 */
#ifndef ALLSHARD_PLAN_LEVEL_H
#define ALLSHARD_PLAN_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

/* One rank. */
typedef struct as_level_rank {
    int64_t fixed;  /* bytes that it writes in any case */
    int64_t blocks; /* full blocks that it would write, but may as well give away */
    int64_t quota;  /* out: full blocks that it gets */
    int64_t full;   /* scratch: whole blocks in `fixed`, */
    int64_t rest;   /* and the bytes beyond them */
    bool writes;    /* false: it gets none, and has none; not so for all ranks */
} as_level_rank;

/* Sets the quotas, which sum to the blocks of all. Each block goes to the rank that has least by
 * then, so that ranks with a quota differ by at most `unit` bytes, the size of a block, and none
 * of them passes one without a quota by more. Among equals those come first that have blocks to
 * keep, then the lower ranks. */
void as_level(as_level_rank *ranks, int count, int64_t unit);

/* Who gets what is given away: block number `at` of all that are above the quotas, counted from
 * rank 0 on, goes to the rank that has room for number `at` below the quotas. */
typedef struct as_level_walk {
    const as_level_rank *ranks;
    int count;
    int rank;     /* that has room */
    int64_t left; /* how much of it */
} as_level_walk;

/* The walk from the first block on that `rank` gives away. */
as_level_walk as_level_walk_begin(const as_level_rank *ranks, int count, int rank);

/* The rank that gets the next block; −1 past the last. */
int as_level_walk_next(as_level_walk *walk);

#endif
