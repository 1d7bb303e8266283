/* SPDX-License-Identifier: Apache-2.0
 * How long the planning of a save of an unchanged state takes beside a bare MPI_Allreduce, turn
 * about in one run: the figure in docs/performance.md. Prints one JSON object on rank 0.
 *
 *   mpirun -n 4 build/release/tests/tool_plan_latency FOLDER
 */
/* needs: mpi */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/handles.h"
#include "support_model.h"
#include "transfer/prepare.h"

enum { ROUNDS = 51 };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The slowest rank's time. */
static double slowest(double seconds)
{
    double most;
    (void)MPI_Allreduce(&seconds, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return most;
}

static double median(double *times)
{
    qsort(times, ROUNDS, sizeof *times, compare);
    return times[ROUNDS / 2];
}

int main(int argc, char **argv)
{
    double plan[ROUNDS];
    double bare[ROUNDS];
    int rank;
    int size;
    (void)MPI_Init(&argc, &argv);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &size);
    allshard *as;
    allshard_state *s;
    holding h;
    if (argc != 2 || allshard_open(&as, MPI_COMM_WORLD, NULL) != ALLSHARD_OK ||
        allshard_state_create(&s, as, "model") != ALLSHARD_OK) {
        return 2;
    }
    holding_make(&h, &model_mixed, LAYOUT_COLUMNS, rank, size, false);
    holding_declare(&h, as, s);
    holding_fill(&h);
    if (allshard_save(s, argv[1], NULL) != ALLSHARD_OK) {
        return 3;
    }
    as_save_call call = {
        .session = &as->session, .state = &s->state, .cache = &s->plans, .directory = argv[1]};
    for (int i = 0; i < ROUNDS; i++) {
        as_error e = AS_ERROR_INIT;
        (void)MPI_Barrier(MPI_COMM_WORLD);
        double begin = MPI_Wtime();
        if (as_prepare(&call, &e) != AS_OK || !as->session.meter.tally.plan_cached) {
            return 4;
        }
        plan[i] = slowest(MPI_Wtime() - begin);
        int64_t values[5] = {i, i, i, i, i};
        (void)MPI_Barrier(MPI_COMM_WORLD);
        begin = MPI_Wtime();
        (void)MPI_Allreduce(MPI_IN_PLACE, values, 5, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
        bare[i] = slowest(MPI_Wtime() - begin);
    }
    double p = median(plan);
    double b = median(bare);
    if (rank == 0) {
        (void)printf("{\"ranks\": %d, \"rounds\": %d, \"plan_cached_us\": %.1f, "
                     "\"allreduce_us\": %.1f, \"ratio\": %.2f}\n",
                     size, ROUNDS, p * 1e6, b * 1e6, p / b);
    }
    holding_free(&h);
    (void)allshard_state_free(s);
    (void)allshard_close(as);
    return MPI_Finalize();
}
