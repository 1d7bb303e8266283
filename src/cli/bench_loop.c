/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_loop.h"

#include <stdlib.h>

#include "cli/output.h"

enum { COUNT = 64 << 10, STEPS = 8, ALIGN = 64 };

int as_bench_loop_open(as_bench_loop *l, as_error *e)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGN, COUNT * sizeof *l->values) != 0) {
        return as_fail_nomem(e);
    }
    l->values = memory;
    for (int i = 0; i < COUNT; i++) {
        l->values[i] = (float)i / COUNT;
    }
    return AS_OK;
}

void as_bench_loop_close(as_bench_loop *l)
{
    free(l->values);
    *l = (as_bench_loop){0};
}

/* Several multiplications and additions for each number that is read, so that arithmetic is the
 * limit and not the cache. All numbers tend to 1: none overflows, or becomes too small to be fast. */
static void sweep(float *values)
{
    for (int i = 0; i < COUNT; i++) {
        float x = values[i];
        for (int s = 0; s < STEPS; s++) {
            x = x * 0.75F + 0.25F;
        }
        values[i] = x;
    }
}

int64_t as_bench_loop_run(as_bench_loop *l, double seconds)
{
    double end = as_seconds() + seconds;
    int64_t count = 0;
    do {
        sweep(l->values);
        count++;
    } while (as_seconds() < end);
    return count;
}
