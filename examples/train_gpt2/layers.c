/* SPDX-License-Identifier: Apache-2.0
 * What a GPT-2's layers compute, on one rank. The inner loops of matrices go along rows, so that
 * the compiler can take several columns at a time without changing the order of any sum. */
#include "layers.h"

#include <string.h>
#include <tgmath.h>

void multiply(real *restrict out, const real *restrict a, const real *restrict w, int rows,
              int inner, int columns)
{
    memset(out, 0, (size_t)rows * (size_t)columns * sizeof *out);
    for (int i = 0; i < rows; i++) {
        real *to = out + (size_t)i * (size_t)columns;
        for (int k = 0; k < inner; k++) {
            const real *from = w + (size_t)k * (size_t)columns;
            const real factor = a[(size_t)i * (size_t)inner + (size_t)k];
            for (int j = 0; j < columns; j++) {
                to[j] += factor * from[j];
            }
        }
    }
}

void add_outer(real *restrict to, const real *restrict a, const real *restrict b, int rows,
               int inner, int columns)
{
    for (int i = 0; i < rows; i++) {
        const real *from = b + (size_t)i * (size_t)columns;
        for (int k = 0; k < inner; k++) {
            real *row = to + (size_t)k * (size_t)columns;
            const real factor = a[(size_t)i * (size_t)inner + (size_t)k];
            for (int j = 0; j < columns; j++) {
                row[j] += factor * from[j];
            }
        }
    }
}

void transpose(real *restrict out, const real *restrict w, int rows, int columns)
{
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            out[(size_t)j * (size_t)rows + (size_t)i] = w[(size_t)i * (size_t)columns + (size_t)j];
        }
    }
}

void add_bias(real *restrict out, const real *restrict bias, int rows, int columns)
{
    for (int i = 0; i < rows; i++, out += columns) {
        for (int j = 0; j < columns; j++) {
            out[j] += bias[j];
        }
    }
}

void add_bias_back(real *restrict dbias, const real *restrict dout, int rows, int columns)
{
    for (int i = 0; i < rows; i++, dout += columns) {
        for (int j = 0; j < columns; j++) {
            dbias[j] += dout[j];
        }
    }
}

void layer_norm(real *restrict out, real *restrict stats, const real *restrict x,
                const real *restrict weight, const real *restrict bias, int rows, int width)
{
    for (int i = 0; i < rows; i++, x += width, out += width, stats += 2) {
        double mean = 0, square = 0;
        for (int j = 0; j < width; j++) {
            mean += x[j];
        }
        mean /= width;
        for (int j = 0; j < width; j++) {
            square += (x[j] - mean) * (x[j] - mean);
        }
        stats[0] = (real)mean;
        stats[1] = (real)(1 / sqrt(square / width + 1e-5));
        for (int j = 0; j < width; j++) {
            out[j] = (x[j] - stats[0]) * stats[1] * weight[j] + bias[j];
        }
    }
}

void layer_norm_back(real *restrict dx, real *restrict dweight, real *restrict dbias,
                     const real *restrict dout, const real *restrict x, const real *restrict weight,
                     const real *restrict stats, int rows, int width)
{
    for (int i = 0; i < rows; i++, x += width, dx += width, dout += width, stats += 2) {
        double mean = 0, mean_x = 0; /* of dout · weight, and of that times the normed x */
        for (int j = 0; j < width; j++) {
            real normed = (x[j] - stats[0]) * stats[1];
            dweight[j] += dout[j] * normed;
            dbias[j] += dout[j];
            mean += (double)dout[j] * weight[j];
            mean_x += (double)dout[j] * weight[j] * normed;
        }
        mean /= width, mean_x /= width;
        for (int j = 0; j < width; j++) {
            real normed = (x[j] - stats[0]) * stats[1];
            dx[j] = (dout[j] * weight[j] - (real)mean - normed * (real)mean_x) * stats[1];
        }
    }
}

static const real gelu_slope = (real)0.7978845608028654; /* √(2/π) */
static const real gelu_cube = (real)0.044715;

void gelu(real *restrict out, const real *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        real t = tanh(gelu_slope * (x[i] + gelu_cube * x[i] * x[i] * x[i]));
        out[i] = (real)0.5 * x[i] * (1 + t);
    }
}

