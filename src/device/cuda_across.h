/* SPDX-License-Identifier: Apache-2.0
 * Copies between a piece's memory on a device and a window of the tensor's line of bytes on the same
 * device: the host has no part in them.
 *
 * Runs and rows of at least AS_NARROW_ROW bytes go by copies, AS_ACROSS_CALLS of them at the most for
 * one range; what is narrower, and what is cast, by the kernel, if all bytes of the range are the
 * piece's. Other ranges have no way.
 */
#ifndef ALLSHARD_DEVICE_CUDA_ACROSS_H
#define ALLSHARD_DEVICE_CUDA_ACROSS_H

#include "device/device.h"

enum { AS_ACROSS_CALLS = 64 };

typedef struct as_across {
    const as_geometry *geometry;
    char *memory; /* the piece's pointer */
    int64_t low;  /* range of the tensor's line of bytes */
    int64_t high;
    uint64_t window; /* device memory: the place of byte `low` */
    bool to_piece;   /* else from it */
} as_across;

/* Is there a way? `d` is not the host. */
bool as_cuda_can_cross(const as_device *d, const as_across *a);

/* Begins the copy, which *c counts: as the functions of as_device. AS_CUDA; AS_INTERNAL without a
 * way. */
int as_cuda_cross(const as_device *d, const as_across *a, as_copies *c, as_error *e);

#endif
