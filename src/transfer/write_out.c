/* SPDX-License-Identifier: Apache-2.0
 * The thread in the background that writes what was staged.
 */
#include <stdatomic.h>
#include <time.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "io/manners.h"
#include "transfer/buffers.h"
#include "transfer/outbox.h"

/* Nanoseconds. */
enum {
    REST = 1000000,  /* longest sleeps while the engine has operations */
    WAIT = 20000000, /* while nothing is to be done: then it looks whether it is to stop */
    TICK_EVERY = 400000000
};

typedef struct writer {
    const as_transfer *transfer;
    as_outbox *box;
    as_write_watch *watch;
    as_pace pace;
    as_store store;
    int most;                 /* blocks that the engine gets at a time */
    int64_t begun;            /* blocks that the store was told of */
    as_outbox_block *waiting; /* until the pace allows it */
    bool over;                /* no more come */
    bool dropped;
    bool synced;
    int64_t ticked; /* as_clock */
} writer;

/* Is this rank's storage to do something? If that comes to no end the rank has stalled. Files that are
 * opened count, too. */
static void tell_storing(const writer *w, bool storing)
{
    int64_t ended = w->transfer->meter->tally.operations + w->begun;
    atomic_store(&w->watch->operations, ended);
    atomic_store(&w->watch->storing, storing);
    as_outbox_tell(w->box, storing, ended);
}

static void tell(const writer *w)
{
    atomic_store(&w->watch->bytes, w->transfer->meter->tally.bytes_written);
    tell_storing(w, as_store_busy(&w->store));
}

/* Is anything to be told to, or asked of, others? */
static void look(writer *w, as_error *e)
{
    const as_transfer *t = w->transfer;
    if (atomic_load(&w->watch->stop) && e->code == AS_OK) {
        (void)as_fail(e, AS_CANCELLED, 0, "the save was cancelled while it was written");
    }
    int64_t now = as_clock();
    if (t->tick && e->code == AS_OK && now - w->ticked >= TICK_EVERY) {
        w->ticked = now;
        tell_storing(w, true);
        (void)t->tick(t->user, e);
        tell_storing(w, as_store_busy(&w->store));
    }
}

static void drop_block(writer *w, as_outbox_block *b, as_error *e)
{
    as_store_drop(&w->store, &b->stored, e);
    as_outbox_done(w->box, b);
}

/* After the first error: nobody is to wait for this thread. */
static void drop_all(writer *w, as_error *e)
{
    if (w->waiting) {
        drop_block(w, w->waiting, e);
        w->waiting = NULL;
    }
    as_outbox_drop(w->box);
    w->dropped = true;
}

static void reap(writer *w, bool *moved, as_error *e)
{
    const as_stored *stored;
    while ((stored = as_store_reap(&w->store, moved, e))) {
        as_outbox_done(w->box, stored->owner);
    }
}

static int hash(const writer *w, const as_outbox_block *b, as_error *e)
{
    const as_transfer *t = w->transfer;
    if (!t->checksums) {
        return AS_OK;
    }
    int64_t size = b->block.high - b->block.low;
    int64_t from = as_clock();
    as_block_sum sum = {.file = b->block.file,
                        .block = b->block.low / t->plan->block_bytes,
                        .sum = as_checksum(b->bytes, (size_t)size)};
    (void)as_meter_end(t->meter, "hash", from, size, &t->meter->tally.checksum);
    t->meter->tally.bytes_checksum += size;
    return as_buffer_append(t->checksums, &sum, sizeof sum, e);
}

/* Those that came late among blocks of a later file keep theirs open: files are had in the order of
 * the blocks, also for blocks that are not there yet. */
static int begin_blocks(writer *w, int64_t last, as_error *e)
{
    int code = AS_OK;
    while (w->begun <= last && code == AS_OK) {
        tell_storing(w, true);
        as_outbox_block *b = as_outbox_at(w->box, w->begun++);
        b->stored.owner = b;
        code = as_store_begin(&w->store, &b->stored, b->block.file, e);
    }
    return code;
}

/* The next block, if the engine is not full. Waits a little if there is nothing else to do. */
static void take(writer *w, bool *moved, as_error *e)
{
    if (w->waiting || w->over || w->store.writing >= w->most) {
        return;
    }
    int64_t wait = as_store_busy(&w->store) ? 0 : WAIT;
    as_outbox_block *b = as_outbox_take(w->box, wait, &w->over);
    if (b) {
        *moved = true;
        w->waiting = b;
        if (begin_blocks(w, b->number, e) == AS_OK) {
            (void)hash(w, b, e);
        }
    } else if (w->over && !as_outbox_complete(w->box)) {
        (void)as_fail(e, AS_CANCELLED, 0, "the save was given up before all of it was there");
    }
}

/* Writes the block that waits, if it may go; else *wait tells in how many nanoseconds it may. */
static void submit(writer *w, bool *moved, int64_t *wait)
{
    as_outbox_block *b = w->waiting;
    if (!b) {
        return;
    }
    *wait = as_pace_ask(&w->pace, b->block.high - b->block.low);
    if (*wait == 0) {
        *moved = true;
        w->waiting = NULL;
        as_store_submit(&w->store, &b->stored, &b->block, b->bytes);
    }
}

/* One turn; true: there is nothing left to do. */
static bool turn(writer *w, as_wait *rest, as_error *e)
{
    bool moved = false;
    int64_t wait = 0;
    look(w, e);
    reap(w, &moved, e);
    if (e->code == AS_OK) {
        take(w, &moved, e);
    }
    if (e->code == AS_OK) {
        submit(w, &moved, &wait);
    }
    if (e->code != AS_OK && !w->dropped) {
        drop_all(w, e);
    }
    if (e->code == AS_OK && w->over && !w->waiting && w->store.writing == 0) {
        tell_storing(w, true);
        w->synced = as_store_end(&w->store, e);
    }
    tell(w);
    if (w->synced || (e->code != AS_OK && w->dropped && !as_store_busy(&w->store))) {
        return true;
    }
    if (moved) {
        as_wait_end(rest, w->transfer->meter);
    } else if (as_store_busy(&w->store)) {
        as_wait_rest(rest, REST);
    } else if (wait > 0) {
        struct timespec t = {.tv_nsec = as_min_i64(wait, WAIT)};
        (void)nanosleep(&t, NULL);
    }
    return false;
}

int as_write_out(const as_transfer *t, as_outbox *b, int64_t bytes_per_s, as_write_watch *watch,
                 as_error *e)
{
    writer w = {.transfer = t,
                .box = b,
                .watch = watch,
                .pace = {.bytes_per_s = bytes_per_s},
                .most = as_transfer_slots(t->plan->block_bytes),
                .ticked = as_clock()};
    size_t bytes;
    char *memory = as_outbox_memory(b, &bytes);
    /* To register memory pays where it is written from again and again. */
    bool again = t->plan->own_bytes / 2 > (int64_t)bytes;
    tell_storing(&w, true);
    int code = as_store_open(&w.store, t, again ? memory : NULL, again ? bytes : 0, e);
    as_wait rest = {0};
    if (code != AS_OK) {
        as_outbox_drop(b);
    }
    while (code == AS_OK && !turn(&w, &rest, e)) {
    }
    as_wait_end(&rest, t->meter);
    tell_storing(&w, true);
    as_store_close(&w.store);
    tell_storing(&w, false);
    return e->code;
}
