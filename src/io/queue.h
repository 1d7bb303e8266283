/* SPDX-License-Identifier: Apache-2.0
 * Operations in a row, linked by their own `next`.
 */
#ifndef ALLSHARD_IO_QUEUE_H
#define ALLSHARD_IO_QUEUE_H

#include <stddef.h>

#include "io/engine.h"

typedef struct as_io_queue {
    as_io *first;
    as_io *last;
} as_io_queue;

static inline void as_io_put(as_io_queue *q, as_io *io)
{
    io->next = NULL;
    if (q->last) {
        q->last->next = io;
    } else {
        q->first = io;
    }
    q->last = io;
}

/* NULL: there is none. */
static inline as_io *as_io_take(as_io_queue *q)
{
    as_io *io = q->first;
    if (io) {
        q->first = io->next;
        q->last = q->first ? q->last : NULL;
    }
    return io;
}

#endif
