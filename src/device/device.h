/* SPDX-License-Identifier: Apache-2.0
 * Kinds of memory that a piece may lie in: how its bytes come out and go in.
 */
#ifndef ALLSHARD_DEVICE_DEVICE_H
#define ALLSHARD_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/geometry.h"

/* Copies that were begun for one purpose and have not all ended. Zero at first. */
typedef struct as_copies {
    int64_t under_way; /* 0: all have ended, and the bytes are there */
    int code;          /* of the first that failed; its text is in the error of as_devices_step */
} as_copies;

/* Called again and again while a function waits for a device that has not done what was asked of it
 * (`moved`: bytes that it has moved so far): other ranks may wait meanwhile. An error ends the
 * wait where that can be, and is told there. */
typedef struct as_meanwhile {
    int (*look)(void *user, int64_t moved, as_error *e); /* NULL: nothing is called */
    void *user;
} as_meanwhile;

typedef struct as_device as_device;

/* `memory` is the piece's pointer, [low, high) a range of the tensor's line of bytes, `packed`
 * and `window` host memory; a window's byte 0 is place `low`. Where the geometry says that elements
 * are cast (as_geometry_cast), they are; ranges, packed bytes and windows are those of the file.
 *
 * Copies of the host's memory have ended when the function returns, and may be made by any thread.
 * Those of other memory may go on: then *c, which must not be NULL, counts them, and `memory`, the
 * host memory and *c stay in place until as_devices_step (devices.h) has brought c->under_way to 0,
 * after an error, too. They are begun and moved on by one thread. The geometry is copied. */
struct as_device {
    const char *name; /* "host", "cuda:0" */
    bool is_host;

    /* The piece's bytes of the range, one after the other. */
    int (*pack)(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                int64_t high, char *packed, as_copies *c, as_error *e);
    int (*unpack)(const as_device *d, const as_geometry *g, char *memory, int64_t low, int64_t high,
                  const char *packed, as_copies *c, as_error *e);

    /* The piece's bytes of the range, each at its place; what lies between them stays as it is. */
    int (*to_window)(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                     int64_t high, char *window, as_copies *c, as_error *e);
    int (*from_window)(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                       int64_t high, const char *window, as_copies *c, as_error *e);

    /* The host address of the range, if it is one run there as in the file; else NULL. */
    char *(*direct)(const as_geometry *g, char *memory, int64_t low, int64_t high);
};

extern const as_device as_device_host;

#endif
