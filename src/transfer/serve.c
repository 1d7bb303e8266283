/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/serve.h"

#include <stdlib.h>
#include <string.h>

#include "transfer/place.h"

/* An answer on its way. */
typedef struct answer {
    as_message message;
    char *buffer;
} answer;

/* Room for requests that is had before the first comes: some 2700 ranges of a block. */
enum { REQUEST_BYTES = 64 << 10 };

struct as_server {
    const as_transfer *transfer;
    as_pool pool;
    as_buffer request; /* the one that is being taken */
    int limit;
    int under_way;
    answer *answers; /* [limit]; those with a buffer are under way */
};

int as_server_open(as_server **out, const as_transfer *t, int buffers, as_error *e)
{
    as_server *s = calloc(1, sizeof *s);
    if (!s) {
        return as_fail_nomem(e);
    }
    s->transfer = t;
    s->limit = buffers;
    s->answers = calloc((size_t)buffers, sizeof *s->answers);
    int code = s->answers ? as_pool_init(&s->pool, (size_t)t->plan->block_bytes, buffers, e)
                          : as_fail_nomem(e);
    if (code == AS_OK) {
        code = as_pool_fill(&s->pool, e);
    }
    if (code == AS_OK) {
        code = as_buffer_reserve(&s->request, REQUEST_BYTES, e);
    }
    if (code != AS_OK) {
        as_server_close(s);
        return code;
    }
    *out = s;
    return AS_OK;
}

static int pack_ranges(const as_server *s, const as_range *ranges, size_t count, int64_t bytes,
                       char *out, as_error *e)
{
    int64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        as_place place;
        int code = as_place_find(s->transfer->state, s->transfer->plan, ranges[i].piece, &place, e);
        if (code != AS_OK) {
            return code;
        }
        int64_t size = as_geometry_before(&place.geometry, ranges[i].high) -
                       as_geometry_before(&place.geometry, ranges[i].low);
        if (size > bytes - at) {
            return as_fail(e, AS_INTERNAL, 0, "a request asks for more than it has room for");
        }
        code = place.device->pack(&place.geometry, place.memory, ranges[i].low, ranges[i].high,
                                  out + at, e);
        if (code != AS_OK) {
            return code;
        }
        at += size;
    }
    return at == bytes ? AS_OK : as_fail(e, AS_INTERNAL, 0, "a request asks for too little");
}

static int send_answer(as_server *s, int to, const as_ask *ask, const as_range *ranges,
                       size_t count, char *buffer, as_error *e)
{
    answer *a = s->answers;
    while (a->buffer) {
        a++; /* as_server_step has seen that one is free */
    }
    a->buffer = buffer;
    /* A failed pack is answered too: the asker waits, and the agreement at the end tells it. */
    int packed = pack_ranges(s, ranges, count, ask->bytes, a->buffer, e);
    int code = as_comm_send(s->transfer->comm, to, (int)ask->tag, a->buffer, (size_t)ask->bytes,
                            &a->message, e);
    s->under_way++;
    return code == AS_OK ? packed : code;
}

/* Receives a request that has arrived. All memory is had before: a request that was taken is
 * answered. Only for an uncommonly long one memory may be lacking; it stays where it is, for
 * the next try. */
static int take_request(as_server *s, int from, size_t size, as_error *e)
{
    char *buffer = NULL;
    s->request.size = 0;
    int code = as_buffer_reserve(&s->request, size, e);
    if (code == AS_OK) {
        code = as_pool_take(&s->pool, &buffer, e);
    }
    if (code != AS_OK) {
        return code;
    }
    const char *request = s->request.data;
    as_message m = {0};
    bool done = false;
    int idle = 0;
    code = as_comm_receive(s->transfer->comm, from, AS_TAG_ASK, s->request.data, size, &m, e);
    while (code == AS_OK && !done) { /* it is there: this takes no time */
        code = as_comm_test(s->transfer->comm, &m, &done, e);
        if (!done) {
            as_comm_pause(&idle);
        }
    }
    as_ask ask;
    if (code == AS_OK) {
        memcpy(&ask, request, sizeof ask);
        code = send_answer(s, from, &ask, (const as_range *)(const void *)(request + sizeof ask),
                           (size - sizeof ask) / sizeof(as_range), buffer, e);
    } else {
        as_pool_give(&s->pool, buffer);
    }
    return code;
}

static int finish_answers(as_server *s, bool *moved, as_error *e)
{
    int code = AS_OK;
    for (int i = 0; i < s->limit && s->under_way > 0 && code == AS_OK; i++) {
        answer *a = &s->answers[i];
        bool done = false;
        if (a->buffer) {
            code = as_comm_test(s->transfer->comm, &a->message, &done, e);
        }
        if (done) {
            as_pool_give(&s->pool, a->buffer);
            a->buffer = NULL;
            s->under_way--;
            *moved = true;
        }
    }
    return code;
}

int as_server_step(as_server *s, bool *moved, as_error *e)
{
    int code = finish_answers(s, moved, e);
    while (code == AS_OK && s->under_way < s->limit) {
        bool there = false;
        int from = 0;
        size_t size = 0;
        code = as_comm_probe(s->transfer->comm, AS_TAG_ASK, &there, &from, &size, e);
        if (code != AS_OK || !there) {
            break;
        }
        *moved = true;
        code = take_request(s, from, size, e);
    }
    return code;
}

bool as_server_idle(const as_server *s)
{
    return s->under_way == 0;
}

void as_server_close(as_server *s)
{
    if (!s) {
        return;
    }
    for (int i = 0; s->answers && i < s->limit; i++) {
        if (!s->answers[i].message.active) { /* else MPI still reads it */
            as_pool_give(&s->pool, s->answers[i].buffer);
        }
    }
    as_pool_free(&s->pool);
    as_buffer_free(&s->request);
    free(s->answers);
    free(s);
}
