/* SPDX-License-Identifier: Apache-2.0
 * A save's bytes: every block is written as soon as it is together.
 */
#include <stdlib.h>

#include "transfer/buffers.h"
#include "transfer/gather.h"
#include "transfer/read_back.h"
#include "transfer/store.h"

/* Longest sleeps between two looks, nanoseconds, while there is only storage to wait for, which has
 * more to do in the meantime. */
enum { REST_ALONE = 1000000 };

typedef struct saver {
    const as_transfer *transfer;
    as_store store;
    as_stored *stored; /* by the slots' numbers */
    int64_t done;      /* bytes written */
} saver;

static int begin(void *self, const as_block *block, as_slot *slot, bool window, as_block *part,
                 enum as_beginning *what, as_error *e)
{
    (void)part;
    (void)window; /* there is one for each slot */
    saver *s = self;
    *what = slot ? AS_BEGIN_SLOT : AS_BEGIN_LATER;
    if (!slot) {
        return AS_OK;
    }
    as_stored *stored = &s->stored[slot->number];
    *stored = (as_stored){.owner = slot};
    return as_store_begin(&s->store, stored, block->file, e);
}

static void take(void *self, as_gather *g, as_slot *slot, as_error *e)
{
    saver *s = self;
    as_stored *stored = &s->stored[slot->number];
    if (e->code == AS_OK) {
        as_store_submit(&s->store, stored, &slot->block, slot->bytes);
    } else {
        as_store_drop(&s->store, stored, e);
        as_gather_release(g, slot);
    }
}

static void step(void *self, as_gather *g, bool *moved, as_error *e)
{
    saver *s = self;
    const as_transfer *t = s->transfer;
    const as_stored *stored;
    while ((stored = as_store_reap(&s->store, moved, e))) {
        s->done += stored->io.count;
        as_gather_release(g, stored->owner);
        if (t->progress) {
            t->progress(s->done, t->plan->own_bytes, t->progress_user);
        }
    }
}

static bool end(void *self, as_error *e)
{
    saver *s = self;
    return as_store_end(&s->store, e);
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
    s.stored = calloc((size_t)as_transfer_slots(t->plan->block_bytes), sizeof *s.stored);
    if (!s.stored) {
        (void)as_fail_nomem(e);
    } else if (e->code == AS_OK) {
        (void)as_store_open(&s.store, t, as_arena_base(t->arena), as_arena_bytes(t->arena), e);
    }
    int code = as_gather_blocks(t, &sink, e);
    as_store_close(&s.store);
    free(s.stored);
    /* Nobody asks this rank for bytes any more: it may look at its own. */
    return code == AS_OK && t->open_written ? as_read_back(t, before, e) : code;
}

int as_transfer_save(const as_transfer *t, as_error *e)
{
    return as_transfer_with_arena(t, save, NULL, e);
}
