/* SPDX-License-Identifier: Apache-2.0
 * What a block is made of: boxes of pieces, clipped to it.
 */
#ifndef ALLSHARD_TRANSFER_CLIPS_H
#define ALLSHARD_TRANSFER_CLIPS_H

#include "base/checksum.h"
#include "transfer/blocks.h"
#include "transfer/context.h"

/* One box of a part. */
typedef struct as_clip {
    as_part_box box;
    int64_t tensor_at; /* in the file */
    int64_t low;       /* in the tensor's line of bytes */
    int64_t high;
    bool alone; /* the only box of its part */
} as_clip;

int64_t as_clip_bytes(const as_clip *c);

/* Place of the clip's first byte in the block. */
static inline int64_t as_clip_place(const as_clip *c, const as_block *block)
{
    return c->tensor_at + c->low - block->low;
}

/* Calls `each` for all boxes that have bytes in the block, until one fails. */
int as_clips_each(const as_plan *plan, const as_block *block,
                  int (*each)(void *user, const as_clip *c, as_error *e), void *user, as_error *e);

/* AS_INTERNAL unless the clips' bytes together are the block's. */
int as_clips_check(const as_block *block, int64_t bytes, as_error *e);

/* Are all bytes of the block this rank's own? With that check. */
int as_clips_all_own(const as_transfer *t, const as_block *block, bool *own, as_error *e);

/* Brings this rank's own bytes of the block to their places in `to`. If `hash` is not NULL they are
 * hashed in that order, and the time is added to *hashing. */
int as_clips_copy_own(const as_transfer *t, const as_block *block, char *to,
                      as_checksum_stream *hash, int64_t *hashing, as_error *e);

/* The same to where they are not looked at for a while. From any thread: neither the meter nor the
 * communicator is used, but for the rank's number. */
int as_clips_keep_own(const as_transfer *t, const as_block *block, char *to, as_error *e);

/* Likewise those of others, which lie in a window of the block. */
int as_clips_keep_others(const as_transfer *t, const as_block *block, const char *window, char *to,
                         as_error *e);

#endif
