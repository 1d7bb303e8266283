/* SPDX-License-Identifier: Apache-2.0
 * The memory that a benchmark's tensors lie in: the host's, or that of a CUDA device.
 */
#ifndef ALLSHARD_CLI_BENCH_MEMORY_H
#define ALLSHARD_CLI_BENCH_MEMORY_H

#include <stdint.h>

#include "base/error.h"
#include "cli/world.h"
#include "device/cuda_library.h"

typedef struct as_bench_memory {
    const as_cuda *cuda; /* NULL: the host's */
    as_cu_context context;
    as_cu_device device;
    char name[160]; /* "cuda:0 (NVIDIA H100 80GB HBM3)"; "" for the host's. Stays after the close */
} as_bench_memory;

/* "cuda:3": 3; "cuda", or NULL: -1. AS_INVALID. */
int as_bench_memory_read(const char *device, int *number, as_error *e);

/* `device`: NULL for the host's, "cuda" for the devices of each host, dealt to its ranks by turns,
 * or "cuda:N". The device's primary context becomes the calling thread's, as in a program that uses
 * CUDA. Collective. AS_INVALID, AS_CUDA. */
int as_bench_memory_open(as_bench_memory *m, const char *device, as_world *w, as_error *e);
void as_bench_memory_close(as_bench_memory *m);

/* At a multiple of `align`, a power of two from 64 to 1 MiB; NULL after an error. */
void *as_bench_memory_take(const as_bench_memory *m, int64_t align, int64_t bytes, as_error *e);
void as_bench_memory_give(const as_bench_memory *m, void *memory);

/* From and to the host; the bytes are there at the return. */
int as_bench_memory_put(const as_bench_memory *m, void *to, const void *from, int64_t bytes,
                        as_error *e);
int as_bench_memory_get(const as_bench_memory *m, void *to, const void *from, int64_t bytes,
                        as_error *e);

/* Begins to bring bytes to the host, where they are when as_bench_memory_wait returns. */
int as_bench_memory_fetch(const as_bench_memory *m, void *to, const void *from, int64_t bytes,
                          as_error *e);
int as_bench_memory_wait(const as_bench_memory *m, as_error *e);

/* Page-locks host memory, so that the device reaches it by itself. Nothing for the host's. */
int as_bench_memory_pin(const as_bench_memory *m, void *host, int64_t bytes, as_error *e);
void as_bench_memory_unpin(const as_bench_memory *m, void *host);

#endif
