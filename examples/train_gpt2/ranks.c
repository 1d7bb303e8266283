/* SPDX-License-Identifier: Apache-2.0
 * Groups of ranks, and sums over them in a fixed order. MPI only moves bytes here. */
#include "ranks.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ranks_open(ranks *r, int tp)
{
    MPI_Comm_rank(MPI_COMM_WORLD, &r->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &r->count);
    if (r->count % tp != 0) {
        die("%d ranks cannot share copies of the weights by %d: give a multiple of --tp", r->count,
            tp);
    }
    r->tp = tp, r->tp_rank = r->rank % tp;
    r->dp = r->count / tp, r->dp_rank = r->rank / tp;
    MPI_Comm_split(MPI_COMM_WORLD, r->dp_rank, r->tp_rank, &r->tp_comm);
    MPI_Comm_split(MPI_COMM_WORLD, r->tp_rank, r->dp_rank, &r->dp_comm);
}

void ranks_close(ranks *r)
{
    MPI_Comm_free(&r->tp_comm);
    MPI_Comm_free(&r->dp_comm);
}

void die(const char *format, ...)
{
    va_list arguments;
    int rank;
    char line[1024];
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "train_gpt2: rank %d: %s\n", rank, line);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

void *take(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) {
        die("no memory for %zu times %zu bytes", count, size);
    }
    return p;
}

void sum_tree(real *parts, int count, size_t n)
{
    for (int stride = 1; stride < count; stride *= 2) {
        for (int i = 0; i + stride < count; i += 2 * stride) {
            real *to = parts + (size_t)i * n;
            const real *from = parts + (size_t)(i + stride) * n;
            for (size_t j = 0; j < n; j++) {
                to[j] += from[j];
            }
        }
    }
}

void sum_over_tp(const ranks *r, real *values, size_t n, real *room)
{
    if (r->tp == 1 || n == 0) {
        return;
    }
    if (n > INT_MAX) {
        die("%zu numbers are too many for one message", n);
    }
    MPI_Allgather(values, (int)n, MPI_REAL_TYPE, room, (int)n, MPI_REAL_TYPE, r->tp_comm);
    sum_tree(room, r->tp, n);
    memcpy(values, room, n * sizeof *values);
}

double sum_over_dp(const ranks *r, double value)
{
    double *all = take((size_t)r->dp, sizeof *all);
    MPI_Allgather(&value, 1, MPI_DOUBLE, all, 1, MPI_DOUBLE, r->dp_comm);
    for (int i = 1; i < r->dp; i++) {
        all[0] += all[i];
    }
    value = all[0];
    free(all);
    return value;
}
