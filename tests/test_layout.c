/* SPDX-License-Identifier: Apache-2.0
 * Layouts: the pieces of all ranks must make up each tensor exactly, replicas aside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/layout.h"
#include "tensor/dtype.h"

static uint64_t random_state = 1;

static uint64_t next_random(void)
{
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = random_state;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static int below(int n)
{
    return (int)(next_random() % (uint64_t)n);
}

/* A random tensor of up to four dimensions of 0…9, whose bits fill whole bytes. */
static void add_random(as_tensors *t, int number)
{
    static const int dtypes[] = {AS_F32, AS_BF16, AS_U8, AS_F4, AS_F6_E2M3, AS_I64, AS_BOOL};
    static const char *const names[] = {"layers.%d.weight", "mlp.experts.%d.w1.weight",
                                        "experts.%d", "experts.x.%d.bias"};
    char name[64];
    (void)snprintf(name, sizeof name, names[below(4)], number);
    int dtype = dtypes[below(7)];
    uint64_t shape[4];
    int ndim = below(5);
    uint64_t bytes = 0;
    bool whole = false;
    while (!whole) {
        uint64_t numel = 0;
        if (ndim == 0) {
            dtype = AS_F32;
        }
        for (int d = 0; d < ndim; d++) {
            shape[d] = (uint64_t)below(10);
        }
        assert_true(as_shape_numel(shape, ndim, &numel));
        assert_true(as_dtype_bytes(dtype, numel, &bytes, &whole));
    }
    assert_int_equal(as_tensors_add(t, name, strlen(name), dtype, ndim, shape, 0, 0, NULL), AS_OK);
}

static bool same_piece(const as_layout_piece *a, const as_layout_piece *b, int ndim)
{
    if (a->flat || b->flat) {
        return a->flat && b->flat && a->flat_offset == b->flat_offset &&
               a->flat_count == b->flat_count;
    }
    size_t n = (size_t)ndim * sizeof(int64_t);
    return memcmp(a->offset, b->offset, n) == 0 && memcmp(a->shape, b->shape, n) == 0;
}

/* Adds 1 for each element of a piece; returns the number of its elements. */
static int64_t count_elements(const as_layout_piece *p, const int64_t *shape, int ndim,
                              unsigned char *counts)
{
    if (p->flat) {
        for (int64_t i = 0; i < p->flat_count; i++) {
            counts[p->flat_offset + i]++;
        }
        return p->flat_count;
    }
    int64_t numel = 1;
    for (int d = 0; d < ndim; d++) {
        assert_true(p->offset[d] >= 0 && p->shape[d] >= 0);
        assert_true(p->offset[d] + p->shape[d] <= shape[d]);
        numel *= p->shape[d];
    }
    for (int64_t i = 0; i < numel; i++) {
        int64_t rest = i;
        int64_t place = 0;
        int64_t step = 1;
        for (int d = ndim - 1; d >= 0; d--) {
            place += (p->offset[d] + rest % p->shape[d]) * step;
            rest /= p->shape[d];
            step *= shape[d];
        }
        counts[place]++;
    }
    return numel;
}

/* Beyond its range a rank holds nothing; and so many pieces are not empty. */
static void check_range(const as_layout *l, const as_tensors *t)
{
    int64_t held = 0;
    for (int r = 0; r < l->ranks; r++) {
        size_t first;
        size_t last;
        as_layout_range(l, t, r, &first, &last);
        assert_true(first <= last && last <= as_tensors_count(t));
        for (size_t i = 0; i < as_tensors_count(t); i++) {
            as_layout_piece p;
            bool holds = as_layout_get(l, t, i, r, &p);
            assert_true(!holds || (i >= first && i < last));
            held += holds && p.bytes > 0;
        }
    }
    assert_true(held <= as_layout_held_count(l, t));
    assert_true(as_layout_held_count(l, t) <= as_layout_piece_count(l, t));
}

