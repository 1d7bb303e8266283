/* SPDX-License-Identifier: Apache-2.0
 * One element of a floating-point type ↔ the bits of an F32 of the same value. All is free of
 * branches, so that a loop over any pair of these is vectorised by the compiler.
 *
 * An F64 that F32 cannot hold becomes an F32 that lies between its neighbours: rounded to odd, that
 * is cut off with the last bit set where anything was lost. F32 has two bits more of fraction than
 * the narrower types and more (and reaches farther down), so that rounding this once more to
 * nearest gives what rounding the F64 itself would (S. Boldo, G. Melquiond: Emulation of FMA and
 * correctly rounded sums, IEEE Trans. Computers 57, 2008).
 */
#ifndef ALLSHARD_TENSOR_CAST_ELEMENT_H
#define ALLSHARD_TENSOR_CAST_ELEMENT_H

#include <stdint.h>

/* Code for devices (device/pack_kernel.cu), which is C++, has another. */
#ifndef AS_CAST_INLINE
#define AS_CAST_INLINE static inline __attribute__((always_inline))
#endif

/* Elements anywhere in memory. */
typedef uint64_t as_bits64 __attribute__((aligned(1), may_alias));
typedef uint32_t as_bits32 __attribute__((aligned(1), may_alias));
typedef uint16_t as_bits16 __attribute__((aligned(1), may_alias));
typedef uint8_t as_bits8 __attribute__((may_alias));

#define AS_F32_INFINITY UINT32_C(0x7f800000)
#define AS_F32_QUIET UINT32_C(0x400000)
#define AS_F64_INFINITY UINT64_C(0x7ff0000000000000)
#define AS_F64_ONE UINT64_C(0x0010000000000000) /* the bit above the fraction */

/* Names end in those of the dtypes.
 * NOLINTBEGIN(readability-identifier-naming) */

AS_CAST_INLINE uint32_t as_float_bits(float value)
{
    union {
        float value;
        uint32_t bits;
    } both;
    both.value = value;
    return both.bits;
}

AS_CAST_INLINE uint64_t as_double_bits(double value)
{
    union {
        double value;
        uint64_t bits;
    } both;
    both.value = value;
    return both.bits;
}

/* `yes ? a : b` that stays a choice of bits: compilers make branches of what may trap. */
AS_CAST_INLINE uint32_t as_choose32(int yes, uint32_t a, uint32_t b)
{
    uint32_t mask = 0U - (uint32_t)yes;
    return (a & mask) | (b & ~mask);
}

AS_CAST_INLINE uint64_t as_choose64(int yes, uint64_t a, uint64_t b)
{
    uint64_t mask = 0U - (uint64_t)yes;
    return (a & mask) | (b & ~mask);
}

/* value / 2^shift to the nearest, ties to even; shift ≥ 1. */
AS_CAST_INLINE uint32_t as_round32(uint32_t value, uint32_t shift)
{
    return (value + ((UINT32_C(1) << (shift - 1)) - 1) + ((value >> shift) & 1)) >> shift;
}

AS_CAST_INLINE uint64_t as_round64(uint64_t value, uint64_t shift)
{
    return (value + ((UINT64_C(1) << (shift - 1)) - 1) + ((value >> shift) & 1)) >> shift;
}

/* ---- to the bits of an F32 ---- */

AS_CAST_INLINE uint32_t as_from_F32(uint32_t x)
{
    return x;
}

AS_CAST_INLINE uint32_t as_from_BF16(uint16_t x)
{
    return (uint32_t)x << 16;
}

/* A narrow type, of which `fraction` bits are the fraction: exponents are moved by `bias`, the
 * difference to those of F32; codes from `special` on are infinity and NaN. Subnormals are numbers
 * of the smallest one, `least`, which is normal in F32. */
AS_CAST_INLINE uint32_t as_widen(uint32_t code, uint32_t sign, uint32_t fraction, uint32_t bias,
                                 uint32_t special, float least)
{
    uint32_t normal = (code << (23 - fraction)) + (bias << 23);
    uint32_t tiny = as_float_bits((float)(int32_t)code * least);
    uint32_t wide = as_choose32((int32_t)code < 1 << fraction, tiny, normal);
    uint32_t big = as_choose32((int32_t)code >= (int32_t)special, AS_F32_INFINITY, 0);
    return wide | big | sign << 31;
}

AS_CAST_INLINE uint32_t as_from_F16(uint16_t x)
{
    return as_widen(x & 0x7fffU, x >> 15, 10, 112, 0x7c00, 0x1p-24F);
}

AS_CAST_INLINE uint32_t as_from_F8_E5M2(uint8_t x)
{
    return as_widen(x & 0x7fU, x >> 7, 2, 112, 0x7c, 0x1p-16F);
}

AS_CAST_INLINE uint32_t as_from_F8_E4M3(uint8_t x)
{
    /* Its one NaN has the fraction 7, whose first bit is the quiet bit. */
    return as_widen(x & 0x7fU, x >> 7, 3, 120, 0x7f, 0x1p-9F);
}

/* An F64 as the code of an F32, and what is lost of it: of the value `whole` the last `shift` bits.
 * Below 897 the exponent is one that F32 does not have for normal numbers. 54 bits are all there
 * are, and one more: of what is smaller, zero among it, nothing is left. */
typedef struct as_halves {
    int64_t a; /* without the sign */
    int64_t whole;
    int64_t shift;
    int64_t base; /* to be added to what is left of the value */
} as_halves;

