/* SPDX-License-Identifier: Apache-2.0
 * How communicators begin and end.
 */
#include <mpi.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/mpi_comm.h"

/* Communicators that were given up: their memory is MPI's for good, and stays in reach. */
static _Atomic(as_comm *) given_up;

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

/* Who is who, and the memory that it needs for as long as it lives. */
static void furnish(as_comm *c, as_error *e)
{
    if (gethostname(c->host, sizeof c->host - 1) != 0) {
        memcpy(c->host, "?", 2);
    }
    c->counts_out = calloc((size_t)c->size + 1, sizeof *c->counts_out);
    c->counts_in = calloc((size_t)c->size + 1, sizeof *c->counts_in);
    c->tested = as_mpi_tested_make();
    if (!c->counts_out || !c->counts_in || !c->tested) {
        (void)as_fail_nomem(e);
    }
}

static void unfurnish(as_comm *c)
{
    free(c->counts_out);
    free(c->counts_in);
    free(c->tested);
}

/* On a duplicate of `from`. */
static int open_on(as_comm **out, MPI_Comm from, as_error *e)
{
    /* On the stack until the ranks have agreed: a rank without memory must be able to say so. */
    as_comm here = {.lowest = -1};
    int code = as_mpi_check(e, MPI_Comm_dup(from, &here.comm), "MPI_Comm_dup");
    if (code != AS_OK) {
        return code;
    }
    (void)as_mpi_check(e, MPI_Comm_set_errhandler(here.comm, MPI_ERRORS_RETURN),
                       "MPI_Comm_set_errhandler");
    (void)as_mpi_check(e, MPI_Comm_size(here.comm, &here.size), "MPI_Comm_size");
    (void)as_mpi_check(e, MPI_Comm_rank(here.comm, &here.rank), "MPI_Comm_rank");
    furnish(&here, e);
    as_comm *c = malloc(sizeof *c);
    if (!c) {
        (void)as_fail_nomem(e);
    }
    code = as_comm_agree(&here, e);
    if (code == AS_OK && c) {
        *c = here;
        *out = c;
        return AS_OK;
    }
    (void)MPI_Comm_free(&here.comm);
    unfurnish(&here);
    free(c);
    return code;
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
    return open_on(out, from, e);
}

int as_comm_twin(as_comm **out, as_comm *c, as_error *e)
{
    MPI_Request request;
    *out = NULL;
    as_comm *twin = calloc(1, sizeof *twin);
    if (twin) {
        twin->comm = MPI_COMM_NULL;
        twin->rank = c->rank;
        twin->size = c->size;
        twin->lowest = -1;
        furnish(twin, e);
    } else {
        (void)as_fail_nomem(e);
    }
    int code = as_comm_agree(c, e);
    if (code != AS_OK || !twin) {
        if (twin) {
            unfurnish(twin);
        }
        free(twin);
        return code;
    }
    code = AS_MPI_RUN(c, e, MPI_Comm_idup, c->comm, &twin->comm);
    if (code != AS_OK) {
        as_comm_give_up(twin); /* MPI may still give it its communicator */
        return code;
    }
    (void)MPI_Comm_set_errhandler(twin->comm, MPI_ERRORS_RETURN);
    *out = twin;
    return AS_OK;
}

void as_comm_give_up(as_comm *c)
{
    c->next = atomic_load(&given_up);
    while (!atomic_compare_exchange_weak(&given_up, &c->next, c)) {
    }
}

void as_comm_free(as_comm *c)
{
    if (!c) {
        return;
    }
    if (c->watch && !as_watch_close(c->watch)) {
        as_comm_give_up(c); /* others do not answer */
        return;
    }
    (void)MPI_Comm_free(&c->comm);
    unfurnish(c);
    as_buffer_free(&c->left);
    free(c);
}

int as_comm_watch(as_comm *c, double seconds, as_error *e)
{
    int lowest = 0;
    int code = as_watch_open(&c->watch, c->comm, seconds, c->host, e);
    /* Now, while waiting inside MPI does no harm. */
    return code == AS_OK ? as_comm_lowest_on_node(c, &lowest, e) : code;
}
