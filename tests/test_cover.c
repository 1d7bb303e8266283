/* SPDX-License-Identifier: Apache-2.0
 * Overlap of boxes: random tilings, with and without a planted overlap, against
 * marks on every element.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "base/error.h"
#include "box_support.h"
#include "plan/cover.h"

enum { MOST = 40 };

/* Boxes of one tensor, with room for their dimensions. */
typedef struct tiling {
    int64_t shape[AS_MAX_DIMS];
    int ndim;
    int64_t dims[MOST][2][AS_MAX_DIMS];
    as_box boxes[MOST];
    size_t count;
} tiling;

static as_box *new_box(tiling *t)
{
    as_box *b = &t->boxes[t->count];
    *b = (as_box){.dtype = AS_U8,
                  .ndim = t->ndim,
                  .shape = t->shape,
                  .offset = t->dims[t->count][0],
                  .local = t->dims[t->count][1]};
    t->count++;
    return b;
}

/* Cuts [offset, offset + local) into boxes, one cut after the other. */
static void cut(uint64_t *seed, tiling *t, const int64_t *offset, const int64_t *local, int depth)
{
    int d = t->ndim ? (int)between(seed, 0, t->ndim - 1) : 0;
    if (depth == 0 || t->ndim == 0 || local[d] < 2) {
        size_t at = t->count;
        (void)new_box(t);
        memcpy(t->dims[at][0], offset, (size_t)t->ndim * sizeof *offset);
        memcpy(t->dims[at][1], local, (size_t)t->ndim * sizeof *local);
        return;
    }
    int64_t half[AS_MAX_DIMS];
    int64_t other[AS_MAX_DIMS];
    int64_t begin[AS_MAX_DIMS];
    memcpy(half, local, sizeof half);
    memcpy(other, local, sizeof other);
    memcpy(begin, offset, sizeof begin);
    half[d] = between(seed, 1, local[d] - 1);
    other[d] = local[d] - half[d];
    begin[d] += half[d];
    cut(seed, t, offset, half, depth - 1);
    cut(seed, t, begin, other, depth - 1);
}

static void flat_tiling(uint64_t *seed, tiling *t, int64_t numel)
{
    int64_t at = 0;
    while (at < numel && t->count < MOST / 2) {
        as_box *b = new_box(t);
        b->flat = true;
        b->flat_offset = at;
        b->flat_count = t->count == MOST / 2 ? numel - at : between(seed, 0, numel - at);
        at += b->flat_count;
    }
}

static void make_tiling(uint64_t *seed, tiling *t)
{
    t->count = 0;
    t->ndim = (int)(between(seed, 0, 3) ? between(seed, 0, 4) : between(seed, 5, 16));
    int64_t numel = 1;
    for (int d = 0; d < AS_MAX_DIMS; d++) {
        t->shape[d] = d < t->ndim && numel < 300 ? between(seed, 1, t->ndim > 4 ? 3 : 7) : 1;
        numel *= t->shape[d];
    }
    if (between(seed, 0, 2) == 0) {
        flat_tiling(seed, t, numel);
    } else {
        const int64_t zero[AS_MAX_DIMS] = {0};
        cut(seed, t, zero, t->shape, (int)between(seed, 0, 4));
    }
    if (between(seed, 0, 3) == 0) { /* some boxes as flat ranges, if they are such */
        for (size_t i = 0; i < t->count; i++) {
            test_elements m = model_elements(&t->boxes[i]);
            bool run = m.count > 0 && m.number[m.count - 1] - m.number[0] == m.count - 1;
            if (run) {
                t->boxes[i].flat = true;
                t->boxes[i].flat_offset = m.number[0];
                t->boxes[i].flat_count = m.count;
            }
            free_elements(&m);
        }
    }
}

static void plant(uint64_t *seed, tiling *t)
{
    as_box *b = new_box(t);
    if (between(seed, 0, 1)) {
        int64_t numel = test_numel(t->shape, t->ndim);
        b->flat = true;
        b->flat_offset = between(seed, 0, numel);
        b->flat_count = between(seed, 0, numel - b->flat_offset);
        return;
    }
    for (int d = 0; d < t->ndim; d++) {
        t->dims[t->count - 1][0][d] = between(seed, 0, t->shape[d]);
        t->dims[t->count - 1][1][d] = between(seed, 0, t->shape[d] - b->offset[d]);
    }
}

