/* SPDX-License-Identifier: Apache-2.0
 * The element types of safetensors. The numbers are allshard's public ABI and
 * follow safetensors' own enum order (low to high), which its writer sorts by.
 */
#ifndef ALLSHARD_TENSOR_DTYPE_H
#define ALLSHARD_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, number, bits of an element) */
#define AS_DTYPES(X)                                                                               \
    X(BOOL, 1, 8)                                                                                  \
    X(F4, 2, 4)                                                                                    \
    X(F6_E2M3, 3, 6)                                                                               \
    X(F6_E3M2, 4, 6)                                                                               \
    X(U8, 5, 8)                                                                                    \
    X(I8, 6, 8)                                                                                    \
    X(F8_E5M2, 7, 8)                                                                               \
    X(F8_E4M3, 8, 8)                                                                               \
    X(F8_E8M0, 9, 8)                                                                               \
    X(F8_E4M3FNUZ, 10, 8)                                                                          \
    X(F8_E5M2FNUZ, 11, 8)                                                                          \
    X(I16, 12, 16)                                                                                 \
    X(U16, 13, 16)                                                                                 \
    X(F16, 14, 16)                                                                                 \
    X(BF16, 15, 16)                                                                                \
    X(I32, 16, 32)                                                                                 \
    X(U32, 17, 32)                                                                                 \
    X(F32, 18, 32)                                                                                 \
    X(C64, 19, 64)                                                                                 \
    X(F64, 20, 64)                                                                                 \
    X(I64, 21, 64)                                                                                 \
    X(U64, 22, 64)

enum as_dtype {
    AS_DTYPE_NONE = 0,
#define AS_DTYPE_ENUM(name, number, bits) AS_##name = (number),
    AS_DTYPES(AS_DTYPE_ENUM)
#undef AS_DTYPE_ENUM
        AS_DTYPE_END
};

bool as_dtype_valid(int dtype);

/* Bits of one element; 0 for a number that is no dtype. */
int as_dtype_bits(int dtype);

/* "F32"; "?" for a number that is no dtype. */
const char *as_dtype_name(int dtype);

/* The dtype of that exact name (case counts), AS_DTYPE_NONE if there is none. */
int as_dtype_from_name(const char *name, size_t length);

/* The smallest group of elements that fills whole bytes: 2 elements in 1 byte
 * for F4, 4 in 3 for F6, else 1 element. */
int as_dtype_group(int dtype);
int as_dtype_group_bytes(int dtype);

/* Elements of a shape. False if the product, taken from the left as the
 * reference reader takes it, passes 2^64−1 (a leading 0 saves what follows). */
bool as_shape_numel(const uint64_t *shape, int ndim, uint64_t *numel);

/* Bytes of `numel` elements. False if numel × bits passes 2^64−1;
 * *whole tells whether the bits fill whole bytes. */
bool as_dtype_bytes(int dtype, uint64_t numel, uint64_t *bytes, bool *whole);

#endif
