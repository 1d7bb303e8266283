/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/tiles.h"

#include <string.h>

#include "base/checked.h"

as_tiles as_tiles_begin(const as_geometry *g, int64_t low, int64_t high)
{
    return (as_tiles){
        .geometry = g, .at = as_geometry_before(g, low), .end = as_geometry_before(g, high)};
}

bool as_tiles_next(as_tiles *walk, as_tile *out)
{
    const as_geometry *g = walk->geometry;
    if (walk->at >= walk->end || g->ndim < 1) {
        return false;
    }
    /* Coordinates inside the box of the byte that the walk stands at. */
    int64_t rest = walk->at;
    int64_t index[AS_GEOMETRY_DIMS] = {0};
    for (int d = g->ndim - 1; d >= 0; d--) {
        index[d] = rest % g->shape[d];
        rest /= g->shape[d];
    }
    *out = (as_tile){0};
    for (int d = 0; d < g->ndim; d++) {
        out->place = out->place * g->global[d] + g->offset[d] + index[d];
        out->memory += index[d] * g->stride[d];
    }
    int last = g->ndim - 1;
    int64_t left = walk->end - walk->at;
    out->length = as_min_i64(g->shape[last] - index[last], left);
    out->count = 1;
    if (last > 0 && out->length == g->shape[last]) {
        /* Whole runs up to the end of the dimension above. */
        out->count = as_min_i64(g->shape[last - 1] - index[last - 1], left / out->length);
        out->place_step = g->global[last];
        out->memory_step = g->stride[last - 1];
    }
    walk->at += out->length * out->count;
    return true;
}

void as_tile_copy(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t length,
                  int64_t count)
{
    if (count == 1 || (to_step == length && from_step == length)) {
        memcpy(to, from, (size_t)(length * count));
        return;
    }
    /* A constant length lets the compiler make plain loads and stores of the copy. */
#define COPY_RUNS(n)                                                                               \
    for (int64_t i = 0; i < count; i++) {                                                          \
        memcpy(to + i * to_step, from + i * from_step, (size_t)(n));                               \
    }
    switch (length) {
    case 1:
        COPY_RUNS(1)
        break;
    case 2:
        COPY_RUNS(2)
        break;
    case 4:
        COPY_RUNS(4)
        break;
    case 8:
        COPY_RUNS(8)
        break;
    default:
        COPY_RUNS(length)
        break;
    }
#undef COPY_RUNS
}

int64_t as_tiles_pack(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                      char *packed)
{
    as_tiles walk = as_tiles_begin(g, low, high);
    as_tile t;
    char *to = packed;
    while (as_tiles_next(&walk, &t)) {
        as_tile_copy(to, t.length, memory + t.memory, t.memory_step, t.length, t.count);
        to += t.length * t.count;
    }
    return to - packed;
}

int64_t as_tiles_unpack(const as_geometry *g, char *memory, int64_t low, int64_t high,
                        const char *packed)
{
    as_tiles walk = as_tiles_begin(g, low, high);
    as_tile t;
    const char *from = packed;
    while (as_tiles_next(&walk, &t)) {
        as_tile_copy(memory + t.memory, t.memory_step, from, t.length, t.length, t.count);
        from += t.length * t.count;
    }
    return from - packed;
}

void as_tiles_to_window(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                        char *window)
{
    as_tiles walk = as_tiles_begin(g, low, high);
    as_tile t;
    while (as_tiles_next(&walk, &t)) {
        as_tile_copy(window + (t.place - low), t.place_step, memory + t.memory, t.memory_step,
                     t.length, t.count);
    }
}

void as_tiles_from_window(const as_geometry *g, char *memory, int64_t low, int64_t high,
                          const char *window)
{
    as_tiles walk = as_tiles_begin(g, low, high);
    as_tile t;
    while (as_tiles_next(&walk, &t)) {
        as_tile_copy(memory + t.memory, t.memory_step, window + (t.place - low), t.place_step,
                     t.length, t.count);
    }
}

void as_tiles_packed_to_window(const as_geometry *g, const char *packed, int64_t low, int64_t high,
                               char *window)
{
    as_tiles walk = as_tiles_begin(g, low, high);
    as_tile t;
    while (as_tiles_next(&walk, &t)) {
        as_tile_copy(window + (t.place - low), t.place_step, packed, t.length, t.length, t.count);
        packed += t.length * t.count;
    }
}

void as_tiles_window_to_packed(const as_geometry *g, char *packed, int64_t low, int64_t high,
                               const char *window)
{
    as_tiles walk = as_tiles_begin(g, low, high);
    as_tile t;
    while (as_tiles_next(&walk, &t)) {
        as_tile_copy(packed, t.length, window + (t.place - low), t.place_step, t.length, t.count);
        packed += t.length * t.count;
    }
}
