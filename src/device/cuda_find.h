/* SPDX-License-Identifier: Apache-2.0
 * What CUDA knows of a pointer, and in which context its memory is reached. Of devices.c alone.
 */
#ifndef ALLSHARD_DEVICE_CUDA_FIND_H
#define ALLSHARD_DEVICE_CUDA_FIND_H

#include <stdbool.h>
#include <stdint.h>

#include "device/cuda_library.h"
#include "plan/state.h"

typedef struct as_allocation {
    bool on_device;      /* device memory, or managed memory; else nothing below counts */
    int ordinal;         /* of the device */
    as_cu_context owner; /* NULL: that of no context (virtual memory management, pools) */
    as_cu_pointer start;
    size_t bytes; /* 0: CUDA does not tell */
} as_allocation;

/* Looks a pointer up, whatever it points to. *asleep (static): why CUDA knows of no memory at all,
 * as when nobody has initialised it; else NULL. `asleep` is NULL where it has known of some: then
 * that is an error. AS_INVALID for arrays of textures, AS_CUDA,
 * AS_NOMEM. */
int as_cuda_look(const as_cuda *cuda, const void *pointer, as_allocation *out, const char **asleep,
                 as_error *e);

/* What a piece takes in memory, in bytes: [pointer - before, pointer + after). */
typedef struct as_reach {
    uint64_t before; /* where strides are negative */
    uint64_t after;  /* 0: it is empty */
} as_reach;

int as_cuda_reach(const as_state *s, size_t i, as_reach *out, as_error *e);

/* Does a piece that is not empty lie in the allocation that its pointer is in, to its last byte?
 * AS_INVALID if not, AS_CUDA, AS_NOMEM. */
int as_cuda_check(const as_cuda *cuda, const as_allocation *a, const void *pointer,
                  const as_reach *reach, as_error *e);

/* The context to reach it in: its owner, else the current one if it is of its device, else the
 * device's primary context, which is retained: *retained, and the caller releases it. */
int as_cuda_context(const as_cuda *cuda, const as_allocation *a, as_cu_context *out, bool *retained,
                    as_error *e);

/* The ordinal of a context's device. */
int as_cuda_ordinal(const as_cuda *cuda, as_cu_context context, int *out, as_error *e);

#endif
