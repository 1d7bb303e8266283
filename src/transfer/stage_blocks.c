/* SPDX-License-Identifier: Apache-2.0
 * The blocks of a nonblocking save on their way into memory. A block that is all this
 * rank's own goes there with one copy, by the calling thread or one that helps it; one that others
 * have bytes of comes together there, too, if they can put theirs in place, else in the transfer
 * buffers (transfer/fill.h).
 */
#include <stdlib.h>

#include "base/checked.h"
#include "io/workers.h"
#include "transfer/buffers.h"
#include "transfer/clips.h"
#include "transfer/copying.h"
#include "transfer/gather.h"
#include "transfer/outbox.h"

enum {
    REST = 100000,      /* longest sleeps between two looks, nanoseconds */
    UNIT = 512 << 10,   /* bytes of a block that come together at a time: they stay in caches */
    STEP = 4 << 20,     /* the same where nobody looks at them again */
    JOBS_OF_HELPER = 2, /* blocks that one has: that which it copies, and the next */
    FLIGHTS = 32        /* blocks that devices copy at a time: they are far from the caches */
};

/* A block that has its bytes from a device. */
typedef struct flight {
    as_outbox_block *block; /* NULL: none */
    as_copies copies;
} flight;

typedef struct stager {
    const as_transfer *transfer;
    as_outbox *box;
    int threads;
    int64_t unit;
    as_outbox_block *held; /* placed, but not begun, or not all of it: a slot is lacking */
    int64_t begun;         /* of its file: up to there */
    as_whose held_whose;
    bool no_room;         /* in the outbox */
    bool left_out;        /* blocks, since the writer drops them */
    as_outbox_block **of; /* by the slots' numbers */
    as_workers *helpers;
    as_io *jobs;
    int *idle; /* of them: numbers */
    int idle_count;
    int job_count;
    flight flights[FLIGHTS];
    int flying;
} stager;

/* ---- own blocks ---- */

/* Also in helpers' threads. */
static int copy(void *user, as_io *job, as_error *e)
{
    const stager *s = user;
    as_outbox_block *b = job->owner;
    int code = as_clips_keep_own(s->transfer, &b->block, b->bytes, NULL, e);
    if (code == AS_OK) {
        as_outbox_put(s->box, b);
    }
    return code;
}

static int copy_or_give(stager *s, as_outbox_block *b, as_error *e)
{
    if (s->idle_count > 0) {
        as_io *job = &s->jobs[s->idle[--s->idle_count]];
        *job = (as_io){.kind = AS_IO_WRITE, .owner = b};
        as_workers_submit(s->helpers, job);
        return AS_OK;
    }
    as_meter *m = s->transfer->meter;
    as_io job = {.owner = b};
    int64_t from = as_clock();
    int code = copy(s, &job, e);
    (void)as_meter_end(m, "copy", from, b->block.high - b->block.low, &m->tally.copy);
    return code;
}

/* Some of its bytes are on a device, for which the calling thread alone may ask. */
static int let_fly(stager *s, as_outbox_block *b, as_error *e)
{
    flight *f = s->flights;
    while (f->block) {
        f++; /* there is room */
    }
    *f = (flight){.block = b};
    s->flying++;
    return as_clips_keep_own(s->transfer, &b->block, b->bytes, &f->copies, e);
}

static void land(stager *s, bool *moved, as_error *e)
{
    for (int i = 0; i < FLIGHTS && s->flying > 0; i++) {
        flight *f = &s->flights[i];
        if (!f->block || f->copies.under_way > 0) {
            continue;
        }
        (void)as_copying_check(s->transfer, &f->copies, e);
        if (e->code == AS_OK) {
            as_outbox_put(s->box, f->block);
        }
        *f = (flight){0};
        s->flying--;
        *moved = true;
    }
}

/* ---- the sink ---- */

