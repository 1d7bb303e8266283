/* SPDX-License-Identifier: Apache-2.0
 * Parts of pieces and the memory around them, against the model, byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "box_support.h"
#include "tensor/cast.h"
#include "tensor/span.h"
#include "tensor/tiles.h"

/* False if the piece has no bytes or cuts those of F4 or F6. */
static bool make_piece(uint64_t *seed, test_box *t, test_bytes *model, as_geometry *g)
{
    random_shape(seed, t);
    random_place(seed, t);
    random_strides(seed, t);
    *model = model_bytes(&t->box);
    if (!model->memory_valid || model->count == 0) {
        free_bytes(model);
        return false;
    }
    assert_int_equal(as_geometry_memory(&t->box, g, NULL), AS_OK);
    return true;
}

static void model_span(const test_bytes *m, int64_t from, int64_t to, int64_t *low, int64_t *high)
{
    *low = m->memory[from];
    *high = m->memory[from] + 1;
    for (int64_t i = from; i < to; i++) {
        *low = m->memory[i] < *low ? m->memory[i] : *low;
        *high = m->memory[i] >= *high ? m->memory[i] + 1 : *high;
    }
}

static void check_cut(uint64_t *seed, const test_bytes *m, const as_geometry *g, int64_t from,
                      int64_t to)
{
    int64_t low;
    int64_t high;
    model_span(m, from, to, &low, &high);
    int64_t limit = between(seed, 1, high - low + 1);
    int64_t cut = as_span_cut(g, from, to, limit);
    assert_true(cut > from && cut <= to);
    model_span(m, from, cut, &low, &high);
    assert_true(high - low <= limit);
    if (cut < to) {
        model_span(m, from, cut + 1, &low, &high);
        assert_true(high - low > limit);
    }
}

static void spans_of_random_parts(void **state)
{
    (void)state;
    uint64_t seed = 21;
    int64_t parts = 0;
    for (int i = 0; i < 20000; i++) {
        test_box t;
        test_bytes m;
        as_geometry g;
        if (!make_piece(&seed, &t, &m, &g)) {
            continue;
        }
        for (int k = 0; k < 8; k++) {
            int64_t from = k ? between(&seed, 0, m.count - 1) : 0;
            int64_t to = k ? between(&seed, from + 1, m.count) : m.count;
            int64_t low;
            int64_t high;
            int64_t expected[2];
            as_span(&g, from, to, &low, &high);
            model_span(&m, from, to, &expected[0], &expected[1]);
            assert_int_equal(low, expected[0]);
            assert_int_equal(high, expected[1]);
            assert_int_equal(as_span_place(&g, from), m.place[from]);
            check_cut(&seed, &m, &g, from, to);
            parts++;
        }
        free_bytes(&m);
    }
    assert_true(parts > 60000);
}

static bool model_overlaps(const test_bytes *m)
{
    for (int64_t i = 0; i < m->count; i++) {
        for (int64_t k = 0; k < i; k++) {
            if (m->memory[i] == m->memory[k]) {
                return true;
            }
        }
    }
    return false;
}

/* What shares memory is found; what the usual strides make is not taken for it. */
static void shared_memory_is_found(void **state)
{
    (void)state;
    uint64_t seed = 22;
    int shared = 0;
    int apart = 0;
    for (int i = 0; i < 15000; i++) {
        test_box t;
        test_bytes m;
        as_geometry g;
        if (!make_piece(&seed, &t, &m, &g)) {
            continue;
        }
        bool found = as_span_overlaps(&g);
        if (m.count < 400 && model_overlaps(&m)) {
            assert_true(found);
            shared++;
        } else if (!t.repeats) {
            assert_false(found);
            apart++;
        }
        free_bytes(&m);
    }
    assert_true(shared > 200 && apart > 4000);
}

/* The packed piece has the same bytes, one after the other. */
static void packed_pieces(void **state)
{
    (void)state;
    uint64_t seed = 23;
    for (int i = 0; i < 15000; i++) {
        test_box t;
        test_bytes m;
        as_geometry g;
        if (!make_piece(&seed, &t, &m, &g)) {
            continue;
        }
        as_geometry packed = as_span_packed(&g);
        assert_true(as_geometry_same(&packed, &g));
        as_tiles walk = as_tiles_begin(&packed, 0, INT64_MAX);
        as_tile tile;
        int64_t at = 0;
        while (as_tiles_next(&walk, &tile)) {
            assert_int_equal(tile.memory, at);
            assert_true(tile.count == 1 || tile.memory_step == tile.length);
            at += tile.length * tile.count;
        }
        assert_int_equal(at, m.count);
        free_bytes(&m);
    }
}

/* Of a piece that is cast: its elements as they lie in memory. */
static void uncast_pieces(void **state)
{
    (void)state;
    static const int types[] = {AS_F64, AS_F32, AS_BF16, AS_F16, AS_F8_E4M3, AS_F8_E5M2};
    uint64_t seed = 24;
    int pieces = 0;
    for (int i = 0; i < 20000; i++) {
        test_box t;
        test_bytes m;
        as_geometry g;
        if (!make_piece(&seed, &t, &m, &g)) {
            continue;
        }
        for (int k = 0; k < 6; k++) {
            as_geometry cast;
            if (as_cast_known(t.box.dtype, types[k])) {
                assert_int_equal(as_geometry_cast(&t.box, types[k], NULL, &cast, NULL), AS_OK);
                as_geometry uncast = as_span_uncast(&cast);
                assert_true(as_geometry_same(&uncast, &g));
                assert_memory_equal(uncast.stride, g.stride, (size_t)g.ndim * sizeof *g.stride);
                assert_int_equal(uncast.memory_dtype, AS_DTYPE_NONE);
                as_geometry packed = as_span_packed(&cast);
                assert_int_equal(packed.memory_dtype, t.box.dtype);
                as_geometry both = as_span_uncast(&packed);
                as_geometry plain = as_span_packed(&g);
                assert_memory_equal(both.stride, plain.stride, (size_t)g.ndim * sizeof *g.stride);
                pieces++;
            }
        }
        free_bytes(&m);
    }
    assert_true(pieces > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_of_random_parts),
        cmocka_unit_test(shared_memory_is_found),
        cmocka_unit_test(packed_pieces),
        cmocka_unit_test(uncast_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
