/* SPDX-License-Identifier: Apache-2.0
 * Who runs where while a save is in flight: the compute loop of a rank on one processor, the
 * threads in the background on others, if there are any.
 */
#ifndef ALLSHARD_CLI_BENCH_CPUS_H
#define ALLSHARD_CLI_BENCH_CPUS_H

#include <stdbool.h>

#include "base/error.h"
#include "cli/world.h"
#include "io/cpus.h"

typedef struct as_bench_cpus {
    as_cpus all;      /* that the process may run on */
    int loop;         /* the one of the compute loop; −1: the kernel does not tell */
    char *background; /* for allshard_save_options.cpus, heap; NULL: the caller's */
} as_bench_cpus;

#define AS_BENCH_CPUS_INIT ((as_bench_cpus){.loop = -1})

/* Of the processors of this rank the first is the loop's and the others are the background's. Ranks
 * of a host that may run on the same processors share them out evenly; if there are less than two
 * for each, the first half of all is for the loops and the rest for what is in the background.
 * `given`: processors of the background, "2-3,8", the loop is to avoid; NULL: not given.
 * Collective. AS_NOMEM. */
int as_bench_cpus_choose(as_bench_cpus *c, as_world *w, const char *given, as_error *e);

/* Puts the calling thread on the processor of the loop, or back on all that it had. Local. */
void as_bench_cpus_pin(const as_bench_cpus *c, bool loop);

void as_bench_cpus_free(as_bench_cpus *c);

#endif
