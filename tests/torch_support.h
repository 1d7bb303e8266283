/* SPDX-License-Identifier: Apache-2.0
 * What the tests of zip files share: a layout made into a file, in memory.
 */
#ifndef ALLSHARD_TESTS_TORCH_SUPPORT_H
#define ALLSHARD_TESTS_TORCH_SUPPORT_H

#include "format_support.h"

#include "base/crc32.h"
#include "format/format.h"

/* Puts the literals into `file` (file_size bytes, the data already in it), the late ones last, of
 * sums of two parts that are joined. Every byte of the file must be a literal's or the data's. */
static inline void finish_file(as_file_layout *l, char *file)
{
    for (size_t i = 0; i < l->literal_count; i++) {
        const as_literal *x = &l->literals[i];
        assert_true(x->size > 0 && x->offset + x->size <= l->file_size);
        assert_true(i == 0 || x->offset >= x[-1].offset + x[-1].size);
        memcpy(file + x->offset, x->bytes, x->size);
    }
    for (size_t i = 0; i < l->literal_count; i++) {
        as_literal *x = &l->literals[i];
        if (x->late) {
            uint64_t half = x->sum_size / 3;
            uint32_t first = as_crc32(0, file + x->sum_of, half);
            uint32_t rest = as_crc32(0, file + x->sum_of + half, x->sum_size - half);
            assert_int_equal(x->size, AS_LATE_BYTES);
            as_literal_patch(x, as_crc32_join(first, rest, x->sum_size - half));
        }
    }
    for (size_t i = 0; i < l->literal_count; i++) {
        memcpy(file + l->literals[i].offset, l->literals[i].bytes, l->literals[i].size);
    }
}

#endif
