/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/dtype.h"

#include <string.h>

#include "base/checked.h"

static const struct {
    const char *name;
    int bits;
} table[AS_DTYPE_END] = {
#define AS_DTYPE_ROW(name, number, bits) [number] = {#name, bits},
    AS_DTYPES(AS_DTYPE_ROW)
#undef AS_DTYPE_ROW
};

bool as_dtype_valid(int dtype)
{
    return dtype > AS_DTYPE_NONE && dtype < AS_DTYPE_END;
}

int as_dtype_bits(int dtype)
{
    return as_dtype_valid(dtype) ? table[dtype].bits : 0;
}

const char *as_dtype_name(int dtype)
{
    return as_dtype_valid(dtype) ? table[dtype].name : "?";
}

int as_dtype_from_name(const char *name, size_t length)
{
    for (int d = AS_DTYPE_NONE + 1; d < AS_DTYPE_END; d++) {
        if (strlen(table[d].name) == length && memcmp(table[d].name, name, length) == 0) {
            return d;
        }
    }
    return AS_DTYPE_NONE;
}

int as_dtype_group(int dtype)
{
    switch (as_dtype_bits(dtype)) {
    case 4:
        return 2;
    case 6:
        return 4;
    default:
        return 1;
    }
}

int as_dtype_group_bytes(int dtype)
{
    return as_dtype_bits(dtype) * as_dtype_group(dtype) / 8;
}

bool as_shape_numel(const uint64_t *shape, int ndim, uint64_t *numel)
{
    *numel = 1;
    for (int d = 0; d < ndim; d++) {
        if (!as_mul_u64(*numel, shape[d], numel)) {
            return false;
        }
    }
    return true;
}

bool as_dtype_bytes(int dtype, uint64_t numel, uint64_t *bytes, bool *whole)
{
    uint64_t bits;
    if (!as_mul_u64(numel, (uint64_t)as_dtype_bits(dtype), &bits)) {
        return false;
    }
    *bytes = bits / 8;
    *whole = bits % 8 == 0;
    return true;
}
