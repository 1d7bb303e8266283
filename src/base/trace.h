/* SPDX-License-Identifier: Apache-2.0
 * What a process did and when: a bounded list of spans, for people to look at.
 */
#ifndef ALLSHARD_BASE_TRACE_H
#define ALLSHARD_BASE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct as_trace as_trace;

typedef struct as_span {
    const char *name; /* a literal: "copy", "write" */
    int32_t thread;   /* 0: the caller's; 1 and on: the engine's; AS_TRACE_… */
    int64_t begin;    /* as_clock */
    int64_t end;
    int64_t bytes; /* moved; 0: none */
} as_span;

enum { AS_TRACE_SPANS = 1 << 18 };

/* Numbers of threads lie below AS_TRACE_THREADS. */
enum { AS_TRACE_BACKGROUND = 100, AS_TRACE_DEVICE = 101, AS_TRACE_THREADS = 102 };

/* Room for so many spans, had now; the last ones are dropped and counted when it is full. */
int as_trace_open(as_trace **out, size_t spans, as_error *e);
void as_trace_close(as_trace *t); /* NULL is allowed */

/* From any thread. NULL: nothing is remembered. */
void as_trace_add(as_trace *t, const as_span *span);

/* Other threads may go on adding. A span that is still being added is NULL. */
size_t as_trace_count(const as_trace *t);
const as_span *as_trace_at(const as_trace *t, size_t i);
size_t as_trace_dropped(const as_trace *t);

#endif
