/* SPDX-License-Identifier: Apache-2.0
 * Ranks by MPI. Every call is nonblocking and tested with pauses, so that a rank
 * that waits takes no core from one that works (DESIGN rule 5).
 */
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "comm/mpi_comm.h"

int as_mpi_fail(as_error *e, int result, const char *call)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(result, text, &length) != MPI_SUCCESS) {
        length = 0;
    }
    (void)as_fail(e, AS_MPI, 0, "%s failed: %.*s", call, length, text);
    return AS_MPI;
}

int as_mpi_check(as_error *e, int result, const char *call)
{
    return result == MPI_SUCCESS ? AS_OK : as_mpi_fail(e, result, call);
}

int as_mpi_lost(const as_comm *c)
{
    return c->watch && as_watch_verdict(c->watch) ? AS_TIMEOUT : AS_MPI;
}

int as_mpi_ready(as_comm *c, as_error *e)
{
    if (!c->watch) {
        return AS_OK;
    }
    as_watch_wait(c->watch);
    return as_watch_poll(c->watch, true, e);
}

void as_comm_meanwhile(as_comm *c, void (*call)(void *user), void *user)
{
    c->meanwhile = call;
    c->meanwhile_user = user;
}

static int poll(as_comm *c, as_error *e)
{
    if (c->meanwhile) {
        c->meanwhile(c->meanwhile_user);
    }
    return c->watch ? as_watch_poll(c->watch, true, e) : AS_OK;
}

int as_mpi_finish(as_comm *c, MPI_Request *requests, int count, const char *call, as_error *e)
{
    int idle = 0;
    int done = 0;
    while (!done) {
        int result = MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE);
        if (result != MPI_SUCCESS) {
            return as_mpi_fail(e, result, call);
        }
        if (!done) {
            int code = poll(c, e);
            if (code != AS_OK) {
                return code;
            }
            as_comm_pause(&idle);
        }
    }
    return AS_OK;
}

void as_comm_leave(as_comm *c, void *memory)
{
    if (memory) {
        /* Without memory for the list it is out of reach, but all the same in its place. */
        (void)as_buffer_append(&c->left, &memory, sizeof memory, NULL);
    }
}

void as_comm_leave_buffer(as_comm *c, as_buffer *b)
{
    as_comm_leave(c, b->data);
    *b = AS_BUFFER_INIT;
}

void as_comm_enter(as_comm *c, const char *function)
{
    if (c->watch) {
        as_watch_enter(c->watch, function);
    }
}

int as_comm_look(as_comm *c, as_error *e)
{
    return c->watch ? as_watch_poll(c->watch, false, e) : AS_OK;
}

void as_comm_wait(as_comm *c)
{
    if (c->watch) {
        as_watch_wait(c->watch);
    }
}

int as_comm_await(as_comm *c, as_error *e)
{
    return poll(c, e);
}

void as_comm_meeting(as_comm *c, bool meeting)
{
    if (c->watch) {
        as_watch_meeting(c->watch, meeting);
    }
}

void as_comm_storage(as_comm *c, bool under_way, int64_t ended)
{
    if (c->watch) {
        as_watch_storage(c->watch, under_way, ended);
    }
}

void as_comm_outcome(as_comm *c, const char *outcome)
{
    if (c->watch) {
        as_watch_outcome(c->watch, outcome);
    }
}

bool as_comm_watches(const as_comm *c)
{
    return c->watch != NULL;
}

const as_error *as_comm_verdict(const as_comm *c)
{
    return c->watch ? as_watch_verdict(c->watch) : NULL;
}

int as_comm_rank(const as_comm *c)
{
    return c->rank;
}

int as_comm_size(const as_comm *c)
{
    return c->size;
}

