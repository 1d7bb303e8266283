/* SPDX-License-Identifier: Apache-2.0
 * What a poll of a series' policy costs where nothing is due: one reduction and no other message,
 * and no call that touches a disk on the thread that polls. Its time beside that of a bare
 * MPI_Allreduce is printed: ten times as much would be too much, but no test can tell that on a
 * machine that does other things besides.
 */
/* ranks: 2 4 */
#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "comm/comm.h"
#include "series/policy.h"
#include "support_ranks.h"

/* ------------------------------------------------- the calls of MPI, counted where they are made */

static int reductions;
static int others;

/* Open MPI declares these in its own header; the names here are the ones that programs call. */
int MPI_Iallreduce(const void *from, void *to, int count, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm, MPI_Request *request)
{
    reductions++;
    return PMPI_Iallreduce(from, to, count, type, op, comm, request);
}

int MPI_Ibcast(void *bytes, int count, MPI_Datatype type, int root, MPI_Comm comm,
               MPI_Request *request)
{
    others++;
    return PMPI_Ibcast(bytes, count, type, root, comm, request);
}

int MPI_Ibarrier(MPI_Comm comm, MPI_Request *request)
{
    others++;
    return PMPI_Ibarrier(comm, request);
}

int MPI_Issend(const void *bytes, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
               MPI_Request *request)
{
    others++;
    return PMPI_Issend(bytes, count, type, to, tag, comm, request);
}

int MPI_Isend(const void *bytes, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    others++;
    return PMPI_Isend(bytes, count, type, to, tag, comm, request);
}

/* ---------------------------------------------------------- the calls that touch disks, likewise */

static int (*real_openat)(int, const char *, int, mode_t);
static pthread_t poller;
static atomic_int own_opens;
static atomic_int thread_opens;

static int counted_openat(int folder, const char *path, int flags, mode_t mode)
{
    (void)atomic_fetch_add(pthread_equal(pthread_self(), poller) ? &own_opens : &thread_opens, 1);
    return real_openat(folder, path, flags, mode);
}

/* --------------------------------------------------------------------------------------- times */

enum { TIMES = 50 };

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times)
{
    qsort(times, TIMES, sizeof *times, by_size);
    return times[TIMES / 2];
}

static as_policy *policy;

static void poll_once(int64_t step)
{
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    CHECK(as_policy_poll(policy, step, NULL, 0, &v, &e) == AS_OK && !v.save && !v.stop);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 120);
    as_comm *comm;
    as_error e = AS_ERROR_INIT;
    allshard_comm world = world_comm();
    CHECK(as_comm_open(&comm, &world, &e) == AS_OK);
    char root[512];
    (void)snprintf(root, sizeof root, "%s", scratch_path("root"));
    CHECK(world_rank() > 0 || mkdir(root, 0755) == 0);
    poller = pthread_self();
    real_openat = as_sys_table.openat;
    as_sys_table.openat = counted_openat;
    const as_policy_options options = {.every_steps = 1000000,
                                       .every_s = 1e6,
                                       .walltime = true,
                                       .end_time = 1e10,
                                       .signals = true,
                                       .look_s = 0.001};
    CHECK(as_policy_open(&policy, comm, root, &options, NULL, &e) == AS_OK);
    for (int64_t step = 1; step <= 20; step++) {
        poll_once(step); /* the first ones set up connections, and the thread */
    }

    double polls[TIMES];
    double bare[TIMES];
    reductions = others = 0;
    atomic_store(&own_opens, 0);
    for (int i = 0; i < TIMES; i++) {
        CHECK(PMPI_Barrier(world) == MPI_SUCCESS);
        double begin = seconds_now();
        poll_once(100 + i);
        polls[i] = seconds_now() - begin;
        int64_t value = i;
        int64_t sum;
        CHECK(PMPI_Barrier(world) == MPI_SUCCESS);
        begin = seconds_now();
        CHECK(PMPI_Allreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, world) == MPI_SUCCESS);
        bare[i] = seconds_now() - begin;
    }
    /* Who leaves the barrier last finds the others' part done: the slowest rank's time counts. */
    CHECK(PMPI_Allreduce(MPI_IN_PLACE, polls, TIMES, MPI_DOUBLE, MPI_MAX, world) == MPI_SUCCESS);
    CHECK(PMPI_Allreduce(MPI_IN_PLACE, bare, TIMES, MPI_DOUBLE, MPI_MAX, world) == MPI_SUCCESS);
    CHECK_TEXT(reductions == TIMES, "%d reductions in %d polls", reductions, TIMES);
    CHECK_TEXT(others == 0, "%d other messages", others);
    CHECK(atomic_load(&own_opens) == 0);
    if (world_rank() == 0) {
        double of_poll = median(polls) * 1e6;
        double of_bare = median(bare) * 1e6;
        (void)printf("poll %.1f us, bare allreduce %.1f us, ratio %.1f, medians of %d on %d ranks; "
                     "the thread opened %d files meanwhile\n",
                     of_poll, of_bare, of_poll / of_bare, TIMES, world_size(),
                     atomic_load(&thread_opens));
    }
    as_policy_close(policy);
    as_sys_table.openat = real_openat;
    as_comm_free(comm);
    return ranks_end();
}
