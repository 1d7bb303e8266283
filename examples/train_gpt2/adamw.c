/* SPDX-License-Identifier: Apache-2.0
 * AdamW with its state spread over the copies. */
#include "adamw.h"

#include <limits.h>
#include <stdlib.h>
#include <tgmath.h>

static const double rate = 2e-3, warm_up = 20, decay = 0.1;
static const double beta_1 = 0.9, beta_2 = 0.99, epsilon = 1e-8;

void adamw_open(adamw *o, const params *p, const ranks *r)
{
    const size_t copies = (size_t)r->dp;
    o->counts = take(copies, sizeof(int)), o->places = take(copies, sizeof(int));
    o->part_counts = take(copies, sizeof(int)), o->part_places = take(copies, sizeof(int));
    o->begin = p->count * (size_t)r->dp_rank / copies;
    o->end = p->count * (size_t)(r->dp_rank + 1) / copies;
    const size_t mine = o->end - o->begin;
    if (p->count > INT_MAX / 2) {
        die("%zu parameters are too many for one message", p->count);
    }
    for (size_t i = 0; i < copies; i++) {
        o->places[i] = (int)(p->count * i / copies);
        o->counts[i] = (int)(p->count * (i + 1) / copies) - o->places[i];
        o->part_counts[i] = (int)mine;
        o->part_places[i] = (int)(mine * i);
    }
    o->mean = take(mine, sizeof(real));
    o->square = take(mine, sizeof(real));
    o->parts = take(mine * copies, sizeof(real));
}

void adamw_close(adamw *o)
{
    free(o->counts), free(o->places), free(o->part_counts), free(o->part_places);
    free(o->mean), free(o->square), free(o->parts);
}

/* The stretch's elements [first, last) of the flat array, which belong to one piece. */
static void update(adamw *o, real *weights, size_t first, size_t last, int64_t step, double shrink)
{
    const double now = rate * fmin((double)step / warm_up, 1);
    const double whole_1 = 1 - pow(beta_1, (double)step), whole_2 = 1 - pow(beta_2, (double)step);
    for (size_t i = first; i < last; i++) {
        const size_t j = i - o->begin;
        const double g = o->parts[j];
        o->mean[j] = (real)(beta_1 * o->mean[j] + (1 - beta_1) * g);
        o->square[j] = (real)(beta_2 * o->square[j] + (1 - beta_2) * g * g);
        const double move = o->mean[j] / whole_1 / (sqrt(o->square[j] / whole_2) + epsilon);
        weights[i] = (real)(weights[i] - now * (move + shrink * weights[i]));
    }
}

void adamw_step(adamw *o, model *m, int64_t step)
{
    const params *p = &m->p;
    MPI_Alltoallv(m->gradients, o->counts, o->places, MPI_REAL_TYPE, o->parts, o->part_counts,
                  o->part_places, MPI_REAL_TYPE, m->r->dp_comm);
    sum_tree(o->parts, m->r->dp, o->end - o->begin);
    for (int i = 0; i < p->piece_count; i++) {
        const piece *q = &p->pieces[i];
        const size_t first = o->begin > q->at ? o->begin : q->at;
        const size_t last = o->end < q->at + q->count ? o->end : q->at + q->count;
        /* Biases and norms are not pulled towards 0. */
        update(o, m->weights, first, last, step, q->dims == 2 ? decay : 0);
    }
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, m->weights, o->counts, o->places,
                   MPI_REAL_TYPE, m->r->dp_comm);
}
