/* SPDX-License-Identifier: Apache-2.0
 * What a GPT-2's layers compute, on one rank: plain loops, each sum in one order. Matrices lie in C
 * order; `_back` functions add to the gradients of weights, and set those of their input. */
#ifndef TRAIN_GPT2_LAYERS_H
#define TRAIN_GPT2_LAYERS_H

#include "real.h"

#include <stdint.h>

/* out [rows, columns] = a [rows, inner] · w [inner, columns]. */
void multiply(real *restrict out, const real *restrict a, const real *restrict w, int rows,
              int inner, int columns);

/* to [inner, columns] += aᵀ · b, of a [rows, inner] and b [rows, columns]. */
void add_outer(real *restrict to, const real *restrict a, const real *restrict b, int rows,
               int inner, int columns);

/* out [columns, rows] = w [rows, columns]ᵀ. */
void transpose(real *restrict out, const real *restrict w, int rows, int columns);

/* Adds a row to every row, and the other way round the sum of all rows to one. */
void add_bias(real *restrict out, const real *restrict bias, int rows, int columns);
void add_bias_back(real *restrict dbias, const real *restrict dout, int rows, int columns);

/* `stats`: mean and 1 / deviation of each row, which the way back needs. */
void layer_norm(real *restrict out, real *restrict stats, const real *restrict x,
                const real *restrict weight, const real *restrict bias, int rows, int width);
void layer_norm_back(real *restrict dx, real *restrict dweight, real *restrict dbias,
                     const real *restrict dout, const real *restrict x, const real *restrict weight,
                     const real *restrict stats, int rows, int width);

/* GPT-2's smooth step ("gelu_new"): with tanh. */
void gelu(real *restrict out, const real *restrict x, int64_t n);
void gelu_back(real *restrict dx, const real *restrict dout, const real *restrict x, int64_t n);

/* Causal attention of `heads` heads, each on its own columns of q, k, v and out [count × length,
 * heads × size]; `weights` [count, heads, length, length]: how much each token heeds the earlier
 * ones. */
typedef struct attention {
    int count, length, heads, size;
} attention;
void attend(const attention *a, real *out, real *weights, const real *q, const real *k,
            const real *v);
void attend_back(const attention *a, real *dq, real *dk, real *dv, const real *dout,
                 const real *weights, const real *q, const real *k, const real *v);

/* Cross entropy of rows of logits against `targets`; the sum over the rows is returned, `logits`
 * becomes its gradient times `scale`. */
double cross_entropy(real *logits, const uint16_t *targets, int rows, int columns, double scale);

#endif
