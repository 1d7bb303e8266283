/* SPDX-License-Identifier: Apache-2.0
 * The table of the model's parameters. */
#include "params.h"
#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

config config_of(const char *size)
{
    config c = {.layers = 2, .width = 32, .heads = 4, .context = 32, .dropout = 0.1};
    if (strcmp(size, "small") == 0) {
        c = (config){.layers = 4, .width = 128, .heads = 8, .context = 64, .dropout = 0.1};
    }
    c.vocabulary = 257; /* the bytes, and the end of a text */
    return c;
}

/* The next piece: rows × columns of a tensor of `shape`, from (row, column) on. One dimension: one
 * row. */
static void add(params *p, const char *name, const int64_t shape[2], int64_t row, int64_t column,
                int64_t rows, int64_t columns)
{
    piece *next = &p->pieces[p->piece_count++];
    snprintf(next->name, sizeof next->name, "%s", name);
    next->dims = shape[0] == 1 ? 1 : 2;
    next->shape[0] = shape[0], next->shape[1] = shape[1];
    next->offset[0] = row, next->offset[1] = column;
    next->local[0] = rows, next->local[1] = columns;
    next->at = p->count;
    next->count = (size_t)(rows * columns);
    next->whole = rows == shape[0] && columns == shape[1];
    p->count += next->count;
}

static void add_whole(params *p, const char *name, int64_t rows, int64_t columns)
{
    add(p, name, (int64_t[]){rows, columns}, 0, 0, rows, columns);
}

/* Column `r->tp_rank` of `r->tp` of those [first, first + columns) of a tensor. */
static void add_columns(params *p, const ranks *r, const char *name, const int64_t shape[2],
                        int64_t first, int64_t columns)
{
    int64_t share = columns / r->tp;
    add(p, name, shape, 0, first + share * r->tp_rank, shape[0], share);
}

static void add_rows(params *p, const ranks *r, const char *name, int64_t rows, int64_t columns)
{
    int64_t share = rows / r->tp;
    add(p, name, (int64_t[]){rows, columns}, share * r->tp_rank, 0, share, columns);
}

static void add_layer(params *p, const ranks *r, int layer)
{
    const int64_t w = p->c.width;
    char name[64];
#define NAME(rest) (snprintf(name, sizeof name, "transformer.h.%d." rest, layer), name)
    add_whole(p, NAME("ln_1.weight"), 1, w);
    add_whole(p, NAME("ln_1.bias"), 1, w);
    for (int i = 0; i < 3; i++) { /* queries, keys, values */
        add_columns(p, r, NAME("attn.c_attn.weight"), (int64_t[]){w, 3 * w}, i * w, w);
    }
    for (int i = 0; i < 3; i++) {
        add_columns(p, r, NAME("attn.c_attn.bias"), (int64_t[]){1, 3 * w}, i * w, w);
    }
    add_rows(p, r, NAME("attn.c_proj.weight"), w, w);
    add_whole(p, NAME("attn.c_proj.bias"), 1, w);
    add_whole(p, NAME("ln_2.weight"), 1, w);
    add_whole(p, NAME("ln_2.bias"), 1, w);
    add_columns(p, r, NAME("mlp.c_fc.weight"), (int64_t[]){w, 4 * w}, 0, 4 * w);
    add_columns(p, r, NAME("mlp.c_fc.bias"), (int64_t[]){1, 4 * w}, 0, 4 * w);
    add_rows(p, r, NAME("mlp.c_proj.weight"), 4 * w, w);
    add_whole(p, NAME("mlp.c_proj.bias"), 1, w);
#undef NAME
}

void params_open(params *p, const config *c, const ranks *r)
{
    if (c->heads % r->tp != 0) {
        die("--tp %d does not divide the %d attention heads of this model", r->tp, c->heads);
    }
    *p = (params){.c = *c};
    p->pieces = take((size_t)(FIRST_LAYER + c->layers * PER_LAYER + AFTER_LAYERS), sizeof(piece));
    add_whole(p, "transformer.wte.weight", c->vocabulary, c->width);
    add_whole(p, "transformer.wpe.weight", c->context, c->width);
    for (int layer = 0; layer < c->layers; layer++) {
        add_layer(p, r, layer);
    }
    add_whole(p, "transformer.ln_f.weight", 1, c->width);
    add_whole(p, "transformer.ln_f.bias", 1, c->width);
}

void params_close(params *p)
{
    free(p->pieces);
}

static uint64_t hash_name(const char *name)
{
    uint64_t h = 0;
    for (; *name; name++) {
        h = random_mix(h + (unsigned char)*name + 1);
    }
    return h;
}

/* The place in the tensor, in C order, of element i of a piece. */
static uint64_t place_of(const piece *p, size_t i)
{
    int64_t row = p->offset[0] + (int64_t)i / p->local[1];
    int64_t column = p->offset[1] + (int64_t)i % p->local[1];
    return (uint64_t)(row * p->shape[1] + column);
}

/* A number of the normal distribution for each place of each tensor (Box and Muller 1958). */
static double normal(uint64_t seed, uint64_t place)
{
    const double turn = 6.283185307179586;
    double u = 1 - random_unit(random_mix(random_mix(seed) + 2 * place));
    double v = random_unit(random_mix(random_mix(seed) + 2 * place + 1));
    return sqrt(-2 * log(u)) * cos(turn * v);
}

void params_init(const params *p, real *flat, uint64_t seed)
{
    for (int i = 0; i < p->piece_count; i++) {
        const piece *q = &p->pieces[i];
        /* The larger the fewer columns there are: GPT-2's 0.02 are for 768. What adds to the stream
         * that runs through all layers begins smaller, as there are more of them. */
        double spread = strstr(q->name, "c_proj") ? 0.08 / sqrt(2.0 * p->c.layers) : 0.08;
        uint64_t tensor = random_mix(seed) ^ hash_name(q->name);
        for (size_t j = 0; j < q->count; j++) {
            if (q->dims == 1) {
                flat[q->at + j] = strstr(q->name, "ln_") && strstr(q->name, ".weight") ? 1 : 0;
            } else {
                flat[q->at + j] = (real)(spread * normal(tensor, place_of(q, j)));
            }
        }
    }
}

uint64_t params_checksum(const params *p, const real *values, size_t begin, size_t end,
                         int skip_whole)
{
    uint64_t sum = 0;
    for (int i = 0; i < p->piece_count; i++) {
        const piece *q = &p->pieces[i];
        size_t first = begin > q->at ? begin : q->at;
        size_t last = end < q->at + q->count ? end : q->at + q->count;
        if (skip_whole && q->whole) {
            continue;
        }
        uint64_t name = hash_name(q->name);
        for (size_t j = first; j < last; j++) {
            uint64_t bits = 0;
            memcpy(&bits, &values[j - begin], sizeof *values);
            sum += random_mix(random_mix(name + place_of(q, j - q->at)) ^ bits);
        }
    }
    return sum;
}