int as_comm_lowest_on_node(as_comm *c, int *lowest, as_error *e)
{
    MPI_Comm node;
    int code = AS_OK;
    if (c->lowest < 0) {
        code = as_mpi_check(
            e, MPI_Comm_split_type(c->comm, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
        if (code == AS_OK) {
            int first = c->rank;
            code = as_mpi_check(e, MPI_Bcast(&first, 1, MPI_INT, 0, node), "MPI_Bcast");
            c->lowest = code == AS_OK ? first : -1;
            (void)MPI_Comm_free(&node);
        }
    }
    *lowest = c->lowest;
    return code;
}

static int reduce(as_comm *c, int64_t *values, int count, MPI_Op op, as_error *e)
{
    MPI_Request request;
    int64_t *bounce = (int64_t *)(void *)c->bounce;
    int room = (int)(sizeof c->bounce / sizeof *bounce);
    int code = AS_OK;
    for (int at = 0; at < count && code == AS_OK; at += room) {
        int n = count - at < room ? count - at : room;
        memcpy(bounce, values + at, (size_t)n * sizeof *bounce);
        code = AS_MPI_RUN(c, e, MPI_Iallreduce, MPI_IN_PLACE, bounce, n, MPI_INT64_T, op, c->comm);
        memcpy(values + at, bounce, (size_t)n * sizeof *bounce);
    }
    return code;
}

int as_comm_agree(as_comm *c, as_error *e)
{
    int64_t lowest = e->code == AS_OK ? INT_MAX : c->rank;
    as_error trouble = AS_ERROR_INIT; /* of the agreement itself */
    int code = reduce(c, &lowest, 1, MPI_MIN, &trouble);
    if (code == AS_OK && lowest == INT_MAX) {
        return AS_OK;
    }
    as_wire_error wire = as_mpi_pack(c, e);
    as_buffer text = AS_BUFFER_INIT;
    if (code == AS_OK && lowest == c->rank) {
        const char *own = as_error_text(e);
        /* Without memory for the copy the record goes without its text. */
        (void)as_buffer_append(&text, own, strlen(own), NULL);
    }
    if (code == AS_OK) {
        code = as_comm_bcast(c, (int)lowest, &wire, sizeof wire, &trouble);
    }
    if (code == AS_OK) {
        code = as_comm_bcast_buffer(c, (int)lowest, &text, &trouble);
    }
    if (code == AS_NOMEM) {
        /* Some rank has no room for the text, which all know: then all go without it. */
        text.size = 0;
        code = AS_OK;
    }
    if (code != AS_OK) {
        as_buffer_free(&text);
        (void)as_error_pass(e, &trouble);
        return code;
    }
    as_mpi_unpack(&wire, text.data, text.size, e);
    as_error_clear(&trouble);
    as_buffer_free(&text);
    return e->code;
}

int as_comm_bcast(as_comm *c, int root, void *bytes, size_t count, as_error *e)
{
    MPI_Request request;
    int code = AS_OK;
    size_t room = c->watch ? sizeof c->bounce : (size_t)AS_LARGEST_MESSAGE;
    for (size_t at = 0; bytes && at < count && code == AS_OK; at += room) {
        size_t n = count - at < room ? count - at : room;
        char *own = (char *)bytes + at;
        char *buffer = c->watch ? c->bounce : own;
        if (c->watch && c->rank == root) {
            memcpy(buffer, own, n);
        }
        code = AS_MPI_RUN(c, e, MPI_Ibcast, buffer, (int)n, MPI_BYTE, root, c->comm);
        if (c->watch && c->rank != root && code == AS_OK) {
            memcpy(own, buffer, n);
        }
    }
    return code;
}

int as_comm_bcast_buffer(as_comm *c, int root, as_buffer *b, as_error *e)
{
    int64_t size = (int64_t)b->size;
    int code = as_comm_bcast(c, root, &size, sizeof size, e);
    if (code == AS_OK && c->rank != root) {
        b->size = 0;
        void *place;
        (void)as_buffer_extend(b, (size_t)size, &place, e);
    }
    if (code == AS_OK) {
        /* Not as_comm_agree, which is made of this function. */
        int64_t failed = e->code != AS_OK;
        as_error trouble = AS_ERROR_INIT;
        code = as_comm_max(c, &failed, 1, &trouble);
        as_error_clear(&trouble);
        if (code == AS_OK && failed) {
            return as_fail_nomem(e);
        }
    }
    return code == AS_OK ? as_comm_bcast(c, root, b->data, (size_t)size, e) : code;
}

int as_comm_sum(as_comm *c, int64_t *values, int count, as_error *e)
{
    return reduce(c, values, count, MPI_SUM, e);
}

int as_comm_max(as_comm *c, int64_t *values, int count, as_error *e)
{
    return reduce(c, values, count, MPI_MAX, e);
}

static MPI_Request load_request(const as_message *m)
{
    MPI_Request request;
    memcpy(&request, m->handle, sizeof request);
    return request;
}

static void store_request(as_message *m, MPI_Request request)
{
    memcpy(m->handle, &request, sizeof request);
    m->active = true;
}

int as_comm_send(as_comm *c, int to, int tag, const void *bytes, size_t count, as_message *m,
                 as_error *e)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = poll(c, e);
    if (code != AS_OK) {
        return code;
    }
    code = as_mpi_check(e, MPI_Issend(bytes, (int)count, MPI_BYTE, to, tag, c->comm, &request),
                        "MPI_Issend");
    if (code == AS_OK) {
        store_request(m, request);
    }
    return code;
}

int as_comm_receive(as_comm *c, int from, int tag, void *bytes, size_t count, as_message *m,
                    as_error *e)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = poll(c, e);
    if (code != AS_OK) {
        return code;
    }
    code = as_mpi_check(e, MPI_Irecv(bytes, (int)count, MPI_BYTE, from, tag, c->comm, &request),
                        "MPI_Irecv");
    if (code == AS_OK) {
        store_request(m, request);
    }
    return code;
}

int as_comm_test(as_comm *c, as_message *m, bool *done, as_error *e)
{
    *done = true;
    if (!m->active) {
        return AS_OK;
    }
    MPI_Request request = load_request(m);
    int flag = 0;
    int code = as_mpi_check(e, MPI_Test(&request, &flag, MPI_STATUS_IGNORE), "MPI_Test");
    store_request(m, request);
    m->active = code == AS_OK && !flag;
    *done = !m->active;
    return code == AS_OK && !*done ? poll(c, e) : code;
}

int as_comm_probe(as_comm *c, int tag, bool *there, int *from, size_t *count, as_error *e)
{
    MPI_Status status;
    int flag = 0;
    int bytes = 0;
    int code = poll(c, e);
    *there = false;
    if (code != AS_OK) {
        return code;
    }
    code = as_mpi_check(e, MPI_Iprobe(MPI_ANY_SOURCE, tag, c->comm, &flag, &status), "MPI_Iprobe");
    *there = code == AS_OK && flag;
    if (*there) {
        code = as_mpi_check(e, MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
        *from = status.MPI_SOURCE;
        *count = (size_t)bytes;
    }
    return code;
}

int as_comm_barrier_begin(as_comm *c, as_message *m, as_error *e)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = poll(c, e);
    if (code != AS_OK) {
        return code;
    }
    code = as_mpi_check(e, MPI_Ibarrier(c->comm, &request), "MPI_Ibarrier");
    if (code == AS_OK) {
        store_request(m, request);
    }
    return code;
}