/* Checks one tensor; replicas (equal boxes) are counted once. */
static void check_tensor(const as_layout *l, const as_tensors *t, size_t i)
{
    const as_tensor_row *row = as_tensors_row(t, i);
    as_layout_piece *pieces = calloc((size_t)l->ranks, sizeof *pieces);
    unsigned char *counts = calloc((size_t)row->numel + 1, 1);
    assert_non_null(pieces);
    assert_non_null(counts);
    int held = 0;
    for (int r = 0; r < l->ranks; r++) {
        if (!as_layout_get(l, t, i, r, &pieces[held])) {
            continue;
        }
        bool replica = false;
        for (int k = 0; k < held; k++) {
            replica = replica || same_piece(&pieces[k], &pieces[held], row->ndim);
        }
        if (!replica) {
            int64_t numel =
                count_elements(&pieces[held], as_tensors_shape(t, i), row->ndim, counts);
            int group = as_dtype_group(row->dtype);
            assert_int_equal(numel % group, 0);
            assert_int_equal(pieces[held].bytes, numel / group * as_dtype_group_bytes(row->dtype));
            as_box box = {
                .dtype = row->dtype,
                .ndim = row->ndim,
                .shape = as_tensors_shape(t, i),
                .offset = pieces[held].offset,
                .local = pieces[held].shape,
                .flat = pieces[held].flat,
                .flat_offset = pieces[held].flat_offset,
                .flat_count = pieces[held].flat_count,
            };
            as_geometry g;
            assert_int_equal(as_box_check(&box, NULL), AS_OK);
            assert_int_equal(as_geometry_file(&box, &g, NULL), AS_OK);
            assert_int_equal(as_geometry_bytes(&g), pieces[held].bytes);
        }
        held++;
    }
    assert_true(held >= 1);
    for (int64_t x = 0; x < row->numel; x++) {
        assert_int_equal(counts[x], 1);
    }
    free(pieces);
    free(counts);
}

static void check_layout(const char *text, int ranks, const as_tensors *t)
{
    as_layout l;
    assert_int_equal(as_layout_parse(&l, text, ranks, NULL), AS_OK);
    assert_int_equal(as_layout_fit(&l, t, NULL), AS_OK);
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        check_tensor(&l, t, i);
    }
    check_range(&l, t);
    as_layout_free(&l);
}

static void covers_every_tensor(void **state)
{
    (void)state;
    static const char *const simple[] = {"whole", "replicated", "fsdp", "columns", "flat"};
    static const struct {
        const char *text;
        int ranks;
    } factors[] = {{"tp=1", 1},
                   {"tp=2", 2},
                   {"pp=3", 3},
                   {"dp=4", 4},
                   {"ep=5", 5},
                   {"tp=2,pp=2", 4},
                   {"ep=2,tp=3", 6},
                   {"tp=7", 7},
                   {"tp=2,pp=2,dp=2", 8},
                   {"pp=2,ep=4", 8},
                   {"dp=2,ep=2,pp=2,tp=2", 16}};
    for (int round = 0; round < 60; round++) {
        as_tensors t = AS_TENSORS_INIT;
        int count = 1 + below(12);
        for (int i = 0; i < count; i++) {
            add_random(&t, i);
        }
        for (size_t k = 0; k < sizeof simple / sizeof simple[0]; k++) {
            for (int ranks = 1; ranks <= 9; ranks++) {
                check_layout(simple[k], ranks, &t);
            }
        }
        for (size_t k = 0; k < sizeof factors / sizeof factors[0]; k++) {
            check_layout(factors[k].text, factors[k].ranks, &t);
        }
        as_tensors_free(&t);
    }
}

static void add(as_tensors *t, const char *name, int dtype, int ndim, const uint64_t *shape)
{
    assert_int_equal(as_tensors_add(t, name, strlen(name), dtype, ndim, shape, 0, 0, NULL), AS_OK);
}

static void open_layout(as_layout *l, const char *text, int ranks, const as_tensors *t)
{
    assert_int_equal(as_layout_parse(l, text, ranks, NULL), AS_OK);
    assert_int_equal(as_layout_fit(l, t, NULL), AS_OK);
}

static void fsdp_chunks_are_those_of_torch(void **state)
{
    (void)state;
    as_tensors t = AS_TENSORS_INIT;
    add(&t, "w", AS_F32, 2, (uint64_t[]){10, 3});
    add(&t, "s", AS_F32, 0, NULL);
    as_layout l;
    open_layout(&l, "fsdp", 4, &t);
    static const int64_t rows[4][2] = {{0, 3}, {3, 3}, {6, 3}, {9, 1}}; /* torch.chunk(10, 4) */
    as_layout_piece p;
    for (int r = 0; r < 4; r++) {
        assert_true(as_layout_get(&l, &t, 0, r, &p));
        assert_int_equal(p.offset[0], rows[r][0]);
        assert_int_equal(p.shape[0], rows[r][1]);
        assert_int_equal(p.shape[1], 3);
        assert_int_equal(p.bytes, rows[r][1] * 12);
        assert_int_equal(as_layout_get(&l, &t, 1, r, &p), r == 0);
    }
    as_layout_free(&l);
    open_layout(&l, "fsdp", 7, &t);
    assert_true(as_layout_get(&l, &t, 0, 6, &p)); /* ceil(10/7) = 2: five ranks have rows */
    assert_int_equal(p.offset[0], 10);
    assert_int_equal(p.shape[0], 0);
    assert_int_equal(p.bytes, 0);
    as_layout_free(&l);
    as_tensors_free(&t);
}

