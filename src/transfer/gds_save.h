/* SPDX-License-Identifier: Apache-2.0
 * A save's blocks that go straight from devices to files: from the copies on the device to the end of
 * the write. Beside the slots of those that come together on the host.
 */
#ifndef ALLSHARD_TRANSFER_GDS_SAVE_H
#define ALLSHARD_TRANSFER_GDS_SAVE_H

#include "transfer/gather.h"
#include "transfer/gds_blocks.h"
#include "transfer/store.h"

typedef struct as_gds_write as_gds_write; /* a block on its way */

/* Zero, or without devices: nothing here does anything. */
typedef struct as_gds_save {
    as_gds_blocks blocks;
    as_store *store;
    as_gds_write *writes; /* [AS_GDS_BUFFERS] */
    int busy;
} as_gds_save;

/* Borrows both, which are open. AS_NOMEM. */
int as_gds_save_open(as_gds_save *g, const as_transfer *t, as_store *store, as_error *e);
void as_gds_save_close(as_gds_save *g); /* no copy and no write is under way */

/* The block's way: *what becomes AS_BEGIN_TAKEN or AS_BEGIN_LATER, and *counts stays; or neither:
 * then the host has it, and *counts tells whether as_gds_save_ended is to be told of its end. */
int as_gds_save_begin(as_gds_save *g, const as_block *block, enum as_beginning *what, bool *taken,
                      bool *counts, as_error *e);

/* Writes what is together; lets go of it after an error in `e`. */
void as_gds_save_step(as_gds_save *g, bool *moved, as_error *e);

/* Is it one of these? Then it is written, or failed, and all is seen to. */
bool as_gds_save_reaped(as_gds_save *g, const as_stored *stored, as_error *e);

/* A block of the host's that counts has ended. */
void as_gds_save_ended(as_gds_save *g);

#endif
