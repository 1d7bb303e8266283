/* SPDX-License-Identifier: Apache-2.0
 * 128-bit hashes (XXH3) that stand for names, storages and groups of ranks.
 */
#ifndef ALLSHARD_BASE_HASH_H
#define ALLSHARD_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct as_hash {
    uint64_t high;
    uint64_t low;
} as_hash;

as_hash as_hash_bytes(const void *bytes, size_t count);

/* The same bytes hashed apart under another seed: keys of different meaning do not meet. */
as_hash as_hash_seeded(const void *bytes, size_t count, uint64_t seed);

/* Sum modulo 2^128: combines hashes independently of their order. */
as_hash as_hash_sum(as_hash a, as_hash b);

/* <0, 0, >0 */
int as_hash_compare(as_hash a, as_hash b);

static inline bool as_hash_equal(as_hash a, as_hash b)
{
    return a.high == b.high && a.low == b.low;
}

static inline bool as_hash_is_zero(as_hash a)
{
    return (a.high | a.low) == 0;
}

/* The rank of 0…size−1 that keeps what the hash stands for. */
static inline int as_hash_owner(as_hash a, int size)
{
    return (int)(a.low % (uint64_t)size);
}

#endif
