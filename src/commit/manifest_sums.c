/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/manifest_sums.h"

#include <stdlib.h>

enum { DIGITS = 16 };

int as_sums_to_text(as_buffer *out, const uint64_t *sums, size_t count, as_error *e)
{
    static const char digits[] = "0123456789abcdef";
    void *place;
    int code = as_buffer_extend(out, count * DIGITS, &place, e);
    if (code != AS_OK) {
        return code;
    }
    char *at = place;
    for (size_t i = 0; i < count; i++) {
        for (int shift = 60; shift >= 0; shift -= 4) {
            *at++ = digits[sums[i] >> shift & 15];
        }
    }
    return AS_OK;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int as_sums_from_text(const char *text, size_t length, uint64_t **out, size_t *count, as_error *e)
{
    if (length % DIGITS != 0) {
        return as_fail(e, AS_FORMAT, 0, "%zu digits are no list of checksums", length);
    }
    size_t n = length / DIGITS;
    uint64_t *sums = calloc(n ? n : 1, sizeof *sums);
    if (!sums) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < length; i++) {
        int value = digit(text[i]);
        if (value < 0) {
            free(sums);
            return as_fail(e, AS_FORMAT, 0, "place %zu of the checksums is no hex digit", i);
        }
        sums[i / DIGITS] = sums[i / DIGITS] << 4 | (uint64_t)value;
    }
    *out = sums;
    *count = n;
    return AS_OK;
}
