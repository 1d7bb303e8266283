/* SPDX-License-Identifier: Apache-2.0
 * The writer's side of a save, for one block: gathers its bytes from this rank's
 * memory and from other ranks.
 */
#ifndef ALLSHARD_TRANSFER_FILL_H
#define ALLSHARD_TRANSFER_FILL_H

#include "base/checksum.h"
#include "io/pool.h"
#include "transfer/blocks.h"
#include "transfer/context.h"

/* One rank's share of a block: what is asked of it, and where the answer goes. */
typedef struct as_asked {
    int rank;
    bool near;         /* it scatters into the window itself; the answer is empty */
    size_t request_at; /* in the slot's `requests`: as_ask, then as_range[] */
    size_t request_size;
    int64_t at;    /* place of the answer in the slot's `packed` */
    int64_t bytes; /* of this rank's ranges */
    as_message sent;
    as_message answer;
} as_asked;

typedef struct as_slot {
    int number;
    bool busy;
    bool taken; /* all came: the sink has it (gather.h) */
    as_block block;
    char *place;  /* where the block is to be in the end; NULL: anywhere. Set before the start */
    bool direct;  /* likewise: all can put their bytes there (as_whose): no window is taken, and
                     the block may be of any size */
    bool in_runs; /* what each rank gives of a part is one run */
    char *window; /* NULL if the block is direct, or written from the caller's memory */
    char *packed; /* answers, until they are put in place; NULL if there are none */
    char *bytes;  /* the block's first byte */
    as_copies copies;   /* of this rank's own bytes that are on devices */
    as_buffer asked;    /* as_asked[], by ascending rank */
    as_buffer requests; /* what was sent to them */
    bool summed;
    uint64_t sum;
} as_slot;

/* What all slots of a rank use. */
typedef struct as_filler {
    const as_transfer *transfer;
    int64_t unit;            /* bytes of the largest blocks, which do not cross its multiples */
    as_pool pool;            /* two buffers for each slot, or one if every rank is near */
    as_buffer list;          /* of what a block is made of, while it is looked at */
    as_checksum_stream *sum; /* NULL: no checksums */
} as_filler;

/* Takes the block: finds who has its bytes, asks others for theirs, copies this rank's own, or begins
 * to, where they are on a device. After an error too the slot must be tested until it is complete:
 * what was asked for comes. */
int as_slot_start(as_slot *slot, as_filler *f, const as_block *block, as_error *e);

/* Have all answers come, and all copies ended? Never blocks. */
int as_slot_test(as_slot *slot, const as_transfer *t, bool *complete, as_error *e);

/* Puts the answers in place and takes the checksum; slot->bytes are then the block. */
int as_slot_finish(as_slot *slot, as_filler *f, as_error *e);

/* Gives the buffers back; those of messages that MPI has not ended (after AS_MPI or AS_TIMEOUT) are left
 * to it for good. No copies are under way. */
void as_slot_clear(as_slot *slot, as_filler *f);

#endif
