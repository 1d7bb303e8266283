/* SPDX-License-Identifier: Apache-2.0
 * How much memory transfers get for their buffers, and how they share it out.
 */
#ifndef ALLSHARD_TRANSFER_BUFFERS_H
#define ALLSHARD_TRANSFER_BUFFERS_H

#include "transfer/context.h"

/* Bytes of the arena of a rank that may take `memory` bytes: less than that by a quarter, since
 * pages of other ranks' arenas count too while they are used, and no more than transfers make use
 * of, which is more if some ranks are far (not reached through shared memory). Four blocks at
 * least, whatever `memory` is. */
size_t as_transfer_arena_bytes(int64_t memory, int64_t block_bytes, bool far);

/* Makes *arena fit for blocks of that size: opens it if it is NULL, and anew if *largest, the
 * largest size that it was opened for, is smaller. block_bytes and *largest are the same on all
 * ranks; `memory` need not be. After an error *arena is NULL. Collective (if it stays as it is:
 * without any message). */
int as_transfer_arena(as_arena **arena, int64_t *largest, as_comm *c, int64_t memory,
                      int64_t block_bytes, as_error *e);

/* Calls `run` with t->arena, or with one made for this call. */
int as_transfer_with_arena(const as_transfer *t,
                           int (*run)(const as_transfer *t, void *user, as_error *e), void *user,
                           as_error *e);

/* Blocks of that size that one rank has in its hands at a time, at the most. */
int as_transfer_slots(int64_t block_bytes);

/* Buffers of `bytes` bytes that the arena has room for beside `other` bytes. */
int as_transfer_buffers(const as_transfer *t, int64_t bytes, size_t other);

/* Does the engine move bytes between that address and that place of a file with no copy of its own,
 * as it does with pages? */
bool as_transfer_congruent(const as_transfer *t, const char *bytes, int64_t offset);

#endif
