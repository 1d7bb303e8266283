/* SPDX-License-Identifier: Apache-2.0
 * How many elements of a tensor are NaN or infinite, and where the first ones are.
 */
#ifndef ALLSHARD_TENSOR_SPECIALS_H
#define ALLSHARD_TENSOR_SPECIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A complex element is NaN if one of its parts is, and infinite likewise: it may be counted in
 * all three. */
typedef struct as_specials {
    int64_t nan;
    int64_t plus;           /* +infinity */
    int64_t minus;          /* −infinity */
    int64_t first_nan;      /* element number; −1: none */
    int64_t first_infinity; /* of either sign */
} as_specials;

#define AS_SPECIALS_NONE ((as_specials){.first_nan = -1, .first_infinity = -1})

/* Bytes of an element of a dtype that has NaN or infinities; 0 for all others. */
int as_specials_bytes(int dtype);

/* Counts `count` elements at any address; the first is number `first`. */
void as_specials_count(int dtype, const void *bytes, size_t count, int64_t first, as_specials *s);

/* Adds what was found in another part of the same tensor. */
void as_specials_add(as_specials *s, const as_specials *more);

static inline bool as_specials_any(const as_specials *s)
{
    return s->nan > 0 || s->plus > 0 || s->minus > 0;
}

#endif
