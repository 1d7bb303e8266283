/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/level.h"

#include "base/checked.h"

/* Blocks that fill all ranks up to `level` whole blocks; stops counting past `most`. */
static int64_t blocks_below(const as_level_rank *ranks, int count, int64_t level, int64_t most)
{
    int64_t sum = 0;
    for (int r = 0; r < count && sum <= most; r++) {
        sum += ranks[r].writes && ranks[r].full < level ? level - ranks[r].full : 0;
    }
    return sum;
}

/* The highest number of whole blocks up to which `blocks` fill all ranks. */
static int64_t find_level(const as_level_rank *ranks, int count, int64_t blocks)
{
    int64_t low = INT64_MAX; /* can be reached */
    for (int r = 0; r < count; r++) {
        low = ranks[r].writes ? as_min_i64(low, ranks[r].full) : low;
    }
    int64_t step = 1;
    while (blocks_below(ranks, count, low + step, blocks) <= blocks) {
        low += step;
        step *= 2;
    }
    int64_t high = low + step; /* cannot */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (blocks_below(ranks, count, middle, blocks) <= blocks) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Is the rank just filled to the level? One block more is the next that it would get. */
static bool is_open(const as_level_rank *r, int64_t level)
{
    return r->writes && r->full <= level;
}

/* The least `rest` such that `wanted` open ranks or more stand no farther above the level. */
static int64_t find_rest(const as_level_rank *ranks, int count, int64_t unit, int64_t level,
                         int64_t wanted)
{
    int64_t low = -1; /* too few stand so low */
    int64_t high = unit - 1;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        int64_t found = 0;
        for (int r = 0; r < count; r++) {
            found += is_open(&ranks[r], level) && ranks[r].rest <= middle;
        }
        if (found >= wanted) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

/* Gives one block each to `left` of the ranks that stand `rest` above the level: in the first
 * round to those that have more blocks than their quota. */
static void give_to_equals(as_level_rank *ranks, int count, int64_t level, int64_t rest,
                           int64_t left)
{
    for (int round = 0; round < 2; round++) {
        for (int r = 0; r < count && left > 0; r++) {
            bool equal = is_open(&ranks[r], level) && ranks[r].rest == rest;
            int64_t base = level - ranks[r].full;
            if (equal && ranks[r].quota == base && (round || ranks[r].blocks > base)) {
                ranks[r].quota++;
                left--;
            }
        }
    }
}

void as_level(as_level_rank *ranks, int count, int64_t unit)
{
    int64_t left = 0;
    for (int r = 0; r < count; r++) {
        ranks[r].quota = 0;
        ranks[r].full = ranks[r].fixed / unit;
        ranks[r].rest = ranks[r].fixed % unit;
        left += ranks[r].blocks;
    }
    if (left == 0) {
        return;
    }
    int64_t level = find_level(ranks, count, left);
    for (int r = 0; r < count; r++) {
        ranks[r].quota = ranks[r].writes ? as_max_i64(0, level - ranks[r].full) : 0;
        left -= ranks[r].quota;
    }
    if (left == 0) {
        return;
    }
    /* What is left, fewer blocks than open ranks, goes to those that stand least above. */
    int64_t rest = find_rest(ranks, count, unit, level, left);
    for (int r = 0; r < count; r++) {
        if (is_open(&ranks[r], level) && ranks[r].rest < rest) {
            ranks[r].quota++;
            left--;
        }
    }
    give_to_equals(ranks, count, level, rest, left);
}

static int64_t room_of(const as_level_rank *r)
{
    return as_max_i64(0, r->quota - r->blocks);
}

as_level_walk as_level_walk_begin(const as_level_rank *ranks, int count, int rank)
{
    int64_t before = 0;
    for (int r = 0; r < rank; r++) {
        before += as_max_i64(0, ranks[r].blocks - ranks[r].quota);
    }
    as_level_walk walk = {.ranks = ranks, .count = count, .left = room_of(&ranks[0])};
    while (walk.rank < count && before >= walk.left) {
        before -= walk.left;
        walk.rank++;
        walk.left = walk.rank < count ? room_of(&ranks[walk.rank]) : 0;
    }
    walk.left -= before;
    return walk;
}

int as_level_walk_next(as_level_walk *walk)
{
    while (walk->rank < walk->count && walk->left == 0) {
        walk->rank++;
        walk->left = walk->rank < walk->count ? room_of(&walk->ranks[walk->rank]) : 0;
    }
    if (walk->rank >= walk->count) {
        return -1;
    }
    walk->left--;
    return walk->rank;
}
