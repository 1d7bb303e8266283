/* SPDX-License-Identifier: Apache-2.0
 * Arithmetic that says when it overflows. Each function returns true and sets
 * *out if the result fits; false, with *out unspecified, if it does not.
 */
#ifndef ALLSHARD_BASE_CHECKED_H
#define ALLSHARD_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool as_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool as_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool as_add_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool as_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool as_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool as_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline int64_t as_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t as_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ceil(a / b) for a >= 0, b > 0. */
static inline int64_t as_ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

#endif
