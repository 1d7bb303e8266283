/* SPDX-License-Identifier: Apache-2.0
 * A rank's transfer buffers: one mapping that is made once and used by every save
 * and load, and that the other ranks of the node map too, so that a byte crosses
 * between ranks with one copy.
 *
 * The mapping is of a memory file (io/memory_file.h); all its pages are had when it is made and it is
 * sealed against shrinking, so that no access can end in SIGBUS. Where peers cannot open it, since
 * that is not allowed or they are in another pid namespace, the peer is not reachable and gets
 * messages instead.
 */
#ifndef ALLSHARD_COMM_ARENA_H
#define ALLSHARD_COMM_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "comm/comm.h"
#include "io/memory_file.h"

typedef struct as_arena as_arena;

/* Nothing is shared if the environment has ALLSHARD_SHARE=off (on one rank: not with that rank). */
#define AS_ARENA_SWITCH "ALLSHARD_SHARE"

/* Is there anybody to share with, and is it not switched off on this rank? */
bool as_arena_may_share(const as_comm *c);

/* `bytes` may differ from rank to rank. *out is NULL after an error, which is the same on all
 * ranks. Collective. */
int as_arena_open(as_arena **out, as_comm *c, size_t bytes, as_error *e);

/* The same over memory of the caller's, which begins on a huge page if it is that large and is mapped
 * from that file (NULL: from none, and it is not shared). The caller may free it before or after the
 * arena is closed. `quota`: so many bytes of others' memory may be in use (as_arena_touch).
 * Collective. */
int as_arena_open_over(as_arena **out, as_comm *c, char *memory, const as_memory_file *file,
                       size_t quota, as_error *e);

/* This rank's memory, on a page; at least the bytes that were asked for. */
char *as_arena_base(const as_arena *a);
size_t as_arena_bytes(const as_arena *a);

/* The memory of another rank as seen from here, and its bytes. NULL and 0 unless both ranks reach
 * each other's. */
char *as_arena_of(const as_arena *a, int rank);
size_t as_arena_bytes_of(const as_arena *a, int rank);

/* Is every rank of the communicator reachable? */
bool as_arena_reaches_all(const as_arena *a);

/* To be called before a range of another rank's memory is used: brings its pages in at once, which
 * is cheaper than fault by fault, and lets go of what was used before when it passes a third of
 * this rank's own memory (or the quota), since the system counts it as this process's too. `write`:
 * else it is only read. */
void as_arena_touch(as_arena *a, int rank, size_t offset, size_t bytes, bool write);

/* Lets go of all that was touched: it is not this process's for the system any more. */
void as_arena_let_go(as_arena *a);

/* Bytes of each rank's memory that the others can use again and again before they let go of any. */
size_t as_arena_kept(const as_arena *a);

/* After a failure of MPI: the memory stays mapped for good, since MPI, or a peer, may still write
 * to it. */
void as_arena_abandon(as_arena *a);
bool as_arena_abandoned(const as_arena *a);

/* Local; no transfer may be under way on any rank. NULL is allowed. */
void as_arena_close(as_arena *a);

#endif
