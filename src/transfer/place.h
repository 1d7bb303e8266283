/* SPDX-License-Identifier: Apache-2.0
 * Where the bytes of a piece, or of a literal, are to be had on this rank.
 */
#ifndef ALLSHARD_TRANSFER_PLACE_H
#define ALLSHARD_TRANSFER_PLACE_H

#include "device/device.h"
#include "transfer/context.h"

typedef struct as_place {
    const as_device *device;
    as_geometry geometry; /* in file and memory, with the cast between them */
    char *memory;
} as_place;

/* Piece ≥ 0 of the state, or literal −1 − piece of the plan. AS_INTERNAL for another number. */
int as_place_find(const as_transfer *t, int64_t piece, as_place *out, as_error *e);

/* Does it lie on a device, so that copies of it go on when the function that begins them has
 * returned? */
bool as_place_on_device(const as_transfer *t, int64_t piece);

/* Brings that range's bytes to their places in `to`, where nobody looks at them for a while; copies of
 * what is on a device are begun, and counted in *copies. */
int as_place_keep(const as_place *p, int64_t low, int64_t high, char *to, as_copies *copies,
                  as_error *e);

#endif
