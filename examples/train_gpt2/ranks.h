/* SPDX-License-Identifier: Apache-2.0
 * Who works with whom, and sums over ranks that come out the same, bit for bit, wherever the ranks
 * run. Rank r is number r % tp of those that share one copy of the weights ("tensor parallel"), and
 * its copy is number r / tp of those that share a step's sequences ("data parallel"). */
#ifndef TRAIN_GPT2_RANKS_H
#define TRAIN_GPT2_RANKS_H

#include "real.h"

#include <stddef.h>

typedef struct ranks {
    int rank, count;
    int tp_rank, tp; /* among the ranks of one copy */
    int dp_rank, dp; /* among those that hold the same part of each copy */
    MPI_Comm tp_comm, dp_comm;
} ranks;

/* Collective. */
void ranks_open(ranks *r, int tp);
void ranks_close(ranks *r);

/* Ends the whole job with a line on standard error. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* Memory filled with zeros; dies without. */
void *take(size_t count, size_t size);

/* parts[0 .. n) = the sum of `count` vectors of n that lie one after another, in a fixed order: by
 * pairs of neighbours, by pairs of pairs, and so on. MPI_Reduce may choose another order for
 * another placement of the ranks, and sums of floats depend on the order. */
void sum_tree(real *parts, int count, size_t n);

/* values[0 .. n) = the sum over the ranks of one copy. Collective among them. `room` is memory
 * for tp × n. */
void sum_over_tp(const ranks *r, real *values, size_t n, real *room);

/* The sum over the copies, the same on all ranks. */
double sum_over_dp(const ranks *r, double value);

#endif
