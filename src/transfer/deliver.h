/* SPDX-License-Identifier: Apache-2.0
 * The reader's side of a load, for one block that has been read: its bytes go into
 * this rank's memory and, packed, to all other ranks that want them.
 */
#ifndef ALLSHARD_TRANSFER_DELIVER_H
#define ALLSHARD_TRANSFER_DELIVER_H

#include "io/pool.h"
#include "transfer/blocks.h"
#include "transfer/context.h"
#include "transfer/pieces.h"

/* A message of a load: this head, as_range[], then the bytes of the ranges. */
typedef struct as_parcel {
    int64_t ranges;
    int64_t bytes;
} as_parcel;

enum {
    AS_TAG_PARCEL = 3,
    AS_PARCEL_RANGES = 1024, /* at the most */
    AS_PARCEL_HEAD = (int)(sizeof(as_parcel) + AS_PARCEL_RANGES * sizeof(as_range))
};

typedef struct as_delivery as_delivery;

/* Goes through the block; `window` holds its bytes. */
int as_delivery_open(as_delivery **out, const as_transfer *t, const as_block *block,
                     const char *window, as_error *e);

/* Fills `buffer` (AS_PARCEL_HEAD + a block's bytes) with the next parcel: *to is its receiver,
 * *size its bytes; *to < 0 when there is none left. */
int as_delivery_next(as_delivery *d, char *buffer, int *to, size_t *size, as_error *e);

void as_delivery_close(as_delivery *d); /* NULL is allowed */

/* The receiver's side: puts a parcel's bytes into the pieces. */
int as_parcel_take(const as_transfer *t, const char *parcel, size_t size, as_error *e);

#endif
