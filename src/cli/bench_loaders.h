/* SPDX-License-Identifier: Apache-2.0
 * The ranks of a benchmark that load: all, or with --load-ranks the first of them alone.
 */
#ifndef ALLSHARD_CLI_BENCH_LOADERS_H
#define ALLSHARD_CLI_BENCH_LOADERS_H

#include <stdbool.h>

#include <allshard.h>

#include "base/error.h"
#include "cli/command.h"
#include "cli/spread.h"
#include "cli/world.h"

typedef struct as_bench_loaders {
    int count;
    bool apart;      /* with --load-ranks: their context is not the one that saves */
    bool here;       /* this rank is one of them */
    as_world world;  /* they alone, numbered as among all; the others have nothing of it */
    as_spread own;   /* apart: their context */
    as_spread *with; /* the context to load with */
} as_bench_loaders;

/* The first `count` ranks, with a context of their own; 0: all ranks, which load with the context
 * of `all`, so that buffers which a save made are there. `all` outlives it. Collective over all
 * ranks, as is the other. */
int as_bench_loaders_open(as_bench_loaders *l, int count, as_tool *tool, as_spread *all,
                          const allshard_options *options, as_error *e);

/* Also after a failure half way, and of zeros. */
void as_bench_loaders_close(as_bench_loaders *l);

#endif
