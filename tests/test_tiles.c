/* SPDX-License-Identifier: Apache-2.0
 * Copies between pieces, packed bytes and windows, against the model, byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "box_support.h"
#include "device/device.h"
#include "tensor/tiles.h"

/* A piece in memory of its own, with a margin that must stay as it is. */
typedef struct piece {
    test_box t;
    test_bytes model;
    as_geometry geometry; /* in file and memory */
    as_geometry file;
    char *block;
    int64_t size;
    char *data; /* the piece's pointer, inside the block */
    int64_t tensor_bytes;
} piece;

enum { MARGIN = 16 };

static void *need(size_t size)
{
    void *memory = malloc(size + 1);
    assert_non_null(memory);
    return memory;
}

static void fill(uint64_t *seed, char *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        bytes[i] = (char)chance(seed);
    }
}

/* False if the piece cuts bytes of F4 or F6. */
static bool make_piece(uint64_t *seed, piece *p)
{
    random_shape(seed, &p->t);
    random_place(seed, &p->t);
    random_strides(seed, &p->t);
    p->model = model_bytes(&p->t.box);
    if (!p->model.memory_valid) {
        free_bytes(&p->model);
        return false;
    }
    assert_int_equal(as_geometry_memory(&p->t.box, &p->geometry, NULL), AS_OK);
    assert_int_equal(as_geometry_file(&p->t.box, &p->file, NULL), AS_OK);
    assert_int_equal(
        as_box_tensor_bytes(p->t.box.dtype, p->t.box.ndim, p->t.shape, &p->tensor_bytes, NULL),
        AS_OK);
    int64_t low = 0;
    int64_t high = 0;
    for (int64_t i = 0; i < p->model.count; i++) {
        low = p->model.memory[i] < low ? p->model.memory[i] : low;
        high = p->model.memory[i] >= high ? p->model.memory[i] + 1 : high;
    }
    p->size = high - low + 2 * MARGIN;
    p->block = need((size_t)p->size);
    fill(seed, p->block, p->size);
    p->data = p->block + MARGIN - low;
    return true;
}

static void free_piece(piece *p)
{
    free(p->block);
    free_bytes(&p->model);
}

/* Model bytes [first, last) are those of [low, high). */
static void find_range(const piece *p, int64_t low, int64_t high, int64_t *first, int64_t *last)
{
    *first = 0;
    while (*first < p->model.count && p->model.place[*first] < low) {
        (*first)++;
    }
    *last = *first;
    while (*last < p->model.count && p->model.place[*last] < high) {
        (*last)++;
    }
}

static void check_out(const piece *p, int64_t low, int64_t high)
{
    int64_t first;
    int64_t last;
    find_range(p, low, high, &first, &last);
    int64_t size = high - low;
    char *packed = need((size_t)size);
    char *window = need((size_t)size);
    char *again = need((size_t)size);
    memset(window, 0x5a, (size_t)size);
    memset(again, 0x5a, (size_t)size);
    assert_int_equal(as_tiles_pack(&p->geometry, p->data, low, high, packed), last - first);
    as_tiles_to_window(&p->geometry, p->data, low, high, window);
    as_tiles_packed_to_window(&p->file, packed, low, high, again);
    for (int64_t i = first; i < last; i++) {
        assert_int_equal(packed[i - first], p->data[p->model.memory[i]]);
        assert_int_equal(window[p->model.place[i] - low], p->data[p->model.memory[i]]);
    }
    assert_memory_equal(window, again, (size_t)size);
    for (int64_t at = low, i = first; at < high; at++) {
        if (i < last && p->model.place[i] == at) {
            i++;
        } else {
            assert_int_equal(window[at - low], 0x5a);
        }
    }
    as_tiles_window_to_packed(&p->file, again, low, high, window);
    assert_memory_equal(again, packed, (size_t)(last - first));
    free(packed);
    free(window);
    free(again);
}

static void check_in(uint64_t *seed, const piece *p, int64_t low, int64_t high, bool by_window)
{
    int64_t first;
    int64_t last;
    find_range(p, low, high, &first, &last);
    int64_t size = high - low;
    char *bytes = need((size_t)size);
    char *expected = need((size_t)p->size);
    char *kept = need((size_t)p->size);
    fill(seed, bytes, size);
    memcpy(expected, p->block, (size_t)p->size);
    memcpy(kept, p->block, (size_t)p->size);
    for (int64_t i = first; i < last; i++) {
        int64_t from = by_window ? p->model.place[i] - low : i - first;
        (expected + (p->data - p->block))[p->model.memory[i]] = bytes[from];
    }
    if (by_window) {
        as_tiles_from_window(&p->geometry, p->data, low, high, bytes);
    } else {
        assert_int_equal(as_tiles_unpack(&p->geometry, p->data, low, high, bytes), last - first);
    }
    assert_memory_equal(p->block, expected, (size_t)p->size);
    memcpy(p->block, kept, (size_t)p->size);
    free(bytes);
    free(expected);
    free(kept);
}

