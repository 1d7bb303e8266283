/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <stdatomic.h>
#include <stdlib.h>

struct as_trace {
    atomic_size_t next; /* place of the next span; passes `room` when spans are dropped */
    size_t room;
    as_span spans[];
};

int as_trace_open(as_trace **out, size_t spans, as_error *e)
{
    /* calloc leaves the pages untouched until spans come. */
    as_trace *t = calloc(1, sizeof *t + spans * sizeof *t->spans);
    if (!t) {
        return as_fail_nomem(e);
    }
    atomic_init(&t->next, 0);
    t->room = spans;
    *out = t;
    return AS_OK;
}

void as_trace_close(as_trace *t)
{
    free(t);
}

void as_trace_add(as_trace *t, const as_span *span)
{
    if (!t) {
        return;
    }
    size_t place = atomic_fetch_add(&t->next, 1);
    if (place < t->room) {
        t->spans[place] = *span;
    }
}

size_t as_trace_count(const as_trace *t)
{
    size_t next = atomic_load(&t->next);
    return next < t->room ? next : t->room;
}

const as_span *as_trace_at(const as_trace *t, size_t i)
{
    return &t->spans[i];
}

size_t as_trace_dropped(const as_trace *t)
{
    return atomic_load(&t->next) - as_trace_count(t);
}
