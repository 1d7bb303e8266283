/* SPDX-License-Identifier: Apache-2.0
 * Which way ranges of device memory go: one case for each sentence of the rule, and what holds for
 * all ranges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "box_support.h"
#include "device/cuda_rule.h"
#include "tensor/span.h"

enum { BUFFER = 4 << 20 };

static const as_way_limits usual = {
    .max_pitch = INT32_MAX, .rows = INT64_MAX, .block = BUFFER, .kernel = BUFFER};

/* A whole tensor of up to three dimensions of bytes, whose strides in memory are given. */
static as_geometry plain(int ndim, const int64_t *shape, const int64_t *strides)
{
    const int64_t offset[3] = {0};
    as_box box = {.dtype = AS_U8,
                  .ndim = ndim,
                  .shape = shape,
                  .offset = offset,
                  .local = shape,
                  .strides = strides};
    as_geometry g;
    assert_int_equal(as_box_check(&box, NULL), AS_OK);
    assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
    return g;
}

static as_geometry rows_of(int64_t rows, int64_t bytes, int64_t stride)
{
    return plain(2, (int64_t[]){rows, bytes}, (int64_t[]){stride, 1});
}

/* The whole piece. */
static as_way way_of(const as_geometry *g, as_way_limits limits)
{
    return as_cuda_way(g, 1, 0, as_geometry_bytes(g), &limits);
}

static as_way_limits with_window(as_way_limits l)
{
    l.window = true;
    return l;
}

static as_way_limits without_kernel(as_way_limits l)
{
    l.kernel = 0;
    return l;
}

static as_way_limits into_memory(as_way_limits l)
{
    l.writes = true;
    return l;
}

static void one_run_is_one_copy(void **state)
{
    (void)state;
    int64_t sizes[] = {1, 100, 1 << 20, INT64_C(1) << 36};
    for (int i = 0; i < 4; i++) {
        as_geometry g = plain(1, &sizes[i], NULL);
        as_way w = way_of(&g, usual);
        assert_int_equal(w.kind, AS_WAY_ROWS);
        assert_int_equal(w.to, sizes[i]);
        assert_int_equal(way_of(&g, into_memory(without_kernel(usual))).kind, AS_WAY_ROWS);
    }
    /* Through a buffer, in parts; of whole rows, if it has room for one. */
    as_geometry g = plain(1, &sizes[3], NULL);
    as_way_limits l = usual;
    l.rows = BUFFER;
    assert_int_equal(as_cuda_way(&g, 1, 77, sizes[3], &l).to, 77 + BUFFER);
    g = rows_of(100000, 3000, 4000);
    assert_int_equal(as_cuda_way(&g, 1, 300, 300000000, &l).to, (300 + BUFFER) / 3000 * 3000);
}

static void wide_rows_are_copied_in_2d(void **state)
{
    (void)state;
    as_geometry g = rows_of(1000, AS_WIDE_ROW, 1 << 20);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_ROWS);
    assert_int_equal(way_of(&g, into_memory(usual)).kind, AS_WAY_ROWS);
    assert_int_equal(way_of(&g, with_window(usual)).kind, AS_WAY_ROWS);
    g = rows_of(1000, AS_WIDE_ROW - 1, 1 << 20);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_KERNEL);
    /* Beyond what 2D copies can do each row is a call: worth it only for longer ones. */
    as_way_limits l = usual;
    l.max_pitch = 5000;
    g = rows_of(1000, AS_WIDE_ROW, 6000);
    assert_int_equal(way_of(&g, l).kind, AS_WAY_KERNEL);
    g = rows_of(1000, AS_CALL_BYTES, 60000);
    assert_int_equal(way_of(&g, l).kind, AS_WAY_ROWS);
    g = rows_of(1000, AS_CALL_BYTES - 1, 60000);
    assert_int_equal(way_of(&g, l).kind, AS_WAY_KERNEL);
    /* From the last row to the first. */
    g = rows_of(1000, AS_WIDE_ROW, -60000);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_KERNEL);
    g = rows_of(1000, AS_CALL_BYTES, -60000);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_ROWS);
    g = rows_of(AS_FEW_CALLS, AS_WIDE_ROW, -60000);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_ROWS);
}