AS_CAST_INLINE as_halves as_split_f64(uint64_t x)
{
    as_halves h;
    h.a = (int64_t)(x & (AS_F64_INFINITY | (AS_F64_ONE - 1)));
    int64_t low = 897 - (h.a >> 52);
    low = low > 0 ? low : 0;
    h.shift = low + 29;
    h.shift = h.shift < 54 ? h.shift : 54;
    h.whole = (h.a & (int64_t)(AS_F64_ONE - 1)) | (int64_t)AS_F64_ONE;
    h.base = ((h.a >> 52) - 897 + low) << 23;
    return h;
}

/* Puts infinity, NaN and the sign to a code. */
AS_CAST_INLINE uint32_t as_join_f32(uint64_t x, const as_halves *h, int64_t code)
{
    uint64_t nan = AS_F32_INFINITY | AS_F32_QUIET | ((uint64_t)h->a >> 29 & (AS_F32_QUIET - 1));
    uint64_t bits = as_choose64(h->a >= (int64_t)AS_F64_INFINITY, AS_F32_INFINITY, (uint64_t)code);
    bits = as_choose64(h->a > (int64_t)AS_F64_INFINITY, nan, bits);
    return (uint32_t)(bits | (x >> 63) << 31);
}

/* Rounded to odd; the odd bit that is left of zero is one that no narrower type sees. */
AS_CAST_INLINE uint32_t as_from_F64(uint64_t x)
{
    as_halves h = as_split_f64(x);
    int64_t rest = h.whole & (int64_t)((UINT64_C(1) << h.shift) - 1);
    int64_t odd = h.base + (int64_t)((uint64_t)h.whole >> h.shift);
    odd |= rest != 0;
    odd = odd < (int64_t)AS_F32_INFINITY ? odd : (int64_t)AS_F32_INFINITY - 1; /* which is odd */
    return as_join_f32(x, &h, odd);
}

/* ---- from the bits of an F32 ---- */

AS_CAST_INLINE uint32_t as_to_F32(uint32_t x)
{
    return x;
}

AS_CAST_INLINE uint16_t as_to_BF16(uint32_t x)
{
    uint32_t rounded = (x + 0x7fff + (x >> 16 & 1)) >> 16;
    uint32_t nan = x >> 16 | 0x40;
    return (uint16_t)((x & 0x7fffffff) > AS_F32_INFINITY ? nan : rounded);
}

/* The code without its sign: exponents from `least` on, as F32 counts them, are those of normal
 * numbers; codes stop at `most`, which is infinity, or NaN where there is none. NaN is the codes
 * `nan` together with what is left of the payload. */
AS_CAST_INLINE uint32_t as_narrow(uint32_t x, int32_t fraction, int32_t least, int32_t most,
                                  uint32_t nan)
{
    int32_t a = (int32_t)(x & 0x7fffffff);
    int32_t low = least - (a >> 23);
    low = low > 0 ? low : 0;
    int32_t shift = low + 23 - fraction;
    shift = shift < 25 ? shift : 25; /* nothing is left by then */
    int32_t whole = (a & 0x7fffff) | 0x800000;
    int32_t base = ((a >> 23) - least + low) << fraction;
    int32_t code = base + (int32_t)as_round32((uint32_t)whole, (uint32_t)shift);
    code = code < most ? code : most;
    uint32_t left = nan | ((uint32_t)a >> (23 - fraction) & ((UINT32_C(1) << fraction) - 1));
    return as_choose32(a > (int32_t)AS_F32_INFINITY, left, (uint32_t)code);
}

AS_CAST_INLINE uint16_t as_to_F16(uint32_t x)
{
    return (uint16_t)(as_narrow(x, 10, 113, 0x7c00, 0x7e00) | x >> 31 << 15);
}

AS_CAST_INLINE uint8_t as_to_F8_E5M2(uint32_t x)
{
    return (uint8_t)(as_narrow(x, 2, 113, 0x7c, 0x7e) | x >> 31 << 7);
}

AS_CAST_INLINE uint8_t as_to_F8_E4M3(uint32_t x)
{
    return (uint8_t)(as_narrow(x, 3, 121, 0x7f, 0x7f) | x >> 31 << 7);
}

AS_CAST_INLINE uint64_t as_to_F64(uint32_t x)
{
    uint64_t a = x & 0x7fffffff;
    uint64_t normal = (a << 29) + (UINT64_C(896) << 52);
    uint64_t tiny = as_double_bits((double)(int32_t)(uint32_t)a * 0x1p-149);
    uint64_t wide = as_choose64((int32_t)a < 0x800000, tiny, normal);
    uint64_t big = as_choose64((int32_t)a >= (int32_t)AS_F32_INFINITY, AS_F64_INFINITY, 0);
    return wide | big | (uint64_t)(x >> 31) << 63;
}

/* ---- the one pair that does not go by way of F32 with room to spare ---- */

AS_CAST_INLINE uint32_t as_f64_to_f32(uint64_t x)
{
    as_halves h = as_split_f64(x);
    int64_t code = h.base + (int64_t)as_round64((uint64_t)h.whole, (uint64_t)h.shift);
    code = code < (int64_t)AS_F32_INFINITY ? code : (int64_t)AS_F32_INFINITY;
    return as_join_f32(x, &h, code);
}

/* NOLINTEND(readability-identifier-naming) */

#endif
