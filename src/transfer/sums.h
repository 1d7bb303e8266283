/* SPDX-License-Identifier: Apache-2.0
 * The checksum of a block (XXH3, 64 bits), taken in pieces while they are in the cache.
 */
#ifndef ALLSHARD_TRANSFER_SUMS_H
#define ALLSHARD_TRANSFER_SUMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct as_sum as_sum;

int as_sum_open(as_sum **out, as_error *e);
void as_sum_close(as_sum *s); /* NULL is allowed */

void as_sum_begin(as_sum *s);
void as_sum_add(as_sum *s, const void *bytes, size_t count);
uint64_t as_sum_end(as_sum *s);

/* All at once: the same value. */
uint64_t as_sum_of(const void *bytes, size_t count);

#endif