/* An address is given only if the range is one run there, and always if the piece is one. */
static bool check_direct(const piece *p, int64_t low, int64_t high)
{
    int64_t first;
    int64_t last;
    find_range(p, low, high, &first, &last);
    bool one_run = last - first == high - low && high > low;
    for (int64_t i = first + 1; i < last && one_run; i++) {
        one_run = p->model.memory[i] == p->model.memory[i - 1] + 1;
    }
    const char *direct = as_device_host.direct(&p->geometry, p->data, low, high);
    if (direct) {
        assert_true(one_run);
        assert_ptr_equal(direct, p->data + p->model.memory[first]);
    } else {
        assert_false(one_run && p->geometry.ndim == 1);
    }
    return direct != NULL;
}

static void check_walk(const piece *p, int64_t low, int64_t high)
{
    int64_t first;
    int64_t last;
    find_range(p, low, high, &first, &last);
    as_tiles walk = as_tiles_begin(&p->geometry, low, high);
    as_tile t;
    while (as_tiles_next(&walk, &t)) {
        assert_true(t.length > 0 && t.count > 0);
        for (int64_t k = 0; k < t.count; k++) {
            for (int64_t i = 0; i < t.length; i++, first++) {
                assert_int_equal(p->model.place[first], t.place + k * t.place_step + i);
                assert_int_equal(p->model.memory[first], t.memory + k * t.memory_step + i);
            }
        }
    }
    assert_int_equal(first, last);
}

static bool check_range(uint64_t *seed, const piece *p, int64_t low, int64_t high)
{
    check_out(p, low, high);
    check_walk(p, low, high);
    if (!p->t.repeats) { /* where elements share memory, the last one written counts */
        check_in(seed, p, low, high, false);
        check_in(seed, p, low, high, true);
    }
    return check_direct(p, low, high);
}

static void every_range_of_small_pieces(void **state)
{
    (void)state;
    uint64_t seed = 3;
    int64_t ranges = 0;
    int64_t direct = 0;
    for (int i = 0; i < 50000; i++) {
        piece p;
        if (!make_piece(&seed, &p)) {
            continue;
        }
        for (int64_t low = 0; low <= p.tensor_bytes && p.tensor_bytes <= 40; low++) {
            for (int64_t high = low; high <= p.tensor_bytes; high++) {
                direct += check_range(&seed, &p, low, high);
                ranges++;
            }
        }
        free_piece(&p);
    }
    assert_true(ranges > 400000);
    assert_true(direct > 40000 && direct < ranges);
}

static void some_ranges_of_larger_pieces(void **state)
{
    (void)state;
    uint64_t seed = 4;
    int pieces = 0;
    for (int i = 0; i < 15000; i++) {
        piece p;
        if (!make_piece(&seed, &p)) {
            continue;
        }
        (void)check_range(&seed, &p, 0, p.tensor_bytes);
        for (int k = 0; k < 4; k++) {
            int64_t low = between(&seed, 0, p.tensor_bytes);
            (void)check_range(&seed, &p, low, between(&seed, low, p.tensor_bytes));
        }
        pieces++;
        free_piece(&p);
    }
    assert_true(pieces > 7000);
}

/* All lengths that have a loop of their own, and some that have not. */
static void tiles_of_all_lengths(void **state)
{
    (void)state;
    uint64_t seed = 5;
    char from[1024];
    fill(&seed, from, sizeof from);
    for (int64_t length = 1; length <= 17; length++) {
        for (int64_t step = length; step <= length + 5; step++) {
            char to[1024] = {0};
            as_tile_copy(to, step, from, length + 3, length, 20);
            for (int64_t i = 0; i < 20; i++) {
                assert_memory_equal(to + i * step, from + i * (length + 3), (size_t)length);
            }
            char back[1024] = {0};
            as_tile_copy(back + 19 * step, -step, from, length, length, 20);
            for (int64_t i = 0; i < 20; i++) {
                assert_memory_equal(back + (19 - i) * step, from + i * length, (size_t)length);
            }
        }
    }
}

/* Small elements of a transposed matrix come in tiles, not one by one. */
static void a_transposed_matrix_is_few_tiles(void **state)
{
    (void)state;
    const int64_t shape[] = {64, 32};
    const int64_t strides[] = {1, 64};
    as_box box = {.dtype = AS_BF16,
                  .ndim = 2,
                  .shape = shape,
                  .offset = (int64_t[]){0, 0},
                  .local = shape,
                  .strides = strides};
    as_geometry g;
    assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
    as_tiles walk = as_tiles_begin(&g, 0, 64 * 32 * 2);
    as_tile t;
    int tiles = 0;
    while (as_tiles_next(&walk, &t)) {
        tiles++;
    }
    assert_int_equal(tiles, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_range_of_small_pieces),
        cmocka_unit_test(some_ranges_of_larger_pieces),
        cmocka_unit_test(tiles_of_all_lengths),
        cmocka_unit_test(a_transposed_matrix_is_few_tiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
