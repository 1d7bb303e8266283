/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/blocks.h"

#include "base/checked.h"

as_block_walk as_block_walk_begin(const as_plan *plan, int64_t largest_gap)
{
    return (as_block_walk){.plan = plan, .largest_gap = largest_gap, .at = -1};
}

as_block_walk as_block_walk_begin_whole(const as_plan *plan)
{
    return (as_block_walk){.plan = plan, .largest_gap = plan->block_bytes, .whole = true, .at = -1};
}

bool as_block_walk_next(as_block_walk *walk, as_block *out)
{
    const as_plan *plan = walk->plan;
    size_t count = as_plan_part_count(plan);
    if (walk->part >= count) {
        return false;
    }
    const as_part *part = as_plan_part(plan, walk->part);
    int64_t low = as_max_i64(walk->at, part->low);
    int64_t end = (low / plan->block_bytes + 1) * plan->block_bytes;
    *out = (as_block){.file = part->file,
                      .low = low,
                      .high = as_min_i64(end, part->high),
                      .first_part = walk->part,
                      .last_part = walk->part + 1};
    /* Further parts that begin in this block. Parts of several boxes that overlap (when loading)
     * were made one part by the plan, so ranges of a file never reach into each other. */
    size_t next = walk->part + 1;
    for (; next < count; next++) {
        part = as_plan_part(plan, next);
        if (part->file != out->file || part->low >= end ||
            part->low - out->high > walk->largest_gap) {
            break;
        }
        out->high = as_min_i64(end, part->high);
        out->last_part = next + 1;
    }
    /* The last part may go on in the next block. */
    const as_part *last = as_plan_part(plan, out->last_part - 1);
    walk->part = last->high > out->high ? out->last_part - 1 : out->last_part;
    walk->at = last->high > out->high ? out->high : -1;
    if (walk->whole) {
        out->low = end - plan->block_bytes;
        out->high = as_min_i64(end, plan->file_size[out->file]);
    }
    return true;
}

int64_t as_block_walk_bytes(as_block_walk walk)
{
    as_block block;
    int64_t bytes = 0;
    while (as_block_walk_next(&walk, &block)) {
        bytes += block.high - block.low;
    }
    return bytes;
}
