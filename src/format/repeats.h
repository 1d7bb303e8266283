/* SPDX-License-Identifier: Apache-2.0
 * Finds strings that stand in a list more than once, in O(n log n) whatever the
 * strings are: hashes only speed it up, equality is always settled by the bytes.
 */
#ifndef ALLSHARD_FORMAT_REPEATS_H
#define ALLSHARD_FORMAT_REPEATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Gives string i of a list. */
typedef void (*as_repeats_text)(const void *list, size_t i, const char **text, size_t *length);

/* *first: NULL if all `count` strings differ; else an array (heap, the caller's) that holds
 * for each string the number of the first one that equals it (its own if it is the first).
 * AS_LIMIT beyond 2^32−2 strings, AS_NOMEM. Needs 16 bytes per string while it works, at most. */
int as_repeats_find(const void *strings, size_t count, as_repeats_text text, uint32_t **first,
                    as_error *e);

#endif
