/* SPDX-License-Identifier: Apache-2.0
 * Reads what a save has written and synced from storage again, past the page cache
 * where the file system allows that, before the save counts.
 */
#ifndef ALLSHARD_TRANSFER_READ_BACK_H
#define ALLSHARD_TRANSFER_READ_BACK_H

#include "transfer/context.h"

/* The blocks that this rank wrote; t->checksums holds what they hash to, from byte `first` of it
 * on. AS_CORRUPT names file and bytes. Collective; a rank may come with an error. */
int as_read_back(const as_transfer *t, size_t first, as_error *e);

/* The same without the other ranks, for a thread in the background: no MPI call is made. `memory`,
 * `bytes` of it, is what is read into; it begins on a page and holds one block, rounded up to pages,
 * or better several. t->tick is called after each block. All ranks' files must be synced, or what is
 * read may come from the page cache. Of `t` neither comm, state nor arena are looked at. */
int as_read_back_own(const as_transfer *t, size_t first, char *memory, size_t bytes, as_error *e);

/* A small file, `what`, that is to hold `size` bytes whose blocks hash to `sums`. */
typedef struct as_small_sums {
    int64_t size;
    int64_t block_bytes;
    const uint64_t *sums;
} as_small_sums;

/* AS_CORRUPT, AS_SYSTEM. `fd` is open for reading, and stays so. */
int as_read_back_small(int fd, const char *what, const as_small_sums *s, as_error *e);

#endif
