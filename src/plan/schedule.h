/* SPDX-License-Identifier: Apache-2.0
 * From regions to writers (DESIGN 3, step 5). Every byte range of a file gets one
 * writer among the ranks that hold it: the bytes of one group of holders are cut
 * evenly, in file order, at block boundaries; a block that several regions touch
 * is given to one rank by the planner of that block. The same to load, with
 * readers in place of writers.
 *
 * Four steps, each a pure function from messages to messages:
 *   ask     owners → coordinator of each group: my region has so many bytes
 *   answer  coordinators → owners: so many bytes of the group come before it, of so many
 *   cut     owners → writers: whole blocks; owners → planners of blocks: the rest
 *   settle  planners → writers: the blocks that several regions touch
 */
#ifndef ALLSHARD_PLAN_SCHEDULE_H
#define ALLSHARD_PLAN_SCHEDULE_H

#include <stdbool.h>

#include "plan/plan.h"
#include "plan/regions.h"

typedef struct as_schedule {
    int rank;
    int size;
    bool load; /* parts go to all holders of a box, not from one */
    int64_t block_bytes;
    const int64_t *file_size; /* bytes of each file; borrowed */
    as_regions regions;       /* of the tensors that this rank owns */
} as_schedule;

/* Messages: out[size] is filled; in / in_at as in as_mail. */
int as_schedule_ask(as_schedule *s, as_buffer *out, as_error *e);
int as_schedule_answer(as_schedule *s, const as_buffer *in, const size_t *in_at, as_buffer *out,
                       as_error *e);
int as_schedule_cut(as_schedule *s, const as_buffer *in, const size_t *in_at, as_buffer *out,
                    as_error *e);
/* Also takes the whole blocks of this rank into `plan`. */
int as_schedule_settle(as_schedule *s, const as_buffer *in, const size_t *in_at, as_plan *plan,
                       as_buffer *out, as_error *e);
/* Takes the settled parts into `plan` and sorts all parts. */
int as_schedule_finish(as_schedule *s, const as_buffer *in, const size_t *in_at, as_plan *plan,
                       as_error *e);

#endif
