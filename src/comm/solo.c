/* SPDX-License-Identifier: Apache-2.0
 * One process without MPI: every exchange is with itself.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/comm.h"

struct as_comm {
    char host[64];
    as_error agreed; /* on its way from as_comm_agree_begin to _test */
};

int as_comm_open(as_comm **out, const void *mpi_comm, as_error *e)
{
    (void)mpi_comm;
    as_comm *c = calloc(1, sizeof *c);
    *out = c;
    if (!c) {
        return as_fail_nomem(e);
    }
    if (gethostname(c->host, sizeof c->host - 1) != 0) {
        memcpy(c->host, "?", 2);
    }
    c->agreed = AS_ERROR_INIT;
    return AS_OK;
}

void as_comm_free(as_comm *c)
{
    if (c) {
        as_error_clear(&c->agreed);
    }
    free(c);
}

int as_comm_rank(const as_comm *c)
{
    (void)c;
    return 0;
}

int as_comm_size(const as_comm *c)
{
    (void)c;
    return 1;
}

int as_comm_lowest_on_node(as_comm *c, int *lowest, as_error *e)
{
    (void)c, (void)e;
    *lowest = 0;
    return AS_OK;
}

int as_comm_watch(as_comm *c, double seconds, as_error *e)
{
    (void)c, (void)seconds, (void)e;
    return AS_OK;
}

bool as_comm_watches(const as_comm *c)
{
    (void)c;
    return false;
}

const as_error *as_comm_verdict(const as_comm *c)
{
    (void)c;
    return NULL;
}

void as_comm_enter(as_comm *c, const char *function)
{
    (void)c, (void)function;
}

void as_comm_meeting(as_comm *c, bool meeting)
{
    (void)c, (void)meeting;
}

int as_comm_look(as_comm *c, as_error *e)
{
    (void)c, (void)e;
    return AS_OK;
}

void as_comm_wait(as_comm *c)
{
    (void)c;
}

void as_comm_storage(as_comm *c, bool under_way, int64_t ended)
{
    (void)c, (void)under_way, (void)ended;
}

void as_comm_leave(as_comm *c, void *memory)
{
    (void)c;
    free(memory);
}

void as_comm_outcome(as_comm *c, const char *outcome)
{
    (void)c, (void)outcome;
}

void as_comm_meanwhile(as_comm *c, void (*call)(void *user), void *user)
{
    (void)c, (void)call, (void)user; /* nobody is waited for */
}

int as_comm_await(as_comm *c, as_error *e)
{
    (void)c, (void)e;
    return AS_OK;
}

int as_comm_twin(as_comm **out, as_comm *c, as_error *e)
{
    (void)c;
    return as_comm_open(out, NULL, e);
}

void as_comm_give_up(as_comm *c)
{
    free(c);
}

int as_comm_agree(as_comm *c, as_error *e)
{
    if (e->code != AS_OK && e->rank < 0) {
        e->rank = 0;
        memcpy(e->host, c->host, sizeof e->host);
    }
    return e->code;
}

int as_comm_agree_begin(as_comm *c, const as_error *e, as_error *trouble)
{
    (void)trouble;
    as_error_clear(&c->agreed);
    if (e->code != AS_OK) {
        (void)as_fail(&c->agreed, e->code, 0, "%s", as_error_text(e));
        c->agreed.sys_errno = e->sys_errno;
    }
    return AS_OK;
}

int as_comm_agree_test(as_comm *c, bool *done, as_error *e)
{
    *done = true;
    as_error_clear(e);
    as_error_move(e, &c->agreed);
    return as_comm_agree(c, e);
}

int as_comm_bcast(as_comm *c, int root, void *bytes, size_t count, as_error *e)
{
    (void)c, (void)root, (void)bytes, (void)count, (void)e;
    return AS_OK;
}

int as_comm_bcast_buffer(as_comm *c, int root, as_buffer *b, as_error *e)
{
    (void)c, (void)root, (void)b, (void)e;
    return AS_OK;
}

/* NOLINTBEGIN(readability-non-const-parameter): of one rank the sum is what it gave */
int as_comm_sum(as_comm *c, int64_t *values, int count, as_error *e)
{
    (void)c, (void)values, (void)count, (void)e;
    return AS_OK;
}

int as_comm_max(as_comm *c, int64_t *values, int count, as_error *e)
{
    (void)c, (void)values, (void)count, (void)e;
    return AS_OK;
}
/* NOLINTEND(readability-non-const-parameter) */

/* Moves what was sent to where it is read. */
static int turn_round(as_comm *c, as_mail *m, as_buffer *sent, as_error *e)
{
    if (e->code == AS_OK) {
        as_buffer_free(&m->in);
        m->in = *sent;
        *sent = AS_BUFFER_INIT;
        m->in_at[0] = 0;
        m->in_at[1] = m->in.size;
    }
    return as_comm_agree(c, e);
}

int as_comm_exchange(as_comm *c, as_mail *m, as_error *e)
{
    return turn_round(c, m, &m->out[0], e);
}

int as_comm_share(as_comm *c, as_mail *m, as_error *e)
{
    return turn_round(c, m, &m->share, e);
}

/* A process never sends to itself: what it holds it takes from its own memory. */
int as_comm_send(as_comm *c, int to, int tag, const void *bytes, size_t count, as_message *m,
                 as_error *e)
{
    (void)c, (void)tag, (void)bytes, (void)count, (void)m;
    return as_fail(e, AS_INTERNAL, 0, "a message to rank %d in a process without MPI", to);
}

int as_comm_receive(as_comm *c, int from, int tag, void *bytes, size_t count, as_message *m,
                    as_error *e)
{
    (void)c, (void)tag, (void)bytes, (void)count, (void)m;
    return as_fail(e, AS_INTERNAL, 0, "a message from rank %d in a process without MPI", from);
}

int as_comm_test(as_comm *c, as_message *m, bool *done, as_error *e)
{
    (void)c, (void)e;
    m->active = false;
    *done = true;
    return AS_OK;
}

int as_comm_probe(as_comm *c, int tag, bool *there, int *from, size_t *count, as_error *e)
{
    (void)c, (void)tag, (void)e;
    *there = false;
    *from = 0;
    *count = 0;
    return AS_OK;
}

int as_comm_barrier_begin(as_comm *c, as_message *m, as_error *e)
{
    (void)c, (void)e;
    m->active = true;
    return AS_OK;
}
