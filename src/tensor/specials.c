/* SPDX-License-Identifier: Apache-2.0
 * A batch of elements is first looked at as a whole, in a loop that the compiler makes vectors of:
 * nearly all batches hold nothing special. Only those that do are counted one by one.
 */
#include "tensor/specials.h"

#include <string.h>

#include "tensor/dtype.h"

enum { BATCH = 1024 }; /* bytes */

/* What an element may be. */
enum { PLAIN = 0, NOT_A_NUMBER = 1, PLUS = 2, MINUS = 4 };

/* ---- batches ---- */

/* Does any of the elements have all bits of the mask set? */
#define ANY_OF(name, type)                                                                         \
    static bool name(const char *at, type mask)                                                    \
    {                                                                                              \
        type any = 0;                                                                              \
        for (size_t i = 0; i < BATCH / sizeof(type); i++) {                                        \
            type bits;                                                                             \
            memcpy(&bits, at + i * sizeof bits, sizeof bits);                                      \
            any |= (type)((bits & mask) == mask);                                                  \
        }                                                                                          \
        return any != 0;                                                                           \
    }

ANY_OF(any_8, uint8_t)
ANY_OF(any_16, uint16_t)
ANY_OF(any_32, uint32_t)
ANY_OF(any_64, uint64_t)

/* The types whose only special value is 0x80. */
static bool any_fnuz(const char *at)
{
    uint8_t any = 0;
    for (size_t i = 0; i < BATCH; i++) {
        any |= (uint8_t)((uint8_t)at[i] == 0x80);
    }
    return any != 0;
}

/* May a batch hold something special? */
static bool any_special(int dtype, const char *at)
{
    switch (dtype) {
    case AS_F64:
        return any_64(at, UINT64_C(0x7ff0000000000000));
    case AS_F32:
    case AS_C64:
        return any_32(at, UINT32_C(0x7f800000));
    case AS_BF16:
        return any_16(at, 0x7f80);
    case AS_F16:
        return any_16(at, 0x7c00);
    case AS_F8_E5M2:
        return any_8(at, 0x7c);
    case AS_F8_E4M3:
        return any_8(at, 0x7f);
    case AS_F8_E8M0:
        return any_8(at, 0xff);
    default:
        return any_fnuz(at);
    }
}

/* ---- single elements ---- */

/* Of a type with infinities: the exponent is all ones, and a fraction that is not 0 makes a NaN. */
static int look(uint64_t bits, uint64_t exponent, uint64_t sign)
{
    if ((bits & exponent) != exponent) {
        return PLAIN;
    }
    if ((bits & (sign - 1)) != exponent) {
        return NOT_A_NUMBER;
    }
    return (bits & sign) != 0 ? MINUS : PLUS;
}

static int look_f32(const char *at)
{
    uint32_t bits;
    memcpy(&bits, at, sizeof bits);
    return look(bits, UINT32_C(0x7f800000), UINT32_C(0x80000000));
}

static int look_one(int dtype, const char *at)
{
    uint64_t wide;
    uint16_t half;
    uint8_t byte = (uint8_t)*at;
    switch (dtype) {
    case AS_F64:
        memcpy(&wide, at, sizeof wide);
        return look(wide, UINT64_C(0x7ff0000000000000), UINT64_C(0x8000000000000000));
    case AS_F32:
        return look_f32(at);
    case AS_C64:
        return look_f32(at) | look_f32(at + sizeof(float));
    case AS_BF16:
        memcpy(&half, at, sizeof half);
        return look(half, 0x7f80, 0x8000);
    case AS_F16:
        memcpy(&half, at, sizeof half);
        return look(half, 0x7c00, 0x8000);
    case AS_F8_E5M2:
        return look(byte, 0x7c, 0x80);
    case AS_F8_E4M3:
        return (byte & 0x7f) == 0x7f ? NOT_A_NUMBER : PLAIN;
    case AS_F8_E8M0:
        return byte == 0xff ? NOT_A_NUMBER : PLAIN;
    default:
        return byte == 0x80 ? NOT_A_NUMBER : PLAIN;
    }
}

int as_specials_bytes(int dtype)
{
    switch (dtype) {
    case AS_F64:
    case AS_F32:
    case AS_C64:
    case AS_BF16:
    case AS_F16:
    case AS_F8_E5M2:
    case AS_F8_E4M3:
    case AS_F8_E8M0:
    case AS_F8_E4M3FNUZ:
    case AS_F8_E5M2FNUZ:
        return as_dtype_bits(dtype) / 8;
    default:
        return 0;
    }
}

static void count_one(int kind, int64_t element, as_specials *s)
{
    if (kind & NOT_A_NUMBER) {
        s->nan++;
        s->first_nan = s->first_nan < 0 ? element : s->first_nan;
    }
    if (kind & (PLUS | MINUS)) {
        s->plus += (kind & PLUS) != 0;
        s->minus += (kind & MINUS) != 0;
        s->first_infinity = s->first_infinity < 0 ? element : s->first_infinity;
    }
}

void as_specials_count(int dtype, const void *bytes, size_t count, int64_t first, as_specials *s)
{
    size_t width = (size_t)as_specials_bytes(dtype);
    if (width == 0) {
        return; /* a type that has nothing special */
    }
    size_t batch = BATCH / width;
    as_specials found = AS_SPECIALS_NONE;
    for (size_t i = 0; i < count; i += batch) {
        const char *at = (const char *)bytes + i * width;
        size_t n = count - i < batch ? count - i : batch;
        if (n == batch && !any_special(dtype, at)) {
            continue;
        }
        for (size_t k = 0; k < n; k++) {
            count_one(look_one(dtype, at + k * width), first + (int64_t)(i + k), &found);
        }
    }
    as_specials_add(s, &found);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

void as_specials_add(as_specials *s, const as_specials *more)
{
    s->nan += more->nan;
    s->plus += more->plus;
    s->minus += more->minus;
    s->first_nan = least(s->first_nan, more->first_nan);
    s->first_infinity = least(s->first_infinity, more->first_infinity);
}
