/* SPDX-License-Identifier: Apache-2.0
 * Blocks on their way from the calling thread, which stages them, to the thread in the background
 * that writes them: a ring of memory. A ring that has room for all is a snapshot, a smaller one a
 * stream.
 */
#ifndef ALLSHARD_TRANSFER_OUTBOX_H
#define ALLSHARD_TRANSFER_OUTBOX_H

#include "transfer/blocks.h"
#include "transfer/context.h"
#include "transfer/store.h"

typedef struct as_outbox as_outbox;

/* Bytes of memory that hold all blocks that this rank writes at once; and the least that a ring
 * needs to get on: one block (with room for two, one is staged while the other is written). 0: this
 * rank writes none. Addresses are congruent to offsets modulo a page. */
int64_t as_outbox_snapshot_bytes(const as_plan *plan);
int64_t as_outbox_stream_bytes(const as_plan *plan);

/* `memory` begins on a page (NULL for no bytes) and is the caller's until the outbox is closed; so
 * is the plan while it is opened. AS_NOMEM; AS_LIMIT if it has less than as_outbox_stream_bytes. */
int as_outbox_open(as_outbox **out, const as_plan *plan, char *memory, size_t bytes, as_error *e);

/* The calling thread: no more blocks come, though some are missing (staging failed, or the writer
 * is to stop): what waits is dropped, and the writer ends, with AS_CANCELLED if all else is well. */
void as_outbox_abandon(as_outbox *b);

/* Both threads are through. NULL is allowed. */
void as_outbox_close(as_outbox *b);

/* ---- what the staging side does (stage_blocks.c) ---- */

/* Gathers the blocks that this rank writes, its own bytes by so many threads (the calling one is one
 * of them) and those of others by messages, into the outbox, and serves others. Returns when all
 * ranks have all they write: then the declared memory may change. Where the ring is small that takes
 * until the writer has made room, which has to be at work already; if the writer has failed by then
 * this rank's other blocks are left out, and it is the writer that tells. After an error the outbox
 * is abandoned. `t` as for as_transfer_save, but that no file is opened, no engine used and no
 * checksum taken; t->tick may be NULL. Collective. */
int as_stage_blocks(const as_transfer *t, as_outbox *b, int threads, as_error *e);

/* ---- what the writer does (write_out.c) ---- */

/* Read and set from any thread. */
typedef struct as_write_watch {
    _Atomic int64_t bytes;      /* written */
    _Atomic int64_t operations; /* of the storage: changes when one has ended */
    _Atomic int storing; /* the storage is to do something, and the job does not wait for else */
    _Atomic int stop;    /* asked for: AS_CANCELLED, unless it fails otherwise */
} as_write_watch;

/* Takes blocks from the outbox until all have come, hashes them (t->checksums gets as_block_sum[]),
 * writes them at the pace that is allowed, and fsyncs every file. Makes no MPI call: t->comm is not
 * used; t->tick is called at least every second, if it is not NULL. After an error, or a stop, what
 * is in the outbox and what comes is dropped, so that the staging side never waits in vain; it may
 * return before that has ended. Not collective: the code is this rank's. */
int as_write_out(const as_transfer *t, as_outbox *b, int64_t bytes_per_s, as_write_watch *watch,
                 as_error *e);

/* ---- between the two: blocks pass in any order, and their memory is free again when those placed
 * before are through, too ---- */

/* What is left to the two threads is said at each member; nothing else of it may be changed. */
typedef struct as_outbox_block {
    as_block block;
    int64_t number;   /* of blocks in file order, from 0 */
    char *bytes;      /* the staging side's to fill, then the writer's */
    int64_t filled;   /* bytes; the staging side's */
    as_stored stored; /* the writer's */
    int64_t end;      /* the ring's: bytes placed with it and before, over all rounds */
    int state;
    struct as_outbox_block *next;
} as_outbox_block;

/* Staging side: blocks have to be placed in file order. NULL: there is no room yet. Never blocks. */
as_outbox_block *as_outbox_place(as_outbox *b, const as_block *block);
/* It is filled. From any thread. */
void as_outbox_put(as_outbox *b, as_outbox_block *block);
/* Does the writer drop what comes? */
bool as_outbox_dropped(as_outbox *b);
/* Blocks that have left it. */
int64_t as_outbox_ended(as_outbox *b);
/* Has the writer operations of its storage under way? And how many have ended. */
bool as_outbox_storing(as_outbox *b, int64_t *operations);

/* Writer: the next filled block; waits for one up to so many nanoseconds. NULL: there is none yet,
 * or (*over) there will be none. */
as_outbox_block *as_outbox_take(as_outbox *b, int64_t wait, bool *over);
/* The block of that number, which is placed if any of that number or a higher one was taken, and not
 * yet through. */
as_outbox_block *as_outbox_at(as_outbox *b, int64_t number);
/* It is through: its memory may be used again. */
void as_outbox_done(as_outbox *b, as_outbox_block *block);
/* What as_outbox_storing is to tell. */
void as_outbox_tell(as_outbox *b, bool storing, int64_t operations);
/* What is there and what comes is dropped. */
void as_outbox_drop(as_outbox *b);
/* Have all blocks come, and none been dropped? */
bool as_outbox_complete(as_outbox *b);
/* The memory. */
char *as_outbox_memory(const as_outbox *b, size_t *bytes);

#endif
