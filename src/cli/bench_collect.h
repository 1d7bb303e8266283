/* SPDX-License-Identifier: Apache-2.0
 * The clock around a call of the library, and what all ranks saw of it, put together in a sample.
 */
#ifndef ALLSHARD_CLI_BENCH_COLLECT_H
#define ALLSHARD_CLI_BENCH_COLLECT_H

#include "cli/bench.h"
#include "cli/bench_usage.h"

/* Ranks that do something together, and the context that they do it with. */
typedef struct as_doers {
    as_world *world;
    const as_spread *with;
} as_doers;

/* What one rank saw of one call. */
typedef struct as_timing {
    as_usage usage;
    double begin;
    double seconds;  /* that count: to durable, or to the end of a load */
    double blocking; /* that the caller could do nothing else in */
} as_timing;

/* Where figures go that saves, loads and nonblocking saves have in common. AS_METRIC_COUNT:
 * nowhere. */
typedef struct as_places {
    enum as_metric seconds, blocking, counts, plan, cached, begin, transfer, copy, checksum, io,
        sync, wait, commit, clean, processor, written, read, peak, sent, shared, uncopied, staged,
        snapshot, touched;
} as_places;

/* Those of metrics named AS_M_<prefix>_…; the others are to follow. */
#define AS_PLACES_COMMON(prefix)                                                                   \
    .plan = AS_M_##prefix##_PLAN_S, .cached = AS_M_##prefix##_PLAN_CACHED,                         \
    .begin = AS_M_##prefix##_BEGIN_S, .transfer = AS_M_##prefix##_TRANSFER_S,                      \
    .copy = AS_M_##prefix##_COPY_S, .checksum = AS_M_##prefix##_CHECKSUM_S,                        \
    .io = AS_M_##prefix##_IO_S, .sync = AS_M_##prefix##_SYNC_S, .wait = AS_M_##prefix##_WAIT_S,    \
    .commit = AS_M_##prefix##_COMMIT_S, .processor = AS_M_##prefix##_CPU_S,                        \
    .read = AS_M_##prefix##_READ, .peak = AS_M_##prefix##_PEAK, .sent = AS_M_##prefix##_SENT,      \
    .shared = AS_M_##prefix##_SHARED, .uncopied = AS_M_##prefix##_UNCOPIED

/* The ranks leave this at about the same time, with their clocks at zero, and nothing of before is
 * left to be done. Collective over them. */
int as_timing_start(as_bench *b, as_world *w, as_timing *t, as_error *e);

/* All have come to the end of it: `seconds` and `blocking` are set, `usage` is still that of the
 * beginning. `code` is what the call gave, which is returned. Local. */
int as_timing_stop(const as_doers *d, as_timing *t, int code, as_error *e);

/* What the library tells of a rank. The main process can ask for any. Local. */
int as_collect_stats(const as_spread *with, int rank, allshard_stats *out, as_error *e);

/* Puts what took longest, and the sums, into the sample; what the library tells on rank 0 only.
 * Collective over them. */
int as_collect(as_bench *b, const as_doers *d, const as_timing *t, const as_places *p,
               as_sample *out, as_worker *worker, as_error *e);

#endif
