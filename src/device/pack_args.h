/* SPDX-License-Identifier: Apache-2.0
 * The argument of the pack kernel (pack_body.h) for a part of a piece.
 */
#ifndef ALLSHARD_DEVICE_PACK_ARGS_H
#define ALLSHARD_DEVICE_PACK_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "device/pack_body.h"
#include "tensor/geometry.h"

/* Bytes of the piece [at, end), counted as as_geometry_before counts them. */
typedef struct as_pack_part {
    int64_t at;
    int64_t end;
} as_pack_part;

/* The part that lies in [low, high) of the tensor's line of bytes. False if the elements are cast
 * and the range cuts one of the piece's. */
bool as_pack_part_of(const as_geometry *g, int64_t low, int64_t high, as_pack_part *out);

/* The argument for the part's first `most` units (≤ AS_PACK_MOST), or fewer if there are no more.
 * `memory` is the piece's pointer and `packed` the place of the part's first byte, addresses of any
 * alignment. The part is not empty and comes from as_pack_part_of, or is what was left of such a
 * one. Returns the bytes of the file that the units are. */
int64_t as_pack_args_make(const as_geometry *g, as_pack_part part, uint64_t memory, uint64_t packed,
                          uint32_t most, as_pack_args *out);

#endif
