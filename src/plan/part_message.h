/* SPDX-License-Identifier: Apache-2.0
 * A part on its way: from the owner of a tensor to the writer, or to the planner
 * of a block and from there to the writer.
 */
#ifndef ALLSHARD_PLAN_PART_MESSAGE_H
#define ALLSHARD_PLAN_PART_MESSAGE_H

#include "plan/plan.h"
#include "plan/schedule.h"

/* Words of the head; the boxes follow. */
enum {
    AS_P_LENGTH = 0, /* words of the message, head included */
    AS_P_SEAM = 1,   /* 1: to the planner of its block; 0: to its writer */
    AS_P_FILE = 2,
    AS_P_LOW = 3,
    AS_P_HIGH = 4,
    AS_P_TENSOR = 5, /* the tensor's first byte in the file */
    AS_P_WRITER = 6,
    AS_P_NAME = 7, /* 2 words */
    AS_P_BOXES = 9,
    AS_P_HEAD = 10
};

/* Has any box of the region bytes in [low, high) of the file? */
bool as_part_message_has_boxes(const as_schedule *s, const as_region *region, int64_t low,
                               int64_t high);

/* Appends the part [low, high) of a region; nothing if no box has a byte there (to load, boxes
 * may leave holes). */
int as_part_message_put(as_buffer *out, const as_schedule *s, const as_region *region, int64_t low,
                        int64_t high, int writer, bool seam, as_error *e);

/* The next message, or NULL at the end. */
const int64_t *as_part_message_take(as_words *w);

/* Adds a message's part to the plan. */
int as_part_message_keep(const int64_t *message, as_plan *plan, as_error *e);

#endif
