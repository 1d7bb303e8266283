/* SPDX-License-Identifier: Apache-2.0
 * Kinds of memory that a piece may lie in: how its bytes come out and go in.
 */
#ifndef ALLSHARD_DEVICE_DEVICE_H
#define ALLSHARD_DEVICE_DEVICE_H

#include <stdint.h>

#include "base/error.h"
#include "tensor/geometry.h"

/* `memory` is the piece's pointer, [low, high) a range of the tensor's line of bytes, `packed`
 * and `window` host memory; a window's byte 0 is place `low`. Where the geometry says that elements
 * are cast (as_geometry_cast), they are; ranges, packed bytes and windows are those of the file. */
typedef struct as_device {
    const char *name;

    /* The piece's bytes of the range, one after the other. */
    int (*pack)(const as_geometry *g, const char *memory, int64_t low, int64_t high, char *packed,
                as_error *e);
    int (*unpack)(const as_geometry *g, char *memory, int64_t low, int64_t high, const char *packed,
                  as_error *e);

    /* The piece's bytes of the range, each at its place. */
    int (*to_window)(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                     char *window, as_error *e);
    int (*from_window)(const as_geometry *g, char *memory, int64_t low, int64_t high,
                       const char *window, as_error *e);

    /* The host address of the range, if it is one run there as in the file; else NULL. */
    char *(*direct)(const as_geometry *g, char *memory, int64_t low, int64_t high);
} as_device;

extern const as_device as_device_host;

#endif
