/* SPDX-License-Identifier: Apache-2.0
 * Blocks that go straight between devices and files: those whose bytes all lie on one device of this
 * rank, in as much order as copies on the device can make (device/cuda_across.h). They come together
 * in a registered buffer at the places that they have in the file, modulo a page.
 */
#ifndef ALLSHARD_TRANSFER_GDS_BLOCKS_H
#define ALLSHARD_TRANSFER_GDS_BLOCKS_H

#include "transfer/blocks.h"
#include "transfer/context.h"
#include "transfer/gds.h"
#include "transfer/gds_trial.h"

/* Of one save or load. Zero where t->gds is NULL. */
typedef struct as_gds_blocks {
    const as_transfer *transfer;
    as_engine *engine; /* as_engine_gds; NULL: no block goes straight */
    as_gds_trial trial;
} as_gds_blocks;

/* A block's buffer. */
typedef struct as_gds_buffer {
    as_gds_device *device; /* NULL: it has none */
    int number;
    as_io_device where;
} as_gds_buffer;

/* `engine` is the transfer's, open. */
as_gds_blocks as_gds_blocks_begin(const as_transfer *t, as_engine *engine);

/* The way of the next block. AS_GDS_STRAIGHT: *out is its buffer, which the caller gives back.
 * AS_GDS_LATER: a turn of the trial must end first, or (if `wait`) a buffer come back; without
 * `wait` the host has it then. *counts: it is one of the trial's. */
int as_gds_blocks_way(as_gds_blocks *g, const as_block *block, bool wait, enum as_gds_way *way,
                      bool *counts, as_gds_buffer *out, as_error *e);

/* A block that counts has ended, or was dropped. */
void as_gds_blocks_ended(as_gds_blocks *g);

void as_gds_buffer_give(as_gds_buffer *b);

/* Begins copies between the pieces and the buffer, which *copies counts. Loads: adds what comes into
 * each piece to t->filled. */
int as_gds_gather(const as_transfer *t, const as_block *block, const as_gds_buffer *b,
                  as_copies *copies, as_error *e);
int as_gds_scatter(const as_transfer *t, const as_block *block, const as_gds_buffer *b,
                   as_copies *copies, as_error *e);

#endif
