/* SPDX-License-Identifier: Apache-2.0
 * What one thread needs to bring bytes of a device to the host and back, a tile at a time: a stream
 * and two pinned tiles.
 */
#ifndef ALLSHARD_IO_GDS_LANE_H
#define ALLSHARD_IO_GDS_LANE_H

#include "base/checksum.h"
#include "device/cuda_library.h"
#include "io/engine.h"

enum { AS_GDS_TILE = 1 << 20 };

typedef struct as_gds_lane {
    const as_cuda *cuda;
    as_cu_context context;
    as_cu_stream stream;
    char *tiles; /* two, one mapping */
    bool pinned;
    as_checksum_stream *sum;  /* NULL until it is needed */
    bool busy;                /* the owner's */
    struct as_gds_lane *next; /* likewise */
} as_gds_lane;

/* With the context current, as in all of these. AS_NOMEM, AS_CUDA. */
int as_gds_lane_open(as_gds_lane **out, const as_cuda *cuda, as_cu_context context, as_error *e);
void as_gds_lane_close(as_gds_lane *l); /* NULL is allowed */

/* Between a tile and the device; at its end the bytes are there. `count` ≤ AS_GDS_TILE. AS_CUDA. */
int as_gds_lane_out(as_gds_lane *l, as_cu_pointer from, int64_t count, as_error *e);
int as_gds_lane_in(as_gds_lane *l, as_cu_pointer to, int64_t count, as_error *e);

/* Adds the checksum's time to *nanoseconds. AS_NOMEM, AS_CUDA. */
int as_gds_lane_hash(as_gds_lane *l, as_cu_pointer from, int64_t count, uint64_t *sum,
                     int64_t *nanoseconds, as_error *e);

#endif
