/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/sort.h"

#include <stdlib.h>

#include "base/buffer.h"

/* glibc sorts in a copy as large as what is sorted. */
static void count_copy(size_t bytes)
{
    as_buffer_meter_add((int64_t)bytes);
    as_buffer_meter_add(-(int64_t)bytes);
}

void as_sort(void *items, size_t count, size_t size, int (*compare)(const void *, const void *))
{
    if (count > 1) {
        count_copy(count * size);
        qsort(items, count, size, compare);
    }
}

void as_sort_with(void *items, size_t count, size_t size,
                  int (*compare)(const void *, const void *, void *), void *user)
{
    if (count > 1) {
        count_copy(count * size);
        qsort_r(items, count, size, compare, user);
    }
}
