/* SPDX-License-Identifier: Apache-2.0
 * A step's way forth and back through the layers.
 *
 * Each rank of a copy has its heads and its neurons; what these add to the stream of a token is
 * summed over the ranks of the copy, twice on the way forth through a layer and twice on the way back.
 * All else these ranks compute alike, bit for bit. */
#include "model.h"
#include "layers.h"
#include "random.h"

#include <stdlib.h>
#include <string.h>

/* Lays out the memory of activations: counts its elements if `at` is NULL, else cuts them off. */
static size_t lay_out(model *m, real *at)
{
    const config *c = &m->p.c;
    const size_t rows = (size_t)m->sequences * (size_t)c->context, width = (size_t)c->width;
    const size_t tp = (size_t)m->r->tp, heads = (size_t)c->heads / tp;
    size_t used = 0;
#define CUT(pointer, n) ((pointer) = at ? at + used : NULL, used += (n))
    for (int l = 0; l < c->layers; l++) {
        layer_memory *y = &m->layers[l];
        CUT(y->normed_1, rows * width), CUT(y->stats_1, rows * 2);
        CUT(y->q, rows * width / tp), CUT(y->k, rows * width / tp), CUT(y->v, rows * width / tp);
        CUT(y->weights, rows * heads * (size_t)c->context), CUT(y->mixed, rows * width / tp);
        CUT(y->drop_1, rows * width), CUT(y->middle, rows * width);
        CUT(y->normed_2, rows * width), CUT(y->stats_2, rows * 2);
        CUT(y->inner, rows * 4 * width / tp), CUT(y->active, rows * 4 * width / tp);
        CUT(y->drop_2, rows * width), CUT(y->out, rows * width);
    }
    CUT(m->drop_0, rows * width), CUT(m->in, rows * width);
    CUT(m->last, rows * width), CUT(m->last_stats, rows * 2);
    CUT(m->logits, rows * (size_t)c->vocabulary);
    for (int i = 0; i < 4; i++) {
        CUT(m->room[i], rows * width);
    }
    CUT(m->room[4], rows * width * tp); /* for sum_over_tp */
    CUT(m->room[5], rows * 4 * width / tp);
    const size_t largest = (size_t)(c->vocabulary > 4 * c->width ? c->vocabulary : 4 * c->width);
    CUT(m->room[6], largest * width); /* for the transpose of weights */
#undef CUT
    return used;
}

void model_open(model *m, const config *c, const ranks *r, int sequences)
{
    *m = (model){.r = r, .sequences = sequences};
    params_open(&m->p, c, r);
    m->weights = take(m->p.count, sizeof(real));
    m->gradients = take(m->p.count, sizeof(real));
    m->layers = take((size_t)c->layers, sizeof *m->layers);
    m->block = take(lay_out(m, NULL), sizeof(real));
    lay_out(m, m->block);
}

void model_close(model *m)
{
    free(m->block);
    free(m->layers);
    free(m->gradients);
    free(m->weights);
    params_close(&m->p);
}

/* ---- small helpers ---- */

/* What to multiply each element with: 0, or what makes up for those that are. */
static void draw_dropout(const model *m, real *drop, size_t n, uint64_t *state)
{
    const double p = state ? m->p.c.dropout : 0;
    for (size_t i = 0; i < n; i++) {
        drop[i] = state && random_unit(random_next(state)) < p ? 0 : (real)(1 / (1 - p));
    }
}

/* out = x + y · drop. */
static void join(real *out, const real *x, const real *y, const real *drop, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = x[i] + y[i] * drop[i];
    }
}

/* dx [rows, inner] = dout [rows, columns] · wᵀ. */
static void multiply_back(const model *m, real *dx, const real *dout, const real *w, int rows,
                          int inner, int columns)
{
    transpose(m->room[6], w, inner, columns);
    multiply(dx, dout, m->room[6], rows, columns, inner);
}

#define W(l, which) layer_part(&m->p, m->weights, l, which)
#define G(l, which) layer_part(&m->p, m->gradients, l, which)

/* ---- forth ---- */

