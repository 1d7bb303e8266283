/* SPDX-License-Identifier: Apache-2.0
 * The way of a save's blocks to storage: an engine, the files that it writes, and
 * the fsync of each when its last block is written.
 */
#ifndef ALLSHARD_TRANSFER_STORE_H
#define ALLSHARD_TRANSFER_STORE_H

#include "transfer/blocks.h"
#include "transfer/context.h"
#include "transfer/files.h"

/* A block on its way. */
typedef struct as_stored {
    as_io io;
    as_open_file *file; /* NULL: as_store_begin failed, or was not called */
    void *owner;        /* the caller's */
} as_stored;

typedef struct as_store {
    const as_transfer *transfer;
    as_engine_options options;
    as_engine *engine;
    as_open_files files;
    int writing; /* blocks that the engine has */
} as_store;

/* `memory` is what most blocks are written from, which may be registered; NULL: none. It is borrowed,
 * like `t`. After an error too the store must be closed. */
int as_store_open(as_store *s, const as_transfer *t, char *memory, size_t bytes, as_error *e);

/* Nothing may be under way (as_store_busy). A store of zeroes is allowed. */
void as_store_close(as_store *s);

/* A block of that file will come: to be called in the order of the blocks, so that each file is
 * opened and synced once. */
int as_store_begin(as_store *s, as_stored *b, int32_t file, as_error *e);

/* The block's bytes, which stay put until it comes back. */
void as_store_submit(as_store *s, as_stored *b, const as_block *block, char *bytes);

/* The same of a block that lies on a device, from byte `where` on, which stays put, too: the engine
 * is as_engine_gds, and takes the checksum if the transfer has any. */
void as_store_submit_device(as_store *s, as_stored *b, const as_block *block,
                            const as_io_device *where);

/* A block that was begun is not written after all. */
void as_store_drop(as_store *s, as_stored *b, as_error *e);

/* A block that is written, or failed (then `e` tells it); NULL: none. *moved is set if anything
 * ended, an fsync too. All is counted in the transfer's meter. */
as_stored *as_store_reap(as_store *s, bool *moved, as_error *e);

/* No more blocks come, and none is left: fsyncs what is not synced yet, unless `e` holds an error.
 * To be called until it says true: all files are closed. */
bool as_store_end(as_store *s, as_error *e);

/* Are operations under way? */
bool as_store_busy(const as_store *s);

#endif
