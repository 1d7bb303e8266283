/* SPDX-License-Identifier: Apache-2.0
 * Trains and saves from the memory of GPUs, each rank on its own.
 *
 *     mpirun -n 2 ./save_from_gpu DIR
 *
 * The weights in bf16 are cut by rows, their master copy in f32 by columns. "Training" sets both to
 * what a step makes of them, in a stream of its own, so that the end can show which step was saved.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cuda_bf16.h>

#include <allshard.h>

enum { ROWS = 4096, COLUMNS = 1024, STEPS = 100, SAVE_EVERY = 30 };

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
#ifdef ALLSHARD_NO_MPI
    exit(1);
#else
    MPI_Abort(MPI_COMM_WORLD, 1);
#endif
}

static void gpu(const char *what, cudaError_t code)
{
    if (code != cudaSuccess) {
        stop(what, cudaGetErrorString(code));
    }
}

static void saver(const char *what, const allshard *as, int code)
{
    allshard_error e = {};
    e.size = sizeof e;
    if (code != ALLSHARD_OK) {
        (void)allshard_last_error(as, &e);
        stop(what, e.text);
    }
}

/* A rank's part of a matrix of ROWS x COLUMNS, on its GPU. */
template <typename T> struct part {
    T *data;
    int64_t shape[2], offset[2];
};

__managed__ unsigned wrong;

/* One step of the training; or with `compare`, counts what is not as that step made it. */
template <typename T> __global__ void train(part<T> p, int step, bool compare)
{
    int64_t first = blockIdx.x * blockDim.x + threadIdx.x, count = p.shape[0] * p.shape[1];
    for (int64_t i = first; i < count; i += gridDim.x * blockDim.x) {
        int64_t row = p.offset[0] + i / p.shape[1], column = p.offset[1] + i % p.shape[1];
        T value = T((float)((row * COLUMNS + column + 7 * step) % 8191));
        if (!compare) {
            p.data[i] = value;
        } else if ((float)p.data[i] != (float)value) {
            atomicAdd(&wrong, 1U);
        }
    }
}

/* Has the memory and declares it: its pointer tells that it is a GPU's. */
template <typename T>
static void declare(part<T> *p, const char *name, int dtype, allshard_state *s, const allshard *as)
{
    static const int64_t shape[] = {ROWS, COLUMNS};
    allshard_tensor t = {};
    t.size = sizeof t, t.name = name, t.dtype = dtype, t.ndim = 2, t.shape = shape;
    t.offset = p->offset, t.local_shape = p->shape;
    gpu("cudaMalloc", cudaMalloc(&p->data, p->shape[0] * p->shape[1] * sizeof(T)));
    t.data = p->data;
    saver(name, as, allshard_state_tensor(s, &t));
}

int main(int argc, char **argv)
{
    int rank = 0, ranks = 1, local = 0, gpus = 0;
    allshard_comm comm = ALLSHARD_COMM_SELF;
#ifndef ALLSHARD_NO_MPI
    MPI_Comm host;
    MPI_Init(&argc, &argv);
    comm = MPI_COMM_WORLD;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host);
    MPI_Comm_rank(host, &local);
    MPI_Comm_free(&host);
#endif
    const char *directory = argc > 1 ? argv[1] : "example-gpu";
    cudaStream_t stream;
    gpu("cudaGetDeviceCount", cudaGetDeviceCount(&gpus));
    gpu("cudaSetDevice", cudaSetDevice(local % gpus));
    gpu("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));

    allshard *as = NULL;
    allshard_state *model = NULL;
    if (allshard_open(&as, comm, NULL) != ALLSHARD_OK) {
        return 1;
    }
    saver("allshard_state_create", as, allshard_state_create(&model, as, "model"));
    int64_t row = (int64_t)ROWS * rank / ranks, column = (int64_t)COLUMNS * rank / ranks;
    int64_t rows = (int64_t)ROWS * (rank + 1) / ranks - row;
    int64_t columns = (int64_t)COLUMNS * (rank + 1) / ranks - column;
    part<__nv_bfloat16> weight = {NULL, {rows, COLUMNS}, {row, 0}};
    part<float> master = {NULL, {ROWS, columns}, {0, column}};
    declare(&weight, "weight", ALLSHARD_BF16, model, as);
    declare(&master, "master", ALLSHARD_F32, model, as);

    /* What is in `stream` when a save is called is saved; what is put there later is not. */
    allshard_save_options options = {};
    options.size = sizeof options, options.cuda_stream = stream;
    allshard_request *save = NULL;
    for (int step = 0; step <= STEPS; step++) {
        train<<<512, 256, 0, stream>>>(weight, step, false);
        train<<<512, 256, 0, stream>>>(master, step, false);
        gpu("train", cudaGetLastError());
        if (step == 0) {
            saver("allshard_save", as, allshard_save(model, directory, &options));
        } else if (step % SAVE_EVERY == 0) {
            saver("allshard_wait", as, save ? allshard_wait(&save, NULL) : 0);
            saver("allshard_isave", as, allshard_isave(model, directory, &options, &save));
        } else if (save) {
            int done;
            saver("allshard_test", as, allshard_test(save, &done)); /* once a step moves it on */
        }
    }
    allshard_stats stats = {};
    stats.size = sizeof stats;
    saver("allshard_wait", as, allshard_wait(&save, &stats));

    allshard_load_options from = {};
    from.size = sizeof from, from.cuda_stream = stream;
    saver("allshard_load", as, allshard_load(model, directory, &from));
    int saved = STEPS / SAVE_EVERY * SAVE_EVERY;
    train<<<512, 256, 0, stream>>>(weight, saved, true);
    train<<<512, 256, 0, stream>>>(master, saved, true);
    gpu("cudaStreamSynchronize", cudaStreamSynchronize(stream));
    printf("rank %d of %d, GPU %d (%s): weights of step %d are %s\n", rank, ranks, local % gpus,
           stats.device, saved, wrong ? "not what was saved" : "back");

    allshard_state_free(model);
    allshard_close(as); /* before the memory and streams that it knows go away */
    gpu("cudaFree", cudaFree(weight.data));
    gpu("cudaFree", cudaFree(master.data));
    gpu("cudaStreamDestroy", cudaStreamDestroy(stream));
#ifndef ALLSHARD_NO_MPI
    MPI_Finalize();
#endif
    return wrong != 0;
}