static void attention_forward(model *m, int l, const real *x, const attention *a, uint64_t *dropout)
{
    layer_memory *y = &m->layers[l];
    const int rows = a->count * a->length, width = m->p.c.width, part = width / m->r->tp;
    const size_t n = (size_t)rows * (size_t)width;
    real *const parts[] = {y->q, y->k, y->v};
    layer_norm(y->normed_1, y->stats_1, x, W(l, LN_1_WEIGHT), W(l, LN_1_BIAS), rows, width);
    for (int i = 0; i < 3; i++) {
        multiply(parts[i], y->normed_1, W(l, Q_WEIGHT + i), rows, width, part);
        add_bias(parts[i], W(l, Q_BIAS + i), rows, part);
    }
    attend(a, y->mixed, y->weights, y->q, y->k, y->v);
    multiply(m->room[0], y->mixed, W(l, PROJ_WEIGHT), rows, part, width);
    sum_over_tp(m->r, m->room[0], n, m->room[4]);
    add_bias(m->room[0], W(l, PROJ_BIAS), rows, width);
    draw_dropout(m, y->drop_1, n, dropout);
    join(y->middle, x, m->room[0], y->drop_1, n);
}

static void mlp_forward(model *m, int l, int rows, uint64_t *dropout)
{
    layer_memory *y = &m->layers[l];
    const int width = m->p.c.width, part = 4 * width / m->r->tp;
    const size_t n = (size_t)rows * (size_t)width;
    layer_norm(y->normed_2, y->stats_2, y->middle, W(l, LN_2_WEIGHT), W(l, LN_2_BIAS), rows, width);
    multiply(y->inner, y->normed_2, W(l, FC_WEIGHT), rows, width, part);
    add_bias(y->inner, W(l, FC_BIAS), rows, part);
    gelu(y->active, y->inner, (int64_t)rows * part);
    multiply(m->room[0], y->active, W(l, OUT_WEIGHT), rows, part, width);
    sum_over_tp(m->r, m->room[0], n, m->room[4]);
    add_bias(m->room[0], W(l, OUT_BIAS), rows, width);
    draw_dropout(m, y->drop_2, n, dropout);
    join(y->out, y->middle, m->room[0], y->drop_2, n);
}

void model_forward(model *m, const uint16_t *tokens, int count, int length, uint64_t *dropout)
{
    const config *c = &m->p.c;
    const int rows = count * length, width = c->width;
    const real *words = m->weights + m->p.pieces[WTE].at;
    const real *places = m->weights + m->p.pieces[WPE].at;
    const attention a = {count, length, c->heads / m->r->tp, width / c->heads};
    draw_dropout(m, m->drop_0, (size_t)rows * (size_t)width, dropout);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < width; j++) {
            const int at = i * width + j;
            m->in[at] =
                (words[tokens[i] * width + j] + places[i % length * width + j]) * m->drop_0[at];
        }
    }
    const real *x = m->in;
    for (int l = 0; l < c->layers; l++) {
        attention_forward(m, l, x, &a, dropout);
        mlp_forward(m, l, rows, dropout);
        x = m->layers[l].out;
    }
    layer_norm(m->last, m->last_stats, x, last_part(&m->p, m->weights, LN_F_WEIGHT),
               last_part(&m->p, m->weights, LN_F_BIAS), rows, width);
    multiply_back(m, m->logits, m->last, words, rows, c->vocabulary, width);
}

/* ---- back: dx is the gradient of the stream, from behind the layer to before it ---- */

