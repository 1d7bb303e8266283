/* SPDX-License-Identifier: Apache-2.0
 * What the files of the communicator on MPI share.
 */
#ifndef ALLSHARD_COMM_MPI_COMM_H
#define ALLSHARD_COMM_MPI_COMM_H

#include <mpi.h>

#include "comm/comm.h"
#include "comm/mpi_watch.h"

#if defined(__GNUC__) && !defined(__clang__)
/* MPICH's MPI_STATUSES_IGNORE is the address 1, which gcc takes for an array of no size. */
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif

enum { AS_LARGEST_MESSAGE = 1 << 30, AS_BOUNCE_BYTES = 16 << 10 };

_Static_assert(sizeof(MPI_Request) <= sizeof(((as_message *)0)->handle), "a request must fit");

typedef struct as_tested as_tested;

struct as_comm {
    MPI_Comm comm; /* a private duplicate */
    int rank;
    int size;
    char host[AS_HOST_BYTES];
    int64_t *counts_out; /* [size]; allocated once, so that an exchange can always be poisoned */
    int64_t *counts_in;  /* [size] */
    /* What MPI reads and writes in place of a caller's small variables: a call that is given up
     * when a rank stalls may still be at work when these are gone. */
    _Alignas(int64_t) char bounce[AS_BOUNCE_BYTES];
    as_watch *watch;               /* NULL: waits last for ever */
    int lowest;                    /* on the node; −1: not asked for yet */
    as_buffer left;                /* void *[]: memory that MPI may still use, for good */
    as_comm *next;                 /* of those that were given up */
    void (*meanwhile)(void *user); /* while this rank waits; may be NULL */
    void *meanwhile_user;
    as_tested *tested; /* made with the communicator, so that beginning needs no memory */
};

/* Heap; NULL without memory. */
as_tested *as_mpi_tested_make(void);

/* An error's record for all ranks, without its text. */
typedef struct as_wire_error {
    int32_t code;
    int32_t sys_errno;
    int32_t rank;
    char host[AS_HOST_BYTES];
} as_wire_error;

as_wire_error as_mpi_pack(const as_comm *c, const as_error *e);
/* Into `e`, whatever it held. */
void as_mpi_unpack(const as_wire_error *wire, const char *text, size_t length, as_error *e);

/* AS_MPI with MPI's own text, also if `e` holds an earlier error: callers must learn that MPI is
 * of no more use, whatever went wrong before. */
int as_mpi_fail(as_error *e, int result, const char *call);
int as_mpi_check(as_error *e, int result, const char *call);

/* A wait begins. AS_TIMEOUT if a rank has stalled: then nothing may be begun any more. */
int as_mpi_ready(as_comm *c, as_error *e);

/* Tests until all are done. AS_MPI, AS_TIMEOUT. */
int as_mpi_finish(as_comm *c, MPI_Request *requests, int count, const char *call, as_error *e);

/* Why nothing can be agreed on any more: AS_TIMEOUT or AS_MPI. */
int as_mpi_lost(const as_comm *c);

/* Starts and finishes one nonblocking call; there is an MPI_Request of the name `request`. */
#define AS_MPI_RUN(c, e, call, ...)                                                                \
    (as_mpi_ready(c, e) != AS_OK || as_mpi_check(e, call(__VA_ARGS__, &request), #call) != AS_OK   \
         ? as_mpi_lost(c)                                                                          \
         : as_mpi_finish(c, &request, 1, #call, e))

void as_comm_leave_buffer(as_comm *c, as_buffer *b); /* which is empty then */

#endif
