/* SPDX-License-Identifier: Apache-2.0
 * Blocks on their way from the calling thread, which stages them, to the thread in the background
 * that writes them: a ring of memory. A ring that has room for all is a snapshot, a smaller one a
 * stream.
 */
#ifndef ALLSHARD_TRANSFER_OUTBOX_H
#define ALLSHARD_TRANSFER_OUTBOX_H

#include "transfer/blocks.h"
#include "transfer/context.h"

typedef struct as_outbox as_outbox;

/* Bytes of memory that hold all blocks that this rank writes at once; and the least that a ring
 * needs to get on. Addresses are congruent to offsets modulo a page. */
int64_t as_outbox_snapshot_bytes(const as_plan *plan);
int64_t as_outbox_stream_bytes(const as_plan *plan);

/* `memory` begins on a page and is the caller's until the outbox is closed. AS_NOMEM. */
int as_outbox_open(as_outbox **out, const as_plan *plan, char *memory, size_t bytes, as_error *e);

/* The calling thread: no more blocks come, though some are missing (staging failed, or the writer
 * is to stop): what waits is dropped, and the writer ends. */
void as_outbox_abandon(as_outbox *b);

/* Both threads are through. NULL is allowed. */
void as_outbox_close(as_outbox *b);

/* ---- what the staging side does (stage_blocks.c) ---- */

/* Gathers the blocks that this rank writes, its own bytes by so many threads and those of others by
 * messages, into the outbox, and serves others. Returns when all ranks have all they write: then
 * the declared memory may change. Where the ring is small that takes until the writer has made
 * room, which has to be at work already. `t` as for as_transfer_save, but that no file is opened
 * and no engine used; t->tick may be NULL. Collective. */
int as_stage_blocks(const as_transfer *t, as_outbox *b, int threads, as_error *e);

/* ---- what the writer does (write_out.c) ---- */

/* Read and set from any thread. */
typedef struct as_write_watch {
    _Atomic int64_t bytes;      /* written */
    _Atomic int64_t operations; /* ended */
    _Atomic int storing;        /* operations are under way */
    _Atomic int stop;           /* asked for: AS_CANCELLED, unless it fails otherwise */
} as_write_watch;

/* Takes blocks from the outbox until all have come, hashes them (t->checksums gets as_block_sum[]),
 * writes them at the pace that is allowed, and fsyncs every file. Makes no MPI call: t->comm is not
 * used; t->tick is called at least every second, if it is not NULL. Whatever happens the outbox is
 * emptied, so that the staging side never waits in vain. Not collective: the code is this rank's. */
int as_write_out(const as_transfer *t, as_outbox *b, int64_t bytes_per_s, as_write_watch *watch,
                 as_error *e);

#endif
