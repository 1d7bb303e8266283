/* SPDX-License-Identifier: Apache-2.0
 * The loop that brings the blocks that this rank writes together, and serves the other
 * ranks theirs, until every rank is through. What becomes of the blocks is the sink's: to save,
 * they are written (save_bytes.c), to stage, kept (stage_blocks.c).
 */
#ifndef ALLSHARD_TRANSFER_GATHER_H
#define ALLSHARD_TRANSFER_GATHER_H

#include "transfer/fill.h"

typedef struct as_gather as_gather;

enum as_beginning {
    AS_BEGIN_LATER, /* no room: the same block is asked about again */
    AS_BEGIN_SLOT,  /* its rest comes together in the slot */
    AS_BEGIN_PART,  /* a part of it does: the same block is asked about again */
    AS_BEGIN_TAKEN  /* the sink has seen to it */
};

/* None of these blocks. `self` comes first, errors of the sink go to `e` and make the save fail: no
 * further block is begun then. */
typedef struct as_sink {
    void *self;
    /* Blocks in file order. `slot`, NULL if none is free, is empty but for its number, which lies
     * below as_transfer_slots(unit). *part, which is the whole block at first, is what is to come
     * together in it: a range that crosses no multiple of `unit`, unless slot->direct is set.
     * `window`: there is one for a part that is not direct. After an error *what does not count. */
    int (*begin)(void *self, const as_block *block, as_slot *slot, bool window, as_block *part,
                 enum as_beginning *what, as_error *e);
    /* All bytes are there, from slot->bytes on; or after an error in `e`: it is to be dropped. The
     * sink releases the slot now or later (as_gather_release). */
    void (*take)(void *self, as_gather *g, as_slot *slot, as_error *e);
    /* Called in every turn: sets *moved if anything ended. */
    void (*step)(void *self, as_gather *g, bool *moved, as_error *e);
    /* No more blocks come, and all slots are released: is the sink through? Called until it is. */
    bool (*end)(void *self, as_error *e);
    /* Is storage under way, and how many operations have ended? For other ranks, which wait. */
    bool (*storing)(const void *self, int64_t *ended);
    /* After AS_MPI or AS_TIMEOUT: lets go of all that slots are used for; the one that may wait. */
    void (*drain)(void *self, as_gather *g, as_error *e);
    int64_t unit; /* bytes; the same on all ranks */
    bool again;   /* no more windows than other ranks can keep mapped (comm/arena.h) */
    int64_t rest; /* nanoseconds of the longest sleeps while no other rank is waited for */
} as_sink;

/* Collective: all ranks return together, with one code. `e` may hold an error already: then no rank
 * begins, and nothing of the sink is called. */
int as_gather_blocks(const as_transfer *t, const as_sink *sink, as_error *e);

void as_gather_release(as_gather *g, as_slot *slot);

#endif
