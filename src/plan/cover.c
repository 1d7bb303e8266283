/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/cover.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/checked.h"

/* An n-dimensional part of a box; a flat range is cut into several. */
typedef struct cuboid {
    size_t box;
    int64_t begin[AS_MAX_DIMS];
    int64_t end[AS_MAX_DIMS];
} cuboid;

static int add(as_buffer *out, size_t box, const int64_t *begin, const int64_t *end, int ndim,
               as_error *e)
{
    cuboid c = {.box = box};
    for (int d = 0; d < ndim; d++) {
        if (begin[d] >= end[d]) {
            return AS_OK;
        }
        c.begin[d] = begin[d];
        c.end[d] = end[d];
    }
    return as_buffer_append(out, &c, sizeof c, e);
}

/* The range [low, high) of the elements below dimension d, whose outer indexes are set in
 * begin/end: a first and a last partial row, and whole rows between. */
static int add_range(as_buffer *out, const as_box *b, size_t box, int d, int64_t low, int64_t high,
                     int64_t *begin, int64_t *end, as_error *e)
{
    if (low >= high) {
        return AS_OK;
    }
    if (d == b->ndim - 1) {
        begin[d] = low;
        end[d] = high;
        return add(out, box, begin, end, b->ndim, e);
    }
    int64_t row = 1;
    for (int k = d + 1; k < b->ndim; k++) {
        row *= b->shape[k];
    }
    int64_t first = as_ceil_div(low, row);
    int64_t last = high / row;
    int code = AS_OK;
    if (low % row) {
        begin[d] = low / row;
        end[d] = begin[d] + 1;
        code = add_range(out, b, box, d + 1, low % row, as_min_i64(row, high - begin[d] * row),
                         begin, end, e);
        if (code != AS_OK || high <= first * row) {
            return code;
        }
    }
    if (first < last) {
        begin[d] = first;
        end[d] = last;
        for (int k = d + 1; k < b->ndim; k++) {
            begin[k] = 0;
            end[k] = b->shape[k];
        }
        code = add(out, box, begin, end, b->ndim, e);
    }
    if (code == AS_OK && high % row && last >= first) {
        begin[d] = last;
        end[d] = last + 1;
        code = add_range(out, b, box, d + 1, 0, high % row, begin, end, e);
    }
    return code;
}

static int add_box(as_buffer *out, const as_box *b, size_t box, as_error *e)
{
    int64_t begin[AS_MAX_DIMS] = {0};
    int64_t end[AS_MAX_DIMS] = {0};
    if (b->flat && b->ndim) {
        return add_range(out, b, box, 0, b->flat_offset, b->flat_offset + b->flat_count, begin, end,
                         e);
    }
    if (b->flat && b->flat_count == 0) {
        return AS_OK;
    }
    for (int d = 0; d < b->ndim; d++) {
        begin[d] = b->offset[d];
        end[d] = b->offset[d] + b->local[d];
    }
    return add(out, box, begin, end, b->ndim, e);
}

static int compare_along(const void *a, const void *b, void *dimension)
{
    int d = *(const int *)dimension;
    const cuboid *x = a;
    const cuboid *y = b;
    return (x->begin[d] > y->begin[d]) - (x->begin[d] < y->begin[d]);
}

/* The dimension in which the parts begin at the most different places. */
static int best_dimension(cuboid *parts, size_t count, int ndim)
{
    int best = 0;
    size_t most = 0;
    for (int d = 0; d < ndim; d++) {
        qsort_r(parts, count, sizeof *parts, compare_along, &d);
        size_t places = 1;
        for (size_t i = 1; i < count; i++) {
            places += parts[i].begin[d] != parts[i - 1].begin[d];
        }
        if (places > most) {
            most = places;
            best = d;
        }
    }
    return best;
}

static bool share(const cuboid *x, const cuboid *y, int ndim)
{
    for (int d = 0; d < ndim; d++) {
        if (x->end[d] <= y->begin[d] || y->end[d] <= x->begin[d]) {
            return false;
        }
    }
    return x->box != y->box;
}

/* Walks along one dimension with the parts that reach the place of the walk. */
static bool sweep(cuboid *parts, size_t count, int ndim, size_t *active, size_t *a, size_t *b)
{
    int along = best_dimension(parts, count, ndim);
    qsort_r(parts, count, sizeof *parts, compare_along, &along);
    size_t live = 0;
    for (size_t i = 0; i < count; i++) {
        size_t kept = 0;
        for (size_t k = 0; k < live; k++) {
            const cuboid *other = &parts[active[k]];
            if (ndim && other->end[along] <= parts[i].begin[along]) {
                continue;
            }
            active[kept++] = active[k];
            if (share(other, &parts[i], ndim)) {
                *a = other->box;
                *b = parts[i].box;
                return true;
            }
        }
        active[kept++] = i;
        live = kept;
    }
    return false;
}

int as_cover_overlap(const as_box *boxes, size_t count, bool *found, size_t *a, size_t *b,
                     as_error *e)
{
    as_buffer parts = AS_BUFFER_INIT;
    *found = false;
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = add_box(&parts, &boxes[i], i, e);
    }
    size_t n = parts.size / sizeof(cuboid);
    if (code == AS_OK && n > 1) {
        size_t *active = malloc(n * sizeof *active);
        if (active) {
            *found = sweep((cuboid *)(void *)parts.data, n, boxes[0].ndim, active, a, b);
            free(active);
        } else {
            code = as_fail_nomem(e);
        }
    }
    as_buffer_free(&parts);
    return code;
}
