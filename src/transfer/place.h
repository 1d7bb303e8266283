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

#endif
