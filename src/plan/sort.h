/* SPDX-License-Identifier: Apache-2.0
 * qsort, whose hidden copy counts as the plan's memory.
 */
#ifndef ALLSHARD_PLAN_SORT_H
#define ALLSHARD_PLAN_SORT_H

#include <stddef.h>
#include <stdint.h>

/* `items` may be NULL if there are none. */
void as_sort(void *items, size_t count, size_t size, int (*compare)(const void *, const void *));
void as_sort_with(void *items, size_t count, size_t size,
                  int (*compare)(const void *, const void *, void *), void *user);

#endif
