/* SPDX-License-Identifier: Apache-2.0
 * A save's bytes: every block is written as soon as it is together.
 */
#include <stdlib.h>

#include "transfer/buffers.h"
#include "transfer/gather.h"
#include "transfer/gds_save.h"
#include "transfer/read_back.h"
#include "transfer/store.h"

/* Longest sleeps between two looks, nanoseconds, while there is only storage to wait for, which has
 * more to do in the meantime. */
enum { REST_ALONE = 1000000 };

typedef struct saver {
    const as_transfer *transfer;
    as_store store;
    as_stored *stored; /* by the slots' numbers */
    bool *counts;      /* likewise: for the trial of gds_save.h */
    as_gds_save gds;
    int64_t done; /* bytes written */
} saver;

static int begin(void *self, const as_block *block, as_slot *slot, bool window, as_block *part,
                 enum as_beginning *what, as_error *e)
{
    (void)part;
    (void)window; /* there is one for each slot */
    saver *s = self;
    bool taken = false;
    bool counts = false;
    *what = slot ? AS_BEGIN_SLOT : AS_BEGIN_LATER;
    int code = slot ? as_gds_save_begin(&s->gds, block, what, &taken, &counts, e) : AS_OK;
    if (!slot || taken || code != AS_OK) {
        return code;
    }
    s->counts[slot->number] = counts;
    as_stored *stored = &s->stored[slot->number];
    *stored = (as_stored){.owner = slot};
    return as_store_begin(&s->store, stored, block->file, e);
}

static void release(saver *s, as_gather *g, as_slot *slot)
{
    if (s->counts[slot->number]) {
        as_gds_save_ended(&s->gds);
    }
    as_gather_release(g, slot);
}

static void take(void *self, as_gather *g, as_slot *slot, as_error *e)
{
    saver *s = self;
    as_stored *stored = &s->stored[slot->number];
    if (e->code == AS_OK) {
        as_store_submit(&s->store, stored, &slot->block, slot->bytes);
    } else {
        as_store_drop(&s->store, stored, e);
        release(s, g, slot);
    }
}

static void step(void *self, as_gather *g, bool *moved, as_error *e)
{
    saver *s = self;
    const as_transfer *t = s->transfer;
    const as_stored *stored;
    as_gds_save_step(&s->gds, moved, e);
    while ((stored = as_store_reap(&s->store, moved, e))) {
        s->done += stored->io.count;
        if (!as_gds_save_reaped(&s->gds, stored, e)) {
            release(s, g, stored->owner);
        }
        if (t->progress) {
            t->progress(s->done, t->plan->own_bytes, t->progress_user);
        }
    }
}

static bool end(void *self, as_error *e)
{
    saver *s = self;
    return s->gds.busy == 0 && as_store_end(&s->store, e);
}

static bool storing(const void *self, int64_t *ended)
{
    const saver *s = self;
    *ended = s->transfer->meter->tally.operations;
    return as_store_busy(&s->store);
}

static void drain(void *self, as_gather *g, as_error *e)
{
    saver *s = self;
    int idle = 0;
    while (as_store_busy(&s->store)) {
        bool moved = false;
        step(s, g, &moved, e);
        if (!moved) {
            as_comm_rest(&idle, REST_ALONE);
        }
    }
}

static int save(const as_transfer *t, void *user, as_error *e)
{
    (void)user;
    saver s = {.transfer = t};
    as_sink sink = {.self = &s,
                    .begin = begin,
                    .take = take,
                    .step = step,
                    .end = end,
                    .storing = storing,
                    .drain = drain,
                    .unit = t->plan->block_bytes,
                    .rest = REST_ALONE};
    size_t before = t->checksums ? t->checksums->size : 0;
    size_t slots = (size_t)as_transfer_slots(t->plan->block_bytes);
    s.stored = calloc(slots, sizeof *s.stored);
    s.counts = calloc(slots, sizeof *s.counts);
    if (!s.stored || !s.counts) {
        (void)as_fail_nomem(e);
    } else if (e->code == AS_OK && as_store_open(&s.store, t, as_arena_base(t->arena),
                                                 as_arena_bytes(t->arena), e) == AS_OK) {
        (void)as_gds_save_open(&s.gds, t, &s.store, e);
    }
    int code = as_gather_blocks(t, &sink, e);
    as_store_close(&s.store);
    as_gds_save_close(&s.gds);
    free(s.stored);
    free(s.counts);
    /* Nobody asks this rank for bytes any more: it may look at its own. */
    return code == AS_OK && t->open_written ? as_read_back(t, before, e) : code;
}

int as_transfer_save(const as_transfer *t, as_error *e)
{
    return as_transfer_with_arena(t, save, NULL, e);
}
