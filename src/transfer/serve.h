/* SPDX-License-Identifier: Apache-2.0
 * The holder's side of a save: other ranks, which write blocks, ask for bytes of
 * this rank's pieces. On the same node they get them straight into the block's window,
 * and then an empty message; elsewhere packed. The asker has posted its receive before
 * it asks, so that every answer is taken and no cycle of full pools can form.
 */
#ifndef ALLSHARD_TRANSFER_SERVE_H
#define ALLSHARD_TRANSFER_SERVE_H

#include "io/pool.h"
#include "transfer/context.h"
#include "transfer/pieces.h"

/* A request: this head, then as_range[]. */
typedef struct as_ask {
    int64_t tag;    /* under which the asker waits for the answer */
    int64_t bytes;  /* of the ranges; at most those of a buffer */
    int64_t window; /* in the asker's arena, to scatter into; −1: answer with the bytes */
    int64_t ring;   /* 1: in its ring (as_transfer) instead, where they stay */
} as_ask;

enum { AS_TAG_ASK = 2, AS_TAG_ANSWER = 16 };

typedef struct as_server as_server;

/* `memory` has `buffers` pages-aligned buffers (as_pool_step) of `bytes` bytes, the most that a rank
 * asks for at once, for packed answers: none are needed if every rank is near. */
int as_server_open(as_server **out, const as_transfer *t, char *memory, size_t bytes, int buffers,
                   as_error *e);

/* Takes requests and moves answers on, without blocking; *moved is set if anything
 * happened. A piece that cannot be read is told in e, and something is sent all the same; bytes that
 * are on a device are sent when their copies have ended (copying.h). */
int as_server_step(as_server *s, bool *moved, as_error *e);

/* Are all answers taken? */
bool as_server_idle(const as_server *s);

void as_server_close(as_server *s);

#endif
