/* SPDX-License-Identifier: Apache-2.0
 * What a benchmark saves: a known model, a plain one of a size, or the weights and optimizer of one
 * of MLPerf Storage's checkpoint workloads.
 */
#ifndef ALLSHARD_CLI_BENCH_MODEL_H
#define ALLSHARD_CLI_BENCH_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/tensors.h"

/* Names for --model: the known models, then "mlperf:8b" and the like; NULL past the last. */
const char *as_bench_model_name(size_t i);

/* A checkpoint workload of MLPerf Storage. */
typedef struct as_workload {
    const char *name;   /* "mlperf:8b" */
    int64_t weight_gib; /* BF16, 2 bytes a parameter; the optimizer has 12 more (F32: the weight
                           itself and two moments) */
    int tp, pp, dp;
    int ranks;          /* tp × pp × dp: the processes that its rules ask for */
    const char *layout; /* that has the same bytes on each of so many ranks */
} as_workload;

/* NULL if there is none of that name. */
const as_workload *as_workload_find(const char *name);

/* A decoder of 16 layers and more, in one type, whose tensors have `bytes` bytes, less the rest of
 * a row. AS_INVALID if that is below AS_SIZED_LEAST or above AS_SIZED_MOST, whose list of tensors
 * still fits any memory; *out is overwritten. */
enum { AS_SIZED_LEAST = 64 << 10 };
#define AS_SIZED_MOST (INT64_C(1) << 50)
int as_sized_make(int64_t bytes, int dtype, as_tensors *out, as_error *e);

/* The weights and optimizer of a workload, 1/scale of them. */
int as_workload_make(const as_workload *w, int64_t scale, as_tensors *out, as_error *e);

#endif