static int begin(void *self, const as_block *block, as_slot *slot, bool window, as_block *part,
                 enum as_beginning *what, as_error *e)
{
    stager *s = self;
    if (as_outbox_dropped(s->box)) {
        s->left_out = true;
        *what = AS_BEGIN_TAKEN;
        return AS_OK;
    }
    if (!s->held) {
        s->held = as_outbox_place(s->box, block);
        s->no_room = !s->held;
        s->begun = block->low;
        int code = s->held ? as_clips_whose(s->transfer, block, &s->held_whose, e) : AS_OK;
        if (code != AS_OK) {
            return code;
        }
    }
    as_outbox_block *b = s->held;
    const as_whose *whose = &s->held_whose;
    bool flies = whose->own && whose->on_device;
    bool has_slot = slot && (whose->direct || window);
    if (!b || (flies ? s->flying == FLIGHTS : !whose->own && !has_slot)) {
        *what = AS_BEGIN_LATER;
        return AS_OK;
    }
    if (whose->own) {
        s->held = NULL;
        *what = AS_BEGIN_TAKEN;
        return flies ? let_fly(s, b, e) : copy_or_give(s, b, e);
    }
    part->low = s->begun;
    int64_t unit = whose->direct ? STEP : s->unit;
    part->high = as_min_i64(block->high, (s->begun / unit + 1) * unit);
    *what = part->high < block->high ? AS_BEGIN_PART : AS_BEGIN_SLOT;
    slot->place = b->bytes + (part->low - block->low);
    slot->direct = whose->direct;
    s->of[slot->number] = b;
    s->begun = part->high;
    s->held = *what == AS_BEGIN_PART ? b : NULL;
    return AS_OK;
}

static void take(void *self, as_gather *g, as_slot *slot, as_error *e)
{
    stager *s = self;
    as_outbox_block *b = s->of[slot->number];
    b->filled += slot->block.high - slot->block.low;
    if (e->code == AS_OK && b->filled == b->block.high - b->block.low) {
        as_outbox_put(s->box, b);
    }
    as_gather_release(g, slot);
}

static void step(void *self, as_gather *g, bool *moved, as_error *e)
{
    (void)g;
    stager *s = self;
    const as_io *job;
    while (s->idle_count < s->job_count && (job = as_workers_reap(s->helpers, e))) {
        s->idle[s->idle_count++] = (int)(job - s->jobs);
        *moved = true;
    }
    land(s, moved, e);
}

static bool end(void *self, as_error *e)
{
    (void)e;
    const stager *s = self;
    return s->idle_count == s->job_count && s->flying == 0;
}

/* Who waits for room waits for the writer's storage, unless the writer itself waits for its pace. */
static bool is_storing(const void *self, int64_t *ended)
{
    const stager *s = self;
    bool storing = as_outbox_storing(s->box, ended);
    *ended += as_outbox_ended(s->box);
    return storing && s->no_room;
}

static void drain(void *self, as_gather *g, as_error *e)
{
    stager *s = self;
    int idle = 0;
    while (!end(s, e)) {
        bool moved = false;
        step(s, g, &moved, e);
        if (!moved) {
            as_comm_rest(&idle, REST);
        }
    }
}

/* ---- begin and end ---- */

static int open_helpers(stager *s, as_error *e)
{
    int helpers = s->threads - 1;
    if (helpers < 1) {
        return AS_OK;
    }
    int code = as_workers_open(&s->helpers, helpers, copy, s, NULL, e);
    if (code != AS_OK) {
        return code;
    }
    int jobs = JOBS_OF_HELPER * as_workers_count(s->helpers);
    s->jobs = calloc((size_t)jobs + 1, sizeof *s->jobs);
    s->idle = calloc((size_t)jobs + 1, sizeof *s->idle);
    if (!s->jobs || !s->idle) {
        return as_fail_nomem(e);
    }
    for (s->job_count = 0; s->job_count < jobs; s->job_count++) {
        s->idle[s->job_count] = s->job_count;
    }
    s->idle_count = jobs;
    return AS_OK;
}

static int stage(const as_transfer *t, void *user, as_error *e)
{
    stager *s = user;
    as_transfer with = *t;
    with.checksums = NULL; /* the writer takes them */
    s->transfer = &with;
    as_sink sink = {.self = s,
                    .begin = begin,
                    .take = take,
                    .step = step,
                    .end = end,
                    .storing = is_storing,
                    .drain = drain,
                    .unit = s->unit,
                    .again = true,
                    .rest = REST};
    s->of = calloc((size_t)as_transfer_slots(s->unit), sizeof(as_outbox_block *));
    if (!s->of) {
        (void)as_fail_nomem(e);
    } else {
        (void)open_helpers(s, e);
    }
    int code = as_gather_blocks(&with, &sink, e);
    if (with.ring) {
        as_arena_let_go(with.ring);
    }
    as_workers_close(s->helpers);
    free(s->jobs);
    free(s->idle);
    free(s->of);
    return code;
}

int as_stage_blocks(const as_transfer *t, as_outbox *b, int threads, as_error *e)
{
    int64_t block = t->plan->block_bytes;
    stager s = {.box = b, .threads = threads, .unit = block % UNIT == 0 ? UNIT : block};
    int code = as_transfer_with_arena(t, stage, &s, e);
    if (code != AS_OK || s.left_out) {
        as_outbox_abandon(b);
    }
    return code;
}
