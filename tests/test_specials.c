/* SPDX-License-Identifier: Apache-2.0
 * NaN and infinities: all values of the narrow types against their definitions, random ones of the
 * wide types against the C library, in any mix, length, place and address.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/dtype.h"
#include "tensor/specials.h"

static uint64_t now = 88172645463325252ULL;

static uint64_t draw(void)
{
    now ^= now << 13;
    now ^= now >> 7;
    now ^= now << 17;
    return now;
}

typedef struct kind {
    bool nan;
    bool plus;
    bool minus;
} kind;

static kind of_double(double x)
{
    return (kind){.nan = isnan(x), .plus = isinf(x) && x > 0, .minus = isinf(x) && x < 0};
}

static kind of_float(const char *at)
{
    float x;
    memcpy(&x, at, sizeof x);
    return of_double((double)x);
}

/* An IEEE-like value of so many exponent and fraction bits, by its definition. */
static kind of_bits(uint32_t bits, int exponent_bits, int fraction_bits)
{
    uint32_t fraction = bits & ((1U << fraction_bits) - 1);
    uint32_t exponent = bits >> fraction_bits & ((1U << exponent_bits) - 1);
    bool negative = bits >> (exponent_bits + fraction_bits);
    bool top = exponent == (1U << exponent_bits) - 1;
    return (kind){.nan = top && fraction,
                  .plus = top && !fraction && !negative,
                  .minus = top && !fraction && negative};
}

static kind classify(int dtype, const char *at)
{
    uint8_t byte = (uint8_t)*at;
    uint16_t half = 0;
    double wide = 0;
    kind a;
    kind b;
    switch (dtype) {
    case AS_F64:
        memcpy(&wide, at, sizeof wide);
        return of_double(wide);
    case AS_F32:
        return of_float(at);
    case AS_C64:
        a = of_float(at);
        b = of_float(at + 4);
        return (kind){a.nan || b.nan, a.plus || b.plus, a.minus || b.minus};
    case AS_F16:
        memcpy(&half, at, sizeof half);
        return of_bits(half, 5, 10);
    case AS_BF16:
        memcpy(&half, at, sizeof half);
        return of_bits(half, 8, 7);
    case AS_F8_E5M2:
        return of_bits(byte, 5, 2);
    case AS_F8_E4M3: /* S.1111.111 is NaN, and there is no infinity */
        return (kind){.nan = (byte | 0x80) == 0xff};
    case AS_F8_E8M0: /* no sign, no fraction: 255 is NaN */
        return (kind){.nan = byte == 255};
    default: /* FNUZ: what would be −0 is NaN, and there is nothing else */
        return (kind){.nan = byte == 128};
    }
}

static const int dtypes[] = {AS_F64,     AS_F32,     AS_C64,     AS_BF16,        AS_F16,
                             AS_F8_E5M2, AS_F8_E4M3, AS_F8_E8M0, AS_F8_E4M3FNUZ, AS_F8_E5M2FNUZ};
enum { DTYPES = (int)(sizeof dtypes / sizeof *dtypes), BYTES = 1 << 17 };

static void check(int dtype, const char *bytes, size_t count, int64_t first)
{
    size_t width = (size_t)as_specials_bytes(dtype);
    as_specials expected = AS_SPECIALS_NONE;
    as_specials found = AS_SPECIALS_NONE;
    for (size_t i = 0; i < count; i++) {
        kind k = classify(dtype, bytes + i * width);
        int64_t element = first + (int64_t)i;
        expected.nan += k.nan;
        expected.plus += k.plus;
        expected.minus += k.minus;
        if (k.nan && expected.first_nan < 0) {
            expected.first_nan = element;
        }
        if ((k.plus || k.minus) && expected.first_infinity < 0) {
            expected.first_infinity = element;
        }
    }
    as_specials_count(dtype, bytes, count, first, &found);
    assert_int_equal(found.nan, expected.nan);
    assert_int_equal(found.plus, expected.plus);
    assert_int_equal(found.minus, expected.minus);
    assert_int_equal(found.first_nan, expected.first_nan);
    assert_int_equal(found.first_infinity, expected.first_infinity);
    assert_int_equal(as_specials_any(&found),
                     expected.nan > 0 || expected.plus > 0 || expected.minus > 0);
}

