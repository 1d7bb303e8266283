/* SPDX-License-Identifier: Apache-2.0
 * Trains on while the weights are saved: allshard_isave every few steps, allshard_test once a step.
 *
 *     mpirun -n 2 ./nonblocking_save DIR
 *
 * The "training" adds 1 to every weight, so that the end can show which step was saved.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <allshard.h>

enum { ROWS = 4096, COLUMNS = 1024, STEPS = 100, SAVE_EVERY = 30 };

static void stop(const char *what, const allshard *as)
{
    allshard_error e = {.size = sizeof e};
    (void)allshard_last_error(as, &e);
    fprintf(stderr, "%s: %s: %s\n", what, allshard_error_name(e.code), e.text);
#ifdef ALLSHARD_NO_MPI
    exit(1);
#else
    MPI_Abort(MPI_COMM_WORLD, 1);
#endif
}

/* Ends a save, if there is one; waits if it is still in flight. */
static void end_save(allshard_request **save, const allshard *as)
{
    allshard_stats s = {.size = sizeof s};
    if (!*save) {
        return;
    }
    if (allshard_wait(save, &s) != ALLSHARD_OK) {
        stop("allshard_wait", as);
    }
    if (s.rank == 0) {
        printf("  saved: training stood still for %.1f ms, durable after %.1f ms\n",
               s.staged_s * 1e3, s.durable_s * 1e3);
    }
}

int main(int argc, char **argv)
{
    int rank = 0, ranks = 1;
    allshard_comm comm = ALLSHARD_COMM_SELF;
#ifndef ALLSHARD_NO_MPI
    MPI_Init(&argc, &argv);
    comm = MPI_COMM_WORLD;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
#endif
    const char *directory = argc > 1 ? argv[1] : "example-training";
    int64_t first = (int64_t)ROWS * rank / ranks;
    int64_t rows = (int64_t)ROWS * (rank + 1) / ranks - first;
    float *weight = calloc((size_t)rows * COLUMNS, sizeof *weight);
    allshard *as;
    allshard_state *model;
    if (!weight || allshard_open(&as, comm, NULL) != ALLSHARD_OK) {
        return 1;
    }

    /* Declare once what this rank holds; every save takes what is there at that moment. */
    int64_t shape[] = {ROWS, COLUMNS}, offset[] = {first, 0}, local[] = {rows, COLUMNS};
    allshard_tensor w = {.size = sizeof w, .name = "weight", .dtype = ALLSHARD_F32, .ndim = 2};
    w.shape = shape, w.offset = offset, w.local_shape = local, w.data = weight;
    if (allshard_state_create(&model, as, "model") || allshard_state_tensor(model, &w)) {
        stop("declaring the model", as);
    }

    allshard_request *save = NULL;
    for (int step = 1; step <= STEPS; step++) {
        for (int64_t i = 0; i < rows * COLUMNS; i++) {
            weight[i] += 1;
        }
        if (step % SAVE_EVERY == 0) {
            end_save(&save, as); /* the one before: over long ago, if the disk is fast enough */
            if (allshard_isave(model, directory, NULL, &save) != ALLSHARD_OK) {
                stop("allshard_isave", as);
            }
            /* The weights may change again. They are safe when allshard_test says so. */
            if (rank == 0) {
                printf("step %d: saving to %s\n", step, directory);
            }
        }
        int done = 0;
        if (save && allshard_test(save, &done) != ALLSHARD_OK) {
            stop("allshard_test", as);
        }
        if (done) {
            end_save(&save, as);
        }
    }
    end_save(&save, as);

    /* What lies there is what the weights were at the last save, whatever became of them since. */
    int saved = STEPS / SAVE_EVERY * SAVE_EVERY;
    if (allshard_load(model, directory, NULL) != ALLSHARD_OK) {
        stop("allshard_load", as);
    }
    for (int64_t i = 0; i < rows * COLUMNS; i++) {
        if (weight[i] != (float)saved) {
            fprintf(stderr, "rank %d: weight %lld is not that of step %d\n", rank, (long long)i,
                    saved);
            return 1;
        }
    }
    printf("rank %d of %d: weights of step %d are back from %s\n", rank, ranks, saved, directory);
    allshard_state_free(model);
    allshard_close(as);
    free(weight);
#ifndef ALLSHARD_NO_MPI
    MPI_Finalize();
#endif
    return 0;
}
