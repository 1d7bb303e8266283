/* SPDX-License-Identifier: Apache-2.0
 * Copies of runs and rows straight between a piece's memory on a device and the host.
 */
#ifndef ALLSHARD_DEVICE_CUDA_ROWS_H
#define ALLSHARD_DEVICE_CUDA_ROWS_H

#include "device/cuda_channel.h"

typedef struct as_rows {
    const as_geometry *m; /* without a cast */
    as_cu_pointer memory; /* the piece's pointer */
    int64_t from;         /* bytes [from, to) of the piece, from < to */
    int64_t to;
    char *host; /* those bytes one after the other, or a window; to a device, only read from */
    bool is_window;
    int64_t low; /* a window: the place of its byte 0 */
    bool to_device;
} as_rows;

/* Puts them into the channel's stream, whose context is the current one. AS_CUDA. */
int as_cuda_rows(const as_channel *c, const as_rows *r, as_error *e);

/* Bytes one after the other. AS_CUDA. */
int as_cuda_copy_out(const as_channel *c, char *host, as_cu_pointer memory, int64_t bytes,
                     as_error *e);
int as_cuda_copy_in(const as_channel *c, as_cu_pointer memory, const char *host, int64_t bytes,
                    as_error *e);

#endif
