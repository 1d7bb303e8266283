/* SPDX-License-Identifier: Apache-2.0
 * Ranks by MPI. Every call is nonblocking and tested with pauses, so that a rank
 * that waits takes no core from one that works (DESIGN rule 5).
 */
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/comm.h"

#if defined(__GNUC__) && !defined(__clang__)
/* MPICH's MPI_STATUSES_IGNORE is the address 1, which gcc takes for an array of no size. */
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif

enum { LARGEST_MESSAGE = 1 << 30, TAG_EXCHANGE = 1 };

_Static_assert(sizeof(MPI_Request) <= sizeof(((as_message *)0)->handle), "a request must fit");

struct as_comm {
    MPI_Comm comm; /* a private duplicate */
    int rank;
    int size;
    char host[64];
    int64_t *counts_out; /* [size]; allocated once, so that an exchange can always be poisoned */
    int64_t *counts_in;  /* [size] */
};

/* Always AS_MPI, also if `e` holds an earlier error: callers must learn that MPI is of no more
 * use, whatever went wrong before. */
static int fail_mpi(as_error *e, int result, const char *call)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(result, text, &length) != MPI_SUCCESS) {
        length = 0;
    }
    (void)as_fail(e, AS_MPI, 0, "%s failed: %.*s", call, length, text);
    return AS_MPI;
}

static int check(as_error *e, int result, const char *call)
{
    return result == MPI_SUCCESS ? AS_OK : fail_mpi(e, result, call);
}

/* Tests until all are done. */
static int finish(MPI_Request *requests, int count, const char *call, as_error *e)
{
    int idle = 0;
    int done = 0;
    while (!done) {
        int result = MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE);
        if (result != MPI_SUCCESS) {
            return fail_mpi(e, result, call);
        }
        if (!done) {
            as_comm_pause(&idle);
        }
    }
    return AS_OK;
}

