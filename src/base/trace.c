/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct place {
    as_span span;
    atomic_bool there; /* set when the span is */
} place;

struct as_trace {
    atomic_size_t next; /* place of the next span; passes `room` when spans are dropped */
    size_t room;
    place places[];
};

int as_trace_open(as_trace **out, size_t spans, as_error *e)
{
    /* calloc leaves the pages untouched until spans come. */
    as_trace *t = calloc(1, sizeof *t + spans * sizeof *t->places);
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
    size_t i = atomic_fetch_add(&t->next, 1);
    if (i < t->room) {
        t->places[i].span = *span;
        atomic_store_explicit(&t->places[i].there, true, memory_order_release);
    }
}

size_t as_trace_count(const as_trace *t)
{
    size_t next = atomic_load(&t->next);
    return next < t->room ? next : t->room;
}

const as_span *as_trace_at(const as_trace *t, size_t i)
{
    const place *p = &t->places[i];
    return atomic_load_explicit(&p->there, memory_order_acquire) ? &p->span : NULL;
}

size_t as_trace_dropped(const as_trace *t)
{
    return atomic_load(&t->next) - as_trace_count(t);
}
