/* SPDX-License-Identifier: Apache-2.0
 * Work for a processor that a save is not to disturb: arithmetic on numbers that lie in its cache.
 */
#ifndef ALLSHARD_CLI_BENCH_LOOP_H
#define ALLSHARD_CLI_BENCH_LOOP_H

#include <stdint.h>

#include "base/error.h"

typedef struct as_bench_loop {
    float *values; /* 256 KiB, heap */
} as_bench_loop;

/* AS_NOMEM. */
int as_bench_loop_open(as_bench_loop *l, as_error *e);
void as_bench_loop_close(as_bench_loop *l);

/* Computes for so many seconds, one iteration at least, each some microseconds long. How many. */
int64_t as_bench_loop_run(as_bench_loop *l, double seconds);

#endif
