/* SPDX-License-Identifier: Apache-2.0
 * Host memory.
 */
#include "device/device.h"
#include "tensor/cast_tiles.h"
#include "tensor/tiles.h"

static int pack(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                int64_t high, char *packed, as_copies *c, as_error *e)
{
    (void)d, (void)c, (void)e;
    if (g->memory_dtype) {
        as_cast_pack(g, memory, low, high, packed);
    } else {
        (void)as_tiles_pack(g, memory, low, high, packed);
    }
    return AS_OK;
}

static int unpack(const as_device *d, const as_geometry *g, char *memory, int64_t low, int64_t high,
                  const char *packed, as_copies *c, as_error *e)
{
    (void)d, (void)c;
    if (g->memory_dtype) {
        return as_cast_unpack(g, memory, low, high, packed, e);
    }
    (void)as_tiles_unpack(g, memory, low, high, packed);
    return AS_OK;
}

static int to_window(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                     int64_t high, char *window, as_copies *c, as_error *e)
{
    (void)d, (void)c, (void)e;
    if (g->memory_dtype) {
        as_cast_to_window(g, memory, low, high, window);
    } else {
        as_tiles_to_window(g, memory, low, high, window);
    }
    return AS_OK;
}

static int from_window(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                       int64_t high, const char *window, as_copies *c, as_error *e)
{
    (void)d, (void)c;
    if (g->memory_dtype) {
        return as_cast_from_window(g, memory, low, high, window, e);
    }
    as_tiles_from_window(g, memory, low, high, window);
    return AS_OK;
}

static char *direct(const as_geometry *g, char *memory, int64_t low, int64_t high)
{
    as_tiles walk = as_tiles_begin(g, low, high);
    as_tile t;
    if (g->memory_dtype || !as_tiles_next(&walk, &t) || t.place != low ||
        t.length * t.count != high - low) {
        return NULL;
    }
    return as_tile_is_run(&t) ? memory + t.memory : NULL;
}

const as_device as_device_host = {
    .name = "host",
    .is_host = true,
    .pack = pack,
    .unpack = unpack,
    .to_window = to_window,
    .from_window = from_window,
    .direct = direct,
};
