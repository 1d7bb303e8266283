/* SPDX-License-Identifier: Apache-2.0
 * Geometry of random boxes against a model that counts element by element.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/error.h"
#include "box_support.h"

static void random_box(uint64_t *seed, test_box *t)
{
    random_shape(seed, t);
    random_place(seed, t);
    random_strides(seed, t);
}

static int64_t model_before(const test_bytes *m, int64_t at)
{
    int64_t count = 0;
    while (count < m->count && m->place[count] < at) {
        count++;
    }
    return count;
}

static void check_file(uint64_t *seed, const test_box *t, const test_bytes *m)
{
    as_geometry g;
    int64_t bytes;
    assert_int_equal(as_box_tensor_bytes(t->box.dtype, t->box.ndim, t->shape, &bytes, NULL), AS_OK);
    if (!m->file_valid) {
        assert_int_equal(as_geometry_file(&t->box, &g, NULL), AS_INVALID);
        return;
    }
    assert_int_equal(as_geometry_file(&t->box, &g, NULL), AS_OK);
    assert_int_equal(as_geometry_bytes(&g), m->count);
    assert_int_equal(g.ndim == 0, m->count == 0);
    if (m->count == 0) {
        assert_int_equal(as_geometry_before(&g, bytes), 0);
        assert_int_equal(as_geometry_end(&g), as_geometry_begin(&g));
        return;
    }
    int64_t last = m->place[m->count - 1];
    assert_int_equal(as_geometry_begin(&g), m->place[0]);
    assert_int_equal(as_geometry_end(&g), last + 1);
    assert_int_equal(as_geometry_contiguous(&g), last - m->place[0] + 1 == m->count);
    int64_t step = bytes > 200 ? bytes / 100 : 1;
    for (int64_t at = -1; at <= bytes + 1; at += between(seed, 1, step)) {
        assert_int_equal(as_geometry_before(&g, at), model_before(m, at));
    }
}

/* The stretch of memory that the geometry describes is the model's. */
static void check_memory(const test_box *t, const test_bytes *m)
{
    as_geometry g;
    if (!m->memory_valid) {
        assert_int_equal(as_geometry_memory(&t->box, &g, NULL), AS_INVALID);
        return;
    }
    assert_int_equal(as_geometry_memory(&t->box, &g, NULL), AS_OK);
    assert_int_equal(as_geometry_bytes(&g), m->count);
    for (int64_t i = 0; i < m->count; i++) {
        int64_t rest = i;
        int64_t place = 0;
        int64_t memory = 0;
        int64_t step = 1;
        for (int d = g.ndim - 1; d >= 0; d--) {
            int64_t index = rest % g.shape[d];
            rest /= g.shape[d];
            place += (g.offset[d] + index) * step;
            step *= g.global[d];
            memory += index ? index * g.stride[d] : 0;
        }
        assert_int_equal(place, m->place[i]);
        assert_int_equal(memory, m->memory[i]);
    }
}

static void random_boxes_are_as_counted(void **state)
{
    (void)state;
    uint64_t seed = 1;
    int cut = 0;
    int gaps = 0;
    int empty = 0;
    int most_dims = 0;
    for (int i = 0; i < 100000; i++) {
        test_box t;
        random_box(&seed, &t);
        assert_int_equal(as_box_check(&t.box, NULL), AS_OK);
        test_bytes m = model_bytes(&t.box);
        check_file(&seed, &t, &m);
        check_memory(&t, &m);
        cut += !m.file_valid;
        gaps += m.file_valid && !m.memory_valid;
        empty += m.count == 0;
        most_dims = t.box.ndim > most_dims ? t.box.ndim : most_dims;
        free_bytes(&m);
    }
    /* the generator reaches what it is meant to reach */
    assert_in_range(cut, 500, 50000);
    assert_in_range(gaps, 250, 50000);
    assert_in_range(empty, 500, 50000);
    assert_int_equal(most_dims, AS_MAX_DIMS);
}

/* The same elements have the same geometry, however the box is written down, and other
 * elements have another: replicas are told by it. */
static void equal_geometry_means_equal_elements(void **state)
{
    (void)state;
    uint64_t seed = 2;
    int equal = 0;
    for (int i = 0; i < 100000; i++) {
        test_box a;
        random_shape(&seed, &a);
        random_place(&seed, &a);
        test_box b = a;
        b.box.shape = b.shape;
        random_place(&seed, &b);
        test_bytes x = model_bytes(&a.box);
        test_bytes y = model_bytes(&b.box);
        if (x.file_valid && y.file_valid) {
            bool same = x.count == y.count &&
                        memcmp(x.place, y.place, (size_t)x.count * sizeof *x.place) == 0;
            as_geometry g;
            as_geometry h;
            assert_int_equal(as_geometry_file(&a.box, &g, NULL), AS_OK);
            assert_int_equal(as_geometry_file(&b.box, &h, NULL), AS_OK);
            assert_int_equal(as_geometry_same(&g, &h), same);
            equal += same && x.count > 0;
        }
        free_bytes(&x);
        free_bytes(&y);
    }
    assert_in_range(equal, 2500, 100000);
}

