/* SPDX-License-Identifier: Apache-2.0
 * The model on this rank: weights, gradients, and a step's way through the layers and back. */
#ifndef TRAIN_GPT2_MODEL_H
#define TRAIN_GPT2_MODEL_H

#include "params.h"

/* What the way back needs of one layer. Rows are tokens of all sequences. */
typedef struct layer_memory {
    real *normed_1, *stats_1; /* what ln_1 gives */
    real *q, *k, *v, *weights, *mixed;
    real *drop_1, *middle; /* the stream after attention */
    real *normed_2, *stats_2, *inner, *active;
    real *drop_2, *out; /* the stream after the MLP */
} layer_memory;

typedef struct model {
    params p;
    const ranks *r;
    real *weights, *gradients; /* flat arrays of p.count */
    int sequences;             /* as many there is memory for */
    layer_memory *layers;
    real *drop_0, *in, *last, *last_stats, *logits;
    real *room[7]; /* for what is soon forgotten */
    real *block;   /* that all memory but the weights' and gradients' is in */
} model;

/* `sequences`: the most that one call works on. The weights are zeros. Dies without memory. */
void model_open(model *m, const config *c, const ranks *r, int sequences);
void model_close(model *m);

/* Logits of `count` sequences of `length` tokens each into m->logits [count × length, vocabulary].
 * `dropout`: the generator's state; NULL: nothing is dropped. Collective among the ranks of a copy,
 * which all get the same. */
void model_forward(model *m, const uint16_t *tokens, int count, int length, uint64_t *dropout);

/* The way back: m->logits holds the gradient of the logits (and is not kept); sets m->gradients.
 * After model_forward with the same tokens. Collective among the ranks of a copy. */
void model_backward(model *m, const uint16_t *tokens, int count, int length);

#endif