static void what_takes_too_many_calls_goes_another_way(void **state)
{
    (void)state;
    /* Two rows a call. */
    as_geometry g = plain(3, (int64_t[]){1000, 2, 2000}, (int64_t[]){100000, 30000, 1});
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_KERNEL);
    g = plain(3, (int64_t[]){1000, 2, 9000}, (int64_t[]){100000, 30000, 1});
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_ROWS);
    g = plain(3, (int64_t[]){1000, 2, 2000}, (int64_t[]){6000, 2500, 1});
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_BLOCK);
}

static void dense_blocks_are_gathered_on_the_host(void **state)
{
    (void)state;
    as_geometry g = rows_of(10000, AS_NARROW_ROW, 2 * AS_NARROW_ROW);
    as_way w = way_of(&g, usual);
    assert_int_equal(w.kind, AS_WAY_BLOCK);
    assert_int_equal(w.low, 0);
    assert_int_equal(w.high, 10000 * 2 * AS_NARROW_ROW - AS_NARROW_ROW);
    assert_int_equal(w.to, 10000 * AS_NARROW_ROW);
    g = rows_of(10000, AS_NARROW_ROW, 2 * AS_NARROW_ROW + 1);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_KERNEL);
    /* Single elements are the kernel's where there is one. */
    g = rows_of(10000, 2, 4);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_KERNEL);
    assert_int_equal(way_of(&g, without_kernel(usual)).kind, AS_WAY_BLOCK);
    /* No more than fits a buffer. */
    g = rows_of(1000000, 100, 150);
    w = way_of(&g, usual);
    assert_int_equal(w.kind, AS_WAY_BLOCK);
    assert_true(w.high - w.low <= BUFFER && w.high - w.low > BUFFER - 200);
    /* One row is dense, but no block. */
    g = rows_of(1000, 512, 5 << 20);
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_KERNEL);
    assert_int_equal(way_of(&g, without_kernel(usual)).kind, AS_WAY_ROWS);
    /* A transposed matrix that fits; one that does not. */
    g = plain(2, (int64_t[]){500, 500}, (int64_t[]){1, 500});
    assert_int_equal(way_of(&g, without_kernel(usual)).kind, AS_WAY_BLOCK);
    g = plain(2, (int64_t[]){5000, 5000}, (int64_t[]){1, 5000});
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_KERNEL);
    assert_int_equal(way_of(&g, without_kernel(usual)).kind, AS_WAY_ROWS);
}

static void expanded_tensors_are_copied_once(void **state)
{
    (void)state;
    as_geometry g = rows_of(1000, 2000, 0);
    as_way w = way_of(&g, usual);
    assert_int_equal(w.kind, AS_WAY_BLOCK);
    assert_int_equal(w.to, 2000000);
    assert_int_equal(w.high - w.low, 2000);
    g = plain(3, (int64_t[]){1000, 100, 4}, (int64_t[]){0, 4, 1});
    assert_int_equal(way_of(&g, usual).kind, AS_WAY_BLOCK);
    /* Into memory the last one counts, which no kernel sees to. */
    assert_int_not_equal(way_of(&g, into_memory(usual)).kind, AS_WAY_KERNEL);
    assert_false(way_of(&g, into_memory(usual)).whole);
}

static void only_whole_blocks_go_into_memory(void **state)
{
    (void)state;
    as_geometry g = plain(2, (int64_t[]){1000, 100}, (int64_t[]){-100, 1});
    as_way w = way_of(&g, into_memory(usual));
    assert_int_equal(w.kind, AS_WAY_BLOCK);
    assert_true(w.whole);
    assert_int_equal(w.low, -99900);
    assert_int_equal(w.high, 100);
    g = rows_of(1000, 100, 101);
    assert_int_equal(way_of(&g, into_memory(usual)).kind, AS_WAY_KERNEL);
    assert_int_equal(way_of(&g, into_memory(without_kernel(usual))).kind, AS_WAY_ROWS);
    /* Where a call would move six bytes the block is changed and put back. */
    g = plain(3, (int64_t[]){1000, 2, 3}, (int64_t[]){11, 5, 1});
    w = way_of(&g, into_memory(without_kernel(usual)));
    assert_int_equal(w.kind, AS_WAY_BLOCK);
    assert_false(w.whole);
    assert_int_equal(way_of(&g, into_memory(usual)).kind, AS_WAY_KERNEL);
}

