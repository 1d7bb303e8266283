/* SPDX-License-Identifier: Apache-2.0
 * Pieces whose elements are cast on their way, against the model, element by element: random boxes
 * with strides of all kinds, and ranges that begin and end inside elements.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "box_support.h"
#include "device/device.h"
#include "plan/state.h"
#include "tensor/cast.h"

static const int types[] = {AS_F64, AS_F32, AS_BF16, AS_F16, AS_F8_E4M3, AS_F8_E5M2};
enum { MARGIN = 16 };

/* A piece in memory of its own, with a margin that must stay as it is, and what it is in the
 * file. */
typedef struct piece {
    test_box t;
    test_elements model;
    int file_dtype;
    int64_t file_size; /* of an element */
    int64_t memory_size;
    as_geometry geometry;
    as_buffer seams;
    char *block;
    int64_t size;
    char *data; /* the piece's pointer, inside the block */
    char *line; /* the tensor's bytes in the file; of elements that are not the piece's: 0x5a */
    char *own;  /* of each byte of the line: is it the piece's? */
    int64_t numbers; /* bytes of the line */
} piece;

static void *need(int64_t size)
{
    void *memory = calloc(1, (size_t)size + 1);
    assert_non_null(memory);
    return memory;
}

static void fill(uint64_t *seed, char *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        bytes[i] = (char)chance(seed);
    }
}

static void make_piece(uint64_t *seed, piece *p)
{
    *p = (piece){.seams = AS_BUFFER_INIT};
    do {
        random_shape(seed, &p->t);
    } while (!as_cast_known(p->t.box.dtype, AS_F32) && !as_cast_known(p->t.box.dtype, AS_F64));
    random_place(seed, &p->t);
    random_strides(seed, &p->t);
    do {
        p->file_dtype = types[between(seed, 0, 5)];
    } while (p->file_dtype == p->t.box.dtype);
    p->file_size = as_dtype_bits(p->file_dtype) / 8;
    p->memory_size = as_dtype_bits(p->t.box.dtype) / 8;
    assert_int_equal(as_geometry_cast(&p->t.box, p->file_dtype, &p->seams, &p->geometry, NULL),
                     AS_OK);
    p->model = model_elements(&p->t.box);
    int64_t low = 0;
    int64_t high = 0;
    for (int64_t i = 0; i < p->model.count; i++) {
        low = p->model.memory[i] < low ? p->model.memory[i] : low;
        high = p->model.memory[i] >= high ? p->model.memory[i] + 1 : high;
    }
    p->size = (high - low) * p->memory_size + 2 * MARGIN;
    p->block = need(p->size);
    fill(seed, p->block, p->size);
    p->data = p->block + MARGIN - low * p->memory_size;
    p->numbers = test_numel(p->t.shape, p->t.box.ndim) * p->file_size;
    p->line = need(p->numbers);
    p->own = need(p->numbers);
    memset(p->line, 0x5a, (size_t)p->numbers);
    for (int64_t i = 0; i < p->model.count; i++) {
        int64_t at = p->model.number[i] * p->file_size;
        as_cast(p->t.box.dtype, p->file_dtype, p->data + p->model.memory[i] * p->memory_size,
                p->line + at, 1);
        memset(p->own + at, 1, (size_t)p->file_size);
    }
}

static void free_piece(piece *p)
{
    free(p->block);
    free(p->line);
    free(p->own);
    as_buffer_free(&p->seams);
    free_elements(&p->model);
}

static void check_out(const piece *p, int64_t low, int64_t high)
{
    char *window = need(high - low);
    char *packed = need(high - low);
    memset(window, 0x5a, (size_t)(high - low));
    memset(packed, 0x5a, (size_t)(high - low));
    assert_int_equal(as_device_host.to_window(&as_device_host, &p->geometry, p->data, low, high,
                                              window, NULL, NULL),
                     AS_OK);
    assert_memory_equal(window, p->line + low, (size_t)(high - low));
    assert_int_equal(
        as_device_host.pack(&as_device_host, &p->geometry, p->data, low, high, packed, NULL, NULL),
        AS_OK);
    int64_t n = 0;
    for (int64_t at = low; at < high; at++) {
        if (p->own[at]) {
            assert_int_equal(packed[n++], p->line[at]);
        }
    }
    assert_int_equal(as_geometry_before(&p->geometry, high) - as_geometry_before(&p->geometry, low),
                     n);
    for (; n < high - low; n++) {
        assert_int_equal(packed[n], 0x5a);
    }
    assert_null(as_device_host.direct(&p->geometry, p->data, low, high));
    free(window);
    free(packed);
}

