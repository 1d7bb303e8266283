/* SPDX-License-Identifier: Apache-2.0
 * The plainest loops that move as many bytes as a checkpoint has: what storage and memory do when
 * nothing stands between them and a buffer. Figures of saves and loads are set against them.
 */
#ifndef ALLSHARD_CLI_BENCH_PLAIN_H
#define ALLSHARD_CLI_BENCH_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/bench_folder.h"
#include "cli/bench_state.h"
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
    double seconds;   /* of the slowest rank */
    double processor; /* seconds of all ranks' processors */
    bool refused;     /* O_DIRECT was, on one rank at least: nothing was measured */
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

/* Memory of this rank that bytes are copied to. */
typedef struct as_plain_target {
    char *memory; /* heap; every page was touched */
    int64_t bytes;
} as_plain_target;

/* On huge pages where the system has them, and within reach of the device that the pieces lie on.
 * Local. AS_NOMEM, AS_CUDA. */
int as_plain_target_open(as_plain_target *t, const as_bench_memory *where, int64_t bytes,
                         as_error *e);
void as_plain_target_close(as_plain_target *t, const as_bench_memory *where);

/* Each rank copies as many bytes as its target has out of its pieces, from the first one on, each
 * with one memcpy, or one copy of the device; if that are more than it holds, it begins anew. A rank that holds nothing copies
 * nothing. Collective. */
int as_plain_copy(as_world *w, const as_bench_state *s, const as_plain_target *t,
                  as_plain_result *out, as_error *e);

#endif