static bool share_element(const as_box *a, const as_box *b)
{
    test_elements x = model_elements(a);
    test_elements y = model_elements(b);
    int64_t i = 0;
    int64_t k = 0;
    while (i < x.count && k < y.count && x.number[i] != y.number[k]) {
        if (x.number[i] < y.number[k]) {
            i++;
        } else {
            k++;
        }
    }
    bool shared = i < x.count && k < y.count;
    free_elements(&x);
    free_elements(&y);
    return shared;
}

static void check(const tiling *t, int *overlaps)
{
    bool expected = false;
    for (size_t i = 0; i < t->count; i++) {
        for (size_t k = 0; k < i && !expected; k++) {
            expected = share_element(&t->boxes[i], &t->boxes[k]);
        }
    }
    bool found;
    size_t a = MOST;
    size_t b = MOST;
    assert_int_equal(as_cover_overlap(t->boxes, t->count, &found, &a, &b, NULL), AS_OK);
    assert_int_equal(found, expected);
    if (found) {
        assert_true(a < t->count && b < t->count && a != b);
        assert_true(share_element(&t->boxes[a], &t->boxes[b]));
    }
    *overlaps += found;
}

static void random_tilings(void **state)
{
    (void)state;
    uint64_t seed = 8;
    int overlaps = 0;
    static tiling t;
    for (int i = 0; i < 6000; i++) {
        make_tiling(&seed, &t);
        int before = overlaps;
        check(&t, &overlaps);
        assert_int_equal(before, overlaps); /* a tiling has none */
        plant(&seed, &t);
        check(&t, &overlaps);
    }
    assert_in_range(overlaps, 2000, 6000);
}

static void tensors_of_one_element_and_none(void **state)
{
    (void)state;
    bool found;
    size_t a;
    size_t b;
    as_box scalar = {.dtype = AS_F32};
    as_box flat = {.dtype = AS_F32, .flat = true, .flat_count = 1};
    as_box nothing = {.dtype = AS_F32, .flat = true};
    assert_int_equal(as_cover_overlap((as_box[]){scalar, nothing}, 2, &found, &a, &b, NULL), AS_OK);
    assert_false(found);
    assert_int_equal(as_cover_overlap((as_box[]){scalar, flat}, 2, &found, &a, &b, NULL), AS_OK);
    assert_true(found);
    assert_int_equal(as_cover_overlap(NULL, 0, &found, &a, &b, NULL), AS_OK);
    assert_false(found);
}

/* Regular grids stay far from a comparison of every pair. */
static void large_grids_are_quick(void **state)
{
    (void)state;
    enum { SIDE = 160 };
    const size_t count = SIDE * SIDE;
    const int64_t shape[] = {SIDE * 2, SIDE * 3};
    int64_t(*dims)[2] = calloc(count, sizeof *dims);
    as_box *boxes = calloc(count, sizeof *boxes);
    assert_non_null(dims);
    assert_non_null(boxes);
    const int64_t local[] = {2, 3};
    for (size_t i = 0; i < count; i++) {
        dims[i][0] = (int64_t)(i / SIDE) * 2;
        dims[i][1] = (int64_t)(i % SIDE) * 3;
        boxes[i] =
            (as_box){.dtype = AS_U8, .ndim = 2, .shape = shape, .offset = dims[i], .local = local};
    }
    bool found;
    size_t a;
    size_t b;
    clock_t start = clock();
    assert_int_equal(as_cover_overlap(boxes, count, &found, &a, &b, NULL), AS_OK);
    assert_false(found);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 5);
    dims[count - 1][1] -= 1;
    assert_int_equal(as_cover_overlap(boxes, count, &found, &a, &b, NULL), AS_OK);
    assert_true(found);
    assert_int_equal(a + b, 2 * count - 3);
    free(dims);
    free(boxes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_tilings),
        cmocka_unit_test(tensors_of_one_element_and_none),
        cmocka_unit_test(large_grids_are_quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