static void bring(uint64_t *seed, piece *p, int64_t low, int64_t high)
{
    char *bytes = need(high - low);
    int code;
    if (between(seed, 0, 1)) {
        int64_t n = 0;
        for (int64_t at = low; at < high; at++) {
            if (p->own[at]) {
                bytes[n++] = p->line[at];
            }
        }
        code = as_device_host.unpack(&as_device_host, &p->geometry, p->data, low, high, bytes, NULL,
                                     NULL);
    } else {
        memcpy(bytes, p->line + low, (size_t)(high - low));
        code = as_device_host.from_window(&as_device_host, &p->geometry, p->data, low, high, bytes,
                                          NULL, NULL);
    }
    assert_int_equal(code, AS_OK);
    free(bytes);
}

/* New bytes of the file come in ranges of any order; `twice`: as if another piece had the same
 * memory. Returns how often an element was waited for. */
static int64_t check_in(uint64_t *seed, piece *p, bool twice)
{
    fill(seed, p->line, p->numbers);
    char *expected = need(p->size);
    memcpy(expected, p->block, (size_t)p->size);
    for (int64_t i = 0; i < p->model.count; i++) {
        as_cast(p->file_dtype, p->t.box.dtype, p->line + p->model.number[i] * p->file_size,
                expected + (p->data - p->block) + p->model.memory[i] * p->memory_size, 1);
    }
    int64_t cuts[8] = {0, p->numbers};
    int count = (int)between(seed, 2, 8);
    for (int i = 2; i < count; i++) {
        cuts[i] = between(seed, 0, p->numbers);
        for (int k = i; k > 0 && cuts[k] < cuts[k - 1]; k--) {
            int64_t keep = cuts[k];
            cuts[k] = cuts[k - 1];
            cuts[k - 1] = keep;
        }
    }
    int64_t waits = 0;
    int first = (int)between(seed, 0, count - 2);
    for (int i = 0; i < count - 1; i++) {
        int k = (first + i) % (count - 1);
        bring(seed, p, cuts[k], cuts[k + 1]);
        if (twice) {
            bring(seed, p, cuts[k], cuts[k + 1]);
        }
        waits += (int64_t)p->seams.size;
    }
    assert_memory_equal(p->block, expected, (size_t)p->size);
    assert_true(twice || p->seams.size == 0);
    free(expected);
    return waits;
}

static void random_pieces(void **state)
{
    (void)state;
    uint64_t seed = 11;
    int64_t waits = 0;
    for (int i = 0; i < 20000; i++) {
        piece p;
        make_piece(&seed, &p);
        check_out(&p, 0, p.numbers);
        for (int k = 0; k < 4; k++) {
            int64_t low = between(&seed, 0, p.numbers);
            check_out(&p, low, between(&seed, low, p.numbers));
        }
        if (!p.t.repeats) { /* where elements share memory, the last one written counts */
            waits += check_in(&seed, &p, i % 3 == 0);
        }
        free_piece(&p);
    }
    assert_true(waits > 1000);
}

static void every_range_of_small_pieces(void **state)
{
    (void)state;
    uint64_t seed = 12;
    int ranges = 0;
    for (int i = 0; i < 4000; i++) {
        piece p;
        make_piece(&seed, &p);
        for (int64_t low = 0; low <= p.numbers && p.numbers <= 40; low++) {
            for (int64_t high = low; high <= p.numbers; high++) {
                check_out(&p, low, high);
                ranges++;
            }
        }
        free_piece(&p);
    }
    assert_true(ranges > 20000);
}

/* Runs of all lengths around those that are gathered, many times over, and their sums around the
 * size of a batch. */
