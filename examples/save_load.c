/* SPDX-License-Identifier: Apache-2.0
 * Saves a small model that is spread over all ranks, reads it back, and checks it.
 *
 *     mpirun -n 2 ./save_load DIR
 *
 * The weight matrix is cut by rows; every rank has a copy of the bias.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <allshard.h>

enum { ROWS = 1000, COLUMNS = 64 };

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
    const char *directory = argc > 1 ? argv[1] : "example-model";

    /* This rank's rows of the weight, and its copy of the bias. */
    int64_t first = (int64_t)ROWS * rank / ranks;
    int64_t rows = (int64_t)ROWS * (rank + 1) / ranks - first;
    float *weight = malloc((size_t)rows * COLUMNS * sizeof *weight);
    float bias[COLUMNS];
    if (!weight) {
        return 1;
    }
    for (int64_t i = 0; i < rows * COLUMNS; i++) {
        weight[i] = (float)(first * COLUMNS + i);
    }
    for (int i = 0; i < COLUMNS; i++) {
        bias[i] = (float)i;
    }

    allshard *as;
    allshard_state *model;
    if (allshard_open(&as, comm, NULL) != ALLSHARD_OK) {
        return 1;
    }
    if (allshard_state_create(&model, as, "model") != ALLSHARD_OK) {
        stop("allshard_state_create", as);
    }

    /* Declare once what this rank holds ... */
    int64_t shape[] = {ROWS, COLUMNS}, offset[] = {first, 0}, local[] = {rows, COLUMNS};
    allshard_tensor w = {.size = sizeof w, .name = "weight", .dtype = ALLSHARD_F32, .ndim = 2};
    w.shape = shape, w.offset = offset, w.local_shape = local, w.data = weight;
    allshard_tensor b = {.size = sizeof b, .name = "bias", .dtype = ALLSHARD_F32, .ndim = 1};
    b.shape = &shape[1], b.data = bias;
    if (allshard_state_tensor(model, &w) || allshard_state_tensor(model, &b)) {
        stop("allshard_state_tensor", as);
    }

    /* ... then save and load as often as you like. */
    if (allshard_save(model, directory, NULL) != ALLSHARD_OK) {
        stop("allshard_save", as);
    }
    for (int64_t i = 0; i < rows * COLUMNS; i++) {
        weight[i] = -1;
    }
    if (allshard_load(model, directory, NULL) != ALLSHARD_OK) {
        stop("allshard_load", as);
    }
    for (int64_t i = 0; i < rows * COLUMNS; i++) {
        if (weight[i] != (float)(first * COLUMNS + i)) {
            fprintf(stderr, "rank %d: element %lld came back wrong\n", rank, (long long)i);
            return 1;
        }
    }
    printf("rank %d of %d: saved to %s and loaded again\n", rank, ranks, directory);
    allshard_state_free(model);
    allshard_close(as);
    free(weight);
#ifndef ALLSHARD_NO_MPI
    MPI_Finalize();
#endif
    return 0;
}
