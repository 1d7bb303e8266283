/* SPDX-License-Identifier: Apache-2.0
 * Walks the runs of a piece in file order. Runs of equal length and distance come
 * together as a tile, so that small elements are moved by one tight loop.
 */
#ifndef ALLSHARD_TENSOR_TILES_H
#define ALLSHARD_TENSOR_TILES_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/geometry.h"

typedef struct as_tile {
    int64_t place;       /* first byte in the tensor's line of bytes */
    int64_t memory;      /* the same byte, counted from the piece's pointer; may be negative */
    int64_t length;      /* bytes of a run */
    int64_t count;       /* runs */
    int64_t place_step;  /* bytes from run to run in the line */
    int64_t memory_step; /* bytes from run to run in memory */
} as_tile;

/* Are its runs one run, there as here? */
static inline bool as_tile_is_run(const as_tile *t)
{
    return t->count == 1 || (t->memory_step == t->length && t->place_step == t->length);
}

typedef struct as_tiles {
    const as_geometry *geometry;
    int64_t at;  /* bytes of the piece already walked over */
    int64_t end; /* bytes of the piece at which the walk ends */
} as_tiles;

/* The part of the piece in [low, high) of the tensor's line of bytes. The geometry must
 * outlive the walk. */
as_tiles as_tiles_begin(const as_geometry *g, int64_t low, int64_t high);

/* False when there is no further tile. */
bool as_tiles_next(as_tiles *walk, as_tile *out);

/* Copies `count` runs of `length` bytes. */
void as_tile_copy(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t length,
                  int64_t count);

/* Piece in memory → its bytes of [low, high) one after the other; returns their number. */
int64_t as_tiles_pack(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                      char *packed);
int64_t as_tiles_unpack(const as_geometry *g, char *memory, int64_t low, int64_t high,
                        const char *packed);

/* Piece in memory ↔ a window of the tensor's line of bytes, whose byte 0 is place `low`. */
void as_tiles_to_window(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                        char *window);
void as_tiles_from_window(const as_geometry *g, char *memory, int64_t low, int64_t high,
                          const char *window);

/* Packed bytes ↔ a window; here only the geometry in the file counts. */
void as_tiles_packed_to_window(const as_geometry *g, const char *packed, int64_t low, int64_t high,
                               char *window);
void as_tiles_window_to_packed(const as_geometry *g, char *packed, int64_t low, int64_t high,
                               const char *window);

#endif
