/* SPDX-License-Identifier: Apache-2.0
 * A range of a piece on its way between a device and the host: cut into parts, each of which goes
 * one way (cuda_rule.h) and fits the buffers that it needs.
 */
#ifndef ALLSHARD_DEVICE_CUDA_TRIP_H
#define ALLSHARD_DEVICE_CUDA_TRIP_H

#include "device/cuda_channel.h"
#include "device/cuda_rule.h"

typedef struct as_trip {
    as_channel *channel;
    const as_geometry *g; /* the piece */
    as_geometry m;        /* its elements as they are in memory */
    as_cu_pointer memory; /* its pointer */
    int64_t low;          /* the range in the tensor's line of bytes */
    int64_t high;
    int64_t before; /* bytes of the piece, in the file, before the range and its end */
    int64_t until;
    char *host;     /* packed or window; a load's is only read from */
    bool is_window; /* one that has bytes of others, too; else packed */
    bool is_pinned;
    bool writes;       /* to the device */
    int64_t file_size; /* of an element that is cast; else 1 */
    int64_t unit;      /* the same in memory */
    int64_t at;        /* bytes of the piece in memory where the next part begins */
    int64_t end;
} as_trip;

typedef struct as_part {
    as_way way;
    int64_t from; /* bytes [from, way.to) of the piece in memory */
    int64_t low;  /* the part of the range, in the tensor's line of bytes */
    int64_t high;
    char *host;     /* for that part */
    bool is_direct; /* between the device and `host`, without a buffer of the channel */
} as_part;

/* Of elements that the range cuts, saves have the part that is in the range (`writes` is false), and
 * loads leave them out. */
as_trip as_trip_begin(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                      int64_t high, char *host, bool is_window, bool writes);

/* False when there is no further part. May have the kernel loaded. */
bool as_trip_next(as_trip *t, as_part *out);

/* The buffer's image of the piece: what its pointer would be if byte `base` of its memory were the
 * buffer's first. Only bytes of the buffer may be reached by it. */
static inline char *as_trip_image(char *buffer, int64_t base)
{
    return (char *)((uintptr_t)buffer - (uintptr_t)base);
}

#endif