static void test_which(void **state)
{
    (void)state;
    for (int dtype = 1; dtype < AS_DTYPE_END; dtype++) {
        int bytes = 0;
        for (int i = 0; i < DTYPES; i++) {
            bytes = dtypes[i] == dtype ? as_dtype_bits(dtype) / 8 : bytes;
        }
        assert_int_equal(as_specials_bytes(dtype), bytes);
    }
}

/* Each value alone and among zeros: at the begin, in the middle and at the end of a batch. */
static void test_all_of_the_narrow(void **state)
{
    (void)state;
    static char room[3000];
    for (int i = 0; i < DTYPES; i++) {
        size_t width = (size_t)as_specials_bytes(dtypes[i]);
        for (uint32_t bits = 0; width <= 2 && bits < 1U << 8 * width; bits++) {
            uint16_t value = (uint16_t)bits;
            static const size_t places[] = {0, 511, 1023, 1024, 1200};
            check(dtypes[i], (const char *)&value, 1, 7);
            for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
                char *at = room + places[k] / width * width;
                memcpy(at, &value, width);
                check(dtypes[i], room, 1202 / width, 100);
                memset(at, 0, width);
            }
        }
    }
}

/* Runs of random bits, in which every so often an element is a special one or beside one. */
static void test_random(void **state)
{
    (void)state;
    char *room = malloc(BYTES + 16);
    assert_non_null(room);
    static const uint64_t masks[] = {
        UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000), UINT64_C(0x7ff0000000000001),
        UINT64_C(0x7fefffffffffffff), UINT64_C(0x7f8000007f800000), UINT64_C(0x7f800001ff800000),
        UINT64_C(0x7f7fffff00000000), UINT64_C(0x7c007f80fc00ff80), UINT64_C(0x7c7fff8080fc7f7b),
    };
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < DTYPES; i++) {
            size_t width = (size_t)as_specials_bytes(dtypes[i]);
            uint64_t every = 1 + draw() % 5000; /* elements between what is special */
            for (size_t at = 0; at < BYTES; at += 8) {
                uint64_t bits = draw() & UINT64_C(0x0707070707070707);
                bits = draw() % every == 0 ? masks[draw() % 9] : bits;
                memcpy(room + at, &bits, sizeof bits);
            }
            size_t skew = draw() % 16;
            size_t count = draw() % ((BYTES - 16) / width);
            check(dtypes[i], room + skew, count, (int64_t)(draw() >> 20));
        }
    }
    free(room);
}

/* Parts of a tensor, added in any order, give what the whole gives. */
static void test_parts(void **state)
{
    (void)state;
    static char room[8192];
    for (size_t i = 0; i < sizeof room; i += 8) {
        uint64_t bits = draw() % 100 == 0 ? UINT64_C(0x7c007c017c00fc00) : 0;
        memcpy(room + i, &bits, sizeof bits);
    }
    as_specials whole = AS_SPECIALS_NONE;
    as_specials_count(AS_F16, room, 4096, 0, &whole);
    for (int64_t cut = 0; cut <= 4096; cut += 100) {
        as_specials low = AS_SPECIALS_NONE;
        as_specials sum = AS_SPECIALS_NONE;
        as_specials_count(AS_F16, room + 2 * cut, (size_t)(4096 - cut), cut, &sum);
        as_specials_count(AS_F16, room, (size_t)cut, 0, &low);
        as_specials_add(&sum, &low);
        assert_memory_equal(&sum, &whole, sizeof sum);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which),
        cmocka_unit_test(test_all_of_the_narrow),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
