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

/* Where the bytes of a block are. */
typedef struct as_whose {
    bool own;       /* all are this rank's */
    bool on_device; /* some of this rank's are on a device */
    /* All are runs of this rank's, or of ranks that reach t->ring: they can put theirs in place. */
    bool direct;
} as_whose;

/* With that check. */
int as_clips_whose(const as_transfer *t, const as_block *block, as_whose *out, as_error *e);

/* Brings this rank's own bytes of the block to their places in `to`; copies of those on devices are
 * begun, and counted in *copies. If `hash` is not NULL (it is, where
 * some are on a device) they are hashed in that order, and the time is added to *hashing. */
int as_clips_copy_own(const as_transfer *t, const as_block *block, char *to, as_copies *copies,
                      as_checksum_stream *hash, int64_t *hashing, as_error *e);

/* The same to where they are not looked at for a while. From any thread if none are on a device
 * (`copies` may be NULL then): neither the meter nor the communicator is used, but for the rank's
 * number. */
int as_clips_keep_own(const as_transfer *t, const as_block *block, char *to, as_copies *copies,
                      as_error *e);

/* Likewise those of others, which lie in a window of the block. */
int as_clips_keep_others(const as_transfer *t, const as_block *block, const char *window, char *to,
                         as_error *e);

#endif
