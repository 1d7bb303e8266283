/* SPDX-License-Identifier: Apache-2.0
 * What tiles.h does, for pieces whose elements have another dtype in memory than in the file: their
 * geometry is as_geometry_cast's. [low, high), packed bytes and windows are of the file. Elements
 * are cast on their way, a run at a time, or gathered into a small buffer that stays in cache.
 *
 * A range may begin or end inside an element. Out of memory goes that part of the cast element.
 * What comes into memory in part waits among the geometry's seams until the rest is there, since
 * half an element cannot be cast. Blocks cut elements only of files whose tensors do not lie at
 * multiples of their elements' size; allshard and safetensors write no such files, but read them.
 */
#ifndef ALLSHARD_TENSOR_CAST_TILES_H
#define ALLSHARD_TENSOR_CAST_TILES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/geometry.h"

/* Piece in memory → its bytes of [low, high) one after the other, or in a window of the tensor's
 * line of bytes, whose byte 0 is place `low`. */
void as_cast_pack(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                  char *packed);
void as_cast_to_window(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                       char *window);

/* The other way. AS_NOMEM for a seam. */
int as_cast_unpack(const as_geometry *g, char *memory, int64_t low, int64_t high,
                   const char *packed, as_error *e);
int as_cast_from_window(const as_geometry *g, char *memory, int64_t low, int64_t high,
                        const char *window, as_error *e);

/* An element of which the last part has come in, cast. */
typedef struct as_cast_element {
    int64_t memory; /* counted from the piece's pointer */
    int size;       /* bytes in memory */
    char bytes[8];
} as_cast_element;

/* What as_cast_unpack and as_cast_from_window (`packed` is false) do with elements that the range
 * cuts, for memory that cannot be written to: those that are complete now, *count of them, are in
 * `out`. AS_NOMEM. */
int as_cast_seams(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                  const char *in, bool packed, as_cast_element out[2], int *count, as_error *e);

#endif