static void long_runs_and_many(void **state)
{
    (void)state;
    uint64_t seed = 13;
    static const int64_t lengths[] = {1, 2, 3, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 3000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int transposed = 0; transposed < 2; transposed++) {
            int64_t rows = 1 + 6000 / lengths[i];
            int64_t shape[2] = {rows, lengths[i] + 5};
            int64_t offset[2] = {0, 2};
            int64_t local[2] = {rows, lengths[i]};
            int64_t strides[2] = {transposed ? 1 : -(lengths[i] + 1), transposed ? rows : 1};
            piece p = {.t.box = {.dtype = AS_F32,
                                 .ndim = 2,
                                 .shape = shape,
                                 .offset = offset,
                                 .local = local,
                                 .strides = strides}};
            int64_t elements = rows * (lengths[i] + 5);
            float *memory = need(elements * (int64_t)sizeof *memory);
            fill(&seed, (char *)memory, elements * (int64_t)sizeof *memory);
            float *first = transposed ? memory : memory + (rows - 1) * (lengths[i] + 1);
            assert_int_equal(as_geometry_cast(&p.t.box, AS_BF16, &p.seams, &p.geometry, NULL),
                             AS_OK);
            uint16_t *window = need(elements * 2);
            uint16_t *packed = need(elements * 2);
            (void)as_device_host.to_window(&as_device_host, &p.geometry, (char *)first, 0,
                                           elements * 2, (char *)window, NULL, NULL);
            (void)as_device_host.pack(&as_device_host, &p.geometry, (char *)first, 0, elements * 2,
                                      (char *)packed, NULL, NULL);
            for (int64_t r = 0, n = 0; r < rows; r++) {
                for (int64_t c = 0; c < shape[1]; c++) {
                    uint16_t expected = 0;
                    if (c >= 2 && c < 2 + lengths[i]) {
                        as_cast(AS_F32, AS_BF16, first + r * strides[0] + (c - 2) * strides[1],
                                &expected, 1);
                        assert_int_equal(packed[n++], expected);
                    }
                    assert_int_equal(window[r * shape[1] + c], expected);
                }
            }
            free(memory);
            free(window);
            free(packed);
        }
    }
}

static int declare(as_state *s, int dtype, int stored, as_error *e)
{
    static float data[6];
    int64_t shape[] = {2, 3};
    int64_t offset[] = {0, 0};
    as_declaration d = {
        .name = "w", .stored = stored, .data = data, .box = {.dtype = dtype, .ndim = 2}};
    d.box.shape = shape;
    d.box.local = shape;
    d.box.offset = offset;
    return as_state_add(s, &d, e);
}

static void what_cannot_be_cast_is_refused(void **state)
{
    (void)state;
    as_state s;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_state_init(&s, "model", &e), AS_OK);
    for (int from = 1; from < AS_DTYPE_END; from++) {
        for (int to = 1; to < AS_DTYPE_END; to++) {
            if (as_dtype_group(from) > 1) {
                continue; /* six of them do not fill bytes */
            }
            bool good = from == to || as_cast_known(from, to);
            int code = declare(&s, from, to, &e);
            assert_int_equal(code, good ? AS_OK : AS_INVALID);
            if (!good) {
                assert_non_null(strstr(e.text, as_dtype_name(from)));
                assert_non_null(strstr(e.text, as_dtype_name(to)));
                assert_non_null(strstr(e.text, AS_CAST_NAMES));
            }
            as_error_clear(&e);
        }
    }
    assert_int_equal(declare(&s, AS_F32, AS_DTYPE_END, &e), AS_INVALID);
    assert_non_null(strstr(e.text, "no dtype"));
    as_error_clear(&e);
    as_state_free(&s);
}

/* Eight bytes for one: what fits as F8 may not fit as F64. */
static void what_grows_too_large_is_refused(void **state)
{
    (void)state;
    as_state s;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_state_init(&s, "model", &e), AS_OK);
    int64_t shape[] = {INT64_C(1) << 59};
    int64_t none[] = {0};
    as_declaration d = {.name = "w", .stored = AS_F64, .box = {.dtype = AS_F8_E4M3, .ndim = 1}};
    d.box.shape = shape;
    d.box.local = none;
    d.box.offset = none;
    assert_int_equal(as_state_add(&s, &d, &e), AS_INVALID);
    assert_non_null(strstr(e.text, "2^61"));
    as_error_clear(&e);
    d.stored = AS_F16;
    assert_int_equal(as_state_add(&s, &d, &e), AS_OK);
    as_state_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_pieces),
        cmocka_unit_test(every_range_of_small_pieces),
        cmocka_unit_test(long_runs_and_many),
        cmocka_unit_test(what_cannot_be_cast_is_refused),
        cmocka_unit_test(what_grows_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
