/* SPDX-License-Identifier: Apache-2.0
 * A rank's transfer buffers: one mapping that is made once and used by every save
 * and load, and that the other ranks of the node map too, so that a byte crosses
 * between ranks with one copy.
 *
 * The mapping is of a memory file (memfd_create), not of a file in /dev/shm, which containers limit
 * to 64 MB; all its pages are had when it is made and it is sealed against shrinking, so that no
 * access can end in SIGBUS. Peers open it as /proc/PID/fd/N. Where that is not allowed, or PID is
 * another process there (pid namespaces), the peer is not reachable and gets messages instead.
 */
#ifndef ALLSHARD_COMM_ARENA_H
#define ALLSHARD_COMM_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "comm/comm.h"

typedef struct as_arena as_arena;

/* Nothing is shared if the environment has ALLSHARD_SHARE=off (on one rank: not with that rank). */
#define AS_ARENA_SWITCH "ALLSHARD_SHARE"

/* `bytes` may differ from rank to rank. *out is NULL after an error, which is the same on all
 * ranks. Collective. */
int as_arena_open(as_arena **out, as_comm *c, size_t bytes, as_error *e);

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
 * this rank's own memory, since the system counts it as this process's too. `write`: else it is
 * only read. */
void as_arena_touch(as_arena *a, int rank, size_t offset, size_t bytes, bool write);

/* Bytes of each rank's memory that the others can use again and again before they let go of any. */
size_t as_arena_kept(const as_arena *a);

/* After a failure of MPI: the memory stays mapped for good, since MPI, or a peer, may still write
 * to it. */
void as_arena_abandon(as_arena *a);
bool as_arena_abandoned(const as_arena *a);

/* Local; no transfer may be under way on any rank. NULL is allowed. */
void as_arena_close(as_arena *a);

#endif
