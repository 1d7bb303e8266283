/* SPDX-License-Identifier: Apache-2.0
 * Device memory that cuFile moves bytes from and to: allocated and registered once, because to
 * register pins it, through a part of the address space that devices have little of.
 */
#ifndef ALLSHARD_IO_GDS_AREA_H
#define ALLSHARD_IO_GDS_AREA_H

#include "io/cufile_library.h"

enum {
    AS_GDS_ALIGN = 4096,   /* of places in files and buffers, and of counts */
    AS_GDS_BASE = 64 << 10 /* of registered memory: what devices' memory is pinned in */
};

typedef struct as_gds_area {
    as_cu_pointer allocation; /* 0: there is none */
    as_cu_pointer base;       /* registered from here on; a multiple of AS_GDS_BASE */
    size_t bytes;
} as_gds_area;

/* In the current context. AS_NOMEM, AS_CUDA, AS_SYSTEM; then *a is empty. */
int as_gds_area_open(as_gds_area *a, const as_cufile *cufile, const as_cuda *cuda, size_t bytes,
                     as_error *e);

/* In the context that it was opened in; nothing may be under way there. An empty one is allowed. */
void as_gds_area_close(as_gds_area *a, const as_cufile *cufile, const as_cuda *cuda);

/* What cuFile calls the base: a number, not memory that anybody here looks at. */
static inline void *as_gds_pointer(as_cu_pointer p)
{
    return (void *)(uintptr_t)p; /* NOLINT(performance-no-int-to-ptr) */
}

#endif
