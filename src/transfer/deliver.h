/* SPDX-License-Identifier: Apache-2.0
 * The reader's side of a load, for one block that has been read: its bytes go into
 * this rank's memory and to all other ranks that want them: those on the same node
 * copy them out of the window, the others get them packed.
 */
#ifndef ALLSHARD_TRANSFER_DELIVER_H
#define ALLSHARD_TRANSFER_DELIVER_H

#include "io/pool.h"
#include "transfer/blocks.h"
#include "transfer/context.h"
#include "transfer/pieces.h"

/* A message of a load: this head, as_range[], then the bytes of the ranges if they are not to be
 * had from a window. */
typedef struct as_parcel {
    int64_t ranges;
    int64_t bytes;
    int64_t window; /* in the sender's arena; −1: the bytes follow */
    int64_t tag;    /* of the empty message that tells the sender that the window was read */
} as_parcel;

enum {
    AS_TAG_PARCEL = 3,
    AS_TAG_TAKEN = 16,      /* and on: one for each parcel of a rank that may be out */
    AS_PARCELS = 16,        /* without bytes, each way */
    AS_PARCEL_RANGES = 512, /* at the most */
    AS_PARCEL_HEAD = (int)(sizeof(as_parcel) + AS_PARCEL_RANGES * sizeof(as_range))
};

typedef struct as_delivery as_delivery;

/* Sets *bytes to the memory, and *piece to the piece, of a block that is all of one run of this
 * rank's memory, and wanted by nobody else: it can be read straight into it. Else they stay. */
void as_delivery_direct(const as_transfer *t, const as_block *block, char **bytes, int64_t *piece);

/* Goes through the block; `window` holds its bytes, in the arena. This rank's own pieces have
 * theirs on return; those on devices when *copies, which counts them, has none under way: the window
 * stays as it is until then, after an error, too. */
int as_delivery_open(as_delivery **out, const as_transfer *t, const as_block *block,
                     const char *window, as_copies *copies, as_error *e);

/* Fills `buffer` (AS_PARCEL_HEAD, and a block's bytes unless every rank is near) with the next
 * parcel: *to is its receiver, *size its bytes; *to < 0 when there is none left. *near: the
 * receiver will answer with `tag` when it needs the window no more. */
int as_delivery_next(as_delivery *d, char *buffer, int tag, int *to, size_t *size, bool *near,
                     as_error *e);

void as_delivery_close(as_delivery *d); /* NULL is allowed */

/* The receiver's side: puts the bytes of a parcel of that rank into the pieces. *tag is what the
 * sender waits for, −1 for nothing; it is set after an error too. While *copies has any under way
 * parcel and window stay as they are, after an error, too. */
int as_parcel_take(const as_transfer *t, int from, const char *parcel, size_t size, int *tag,
                   as_copies *copies, as_error *e);

#endif