static void the_kernel_casts(void **state)
{
    (void)state;
    int64_t size = 10 << 20;
    as_geometry g = plain(1, &size, NULL);
    as_way_limits l = usual;
    l.is_cast = true;
    l.rows = BUFFER;
    l.kernel = 1001;
    as_way w = as_cuda_way(&g, 4, 8, size, &l);
    assert_int_equal(w.kind, AS_WAY_KERNEL);
    assert_int_equal(w.to, 8 + 1000);
    assert_int_equal(
        as_cuda_way(
            &g, 4, 8, size,
            &(as_way_limits){.is_cast = true, .max_pitch = INT32_MAX, .rows = 1003, .block = 1003})
            .kind,
        AS_WAY_ROWS);
}

/* Parts that follow one another cover the range; each keeps to its limits and to whole elements. */
static void parts_of_random_pieces(void **state)
{
    (void)state;
    uint64_t seed = 41;
    int64_t kinds[3] = {0};
    int64_t changed = 0;
    for (int i = 0; i < 60000; i++) {
        test_box t;
        as_geometry g;
        random_shape(&seed, &t);
        random_place(&seed, &t);
        random_strides(&seed, &t);
        if (as_geometry_memory(&t.box, &g, NULL) != AS_OK || g.ndim == 0) {
            continue;
        }
        int64_t unit = as_dtype_group(t.box.dtype) > 1 ? 1 : as_dtype_bits(t.box.dtype) / 8;
        as_way_limits l = {.max_pitch = between(&seed, 1, 100),
                           .window = between(&seed, 0, 1),
                           .is_cast = between(&seed, 0, 3) == 0,
                           .writes = between(&seed, 0, 1),
                           .rows = between(&seed, 0, 1) ? INT64_MAX : between(&seed, 16, 500),
                           .block = between(&seed, 16, 500),
                           .kernel = between(&seed, 0, 1) ? 0 : between(&seed, 16, 500)};
        int64_t end = as_geometry_bytes(&g);
        int64_t at = between(&seed, 0, end / unit - 1) * unit;
        while (at < end) {
            as_way w = as_cuda_way(&g, unit, at, end, &l);
            assert_true(w.to > at && w.to <= end);
            assert_true(w.to == end || w.to % unit == 0);
            kinds[w.kind]++;
            if (w.kind == AS_WAY_KERNEL) {
                assert_true(w.to - at <= l.kernel);
                assert_false(l.writes && as_span_overlaps(&g));
            } else if (w.kind == AS_WAY_ROWS) {
                assert_true(w.to - at <= l.rows);
            } else {
                int64_t low;
                int64_t high;
                as_span(&g, at, w.to, &low, &high);
                assert_true(low == w.low && high == w.high && high - low <= l.block);
                assert_true(!w.whole || w.to - at == high - low);
                changed += l.writes && !w.whole;
            }
            at = w.to;
        }
    }
    assert_true(kinds[0] > 1000 && kinds[1] > 1000 && kinds[2] > 1000 && changed > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_run_is_one_copy),
        cmocka_unit_test(wide_rows_are_copied_in_2d),
        cmocka_unit_test(what_takes_too_many_calls_goes_another_way),
        cmocka_unit_test(dense_blocks_are_gathered_on_the_host),
        cmocka_unit_test(expanded_tensors_are_copied_once),
        cmocka_unit_test(only_whole_blocks_go_into_memory),
        cmocka_unit_test(the_kernel_casts),
        cmocka_unit_test(parts_of_random_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