void gelu_back(real *restrict dx, const real *restrict dout, const real *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        real t = tanh(gelu_slope * (x[i] + gelu_cube * x[i] * x[i] * x[i]));
        real slope = gelu_slope * (1 + 3 * gelu_cube * x[i] * x[i]);
        dx[i] = dout[i] * (real)0.5 * (1 + t + x[i] * (1 - t * t) * slope);
    }
}

/* Token t of a head: its weights on the tokens 0 to t, and the mix of their values. All tokens are
 * `stride` apart. */
static void attend_token(int t, int size, int stride, real *out, real *weights, const real *q,
                         const real *k, const real *v)
{
    const real scale = 1 / sqrt((real)size);
    real most = 0, sum = 0;
    for (int u = 0; u <= t; u++) {
        real dot = 0;
        for (int j = 0; j < size; j++) {
            dot += q[t * stride + j] * k[u * stride + j];
        }
        weights[u] = dot * scale;
        most = u == 0 || weights[u] > most ? weights[u] : most;
    }
    for (int u = 0; u <= t; u++) {
        weights[u] = exp(weights[u] - most);
        sum += weights[u];
    }
    memset(out + t * stride, 0, (size_t)size * sizeof *out);
    for (int u = 0; u <= t; u++) {
        weights[u] /= sum;
        for (int j = 0; j < size; j++) {
            out[t * stride + j] += weights[u] * v[u * stride + j];
        }
    }
}

void attend(const attention *a, real *out, real *weights, const real *q, const real *k,
            const real *v)
{
    const int stride = a->heads * a->size;
    for (int s = 0; s < a->count; s++) {
        for (int h = 0; h < a->heads; h++) {
            const int64_t at = (int64_t)s * a->length * stride + h * a->size;
            for (int t = 0; t < a->length; t++, weights += a->length) {
                attend_token(t, a->size, stride, out + at, weights, q + at, k + at, v + at);
            }
        }
    }
}

static void attend_token_back(int t, int size, int stride, real *dq, real *dk, real *dv,
                              const real *dout, const real *weights, const real *q, const real *k,
                              const real *v)
{
    const real scale = 1 / sqrt((real)size);
    real mean = 0; /* of the weights' gradients, by weight: = dout · out */
    for (int pass = 0; pass < 2; pass++) {
        for (int u = 0; u <= t; u++) {
            real dweight = 0;
            for (int j = 0; j < size; j++) {
                dweight += dout[t * stride + j] * v[u * stride + j];
            }
            if (pass == 0) {
                mean += weights[u] * dweight;
                continue;
            }
            const real dscore = weights[u] * (dweight - mean) * scale;
            for (int j = 0; j < size; j++) {
                dv[u * stride + j] += weights[u] * dout[t * stride + j];
                dq[t * stride + j] += dscore * k[u * stride + j];
                dk[u * stride + j] += dscore * q[t * stride + j];
            }
        }
    }
}

void attend_back(const attention *a, real *dq, real *dk, real *dv, const real *dout,
                 const real *weights, const real *q, const real *k, const real *v)
{
    const int stride = a->heads * a->size;
    const size_t bytes = (size_t)a->count * (size_t)a->length * (size_t)stride * sizeof *dq;
    memset(dq, 0, bytes), memset(dk, 0, bytes), memset(dv, 0, bytes);
    for (int s = 0; s < a->count; s++) {
        for (int h = 0; h < a->heads; h++) {
            const int64_t at = (int64_t)s * a->length * stride + h * a->size;
            for (int t = 0; t < a->length; t++, weights += a->length) {
                attend_token_back(t, a->size, stride, dq + at, dk + at, dv + at, dout + at, weights,
                                  q + at, k + at, v + at);
            }
        }
    }
}

double cross_entropy(real *logits, const uint16_t *targets, int rows, int columns, double scale)
{
    double loss = 0;
    for (int i = 0; i < rows; i++, logits += columns) {
        real most = logits[0];
        for (int j = 1; j < columns; j++) {
            most = logits[j] > most ? logits[j] : most;
        }
        const double target = logits[targets[i]] - most;
        double sum = logits[0] = exp(logits[0] - most);
        for (int j = 1; j < columns; j++) {
            logits[j] = exp(logits[j] - most);
            sum += logits[j];
        }
        loss += log(sum) - target;
        for (int j = 0; j < columns; j++) {
            logits[j] = (real)((logits[j] / sum - (j == targets[i])) * scale);
        }
    }
    return loss;
}
