/* SPDX-License-Identifier: Apache-2.0
 * The plainest loops that move as many bytes as a checkpoint has: what the storage does when
 * nothing stands between it and a buffer. Figures of saves and loads are set against them.
 */
#ifndef ALLSHARD_CLI_BENCH_PLAIN_H
#define ALLSHARD_CLI_BENCH_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/bench_folder.h"
#include "cli/world.h"

typedef struct as_plain {
    void *buffer; /* AS_PLAIN_STEP bytes, random, on a page */
} as_plain;

enum { AS_PLAIN_STEP = 4 << 20, AS_PLAIN_ALIGN = 4096 };

/* Local. AS_NOMEM. */
int as_plain_open(as_plain *p, int rank, as_error *e);
void as_plain_close(as_plain *p);

/* What a loop did, on all ranks together. */
typedef struct as_plain_result {
    int64_t bytes;
    double seconds; /* of the slowest rank */
    bool refused;   /* O_DIRECT was, on one rank at least: nothing was measured */
} as_plain_result;

/* Each rank writes its share of `bytes`, rounded up to AS_PLAIN_ALIGN, to a file of its own by
 * pwrite of AS_PLAIN_STEP bytes, and syncs it: all within the clock. The files are then removed.
 * Collective. */
int as_plain_write(const as_plain *p, as_bench_folder *f, as_world *w, int64_t bytes, bool direct,
                   as_plain_result *out, as_error *e);

/* Each rank reads its share of the files that hold tensors by pread of AS_PLAIN_STEP bytes.
 * Collective. */
int as_plain_read(const as_plain *p, as_bench_folder *f, as_world *w, const char *name,
                  const as_buffer *files, bool direct, as_plain_result *out, as_error *e);

#endif
