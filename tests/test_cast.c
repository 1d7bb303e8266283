/* SPDX-License-Identifier: Apache-2.0
 * Casts against a scalar reference that knows nothing of bits and rounding tricks: the values of
 * all codes of the narrower types stand in a table, made by ldexp, and the nearest one is searched
 * there by comparing doubles, in which every distance that matters is exact. ALLSHARD_SEED changes
 * the random patterns.
 */
/* timeout: 300 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "tensor/cast.h"
#include "tensor/dtype.h"

static const int types[] = {AS_F64, AS_F32, AS_BF16, AS_F16, AS_F8_E4M3, AS_F8_E5M2};
enum { TYPES = 6, RANDOM = 10000000, CHUNK = 100000 };

/* A type by its numbers: bits of exponent and fraction, and whether it has infinities. */
typedef struct format {
    int dtype;
    int exponent;
    int fraction;
    bool infinity;
    double *finite; /* values of the codes from 0 on, without infinity and NaN; then one more, which
                       is where the next would lie */
    int count;
} format;

static format formats[] = {
    {AS_BF16, 8, 7, true, NULL, 0},
    {AS_F16, 5, 10, true, NULL, 0},
    {AS_F8_E4M3, 4, 3, false, NULL, 0},
    {AS_F8_E5M2, 5, 2, true, NULL, 0},
};
enum { FORMATS = 4 };

static uint64_t random_state;

