/* SPDX-License-Identifier: Apache-2.0
 * What a rank measures of a save or load, and where it tells spans to. Plain sums, so that
 * the records of all ranks travel as they are.
 */
#ifndef ALLSHARD_TRANSFER_METER_H
#define ALLSHARD_TRANSFER_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/trace.h"
#include "comm/comm.h"
#include "io/engine.h"

/* Nanoseconds, bytes and counts; see allshard_stats in allshard.h for their meaning. */
typedef struct as_tally {
    int64_t plan, begin, transfer, commit, clean, durable, total;
    int64_t copy, checksum, io, sync, wait;
    int64_t bytes_written, bytes_read, bytes_direct, bytes_sent, bytes_shared, bytes_checksum;
    int64_t messages, operations, memory, plan_steps, plan_cached;
    /* Of nonblocking saves; staging is an enum as_staging. */
    int64_t staging, blocking, staged, background, bytes_staged, snapshot_bytes, touched_bytes;
    int64_t bytes_device;
} as_tally;

typedef struct as_meter {
    as_tally tally;
    as_trace *trace; /* NULL: none */
    int32_t thread;  /* that measures: as_span.thread */
    char engine[16]; /* that did the work */
    char engine_reason[320];
    char staging_reason[160];
    char device[64]; /* where pieces lay, by as_devices_note; "": all on the host */
    char device_reason[160];
} as_meter;

/* A span of the calling thread that began at `begin` ends now: it is added to *sum (a member of
 * the tally) and to the trace. Returns the time. */
static inline int64_t as_meter_end(as_meter *m, const char *name, int64_t begin, int64_t bytes,
                                   int64_t *sum)
{
    int64_t now = as_clock();
    *sum += now - begin;
    as_span span = {.name = name, .thread = m->thread, .begin = begin, .end = now, .bytes = bytes};
    as_trace_add(m->trace, &span);
    return now;
}

/* Why the engine is not the one that was asked for. Manifests take UTF-8 only: what is not (names of
 * folders may be anything, and where a long text is cut a character may be) becomes '?'. */
void as_meter_reason(as_meter *m, const char *reason);

/* What the engine says did the work. */
void as_meter_engine(as_meter *m, const as_engine_type *type, const as_engine *engine);

/* A loop that looks for news: rests while there is none, and counts it as waiting. Zero at
 * first. */
typedef struct as_wait {
    int idle;
    int64_t since;
} as_wait;

/* Nothing has moved: sleeps a little, `longest` nanoseconds at the most. */
void as_wait_rest(as_wait *w, int64_t longest);

/* Something has. */
void as_wait_end(as_wait *w, as_meter *m);

#endif
