/* SPDX-License-Identifier: Apache-2.0
 * From regions to writers (DESIGN 3, step 5). Every byte range of a file gets one
 * writer among the ranks that hold it, or the one that writes in its place: the bytes of one group
 * of holders are cut evenly, in file order, at block boundaries; a block that several regions
 * touch goes to the planner of that block (seams.h). The same to load, with readers in place of
 * writers.
 *
 * Steps, each a pure function from messages to messages:
 *   ask     owners → coordinator of each group: my region has so many bytes
 *   answer  coordinators → owners: so many bytes of the group come before it, of so many
 *   cut     owners → writers: whole blocks; owners → planners of blocks: the rest
 *   …       the steps of seams.h
 *   finish  writers keep the parts of the seams that they got
 */
#ifndef ALLSHARD_PLAN_SCHEDULE_H
#define ALLSHARD_PLAN_SCHEDULE_H

#include <stdbool.h>

#include "plan/catalog.h"
#include "plan/mail.h"
#include "plan/plan.h"
#include "plan/regions.h"
#include "plan/seams.h"

typedef struct as_schedule {
    int rank;
    int size;
    bool load; /* parts go to all holders of a box, not from one */
    int64_t block_bytes;
    const int64_t *file_size;  /* bytes of each file; borrowed */
    const int32_t *writers;    /* [size]: who writes in place of each; NULL: itself. Borrowed */
    const as_catalog *catalog; /* the tensors that this rank owns; borrowed */
    as_regions regions;        /* of them, and of its literals */
    bool choice;               /* some box that this rank writes has several holders */
    as_seams seams;
} as_schedule;

/* The rank that writes what `rank` would. */
static inline int as_schedule_writer(const as_schedule *s, int rank)
{
    return s->writers ? s->writers[rank] : rank;
}

int as_schedule_ask(as_schedule *s, as_mail *mail, as_error *e);
int as_schedule_answer(as_schedule *s, as_mail *mail, as_error *e);
int as_schedule_cut(as_schedule *s, as_mail *mail, as_error *e);
/* Takes the settled parts into `plan` and sorts all parts. */
int as_schedule_finish(as_schedule *s, as_mail *mail, as_plan *plan, as_error *e);

#endif
