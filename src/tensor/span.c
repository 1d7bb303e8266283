/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/span.h"

#include "base/checked.h"
#include "tensor/dtype.h"

typedef struct block {
    int64_t low;
    int64_t last; /* included */
} block;

/* The block of whole dimensions from `d` on, from their first byte in memory. */
static block below(const as_geometry *g, int d)
{
    block b = {0};
    for (; d < g->ndim; d++) {
        int64_t reach = (g->shape[d] - 1) * g->stride[d];
        b.low += as_min_i64(0, reach);
        b.last += as_max_i64(0, reach);
    }
    return b;
}

/* Takes in indices [first, last] of dimension `d`, whole below it, at place `at` of memory. */
static void take_in(const as_geometry *g, int d, int64_t at, int64_t first, int64_t last, block *b)
{
    if (first <= last) {
        block inner = below(g, d + 1);
        const int64_t ends[2] = {at + first * g->stride[d], at + last * g->stride[d]};
        for (int i = 0; i < 2; i++) {
            b->low = as_min_i64(b->low, ends[i] + inner.low);
            b->last = as_max_i64(b->last, ends[i] + inner.last);
        }
    }
}

/* Indices of byte `at` of the piece. */
static void digits(const as_geometry *g, int64_t at, int64_t out[AS_GEOMETRY_DIMS])
{
    for (int d = g->ndim - 1; d >= 0; d--) {
        out[d] = at % g->shape[d];
        at /= g->shape[d];
    }
}

void as_span(const as_geometry *g, int64_t from, int64_t to, int64_t *low, int64_t *high)
{
    int64_t first[AS_GEOMETRY_DIMS] = {0};
    int64_t last[AS_GEOMETRY_DIMS] = {0};
    digits(g, from, first);
    digits(g, to - 1, last);
    int64_t at = 0; /* of what the two have in common */
    int d = 0;
    while (d < g->ndim - 1 && first[d] == last[d]) {
        at += first[d] * g->stride[d];
        d++;
    }
    /* Between the two; what follows the first, from the inside out; what precedes the last. */
    int64_t ends[2] = {at, at};
    for (int k = d; k < g->ndim; k++) {
        ends[0] += first[k] * g->stride[k];
        ends[1] += last[k] * g->stride[k];
    }
    block b = {.low = as_min_i64(ends[0], ends[1]), .last = as_max_i64(ends[0], ends[1])};
    take_in(g, d, at, first[d] + 1, last[d] - 1, &b);
    int64_t after = at + first[d] * g->stride[d];
    int64_t before = at + last[d] * g->stride[d];
    for (int k = d + 1; k < g->ndim; k++) {
        take_in(g, k, after, first[k] + 1, g->shape[k] - 1, &b);
        take_in(g, k, before, 0, last[k] - 1, &b);
        after += first[k] * g->stride[k];
        before += last[k] * g->stride[k];
    }
    *low = b.low;
    *high = b.last + 1;
}

int64_t as_span_cut(const as_geometry *g, int64_t from, int64_t most, int64_t limit)
{
    int64_t good = from + 1;
    int64_t bad = most + 1;
    int64_t to = most;
    while (good < bad - 1) {
        int64_t low;
        int64_t high;
        as_span(g, from, to, &low, &high);
        if (high - low <= limit) {
            good = to;
        } else {
            bad = to;
        }
        to = good + (bad - good) / 2;
    }
    return good;
}

int64_t as_span_place(const as_geometry *g, int64_t at)
{
    int64_t index[AS_GEOMETRY_DIMS];
    digits(g, at, index);
    int64_t place = 0;
    for (int d = 0; d < g->ndim; d++) {
        place = place * g->global[d] + g->offset[d] + index[d];
    }
    return place;
}

static int64_t size_of(int64_t stride)
{
    return stride < 0 ? -stride : stride;
}

bool as_span_overlaps(const as_geometry *g)
{
    /* By growing stride, each dimension must step over all that lies within. */
    bool done[AS_GEOMETRY_DIMS] = {false};
    int64_t within = 1;
    for (int n = 0; n < g->ndim; n++) {
        int next = 0;
        while (done[next]) {
            next++;
        }
        for (int d = next + 1; d < g->ndim; d++) {
            if (!done[d] && size_of(g->stride[d]) < size_of(g->stride[next])) {
                next = d;
            }
        }
        done[next] = true;
        if (g->shape[next] > 1) {
            int64_t stride = size_of(g->stride[next]);
            if (stride < within) {
                return true;
            }
            within += stride * (g->shape[next] - 1);
        }
    }
    return false;
}

as_geometry as_span_uncast(const as_geometry *g)
{
    as_geometry m = *g;
    if (g->memory_dtype && g->ndim > 0) {
        int64_t file = as_dtype_bits(g->file_dtype) / 8;
        int64_t memory = as_dtype_bits(g->memory_dtype) / 8;
        int last = g->ndim - 1;
        m.global[last] = g->global[last] / file * memory;
        m.offset[last] = g->offset[last] / file * memory;
        m.shape[last] = g->shape[last] / file * memory;
        m.memory_dtype = m.file_dtype = AS_DTYPE_NONE;
    }
    return m;
}

as_geometry as_span_packed(const as_geometry *g)
{
    as_geometry m = as_span_uncast(g);
    as_geometry packed = *g;
    int64_t stride = 1;
    for (int d = g->ndim - 1; d >= 0; d--) {
        packed.stride[d] = stride;
        stride *= m.shape[d];
    }
    return packed;
}
