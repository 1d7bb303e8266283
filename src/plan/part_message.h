/* SPDX-License-Identifier: Apache-2.0
 * A part on its way: from the owner of a tensor to the writer, or to the planner
 * of a block and from there to the writer.
 */
#ifndef ALLSHARD_PLAN_PART_MESSAGE_H
#define ALLSHARD_PLAN_PART_MESSAGE_H

#include "plan/plan.h"
#include "plan/regions.h"
#include "plan/words.h"

struct as_schedule;

/* Words of the head; the boxes follow. */
enum {
    AS_P_SIZE = 0, /* words of the message, head included (32 bits); file (31); in the highest bit
                      whether it goes to the planner of its block, not to its writer */
    AS_P_TO = 1,   /* writer (32), number of boxes (32) */
    AS_P_LOW = 2,
    AS_P_HIGH = 3,
    AS_P_TENSOR = 4, /* the tensor's first byte in the file */
    AS_P_NAME = 5,   /* 2 words */
    AS_P_HEAD = 7
};

static inline size_t as_part_message_size(const int64_t *message)
{
    return (uint32_t)message[AS_P_SIZE];
}

static inline int32_t as_part_message_file(const int64_t *message)
{
    return (int32_t)((uint64_t)message[AS_P_SIZE] >> 32 & INT32_MAX);
}

static inline bool as_part_message_seam(const int64_t *message)
{
    return message[AS_P_SIZE] < 0;
}

static inline int as_part_message_writer(const int64_t *message)
{
    return (int32_t)(uint32_t)message[AS_P_TO];
}

/* Has any box of the region bytes in [low, high) of the file? */
bool as_part_message_has_boxes(const struct as_schedule *s, const as_region *region, int64_t low,
                               int64_t high);

/* Appends the part [low, high) of a region; nothing if no box has a byte there (to load, boxes
 * may leave holes). */
int as_part_message_put(as_buffer *out, const struct as_schedule *s, const as_region *region,
                        int64_t low, int64_t high, int writer, bool seam, as_error *e);

/* The next message, or NULL at the end. */
const int64_t *as_part_message_take(as_words *w);

/* Adds a message's part to the plan. To save, *choice tells whether one of its boxes has replicas
 * besides the one that sends it. */
int as_part_message_keep(const int64_t *message, as_plan *plan, bool *choice, as_error *e);

#endif