static void parallel_factors_mean_what_they_say(void **state)
{
    (void)state;
    as_tensors t = AS_TENSORS_INIT;
    add(&t, "a", AS_F32, 2, (uint64_t[]){4, 6});             /* first matrix: by rows */
    add(&t, "b", AS_F32, 1, (uint64_t[]){24});               /* a vector: replicated */
    add(&t, "c.experts.5.w", AS_F32, 2, (uint64_t[]){4, 6}); /* second: by columns */
    add(&t, "d.experts.4.w", AS_F32, 2, (uint64_t[]){4, 6}); /* third: by rows */
    as_layout l;
    open_layout(&l, "tp=2,ep=2,pp=2", 8, &t);
    as_layout_piece p;
    for (int r = 0; r < 8; r++) {
        int tp = r % 2;
        int ep = r / 2 % 2;
        int pp = r / 4;
        assert_int_equal(as_layout_get(&l, &t, 0, r, &p), pp == 0);
        if (pp == 0) {
            assert_int_equal(p.offset[0], tp * 2);
            assert_int_equal(p.shape[0], 2);
            assert_int_equal(p.shape[1], 6);
        }
        assert_int_equal(as_layout_get(&l, &t, 1, r, &p), pp == 0);
        if (pp == 0) {
            assert_int_equal(p.shape[0], 24);
        }
        assert_int_equal(as_layout_get(&l, &t, 2, r, &p), pp == 1 && ep == 1);
        if (pp == 1 && ep == 1) {
            assert_int_equal(p.offset[1], tp * 3);
            assert_int_equal(p.shape[1], 3);
            assert_int_equal(p.shape[0], 4);
        }
        assert_int_equal(as_layout_get(&l, &t, 3, r, &p), pp == 1 && ep == 0);
        if (pp == 1 && ep == 0) {
            assert_int_equal(p.offset[0], tp * 2);
            assert_int_equal(p.shape[0], 2);
        }
    }
    as_layout_free(&l);
    as_tensors_free(&t);
}

static void whole_groups_are_contiguous_and_balanced(void **state)
{
    (void)state;
    as_tensors t = AS_TENSORS_INIT;
    int64_t largest = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t n = 1 + (uint64_t)below(1000);
        char name[16];
        (void)snprintf(name, sizeof name, "t%d", i);
        add(&t, name, AS_F32, 1, &n);
        largest = (int64_t)n * 4 > largest ? (int64_t)n * 4 : largest;
    }
    as_layout l;
    open_layout(&l, "whole", 7, &t);
    int64_t held[7] = {0};
    int last = 0;
    as_layout_piece p;
    for (size_t i = 0; i < 1000; i++) {
        for (int r = 0; r < 7; r++) {
            if (as_layout_get(&l, &t, i, r, &p)) {
                assert_true(r >= last);
                last = r;
                held[r] += p.bytes;
            }
        }
    }
    assert_int_equal(last, 6);
    for (int r = 0; r < 7; r++) {
        assert_true(llabs(held[r] - t.bytes / 7) <= largest);
    }
    as_layout_free(&l);
    as_tensors_free(&t);
}

static void sub_byte_rows_that_end_inside_a_byte_stay_whole(void **state)
{
    (void)state;
    as_tensors t = AS_TENSORS_INIT;
    add(&t, "f4", AS_F4, 2, (uint64_t[]){2, 3});
    as_layout l;
    as_layout_piece p;
    open_layout(&l, "columns", 3, &t);
    assert_true(as_layout_get(&l, &t, 0, 0, &p));
    assert_int_equal(p.bytes, 3);
    assert_false(as_layout_get(&l, &t, 0, 1, &p));
    as_layout_free(&l);
    open_layout(&l, "flat", 3, &t);
    assert_true(as_layout_get(&l, &t, 0, 2, &p));
    assert_int_equal(p.flat_offset, 4);
    assert_int_equal(p.flat_count, 2);
    as_layout_free(&l);
    as_tensors_free(&t);
}

static void refuses_what_is_no_layout(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "hole",
                                      "Whole",
                                      "tp",
                                      "tp=",
                                      "tp=0",
                                      "tp=-4",
                                      "tp=4,",
                                      "tp=2;pp=2",
                                      "zp=4",
                                      "tp=2,tp=2",
                                      "tp=4 ",
                                      "tp=4.0",
                                      "whole,tp=4",
                                      "tp=3",
                                      "tp=2,pp=3",
                                      "tp=99999999999999999999",
                                      "tp=65536,pp=65536,dp=4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        as_layout l;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_layout_parse(&l, bad[i], 4, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "--layout"));
        as_error_clear(&e);
        as_layout_free(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(covers_every_tensor),
        cmocka_unit_test(fsdp_chunks_are_those_of_torch),
        cmocka_unit_test(parallel_factors_mean_what_they_say),
        cmocka_unit_test(whole_groups_are_contiguous_and_balanced),
        cmocka_unit_test(sub_byte_rows_that_end_inside_a_byte_stay_whole),
        cmocka_unit_test(refuses_what_is_no_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
