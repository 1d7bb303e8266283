/* SPDX-License-Identifier: Apache-2.0
 * Exchanges between all ranks, over MPI.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "comm/mpi_comm.h"

enum { TAG_EXCHANGE = 1 };

/* Messages of an exchange: one request for each GiB begun. */
static int count_messages(const int64_t *counts, int size, int self)
{
    int64_t messages = 0;
    for (int r = 0; r < size; r++) {
        if (r != self) {
            messages += (counts[r] + AS_LARGEST_MESSAGE - 1) / AS_LARGEST_MESSAGE;
        }
    }
    return (int)messages;
}

static int start_messages(as_comm *c, as_mail *m, MPI_Request *requests, int *count, as_error *e)
{
    *count = 0;
    int code = AS_OK;
    for (int send = 0; send < 2; send++) { /* receives are posted first */
        for (int r = 0; r < c->size && code == AS_OK; r++) {
            char *bytes = send ? m->out[r].data : m->in.data + m->in_at[r];
            int64_t left = r == c->rank ? 0 : send ? c->counts_out[r] : c->counts_in[r];
            while (left > 0 && code == AS_OK) {
                int n = (int)(left < AS_LARGEST_MESSAGE ? left : AS_LARGEST_MESSAGE);
                MPI_Request *request = &requests[*count];
                int result = send
                                 ? MPI_Isend(bytes, n, MPI_BYTE, r, TAG_EXCHANGE, c->comm, request)
                                 : MPI_Irecv(bytes, n, MPI_BYTE, r, TAG_EXCHANGE, c->comm, request);
                code = as_mpi_check(e, result, send ? "MPI_Isend" : "MPI_Irecv");
                *count += code == AS_OK;
                bytes += n;
                left -= n;
            }
        }
    }
    return code;
}

/* Room for what comes, and the place of each sender in it. */
static int prepare_in(as_comm *c, as_mail *m, as_error *e)
{
    size_t total = 0;
    for (int r = 0; r < c->size; r++) {
        m->in_at[r] = total;
        total += (size_t)c->counts_in[r];
    }
    m->in_at[c->size] = total;
    m->in.size = 0;
    int code = as_buffer_reserve(&m->in, total, e);
    if (code == AS_OK) {
        m->in.size = total;
    }
    return code;
}

static bool is_poisoned(const as_comm *c)
{
    for (int r = 0; r < c->size; r++) {
        if (c->counts_in[r] < 0) {
            return true;
        }
    }
    return false;
}

/* A message of another rank may still come into it. */
static void leave_mail(as_comm *c, as_mail *m)
{
    for (int r = 0; r < c->size; r++) {
        as_comm_leave_buffer(c, &m->out[r]);
    }
    as_comm_leave_buffer(c, &m->in);
}

int as_comm_exchange(as_comm *c, as_mail *m, as_error *e)
{
    MPI_Request request;
    for (int r = 0; r < c->size; r++) {
        c->counts_out[r] = e->code == AS_OK ? (int64_t)m->out[r].size : -1;
    }
    as_error trouble = AS_ERROR_INIT;
    int code = AS_MPI_RUN(c, &trouble, MPI_Ialltoall, c->counts_out, 1, MPI_INT64_T, c->counts_in,
                          1, MPI_INT64_T, c->comm);
    if (code != AS_OK) {
        as_error_move(e, &trouble);
        return code;
    }
    if (is_poisoned(c)) {
        return as_comm_agree(c, e);
    }
    MPI_Request *requests = NULL;
    if (prepare_in(c, m, e) == AS_OK) {
        size_t n = (size_t)(count_messages(c->counts_in, c->size, c->rank) +
                            count_messages(c->counts_out, c->size, c->rank));
        requests = calloc(n + 1, sizeof(MPI_Request));
        (void)(requests ? AS_OK : as_fail_nomem(e));
    }
    code = as_comm_agree(c, e);
    int count = 0;
    if (code == AS_OK) {
        code = start_messages(c, m, requests, &count, e);
    }
    if (code == AS_OK && m->out[c->rank].size) {
        memcpy(m->in.data + m->in_at[c->rank], m->out[c->rank].data, m->out[c->rank].size);
    }
    if (code == AS_OK) {
        code = as_mpi_finish(c, requests, count, "MPI_Testall", e);
    }
    if (as_comm_is_lost(code)) {
        leave_mail(c, m);
    }
    for (int r = 0; r < c->size; r++) {
        as_buffer_free(&m->out[r]);
    }
    free(requests);
    return code;
}

int as_comm_share(as_comm *c, as_mail *m, as_error *e)
{
    MPI_Request request;
    if (e->code == AS_OK && m->share.size > AS_LARGEST_MESSAGE) {
        (void)as_fail(e, AS_LIMIT, 0, "the plan's table of tensors passes 1 GiB on one rank");
    }
    int64_t mine = e->code == AS_OK ? (int64_t)m->share.size : -1;
    as_error trouble = AS_ERROR_INIT;
    c->counts_out[0] = mine;
    int code = AS_MPI_RUN(c, &trouble, MPI_Iallgather, c->counts_out, 1, MPI_INT64_T, c->counts_in,
                          1, MPI_INT64_T, c->comm);
    if (code != AS_OK) {
        as_error_move(e, &trouble);
        return code;
    }
    if (is_poisoned(c)) {
        return as_comm_agree(c, e);
    }
    /* In words, so that the whole may pass 2 GiB. */
    int *counts = calloc((size_t)c->size * 2, sizeof *counts);
    int *places = counts ? counts + c->size : NULL;
    code = prepare_in(c, m, e);
    if (!counts) {
        code = as_fail_nomem(e);
    }
    for (int r = 0; counts && r < c->size && code == AS_OK; r++) {
        counts[r] = (int)(c->counts_in[r] / (int64_t)sizeof(int64_t));
        places[r] = (int)(m->in_at[r] / sizeof(int64_t));
        if (m->in_at[r + 1] / sizeof(int64_t) > INT_MAX) {
            code = as_fail(e, AS_LIMIT, 0, "the plan's table of tensors passes 16 GiB");
        }
    }
    code = as_comm_agree(c, e);
    if (code == AS_OK) {
        code =
            AS_MPI_RUN(c, e, MPI_Iallgatherv, m->share.data, (int)(mine / (int64_t)sizeof(int64_t)),
                       MPI_INT64_T, m->in.data, counts, places, MPI_INT64_T, c->comm);
    }
    if (as_comm_is_lost(code)) {
        as_comm_leave_buffer(c, &m->share);
        as_comm_leave_buffer(c, &m->in);
        as_comm_leave(c, counts);
        counts = NULL;
    }
    as_buffer_free(&m->share);
    free(counts);
    return code;
}