static uint64_t random_bits(void)
{
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double value_of(const format *f, int code)
{
    int bias = (1 << (f->exponent - 1)) - 1;
    int exponent = code >> f->fraction;
    int fraction = code & ((1 << f->fraction) - 1);
    return exponent ? ldexp((1 << f->fraction) + fraction, exponent - bias - f->fraction)
                    : ldexp(fraction, 1 - bias - f->fraction);
}

static int make_tables(void **state)
{
    (void)state;
    const char *seed = getenv("ALLSHARD_SEED");
    random_state = seed ? strtoull(seed, NULL, 10) : 1;
    for (int i = 0; i < FORMATS; i++) {
        format *f = &formats[i];
        f->count = f->infinity ? ((1 << f->exponent) - 1) << f->fraction
                               : (1 << (f->exponent + f->fraction)) - 1;
        f->finite = malloc((size_t)(f->count + 1) * sizeof *f->finite);
        assert_non_null(f->finite);
        for (int code = 0; code <= f->count; code++) {
            f->finite[code] = value_of(f, code);
        }
    }
    return 0;
}

static int free_tables(void **state)
{
    (void)state;
    for (int i = 0; i < FORMATS; i++) {
        free(formats[i].finite);
    }
    return 0;
}

static const format *format_of(int dtype)
{
    for (int i = 0; i < FORMATS; i++) {
        if (formats[i].dtype == dtype) {
            return &formats[i];
        }
    }
    return NULL;
}

static int bytes_of(int dtype)
{
    return as_dtype_bits(dtype) / 8;
}

static uint64_t read_bits(int dtype, const void *at)
{
    uint64_t bits = 0;
    memcpy(&bits, at, (size_t)bytes_of(dtype));
    return bits;
}

/* The value of any element; NaN for NaN. */
static double decode(int dtype, uint64_t bits)
{
    if (dtype == AS_F64) {
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (dtype == AS_F32) {
        float value;
        uint32_t low = (uint32_t)bits;
        memcpy(&value, &low, sizeof value);
        return (double)value;
    }
    const format *f = format_of(dtype);
    int sign = 1 << (f->exponent + f->fraction);
    int code = (int)bits & (sign - 1);
    double value = code < f->count                   ? f->finite[code]
                   : f->infinity && code == f->count ? (double)INFINITY
                                                     : (double)NAN;
    return ((int)bits & sign) ? -value : value;
}

/* The code of the nearest value, of two equally near ones the even. `value` is no NaN. */
static uint64_t nearest(const format *f, double value)
{
    double size = fabs(value);
    int low = 0; /* finite[low] ≤ size */
    int high = f->count + 1;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (f->finite[middle] <= size) {
            low = middle;
        } else {
            high = middle;
        }
    }
    if (low < f->count) {
        /* Halfway has one bit more than the type, so that a double holds it. */
        double half = f->finite[low] + (f->finite[low + 1] - f->finite[low]) / 2;
        low += size > half || (size == half && low % 2);
    }
    low = low < f->count ? low : f->count; /* infinity, or the NaN that stands in its place */
    return (uint64_t)low | (uint64_t)(signbit(value) != 0) << (f->exponent + f->fraction);
}

/* Sign, and for NaN whether it is one, and whether it is quiet. */
static uint64_t sign_of(int dtype, uint64_t bits)
{
    return bits >> (as_dtype_bits(dtype) - 1) & 1;
}

static bool is_quiet(int dtype, uint64_t bits)
{
    const format *f = format_of(dtype);
    int fraction = f ? f->fraction : dtype == AS_F32 ? 23 : 52;
    return dtype == AS_F8_E4M3 || (bits >> (fraction - 1) & 1);
}

static void check(int from, uint64_t in, int to, uint64_t out)
{
    double value = decode(from, in);
    bool good;
    if (isnan(value)) {
        bool kept = to == AS_F64 || (to == AS_F32 && from != AS_F64); /* all of the payload */
        good = isnan(decode(to, out)) && sign_of(from, in) == sign_of(to, out) &&
               (kept || is_quiet(to, out));
    } else if (to == AS_F64) {
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        good = bits == out;
    } else if (to == AS_F32) {
        float cast = (float)value; /* by the processor: to nearest, as it starts */
        uint32_t bits;
        memcpy(&bits, &cast, sizeof bits);
        good = bits == out;
    } else {
        good = nearest(format_of(to), value) == out;
    }
    if (!good) {
        fail_msg("%s %#llx (%a) became %s %#llx (%a)", as_dtype_name(from), (unsigned long long)in,
                 value, as_dtype_name(to), (unsigned long long)out, decode(to, out));
    }
}

/* Casts elements both ways of doing it, and checks each. */
static void check_array(int from, const void *in, int64_t count, int to)
{
    char *out = malloc((size_t)(count * bytes_of(to)) + 1);
    char *plain = malloc((size_t)(count * bytes_of(to)) + 1);
    assert_non_null(out);
    assert_non_null(plain);
    as_cast(from, to, in, out, count);
    as_cast_plain(from, to, in, plain, count);
    assert_memory_equal(out, plain, (size_t)(count * bytes_of(to)));
    for (int64_t i = 0; i < count; i++) {
        check(from, read_bits(from, (const char *)in + i * bytes_of(from)), to,
              read_bits(to, out + i * bytes_of(to)));
    }
    free(out);
    free(plain);
}

static void every_pattern_of_the_narrow_types(void **state)
{
    (void)state;
    for (int i = 0; i < TYPES; i++) {
        int bytes = bytes_of(types[i]);
        if (bytes > 2) {
            continue;
        }
        int count = 1 << 8 * bytes;
        uint8_t *in = malloc((size_t)(count * bytes));
        assert_non_null(in);
        for (int code = 0; code < count; code++) {
            memcpy(in + code * bytes, &code, (size_t)bytes);
        }
        for (int j = 0; j < TYPES; j++) {
            if (j != i) {
                check_array(types[i], in, count, types[j]);
            }
        }
        free(in);
    }
}

static void random_patterns_of_f32(void **state)
{
    (void)state;
    uint32_t *in = malloc(CHUNK * sizeof *in);
    assert_non_null(in);
    for (int n = 0; n < RANDOM; n += CHUNK) {
        for (int i = 0; i < CHUNK; i++) {
            in[i] = (uint32_t)random_bits();
        }
        for (int j = 2; j < TYPES; j++) {
            check_array(AS_F32, in, CHUNK, types[j]);
        }
        if (n < RANDOM / 10) {
            check_array(AS_F32, in, CHUNK, AS_F64);
        }
    }
    free(in);
}

/* Half of them with exponents that F32 knows, some with fractions of few bits. */
static void random_patterns_of_f64(void **state)
{
    (void)state;
    uint64_t *in = malloc(CHUNK * sizeof *in);
    assert_non_null(in);
    for (int n = 0; n < RANDOM / 10; n += CHUNK) {
        for (int i = 0; i < CHUNK; i++) {
            in[i] = random_bits();
            if (i % 2) {
                uint64_t exponent = 1023 - 155 + random_bits() % 290;
                in[i] = (in[i] & ~(UINT64_C(0x7ff) << 52)) | exponent << 52;
            }
            if (i % 4 > 1) {
                in[i] &= ~UINT64_C(0) << random_bits() % 53;
            }
        }
        for (int j = 1; j < TYPES; j++) {
            check_array(AS_F64, in, CHUNK, types[j]);
        }
    }
    free(in);
}

static double step(double value, int steps)
{
    for (; steps > 0; steps--) {
        value = nextafter(value, (double)INFINITY);
    }
    for (; steps < 0; steps++) {
        value = nextafter(value, -(double)INFINITY);
    }
    return value;
}

/* Around every value of a narrow type, and around what lies halfway between two: in F64 by a last
 * bit, which rounding to F32 first would take away; in F32 by its own last bit. */
static void neighbourhoods_of_all_values(void **state)
{
    (void)state;
    for (int k = 0; k < FORMATS; k++) {
        const format *f = &formats[k];
        size_t points = (size_t)f->count * 2;
        double *wide = malloc(points * 6 * sizeof *wide);
        float *single = malloc(points * 6 * sizeof *single);
        assert_non_null(wide);
        assert_non_null(single);
        int64_t n = 0;
        for (int code = 0; code < f->count; code++) {
            double half = f->finite[code] + (f->finite[code + 1] - f->finite[code]) / 2;
            double middles[2] = {f->finite[code], half};
            for (int m = 0; m < 2; m++) {
                for (int s = -1; s <= 1; s++) {
                    double x = step(middles[m], s);
                    float y = (float)middles[m];
                    y = s ? nextafterf(y, s > 0 ? INFINITY : -INFINITY) : y;
                    wide[n] = x;
                    single[n++] = y;
                    wide[n] = -x;
                    single[n++] = -y;
                }
            }
        }
        check_array(AS_F64, wide, n, f->dtype);
        check_array(AS_F32, single, n, f->dtype);
        free(wide);
        free(single);
    }
}

/* Known results, written by hand. */
static void known_values(void **state)
{
    (void)state;
    static const struct {
        int64_t from;
        uint64_t in;
        int64_t to;
        uint64_t out;
    } known[] = {
        /* 1 + 2⁻⁸ lies halfway in BF16; a bit of 2⁻⁴⁰ more, which F32 loses, decides */
        {AS_F64, 0x3ff0100000000000, AS_BF16, 0x3f80},
        {AS_F64, 0x3ff0100000001000, AS_BF16, 0x3f81},
        {AS_F64, 0x3ff0300000000000, AS_BF16, 0x3f82},
        {AS_F64, 0x3ff02fffffffffff, AS_BF16, 0x3f81},
        {AS_F32, 0x3f808000, AS_BF16, 0x3f80},
        {AS_F32, 0x3f818000, AS_BF16, 0x3f82},
        {AS_F32, 0x7f7fffff, AS_BF16, 0x7f80},
        {AS_F32, 0x7f7f7fff, AS_BF16, 0x7f7f},
        {AS_F32, 0x00000001, AS_BF16, 0x0000},
        {AS_F32, 0x80018001, AS_BF16, 0x8002},
        {AS_F32, 0x7f800001, AS_BF16, 0x7fc0},
        {AS_F32, 0xffffffff, AS_BF16, 0xffff},
        {AS_F32, 0x477fefff, AS_F16, 0x7bff}, /* below 65520 */
        {AS_F32, 0x477ff000, AS_F16, 0x7c00},
        {AS_F32, 0x33000000, AS_F16, 0x0000}, /* 2⁻²⁵, halfway to the smallest */
        {AS_F32, 0x33000001, AS_F16, 0x0001},
        {AS_F32, 0x43e80000, AS_F8_E4M3, 0x7e}, /* 464, halfway past 448 */
        {AS_F32, 0x43e80001, AS_F8_E4M3, 0x7f},
        {AS_F32, 0xff800000, AS_F8_E4M3, 0xff},
        {AS_F32, 0x3a800000, AS_F8_E4M3, 0x00}, /* 2⁻¹⁰ */
        {AS_F32, 0x3a800001, AS_F8_E4M3, 0x01},
        {AS_F32, 0x476fffff, AS_F8_E5M2, 0x7b}, /* below 61440 */
        {AS_F32, 0x47700000, AS_F8_E5M2, 0x7c},
        {AS_F32, 0xff800000, AS_F8_E5M2, 0xfc},
        {AS_F64, 0x36a0000000000000, AS_F32, 0x00000001}, /* 2⁻¹⁴⁹ */
        {AS_F64, 0x3690000000000000, AS_F32, 0x00000000},
        {AS_F64, 0x3690000000000001, AS_F32, 0x00000001},
        {AS_F64, 0x47efffffefffffff, AS_F32, 0x7f7fffff},
        {AS_F64, 0x47effffff0000000, AS_F32, 0x7f800000},
        {AS_F64, 0x7ff0000000000001, AS_F32, 0x7fc00000},
        {AS_F64, 0x0000000000000001, AS_F32, 0x00000000},
        {AS_F64, 0x8000000000000000, AS_F8_E5M2, 0x80},
        {AS_F32, 0x00000001, AS_F64, 0x36a0000000000000},
        {AS_BF16, 0x7f81, AS_F32, 0x7f810000},
        {AS_F16, 0x0001, AS_F32, 0x33800000},
        {AS_F8_E4M3, 0x7f, AS_F32, 0x7ff00000},
        {AS_F8_E4M3, 0x7e, AS_F16, 0x5f00},
        {AS_F8_E5M2, 0x01, AS_F8_E4M3, 0x00},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int from = (int)known[i].from;
        int to = (int)known[i].to;
        uint64_t out = 0;
        as_cast(from, to, &known[i].in, &out, 1);
        if (out != known[i].out) {
            fail_msg("row %zu: %s %#llx became %s %#llx and not %#llx", i, as_dtype_name(from),
                     (unsigned long long)known[i].in, as_dtype_name(to), (unsigned long long)out,
                     (unsigned long long)known[i].out);
        }
    }
}

/* Any count, at any address; what lies around the result stays. */
static void all_counts_at_all_addresses(void **state)
{
    (void)state;
    enum { MOST = 200, MARGIN = 16 };
    char in[MOST * 8 + 16];
    for (size_t i = 0; i < sizeof in; i++) {
        in[i] = (char)random_bits();
    }
    for (int i = 0; i < TYPES; i++) {
        for (int j = 0; j < TYPES; j++) {
            for (int64_t count = 0; i != j && count <= MOST; count++) {
                int64_t shift = count % 8;
                char out[2 * MARGIN + MOST * 8];
                memset(out, 0x5a, sizeof out);
                char *at = out + MARGIN - shift;
                as_cast(types[i], types[j], in + shift, at, count);
                for (int64_t k = 0; k < count; k++) {
                    check(types[i], read_bits(types[i], in + shift + k * bytes_of(types[i])),
                          types[j], read_bits(types[j], at + k * bytes_of(types[j])));
                }
                for (const char *p = out; p < out + sizeof out; p++) {
                    assert_true((p >= at && p < at + count * bytes_of(types[j])) || *p == 0x5a);
                }
            }
        }
    }
}

/* Numerical programs run with other modes of their processor. */
static void the_mode_of_the_processor_does_not_matter(void **state)
{
    (void)state;
    enum { COUNT = 4096 };
    static char in[COUNT * 8];
    static char expected[COUNT * 8];
    static char out[COUNT * 8];
    for (size_t i = 0; i < sizeof in; i++) {
        in[i] = (char)random_bits();
    }
    for (int i = 0; i < TYPES; i++) {
        for (int j = 0; j < TYPES; j++) {
            if (i == j) {
                continue;
            }
            size_t size = (size_t)(COUNT * bytes_of(types[j]));
            as_cast(types[i], types[j], in, expected, COUNT);
            assert_int_equal(fesetround(FE_UPWARD), 0);
            assert_int_equal(feclearexcept(FE_ALL_EXCEPT), 0);
            as_cast(types[i], types[j], in, out, COUNT);
            int raised = fetestexcept(FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT);
            assert_int_equal(fesetround(FE_TONEAREST), 0);
            assert_memory_equal(out, expected, size);
            assert_int_equal(raised, 0);
        }
    }
}

static void what_can_be_cast(void **state)
{
    (void)state;
    int pairs = 0;
    for (int from = -1; from <= AS_DTYPE_END; from++) {
        for (int to = -1; to <= AS_DTYPE_END; to++) {
            pairs += as_cast_known(from, to);
        }
    }
    assert_int_equal(pairs, TYPES * (TYPES - 1));
    for (int i = 0; i < TYPES; i++) {
        for (int j = 0; j < TYPES; j++) {
            assert_int_equal(as_cast_known(types[i], types[j]), i != j);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_can_be_cast),
        cmocka_unit_test(known_values),
        cmocka_unit_test(every_pattern_of_the_narrow_types),
        cmocka_unit_test(neighbourhoods_of_all_values),
        cmocka_unit_test(all_counts_at_all_addresses),
        cmocka_unit_test(the_mode_of_the_processor_does_not_matter),
        cmocka_unit_test(random_patterns_of_f32),
        cmocka_unit_test(random_patterns_of_f64),
    };
    return cmocka_run_group_tests(tests, make_tables, free_tables);
}