static void expect_bytes(int code, int dtype, int ndim, const int64_t *shape, int64_t expected)
{
    int64_t bytes = -1;
    assert_int_equal(as_box_tensor_bytes(dtype, ndim, shape, &bytes, NULL), code);
    if (code == AS_OK) {
        assert_int_equal(bytes, expected);
    }
}

static void bytes_of_a_tensor(void **state)
{
    (void)state;
    const int64_t one = 1;
    expect_bytes(AS_OK, AS_F32, 0, NULL, 4);
    expect_bytes(AS_OK, AS_F4, 2, (int64_t[]){2, 3}, 3);
    expect_bytes(AS_OK, AS_F6_E2M3, 1, (int64_t[]){8}, 6);
    expect_bytes(AS_OK, AS_C64, 3, (int64_t[]){0, INT64_MAX, INT64_MAX}, 0);
    expect_bytes(AS_OK, AS_F32, 3, (int64_t[]){one << 61, 4, 0}, 0);
    expect_bytes(AS_OK, AS_U8, 2, (int64_t[]){one << 30, (one << 31) - 1}, ((one << 31) - 1) << 30);
    expect_bytes(AS_INVALID, AS_U8, 2, (int64_t[]){one << 30, one << 31}, 0);
    expect_bytes(AS_OK, AS_F4, 1, (int64_t[]){(one << 62) - 2}, (one << 61) - 1);
    expect_bytes(AS_INVALID, AS_F4, 1, (int64_t[]){3}, 0);
    expect_bytes(AS_INVALID, AS_F4, 0, NULL, 0);
    expect_bytes(AS_INVALID, AS_F6_E3M2, 1, (int64_t[]){6}, 0);
    expect_bytes(AS_INVALID, AS_U8, 2, (int64_t[]){0, -1}, 0);
    expect_bytes(AS_INVALID, AS_U8, 1, (int64_t[]){INT64_MIN}, 0);
    expect_bytes(AS_INVALID, AS_U8, 1, (int64_t[]){INT64_MAX}, 0);
    expect_bytes(AS_INVALID, AS_U8, 3, (int64_t[]){one << 62, 4, 0}, 0); /* 2^64 before the 0 */
    expect_bytes(AS_INVALID, AS_U64, 1, (int64_t[]){one << 60}, 0);
}

static void expect_box(int code, const int64_t *shape, const int64_t *offset, const int64_t *local,
                       const int64_t *strides)
{
    as_error e = AS_ERROR_INIT;
    as_box b = {.dtype = AS_F32,
                .ndim = 2,
                .shape = shape,
                .offset = offset,
                .local = local,
                .strides = strides};
    assert_int_equal(as_box_check(&b, &e), code);
    assert_int_equal(e.code, code);
    as_error_clear(&e);
}

static void expect_flat(int code, const int64_t *shape, int ndim, int64_t offset, int64_t count)
{
    as_box b = {.dtype = AS_F32,
                .ndim = ndim,
                .shape = shape,
                .flat = true,
                .flat_offset = offset,
                .flat_count = count};
    assert_int_equal(as_box_check(&b, NULL), code);
}

static void boxes_outside_are_refused(void **state)
{
    (void)state;
    const int64_t shape[] = {4, 6};
    const int64_t all[] = {4, 6};
    const int64_t none[] = {0, 0};
    expect_box(AS_OK, shape, none, all, NULL);
    expect_box(AS_OK, shape, shape, none, NULL); /* empty, at the end */
    expect_box(AS_INVALID, shape, (int64_t[]){0, 1}, all, NULL);
    expect_box(AS_INVALID, shape, (int64_t[]){-1, 0}, (int64_t[]){1, 1}, NULL);
    expect_box(AS_INVALID, shape, none, (int64_t[]){-1, 1}, NULL);
    expect_box(AS_INVALID, shape, (int64_t[]){INT64_MAX, 0}, (int64_t[]){1, 1}, NULL);
    expect_box(AS_INVALID, shape, (int64_t[]){1, INT64_MIN}, (int64_t[]){1, INT64_MAX}, NULL);
    expect_flat(AS_OK, shape, 2, 24, 0);
    expect_flat(AS_OK, shape, 2, 20, 4);
    expect_flat(AS_INVALID, shape, 2, 20, 5);
    expect_flat(AS_INVALID, shape, 2, -1, 5);
    expect_flat(AS_INVALID, shape, 2, 5, -1);
    expect_flat(AS_INVALID, shape, 2, INT64_MAX, INT64_MAX);
    expect_flat(AS_OK, NULL, 0, 0, 1);
    expect_flat(AS_INVALID, NULL, 0, 0, 2);
    /* a zero behind a product that passes 2^63 on its way */
    expect_flat(AS_OK, (int64_t[]){INT64_C(1) << 61, 4, 0}, 3, 0, 0);
    expect_flat(AS_INVALID, (int64_t[]){INT64_C(1) << 61, 4, 0}, 3, 0, 1);
}

