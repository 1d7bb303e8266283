/* SPDX-License-Identifier: Apache-2.0
 * The model's parameters: which tensors a GPT-2 has, which part of each this rank holds, and where
 * that part lies in this rank's flat array of weights, and in that of gradients.
 *
 * Ranks of one copy cut the tensors between attention heads and between neurons of the MLP:
 *   c_attn   [width, 3 × width]  columns of its heads: three pieces, of queries, keys and values
 *   c_proj   [width, width]      the rows that its heads feed
 *   c_fc     [width, 4 × width]  columns of its neurons;  mlp.c_proj: the rows that these feed
 * Everything else each of them has whole. */
#ifndef TRAIN_GPT2_PARAMS_H
#define TRAIN_GPT2_PARAMS_H

#include "ranks.h"

#include <stdint.h>

typedef struct config {
    int layers, width, heads, context, vocabulary;
    double dropout;
} config;

/* "tiny" or "small". */
config config_of(const char *size);

/* Pieces of the table, in this order: */
enum { WTE, WPE, FIRST_LAYER };
enum {
    LN_1_WEIGHT,
    LN_1_BIAS,
    Q_WEIGHT,
    K_WEIGHT,
    V_WEIGHT,
    Q_BIAS,
    K_BIAS,
    V_BIAS,
    PROJ_WEIGHT,
    PROJ_BIAS,
    LN_2_WEIGHT,
    LN_2_BIAS,
    FC_WEIGHT,
    FC_BIAS,
    OUT_WEIGHT,
    OUT_BIAS,
    PER_LAYER
};
enum { LN_F_WEIGHT, LN_F_BIAS, AFTER_LAYERS };

/* A box of one tensor, in C order. One dimension: the first of both is 1 and means nothing. */
typedef struct piece {
    char name[64]; /* as Hugging Face's GPT2LMHeadModel calls the tensor */
    int dims;
    int64_t shape[2];  /* of the tensor */
    int64_t offset[2]; /* where the box begins */
    int64_t local[2];  /* of the box */
    size_t at, count;  /* elements of the flat array */
    int whole;         /* each rank of a copy has all of the tensor */
} piece;

typedef struct params {
    config c;
    piece *pieces;
    int piece_count;
    size_t count; /* elements of the flat array */
} params;

/* Dies if the model's heads cannot be shared by `tp` ranks. */
void params_open(params *p, const config *c, const ranks *r);
void params_close(params *p);

/* Where a piece lies in a flat array. */
static inline real *layer_part(const params *p, real *flat, int layer, int which)
{
    return flat + p->pieces[FIRST_LAYER + layer * PER_LAYER + which].at;
}
static inline real *last_part(const params *p, real *flat, int which)
{
    return flat + p->pieces[FIRST_LAYER + p->c.layers * PER_LAYER + which].at;
}

/* GPT-2's beginning: the same for a seed, whatever the ranks. */
void params_init(const params *p, real *flat, uint64_t seed);

/* A sum over elements [begin, end) of a flat array, of which `values` is the first: of numbers made
 * of their bits, their tensors' names and their places in these. Added up over ranks, each element
 * once, it tells whether a whole model is the same, however it is spread. `skip_whole`: leaves out
 * what other ranks of the copy have too. */
uint64_t params_checksum(const params *p, const real *values, size_t begin, size_t end,
                         int skip_whole);

#endif
