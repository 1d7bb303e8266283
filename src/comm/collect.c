/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/collect.h"

#include <stdlib.h>
#include <string.h>

enum { TAG_COLLECT = 4 };

static int wait_for(as_comm *c, as_message *m, as_error *e)
{
    bool done = false;
    int idle = 0;
    int code = AS_OK;
    as_comm_wait(c);
    while (code == AS_OK && !done) {
        code = as_comm_test(c, m, &done, e);
        if (!done) {
            as_comm_pause(&idle);
        }
    }
    return code;
}

typedef struct collection {
    as_comm *comm;
    const as_buffer *mine;
    as_collect_take take;
    void *user;
    char *chunk; /* what MPI has in hand; of its own, since it may stay there for good */
} collection;

/* One rank's bytes, chunk by chunk. Only MPI's errors end it early. */
static int pass(const collection *k, int from, int64_t size, as_error *e)
{
    bool is_main = as_comm_rank(k->comm) == 0;
    int code = AS_OK;
    for (int64_t at = 0; at < size && code == AS_OK; at += AS_COLLECT_CHUNK) {
        size_t n = (size_t)(size - at < AS_COLLECT_CHUNK ? size - at : AS_COLLECT_CHUNK);
        const char *bytes = from == 0 ? k->mine->data + at : k->chunk;
        as_message m = {0};
        if (from != 0 && !is_main && k->chunk) { /* it has one then */
            memcpy(k->chunk, k->mine->data + at, n);
        }
        if (from != 0) {
            code = is_main ? as_comm_receive(k->comm, from, TAG_COLLECT, k->chunk, n, &m, e)
                           : as_comm_send(k->comm, 0, TAG_COLLECT, bytes, n, &m, e);
            if (code == AS_OK) {
                code = wait_for(k->comm, &m, e);
            }
        }
        if (is_main && code == AS_OK && e->code == AS_OK) {
            (void)k->take(k->user, from, bytes, n, e);
        }
    }
    return code;
}

int as_comm_collect(as_comm *c, const as_buffer *mine, as_collect_take take, void *user,
                    as_error *e)
{
    int rank = as_comm_rank(c);
    int size = as_comm_size(c);
    collection k = {.comm = c, .mine = mine, .take = take, .user = user};
    int64_t *sizes = calloc((size_t)size, sizeof *sizes);
    size_t room = rank == 0 || mine->size > AS_COLLECT_CHUNK ? AS_COLLECT_CHUNK : mine->size;
    k.chunk = malloc(room ? room : 1);
    if (!sizes || !k.chunk) {
        (void)as_fail_nomem(e);
    } else {
        sizes[rank] = (int64_t)mine->size;
    }
    int code = as_comm_agree(c, e); /* all memory is had before the first byte is sent */
    if (code == AS_OK) {
        code = as_comm_sum(c, sizes, size, e);
    }
    for (int from = 0; sizes && from < size && code == AS_OK; from++) {
        if (rank == 0 || rank == from) {
            code = pass(&k, from, sizes[from], e);
        }
    }
    if (as_comm_is_lost(code)) {
        as_comm_leave(c, k.chunk);
        k.chunk = NULL;
    }
    free(sizes);
    free(k.chunk);
    return code == AS_OK ? as_comm_agree(c, e) : code;
}
