/* SPDX-License-Identifier: Apache-2.0
 * Seams: blocks that several regions touch, which may be written by anyone. The
 * planner of each such block proposes a writer; writers tell all how much they
 * have, give away what is too much, and the planners send the parts to the writers that result.
 *
 *   settle  planners → writers: this block could be yours
 *   weigh   writers → all: so many bytes stay with me, and so many full blocks may move
 *   level   writers → planners: this block goes to that rank
 *   hand    planners → writers: the parts of the blocks
 */
#ifndef ALLSHARD_PLAN_SEAMS_H
#define ALLSHARD_PLAN_SEAMS_H

#include "base/buffer.h"
#include "plan/mail.h"
#include "plan/plan.h"

struct as_schedule;

typedef struct as_seams {
    as_buffer messages; /* that the parts came with */
    as_buffer parts;    /* const int64_t *[]: parts of blocks that this rank plans, sorted */
    as_buffer blocks;   /* where each block begins in `parts`, and its writer */
    as_buffer mine;     /* blocks that this rank could write */
    int64_t fixed;      /* bytes that it writes in any case */
} as_seams;

void as_seams_free(as_seams *s);

/* The steps. The first also takes the whole blocks of this rank into `plan`. */
int as_seams_settle(struct as_schedule *s, as_mail *mail, as_plan *plan, as_error *e);
int as_seams_weigh(struct as_schedule *s, as_mail *mail, as_error *e);
int as_seams_level(struct as_schedule *s, as_mail *mail, as_error *e);
int as_seams_hand(struct as_schedule *s, as_mail *mail, as_error *e);

#endif
