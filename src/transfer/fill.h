/* SPDX-License-Identifier: Apache-2.0
 * The writer's side of a save, for one block: gathers its bytes from this rank's
 * memory and from other ranks.
 */
#ifndef ALLSHARD_TRANSFER_FILL_H
#define ALLSHARD_TRANSFER_FILL_H

#include "io/pool.h"
#include "transfer/blocks.h"
#include "transfer/context.h"
#include "transfer/files.h"

/* One rank's share of a block: what is asked of it, and where the answer goes. */
typedef struct as_asked {
    int rank;
    as_buffer request; /* as_ask, then as_range[] */
    int64_t at;        /* place of the answer in the slot's `packed` */
    int64_t bytes;
    as_message sent;
    as_message answer;
} as_asked;

typedef struct as_slot {
    int number;
    bool busy;
    as_block block;
    char *window;    /* the block's bytes; NULL if it is written from the caller's memory */
    char *packed;    /* answers, until they are put in place; NULL if there are none */
    as_buffer asked; /* as_asked[] */
    as_io io;
    as_open_file *file;
} as_slot;

/* Takes the block: finds who has its bytes, copies this rank's own, asks others for theirs.
 * The buffers come from `pool` (two at the most, and there must be so many). */
int as_slot_start(as_slot *slot, const as_transfer *t, const as_block *block, as_pool *pool,
                  as_error *e);

/* Have all answers come? Never blocks. */
int as_slot_test(as_slot *slot, const as_transfer *t, bool *complete, as_error *e);

/* Puts the answers in place; the block's bytes are then at *bytes. */
int as_slot_finish(as_slot *slot, const as_transfer *t, char **bytes, as_error *e);

/* Gives the buffers back; those of messages that MPI has not ended (after AS_MPI) are left
 * to it for good. */
void as_slot_clear(as_slot *slot, as_pool *pool);

#endif
