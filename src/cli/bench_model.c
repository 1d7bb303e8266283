/* SPDX-License-Identifier: Apache-2.0
 *
 * MLPerf Storage, checkpointing: model, TP×PP×DP, bytes of weights and of the optimizer as its
 * rules list them for 8B, 70B, 405B and 1T. Its own data are files of torch, one per process; only
 * sizes and numbers of ranks are taken from it.
 */
#include "cli/bench_model.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/models.h"
#include "tensor/dtype.h"

/* ZeRO-3 leaves an equal part of everything on each rank (fsdp); ZeRO-1 replicates the weights over
 * dp, so that each rank of a group saves a part. */
static const as_workload workloads[] = {
    {"mlperf:8b", 15, 1, 1, 8, 8, "fsdp"},
    {"mlperf:70b", 130, 8, 1, 8, 64, "fsdp"},
    {"mlperf:405b", 755, 8, 32, 2, 512, "tp=8,pp=32,dp=2"},
    {"mlperf:1t", 2571, 8, 64, 2, 1024, "tp=8,pp=64,dp=2"},
};

enum { WORKLOAD_COUNT = sizeof workloads / sizeof workloads[0] };

const char *as_bench_model_name(size_t i)
{
    if (i < as_models_count()) {
        return as_models_name(i);
    }
    i -= as_models_count();
    return i < WORKLOAD_COUNT ? workloads[i].name : NULL;
}

const as_workload *as_workload_find(const char *name)
{
    for (size_t i = 0; i < WORKLOAD_COUNT; i++) {
        if (strcmp(workloads[i].name, name) == 0) {
            return &workloads[i];
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- a plain model */

static int add(as_tensors *t, int dtype, const char *name, int64_t rows, int64_t columns,
               as_error *e)
{
    uint64_t shape[2] = {(uint64_t)rows, (uint64_t)columns};
    return as_tensors_add(t, name, strlen(name), dtype, columns > 0 ? 2 : 1, shape, 0, 0, e);
}

/* Elements of a layer: four square matrices, two of four times that, two vectors. */
static int64_t layer_elements(int64_t width)
{
    return 12 * width * width + 2 * width;
}

static int add_layer(as_tensors *t, int dtype, int64_t layer, int64_t width, as_error *e)
{
    static const struct {
        const char *name;
        int rows, columns; /* times the width; columns 0: a vector */
    } parts[] = {
        {"attention.q", 1, 1}, {"attention.k", 1, 1}, {"attention.v", 1, 1}, {"attention.o", 1, 1},
        {"mlp.up", 4, 1},      {"mlp.down", 1, 4},    {"norm_1", 1, 0},      {"norm_2", 1, 0},
    };
    int code = AS_OK;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && code == AS_OK; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "layers.%lld.%s.weight", (long long)layer, parts[i].name);
        code = add(t, dtype, name, parts[i].rows * width, parts[i].columns * width, e);
    }
    return code;
}

enum { LEAST_WIDTH = 8, MOST_WIDTH = 65536, LEAST_LAYERS = 16 };

int as_sized_make(int64_t bytes, int dtype, as_tensors *out, as_error *e)
{
    *out = AS_TENSORS_INIT;
    if (bytes < AS_SIZED_LEAST) {
        return as_fail(e, AS_INVALID, 0, "a model of %lld bytes is too small; %d are the least",
                       (long long)bytes, (int)AS_SIZED_LEAST);
    }
    if (bytes > AS_SIZED_MOST) {
        return as_fail(e, AS_INVALID, 0, "a model of %lld bytes is too large; 1024TiB are the most",
                       (long long)bytes);
    }
    int64_t elements = bytes * 8 / as_dtype_bits(dtype);
    /* About a tenth is left to the embedding, which takes up what layers do not fill. */
    int64_t for_layers = elements / 10 * 9;
    int64_t width = LEAST_WIDTH;
    while (width < MOST_WIDTH && LEAST_LAYERS * layer_elements(2 * width) <= for_layers) {
        width *= 2;
    }
    int64_t layers = for_layers / layer_elements(width);
    int64_t rows = (elements - layers * layer_elements(width) - width) / width;
    int code = add(out, dtype, "embed.weight", rows, width, e);
    for (int64_t i = 0; i < layers && code == AS_OK; i++) {
        code = add_layer(out, dtype, i, width, e);
    }
    code = code == AS_OK ? add(out, dtype, "norm.weight", width, 0, e) : code;
    if (code != AS_OK) {
        as_tensors_free(out);
    }
    return code;
}

/* ---------------------------------------------------------------- the workloads */

/* Three F32 tensors for each of the first `count`: the weight and the two moments of Adam. */
static int add_optimizer(as_tensors *t, size_t count, as_error *e)
{
    static const char *const states[] = {"master", "exp_avg", "exp_avg_sq"};
    int code = AS_OK;
    for (size_t s = 0; s < sizeof states / sizeof states[0]; s++) {
        for (size_t i = 0; i < count && code == AS_OK; i++) {
            char name[96];
            (void)snprintf(name, sizeof name, "optimizer.%s.%s", states[s], as_tensors_name(t, i));
            const int64_t *shape = as_tensors_shape(t, i);
            bool matrix = as_tensors_row(t, i)->ndim == 2;
            code = add(t, AS_F32, name, shape[0], matrix ? shape[1] : 0, e);
        }
    }
    return code;
}

int as_workload_make(const as_workload *w, int64_t scale, as_tensors *out, as_error *e)
{
    int code = as_sized_make((w->weight_gib << 30) / scale, AS_BF16, out, e);
    code = code == AS_OK ? add_optimizer(out, as_tensors_count(out), e) : code;
    if (code != AS_OK) {
        as_tensors_free(out);
    }
    return code;
}
