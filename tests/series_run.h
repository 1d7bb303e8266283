/* SPDX-License-Identifier: Apache-2.0
 * A small run that saves a series: a model and an optimizer whose values tell the step that they are
 * of, shared out by rows over however many ranks there are, small files, and state of each rank.
 */
#ifndef ALLSHARD_TESTS_SERIES_RUN_H
#define ALLSHARD_TESTS_SERIES_RUN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_ranks.h"

enum { RUN_ROWS = 40, RUN_COLUMNS = 33, RUN_TENSORS = 3, RUN_PARTS = 2, LONGEST_STATE = 5000 };

typedef struct run {
    allshard *as;
    int rank;
    int ranks;
    allshard_state *states[RUN_PARTS];
    float *values[RUN_PARTS][RUN_TENSORS];
    int64_t from; /* rows of this rank */
    int64_t rows;
    char state[LONGEST_STATE]; /* of this rank */
    size_t state_bytes;
} run;

static inline float run_value(int64_t step, int part, int tensor, int64_t row, int64_t column)
{
    return (float)((step * 31 + part * 7 + tensor) % 1000) +
           (float)(row * RUN_COLUMNS + column) / 4096;
}

/* Of a rank that saves at a step: ranks have different sizes, rank 1 none. */
static inline size_t run_state(char *out, int64_t step, int rank)
{
    size_t bytes = rank == 1 ? 0 : (size_t)(7 + (step * 13 + rank * 1237) % (LONGEST_STATE - 7));
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (char)(step * 5 + rank * 3 + (int64_t)i);
    }
    return bytes;
}

static inline void run_fill(run *u, int64_t step)
{
    for (int p = 0; p < RUN_PARTS; p++) {
        for (int t = 0; t < RUN_TENSORS; t++) {
            for (int64_t i = 0; i < u->rows * RUN_COLUMNS; i++) {
                u->values[p][t][i] =
                    run_value(step, p, t, u->from + i / RUN_COLUMNS, i % RUN_COLUMNS);
            }
        }
    }
    u->state_bytes = run_state(u->state, step, u->rank);
}

static inline void run_spoil(run *u)
{
    for (int p = 0; p < RUN_PARTS; p++) {
        for (int t = 0; t < RUN_TENSORS; t++) {
            for (int64_t i = 0; i < u->rows * RUN_COLUMNS; i++) {
                u->values[p][t][i] = -1;
            }
        }
    }
    memset(u->state, 0x55, sizeof u->state);
}

static inline int64_t run_wrong(const run *u, int64_t step)
{
    int64_t wrong = 0;
    for (int p = 0; p < RUN_PARTS; p++) {
        for (int t = 0; t < RUN_TENSORS; t++) {
            for (int64_t i = 0; i < u->rows * RUN_COLUMNS; i++) {
                wrong += u->values[p][t][i] !=
                         run_value(step, p, t, u->from + i / RUN_COLUMNS, i % RUN_COLUMNS);
            }
        }
    }
    return wrong;
}

static inline void run_declare(run *u, int part, const char *name, const char *file)
{
    static const int64_t shape[] = {RUN_ROWS, RUN_COLUMNS};
    GOOD(u->as, allshard_state_create(&u->states[part], u->as, name));
    for (int t = 0; t < RUN_TENSORS; t++) {
        const int64_t offset[] = {u->from, 0};
        const int64_t local[] = {u->rows, RUN_COLUMNS};
        char tensor[32];
        u->values[part][t] = malloc((size_t)(u->rows * RUN_COLUMNS + 1) * sizeof(float));
        CHECK(u->values[part][t]);
        (void)snprintf(tensor, sizeof tensor, "%s.layer%d", name, t);
        const allshard_tensor d = {.size = sizeof d,
                                   .name = tensor,
                                   .dtype = ALLSHARD_F32,
                                   .ndim = 2,
                                   .shape = shape,
                                   .offset = offset,
                                   .local_shape = local,
                                   .data = u->values[part][t]};
        GOOD(u->as, allshard_state_tensor(u->states[part], &d));
    }
    GOOD(u->as, allshard_state_file(u->states[part], file, name, strlen(name)));
    GOOD(u->as, allshard_state_file(u->states[part], "shared.json", "{}\n", 3));
}

/* The context is the caller's. */
static inline void run_open(run *u, allshard *as, int rank, int ranks)
{
    *u = (run){.as = as, .rank = rank, .ranks = ranks};
    u->from = (int64_t)RUN_ROWS * rank / ranks;
    u->rows = (int64_t)RUN_ROWS * (rank + 1) / ranks - u->from;
    run_declare(u, 0, "model", "config.json");
    run_declare(u, 1, "optimizer", "optimizer.json");
}

static inline void run_close(run *u)
{
    for (int p = 0; p < RUN_PARTS; p++) {
        GOOD(u->as, allshard_state_free(u->states[p]));
        for (int t = 0; t < RUN_TENSORS; t++) {
            free(u->values[p][t]);
        }
    }
}

/* What run_checkpoint points to. */
static const allshard_save_options run_model_options = {.size = sizeof run_model_options,
                                                        .block_bytes = 1024};
static const allshard_save_options run_optimizer_options = {.size = sizeof run_optimizer_options,
                                                            .pattern =
                                                                "opt-state{suffix}.safetensors",
                                                            .max_shard_size = "6KB",
                                                            .block_bytes = 256};
static const allshard_save_options *const run_options[] = {&run_model_options,
                                                           &run_optimizer_options};

static inline allshard_checkpoint run_checkpoint(const run *u, int64_t step)
{
    return (allshard_checkpoint){.size = sizeof(allshard_checkpoint),
                                 .step = step,
                                 .states = u->states,
                                 .state_count = RUN_PARTS,
                                 .options = run_options,
                                 .rank_state = u->state,
                                 .rank_state_bytes = u->state_bytes,
                                 .metric = "loss",
                                 .metric_value = 100.0 / (double)(step + 1)};
}

/* Loads, and looks at every byte: all of it is of `step`, saved by `savers` ranks. */
static inline void run_check_load(run *u, allshard_series *r, int64_t ask, int64_t step, int savers,
                                  int passed)
{
    char expected[LONGEST_STATE];
    size_t bytes = u->rank < savers ? run_state(expected, step, u->rank) : 0;
    allshard_loaded loaded = {.size = sizeof loaded};
    run_spoil(u);
    GOOD(u->as, allshard_series_load(r, ask, u->states, RUN_PARTS, NULL, &loaded));
    CHECK_TEXT(loaded.step == step, "step %lld, not %lld", (long long)loaded.step, (long long)step);
    CHECK(loaded.world == savers && loaded.passed == passed);
    CHECK_TEXT(run_wrong(u, step) == 0, "%lld values are not of step %lld",
               (long long)run_wrong(u, step), (long long)step);
    CHECK_TEXT(loaded.rank_state_bytes == bytes, "%zu bytes, not %zu", loaded.rank_state_bytes,
               bytes);
    CHECK(bytes == 0 || memcmp(loaded.rank_state, expected, bytes) == 0);
}

#endif