/* Starts and finishes one nonblocking call. */
#define RUN(e, call, ...)                                                                          \
    (check(e, call(__VA_ARGS__, &request), #call) == AS_OK ? finish(&request, 1, #call, e) : AS_MPI)

static int check_started(as_error *e)
{
    int started = 0;
    int ended = 0;
    if (MPI_Initialized(&started) != MPI_SUCCESS || !started) {
        return as_fail(e, AS_INVALID, 0, "MPI is not initialised: call MPI_Init first");
    }
    if (MPI_Finalized(&ended) != MPI_SUCCESS || ended) {
        return as_fail(e, AS_INVALID, 0, "MPI is finalised already");
    }
    return AS_OK;
}

int as_comm_open(as_comm **out, const void *mpi_comm, as_error *e)
{
    *out = NULL;
    int code = check_started(e);
    if (code != AS_OK) {
        return code;
    }
    MPI_Comm from = mpi_comm ? *(const MPI_Comm *)mpi_comm : MPI_COMM_WORLD;
    if (from == MPI_COMM_NULL) {
        return as_fail(e, AS_INVALID, 0, "the communicator is MPI_COMM_NULL");
    }
    /* On the stack until the ranks have agreed: a rank without memory must be able to say so. */
    as_comm here = {.rank = 0};
    code = check(e, MPI_Comm_dup(from, &here.comm), "MPI_Comm_dup");
    if (code != AS_OK) {
        return code;
    }
    (void)check(e, MPI_Comm_set_errhandler(here.comm, MPI_ERRORS_RETURN),
                "MPI_Comm_set_errhandler");
    (void)check(e, MPI_Comm_size(here.comm, &here.size), "MPI_Comm_size");
    (void)check(e, MPI_Comm_rank(here.comm, &here.rank), "MPI_Comm_rank");
    if (gethostname(here.host, sizeof here.host - 1) != 0) {
        memcpy(here.host, "?", 2);
    }
    here.counts_out = calloc((size_t)here.size + 1, sizeof *here.counts_out);
    here.counts_in = calloc((size_t)here.size + 1, sizeof *here.counts_in);
    as_comm *c = malloc(sizeof *c);
    if (!c || !here.counts_out || !here.counts_in) {
        (void)as_fail_nomem(e);
    }
    code = as_comm_agree(&here, e);
    if (code == AS_OK && c) {
        *c = here;
        *out = c;
        return AS_OK;
    }
    (void)MPI_Comm_free(&here.comm);
    free(here.counts_out);
    free(here.counts_in);
    free(c);
    return code;
}

void as_comm_free(as_comm *c)
{
    if (!c) {
        return;
    }
    (void)MPI_Comm_free(&c->comm);
    free(c->counts_out);
    free(c->counts_in);
    free(c);
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
    MPI_Request request;
    int code =
        check(e, MPI_Comm_split_type(c->comm, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node),
              "MPI_Comm_split_type");
    if (code == AS_OK) {
        *lowest = c->rank;
        code = RUN(e, MPI_Ibcast, lowest, 1, MPI_INT, 0, node);
        (void)MPI_Comm_free(&node);
    }
    return code;
}

/* The record of `root` for all, without its text. */
typedef struct wire_error {
    int32_t code;
    int32_t sys_errno;
    int32_t rank;
    char host[64];
} wire_error;

int as_comm_agree(as_comm *c, as_error *e)
{
    MPI_Request request;
    int mine = e->code == AS_OK ? INT_MAX : c->rank;
    int lowest = INT_MAX;
    as_error trouble = AS_ERROR_INIT; /* of the agreement itself */
    int code = RUN(&trouble, MPI_Iallreduce, &mine, &lowest, 1, MPI_INT, MPI_MIN, c->comm);
    if (code == AS_OK && lowest == INT_MAX) {
        return AS_OK;
    }
    /* A record that was agreed on before keeps the rank that met the error. */
    bool agreed_before = e->rank >= 0;
    wire_error wire = {
        .code = e->code, .sys_errno = e->sys_errno, .rank = agreed_before ? e->rank : c->rank};
    memcpy(wire.host, agreed_before ? e->host : c->host, sizeof wire.host);
    as_buffer text = AS_BUFFER_INIT;
    if (code == AS_OK && lowest == c->rank) {
        const char *own = as_error_text(e);
        /* Without memory for the copy the record goes without its text. */
        (void)as_buffer_append(&text, own, strlen(own), NULL);
    }
    if (code == AS_OK) {
        code = as_comm_bcast(c, lowest, &wire, sizeof wire, &trouble);
    }
    if (code == AS_OK) {
        code = as_comm_bcast_buffer(c, lowest, &text, &trouble);
    }
    if (code == AS_NOMEM) {
        /* Some rank has no room for the text, which all know: then all go without it. */
        text.size = 0;
        code = AS_OK;
    }
    if (code != AS_OK) {
        as_buffer_free(&text);
        if (e->code == AS_OK) {
            as_error_move(e, &trouble);
        }
        as_error_clear(&trouble);
        return e->code;
    }
    as_error agreed = AS_ERROR_INIT;
    if (text.size) {
        (void)as_fail(&agreed, wire.code, 0, "%.*s", (int)text.size, text.data);
    } else {
        (void)as_fail(&agreed, wire.code, 0, "%s", as_code_text(wire.code));
    }
    agreed.sys_errno = wire.sys_errno;
    agreed.rank = wire.rank;
    memcpy(agreed.host, wire.host, sizeof agreed.host);
    as_error_move(e, &agreed);
    as_error_clear(&trouble);
    as_buffer_free(&text);
    return e->code;
}

int as_comm_bcast(as_comm *c, int root, void *bytes, size_t count, as_error *e)
{
    MPI_Request request;
    int code = AS_OK;
    for (size_t at = 0; at < count && code == AS_OK; at += LARGEST_MESSAGE) {
        size_t n = count - at < LARGEST_MESSAGE ? count - at : LARGEST_MESSAGE;
        code = RUN(e, MPI_Ibcast, (char *)bytes + at, (int)n, MPI_BYTE, root, c->comm);
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

static int reduce(as_comm *c, int64_t *values, int count, MPI_Op op, as_error *e)
{
    MPI_Request request;
    return RUN(e, MPI_Iallreduce, MPI_IN_PLACE, values, count, MPI_INT64_T, op, c->comm);
}

int as_comm_sum(as_comm *c, int64_t *values, int count, as_error *e)
{
    return reduce(c, values, count, MPI_SUM, e);
}

int as_comm_max(as_comm *c, int64_t *values, int count, as_error *e)
{
    return reduce(c, values, count, MPI_MAX, e);
}

/* Messages of an exchange: one request for each GiB begun. */
static int count_messages(const int64_t *counts, int size, int self)
{
    int64_t messages = 0;
    for (int r = 0; r < size; r++) {
        if (r != self) {
            messages += (counts[r] + LARGEST_MESSAGE - 1) / LARGEST_MESSAGE;
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
                int n = (int)(left < LARGEST_MESSAGE ? left : LARGEST_MESSAGE);
                MPI_Request *request = &requests[*count];
                int result = send
                                 ? MPI_Isend(bytes, n, MPI_BYTE, r, TAG_EXCHANGE, c->comm, request)
                                 : MPI_Irecv(bytes, n, MPI_BYTE, r, TAG_EXCHANGE, c->comm, request);
                code = check(e, result, send ? "MPI_Isend" : "MPI_Irecv");
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

int as_comm_exchange(as_comm *c, as_mail *m, as_error *e)
{
    MPI_Request request;
    for (int r = 0; r < c->size; r++) {
        c->counts_out[r] = e->code == AS_OK ? (int64_t)m->out[r].size : -1;
    }
    as_error trouble = AS_ERROR_INIT;
    if (RUN(&trouble, MPI_Ialltoall, c->counts_out, 1, MPI_INT64_T, c->counts_in, 1, MPI_INT64_T,
            c->comm) != AS_OK) {
        as_error_move(e, &trouble);
        return e->code;
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
    int code = as_comm_agree(c, e);
    int count = 0;
    if (code == AS_OK) {
        code = start_messages(c, m, requests, &count, e);
    }
    if (code == AS_OK && m->out[c->rank].size) {
        memcpy(m->in.data + m->in_at[c->rank], m->out[c->rank].data, m->out[c->rank].size);
    }
    if (code == AS_OK) {
        code = finish(requests, count, "MPI_Testall", e);
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
    if (e->code == AS_OK && m->share.size > LARGEST_MESSAGE) {
        (void)as_fail(e, AS_LIMIT, 0, "the plan's table of tensors passes 1 GiB on one rank");
    }
    int64_t mine = e->code == AS_OK ? (int64_t)m->share.size : -1;
    as_error trouble = AS_ERROR_INIT;
    if (RUN(&trouble, MPI_Iallgather, &mine, 1, MPI_INT64_T, c->counts_in, 1, MPI_INT64_T,
            c->comm) != AS_OK) {
        as_error_move(e, &trouble);
        return e->code;
    }
    if (is_poisoned(c)) {
        return as_comm_agree(c, e);
    }
    /* In words, so that the whole may pass 2 GiB. */
    int *counts = calloc((size_t)c->size * 2, sizeof *counts);
    int *places = counts ? counts + c->size : NULL;
    int code = prepare_in(c, m, e);
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
        code = RUN(e, MPI_Iallgatherv, m->share.data, (int)(mine / (int64_t)sizeof(int64_t)),
                   MPI_INT64_T, m->in.data, counts, places, MPI_INT64_T, c->comm);
    }
    as_buffer_free(&m->share);
    free(counts);
    return code;
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
    int code =
        check(e, MPI_Issend(bytes, (int)count, MPI_BYTE, to, tag, c->comm, &request), "MPI_Issend");
    if (code == AS_OK) {
        store_request(m, request);
    }
    return code;
}

int as_comm_receive(as_comm *c, int from, int tag, void *bytes, size_t count, as_message *m,
                    as_error *e)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code =
        check(e, MPI_Irecv(bytes, (int)count, MPI_BYTE, from, tag, c->comm, &request), "MPI_Irecv");
    if (code == AS_OK) {
        store_request(m, request);
    }
    return code;
}

int as_comm_test(as_comm *c, as_message *m, bool *done, as_error *e)
{
    (void)c;
    *done = true;
    if (!m->active) {
        return AS_OK;
    }
    MPI_Request request = load_request(m);
    int flag = 0;
    int code = check(e, MPI_Test(&request, &flag, MPI_STATUS_IGNORE), "MPI_Test");
    store_request(m, request);
    m->active = code == AS_OK && !flag;
    *done = !m->active;
    return code;
}

int as_comm_probe(as_comm *c, int tag, bool *there, int *from, size_t *count, as_error *e)
{
    MPI_Status status;
    int flag = 0;
    int bytes = 0;
    int code = check(e, MPI_Iprobe(MPI_ANY_SOURCE, tag, c->comm, &flag, &status), "MPI_Iprobe");
    *there = code == AS_OK && flag;
    if (*there) {
        code = check(e, MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
        *from = status.MPI_SOURCE;
        *count = (size_t)bytes;
    }
    return code;
}

int as_comm_barrier_begin(as_comm *c, as_message *m, as_error *e)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = check(e, MPI_Ibarrier(c->comm, &request), "MPI_Ibarrier");
    if (code == AS_OK) {
        store_request(m, request);
    }
    return code;
}
