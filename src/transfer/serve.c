/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/serve.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/pool.h"
#include "transfer/place.h"

/* An answer on its way. */
typedef struct answer {
    bool under_way;
    bool sent; /* else it waits for the copies */
    as_copies copies;
    as_message message;
    int to;
    int tag;
    char *buffer; /* NULL: the answer is empty */
    size_t size;
} answer;

enum {
    REQUEST_BYTES = 64 << 10, /* room for requests that is had before the first comes */
    EMPTY_ANSWERS = 64        /* under way at a time, beside those with a buffer */
};

struct as_server {
    const as_transfer *transfer;
    as_pool pool;
    as_buffer request; /* the one that is being taken */
    int limit;
    int under_way;
    answer *answers; /* [limit] */
    bool far;        /* some rank needs packed answers */
};

int as_server_open(as_server **out, const as_transfer *t, char *memory, size_t bytes, int buffers,
                   as_error *e)
{
    as_server *s = calloc(1, sizeof *s);
    if (!s) {
        return as_fail_nomem(e);
    }
    s->transfer = t;
    s->far = buffers > 0;
    /* Each answer with bytes has a buffer: when all are out, no request is taken before one is
     * back, near ones neither, since a request is looked at only when it is taken. */
    s->limit = s->far ? buffers : EMPTY_ANSWERS;
    s->answers = calloc((size_t)s->limit, sizeof *s->answers);
    int code = s->answers ? as_pool_init(&s->pool, memory, bytes, buffers, e) : as_fail_nomem(e);
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

/* One range to its place in a window, or in a ring, where nobody looks at it for a while. */
static int put_range(const as_place *place, const as_ask *ask, const as_range *r, char *to,
                     as_copies *copies, as_error *e)
{
    return ask->ring ? as_place_keep(place, r->low, r->high, to, copies, e)
                     : place->device->to_window(place->device, &place->geometry, place->memory,
                                                r->low, r->high, to, copies, e);
}

/* Puts the ranges into `packed`, one after the other, or (NULL) each at its place in `window`, of
 * which `room` bytes are there. */
static int give_ranges(const as_server *s, const as_ask *ask, const as_range *ranges, size_t count,
                       char *packed, char *window, int64_t room, as_copies *copies, as_error *e)
{
    int64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const as_range *r = &ranges[i];
        as_place place;
        int code = as_place_find(s->transfer, r->piece, &place, e);
        if (code != AS_OK) {
            return code;
        }
        int64_t size = as_geometry_before(&place.geometry, r->high) -
                       as_geometry_before(&place.geometry, r->low);
        if (size > ask->bytes - at || (!packed && (r->at < 0 || r->high - r->low > room - r->at))) {
            return as_fail(e, AS_INTERNAL, 0, "a request asks for more than it has room for");
        }
        code = packed ? place.device->pack(place.device, &place.geometry, place.memory, r->low,
                                           r->high, packed + at, copies, e)
                      : put_range(&place, ask, r, window + r->at, copies, e);
        if (code != AS_OK) {
            return code;
        }
        at += size;
    }
    return at == ask->bytes ? AS_OK : as_fail(e, AS_INTERNAL, 0, "a request asks for too little");
}

/* Into the asker's window, or its ring. */
static int scatter(const as_server *s, int to, const as_ask *ask, const as_range *ranges,
                   size_t count, as_copies *copies, as_error *e)
{
    as_arena *arena = ask->ring ? s->transfer->ring : s->transfer->arena;
    char *theirs = arena ? as_arena_of(arena, to) : NULL;
    int64_t room = theirs ? (int64_t)as_arena_bytes_of(arena, to) - ask->window : -1;
    if (!theirs || room < 0) {
        return as_fail(e, AS_INTERNAL, 0, "a request names memory that this rank does not see");
    }
    if (count) {
        int64_t low = ranges[0].at;
        int64_t high = ranges[count - 1].at + ranges[count - 1].high - ranges[count - 1].low;
        if (low >= 0 && high > low && high <= room) {
            as_arena_touch(arena, to, (size_t)(ask->window + low), (size_t)(high - low), true);
        }
    }
    return give_ranges(s, ask, ranges, count, NULL, theirs + ask->window, room, copies, e);
}

/* All copies have ended. */
static int send_answer(const as_server *s, answer *a, as_error *e)
{
    /* The bytes are there before the message that says so. */
    atomic_thread_fence(memory_order_release);
    a->sent = true;
    return as_comm_send(s->transfer->comm, a->to, a->tag, a->buffer, a->size, &a->message, e);
}

static int begin_answer(as_server *s, int to, const as_ask *ask, const as_range *ranges,
                        size_t count, char *buffer, as_error *e)
{
    as_meter *m = s->transfer->meter;
    answer *a = s->answers;
    while (a->under_way) {
        a++; /* as_server_step has seen that one is free */
    }
    int64_t begin = as_clock();
    bool near = ask->window >= 0;
    if (near) {
        as_pool_give(&s->pool, buffer);
        buffer = NULL;
    }
    /* A failure is answered too: the asker waits, and the agreement at the end tells it. */
    *a = (answer){.under_way = true,
                  .to = to,
                  .tag = (int)ask->tag,
                  .buffer = buffer,
                  .size = near ? 0 : (size_t)ask->bytes};
    int given = near ? scatter(s, to, ask, ranges, count, &a->copies, e)
                     : give_ranges(s, ask, ranges, count, buffer, NULL, 0, &a->copies, e);
    (void)as_meter_end(m, "serve", begin, ask->bytes, &m->tally.copy);
    *(near ? &m->tally.bytes_shared : &m->tally.bytes_sent) += ask->bytes;
    m->tally.messages++;
    s->under_way++;
    int code = a->copies.under_way ? AS_OK : send_answer(s, a, e);
    return code == AS_OK ? given : code;
}

/* Receives a request that has arrived. All memory is had before: a request that was taken is
 * answered. Only for an uncommonly long one memory may be lacking; it stays where it is, for
 * the next try. */
static int take_request(as_server *s, int from, size_t size, as_error *e)
{
    s->request.size = 0;
    int code = as_buffer_reserve(&s->request, size, e);
    if (code != AS_OK) {
        return code;
    }
    char *buffer = s->far ? as_pool_take(&s->pool) : NULL; /* there is one for every answer */
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
        code = begin_answer(s, from, &ask, (const as_range *)(const void *)(request + sizeof ask),
                            (size - sizeof ask) / sizeof(as_range), buffer, e);
    } else {
        as_comm_leave(s->transfer->comm, s->request.data); /* MPI may still write to it */
        s->request = AS_BUFFER_INIT;
    }
    return code;
}

static int finish_answers(as_server *s, bool *moved, as_error *e)
{
    int code = AS_OK;
    for (int i = 0; i < s->limit && s->under_way > 0 && code == AS_OK; i++) {
        answer *a = &s->answers[i];
        bool done = false;
        if (a->under_way && a->sent) {
            code = as_comm_test(s->transfer->comm, &a->message, &done, e);
        } else if (a->under_way && a->copies.under_way == 0) {
            code = send_answer(s, a, e);
            *moved = true;
        }
        if (done) {
            as_pool_give(&s->pool, a->buffer);
            *a = (answer){0};
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
    as_pool_free(&s->pool);
    as_buffer_free(&s->request);
    free(s->answers);
    free(s);
}
