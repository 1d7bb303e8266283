/* SPDX-License-Identifier: Apache-2.0
 * Tells allshard which parts of which tensors this rank holds. Whoever loads them may cut them in
 * another way: no more is needed to resume on other ranks. */
#include "declare.h"

#include <stdio.h>

/* rows × columns of a piece, from its (row, column) on, which lie in `data` in C order. */
static int declare_box(allshard_state *state, const piece *q, const char *ending, int64_t row,
                       int64_t column, int64_t rows, int64_t columns, void *data)
{
    char name[96];
    const int64_t offset[] = {q->offset[0] + row, q->offset[1] + column};
    const int64_t local[] = {rows, columns};
    const int first = 2 - q->dims; /* with one dimension the first one means nothing */
    snprintf(name, sizeof name, "%s%s", q->name, ending);
    const allshard_tensor t = {.size = sizeof t,
                               .name = name,
                               .dtype = ALLSHARD_F32,
                               .ndim = q->dims,
                               .shape = q->shape + first,
                               .offset = offset + first,
                               .local_shape = local + first,
                               .data = data};
    return allshard_state_tensor(state, &t);
}

int declare_weights(allshard_state *state, const model *m)
{
    int code = ALLSHARD_OK;
    for (int i = 0; !code && i < m->p.piece_count; i++) {
        const piece *q = &m->p.pieces[i];
        code = declare_box(state, q, "", 0, 0, q->local[0], q->local[1], m->weights + q->at);
    }
    if (!code) {
        /* The same memory: allshard sees that the two are tied, and saves one of them. */
        piece head = m->p.pieces[WTE];
        snprintf(head.name, sizeof head.name, "lm_head.weight");
        code =
            declare_box(state, &head, "", 0, 0, head.local[0], head.local[1], m->weights + head.at);
    }
    return code;
}

/* Elements [first, last) of a piece in C order: the end of a row, rows, the beginning of one. */
static int declare_stretch(allshard_state *state, const piece *q, const char *ending, int64_t first,
                           int64_t last, real *data)
{
    const int64_t width = q->local[1];
    int code = ALLSHARD_OK;
    while (!code && first < last) {
        const int64_t row = first / width, column = first % width;
        int64_t rows = 1, columns = width - column;
        if (column == 0 && last - first >= width) {
            rows = (last - first) / width;
        } else if (columns > last - first) {
            columns = last - first;
        }
        code = declare_box(state, q, ending, row, column, rows, columns, data);
        data += rows * columns;
        first += rows * columns;
    }
    return code;
}

int declare_averages(allshard_state *state, const model *m, const adamw *a)
{
    int code = ALLSHARD_OK;
    for (int i = 0; !code && i < m->p.piece_count; i++) {
        const piece *q = &m->p.pieces[i];
        const size_t first = a->begin > q->at ? a->begin : q->at;
        const size_t last = a->end < q->at + q->count ? a->end : q->at + q->count;
        if (first < last) {
            const int64_t from = (int64_t)(first - q->at), to = (int64_t)(last - q->at);
            const size_t place = first - a->begin;
            code = declare_stretch(state, q, ".exp_avg", from, to, a->mean + place);
            code =
                code ? code : declare_stretch(state, q, ".exp_avg_sq", from, to, a->square + place);
        }
    }
    return code;
}