static void mlp_backward(model *m, int l, real *dx, int rows)
{
    layer_memory *y = &m->layers[l];
    const int width = m->p.c.width, part = 4 * width / m->r->tp;
    const size_t n = (size_t)rows * (size_t)width;
    real *dout = m->room[1], *dnormed = m->room[2], *dinner = m->room[5];
    for (size_t i = 0; i < n; i++) {
        dout[i] = dx[i] * y->drop_2[i];
    }
    add_bias_back(G(l, OUT_BIAS), dout, rows, width);
    add_outer(G(l, OUT_WEIGHT), y->active, dout, rows, part, width);
    multiply_back(m, y->active, dout, W(l, OUT_WEIGHT), rows, part, width);
    gelu_back(dinner, y->active, y->inner, (int64_t)rows * part);
    add_bias_back(G(l, FC_BIAS), dinner, rows, part);
    add_outer(G(l, FC_WEIGHT), y->normed_2, dinner, rows, width, part);
    multiply_back(m, dnormed, dinner, W(l, FC_WEIGHT), rows, width, part);
    sum_over_tp(m->r, dnormed, n, m->room[4]);
    layer_norm_back(dout, G(l, LN_2_WEIGHT), G(l, LN_2_BIAS), dnormed, y->middle, W(l, LN_2_WEIGHT),
                    y->stats_2, rows, width);
    add_bias(dx, dout, 1, (int)n);
}

static void attention_backward(model *m, int l, real *dx, const real *x, const attention *a)
{
    layer_memory *y = &m->layers[l];
    const int rows = a->count * a->length, width = m->p.c.width, part = width / m->r->tp;
    const size_t n = (size_t)rows * (size_t)width;
    real *dout = m->room[1], *dnormed = m->room[2], *share = m->room[3];
    real *dparts[] = {m->room[5], m->room[5] + rows * part, m->room[5] + 2 * rows * part};
    for (size_t i = 0; i < n; i++) {
        dout[i] = dx[i] * y->drop_1[i];
    }
    add_bias_back(G(l, PROJ_BIAS), dout, rows, width);
    add_outer(G(l, PROJ_WEIGHT), y->mixed, dout, rows, part, width);
    multiply_back(m, y->mixed, dout, W(l, PROJ_WEIGHT), rows, part, width);
    attend_back(a, dparts[0], dparts[1], dparts[2], y->mixed, y->weights, y->q, y->k, y->v);
    memset(dnormed, 0, n * sizeof *dnormed);
    for (int i = 0; i < 3; i++) {
        add_bias_back(G(l, Q_BIAS + i), dparts[i], rows, part);
        add_outer(G(l, Q_WEIGHT + i), y->normed_1, dparts[i], rows, width, part);
        multiply_back(m, share, dparts[i], W(l, Q_WEIGHT + i), rows, width, part);
        add_bias(dnormed, share, 1, (int)n);
    }
    sum_over_tp(m->r, dnormed, n, m->room[4]);
    layer_norm_back(dout, G(l, LN_1_WEIGHT), G(l, LN_1_BIAS), dnormed, x, W(l, LN_1_WEIGHT),
                    y->stats_1, rows, width);
    add_bias(dx, dout, 1, (int)n);
}

void model_backward(model *m, const uint16_t *tokens, int count, int length)
{
    const config *c = &m->p.c;
    const int rows = count * length, width = c->width;
    const real *words = m->weights + m->p.pieces[WTE].at;
    real *dwords = m->gradients + m->p.pieces[WTE].at,
         *dplaces = m->gradients + m->p.pieces[WPE].at;
    const attention a = {count, length, c->heads / m->r->tp, width / c->heads};
    real *dx = m->room[0];
    memset(m->gradients, 0, m->p.count * sizeof *m->gradients);
    add_outer(dwords, m->logits, m->last, rows, c->vocabulary, width);
    multiply(m->room[1], m->logits, words, rows, c->vocabulary, width);
    layer_norm_back(dx, last_part(&m->p, m->gradients, LN_F_WEIGHT),
                    last_part(&m->p, m->gradients, LN_F_BIAS), m->room[1],
                    m->layers[c->layers - 1].out, last_part(&m->p, m->weights, LN_F_WEIGHT),
                    m->last_stats, rows, width);
    for (int l = c->layers - 1; l >= 0; l--) {
        mlp_backward(m, l, dx, rows);
        attention_backward(m, l, dx, l ? m->layers[l - 1].out : m->in, &a);
    }
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < width; j++) {
            const real d = dx[i * width + j] * m->drop_0[i * width + j];
            dwords[tokens[i] * width + j] += d;
            dplaces[i % length * width + j] += d;
        }
    }
}