static void strides_out_of_memory_are_refused(void **state)
{
    (void)state;
    const int64_t shape[] = {4, 6};
    const int64_t none[] = {0, 0};
    expect_box(AS_OK, shape, none, shape, (int64_t[]){-6, 1});
    expect_box(AS_OK, shape, none, shape, (int64_t[]){INT64_C(1) << 55, 0});
    expect_box(AS_INVALID, shape, none, shape, (int64_t[]){INT64_C(1) << 58, 1});
    expect_box(AS_INVALID, shape, none, shape, (int64_t[]){1, INT64_MAX});
    expect_box(AS_INVALID, shape, none, shape, (int64_t[]){INT64_MIN, 1});
    expect_box(AS_INVALID, shape, none, shape, (int64_t[]){-(INT64_C(1) << 58), 1});
    /* both dimensions together */
    expect_box(AS_INVALID, shape, none, shape, (int64_t[]){INT64_C(3) << 55, INT64_C(2) << 55});
    /* strides that lead nowhere */
    expect_box(AS_OK, shape, none, (int64_t[]){1, 6}, (int64_t[]){INT64_MIN, 1});
    expect_box(AS_OK, shape, none, (int64_t[]){0, 6}, (int64_t[]){INT64_MIN, INT64_MAX});
}

static void few_dimensions_are_left(void **state)
{
    (void)state;
    /* rows 1…2 of [4,2,3] are one run; columns are runs of one dimension above */
    const int64_t shape[] = {4, 2, 3};
    as_box rows = {.dtype = AS_F32,
                   .ndim = 3,
                   .shape = shape,
                   .offset = (int64_t[]){1, 0, 0},
                   .local = (int64_t[]){2, 2, 3}};
    as_geometry g;
    assert_int_equal(as_geometry_memory(&rows, &g, NULL), AS_OK);
    assert_int_equal(g.ndim, 1);
    assert_int_equal(g.global[0], 96);
    assert_int_equal(g.offset[0], 24);
    assert_int_equal(g.shape[0], 48);
    as_box columns = {.dtype = AS_F32,
                      .ndim = 3,
                      .shape = shape,
                      .offset = (int64_t[]){0, 0, 1},
                      .local = (int64_t[]){4, 2, 2}};
    assert_int_equal(as_geometry_file(&columns, &g, NULL), AS_OK);
    assert_int_equal(g.ndim, 2);
    assert_int_equal(g.shape[0], 8);
    assert_int_equal(g.shape[1], 8);
    /* the whole tensor, transposed in memory: elements apart */
    as_box turned = {.dtype = AS_I16,
                     .ndim = 3,
                     .shape = shape,
                     .offset = (int64_t[]){0, 0, 0},
                     .local = shape,
                     .strides = (int64_t[]){1, 12, 4}};
    assert_int_equal(as_geometry_memory(&turned, &g, NULL), AS_OK);
    assert_int_equal(g.shape[g.ndim - 1], 2);
    assert_int_equal(g.stride[g.ndim - 1], 1);
    as_geometry h;
    assert_int_equal(as_geometry_file(&turned, &h, NULL), AS_OK);
    assert_int_equal(h.ndim, 1);
}

static void dtypes_by_name_and_number(void **state)
{
    (void)state;
    for (int d = 1; d < AS_DTYPE_END; d++) {
        const char *name = as_dtype_name(d);
        assert_true(as_dtype_valid(d));
        assert_int_equal(as_dtype_from_name(name, strlen(name)), d);
        assert_int_equal(as_dtype_from_name(name, strlen(name) - 1) == d, false);
        assert_int_equal(as_dtype_bits(d) * as_dtype_group(d), 8 * as_dtype_group_bytes(d));
    }
    assert_int_equal(as_dtype_from_name("f32", 3), AS_DTYPE_NONE);
    assert_int_equal(as_dtype_from_name("", 0), AS_DTYPE_NONE);
    assert_false(as_dtype_valid(0));
    assert_false(as_dtype_valid(AS_DTYPE_END));
    assert_false(as_dtype_valid(-1));
    assert_int_equal(as_dtype_bits(AS_DTYPE_END), 0);
    assert_string_equal(as_dtype_name(-5), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_boxes_are_as_counted),
        cmocka_unit_test(equal_geometry_means_equal_elements),
        cmocka_unit_test(bytes_of_a_tensor),
        cmocka_unit_test(boxes_outside_are_refused),
        cmocka_unit_test(strides_out_of_memory_are_refused),
        cmocka_unit_test(few_dimensions_are_left),
        cmocka_unit_test(dtypes_by_name_and_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
