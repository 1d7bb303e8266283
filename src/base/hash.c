/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <xxhash.h>

as_hash as_hash_bytes(const void *bytes, size_t count)
{
    return as_hash_seeded(bytes, count, 0);
}

as_hash as_hash_seeded(const void *bytes, size_t count, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(bytes, count, seed);
    return (as_hash){.high = h.high64, .low = h.low64};
}

as_hash as_hash_sum(as_hash a, as_hash b)
{
    as_hash sum = {.high = a.high + b.high, .low = a.low + b.low};
    sum.high += sum.low < a.low;
    return sum;
}

int as_hash_compare(as_hash a, as_hash b)
{
    if (a.high != b.high) {
        return a.high < b.high ? -1 : 1;
    }
    return (a.low > b.low) - (a.low < b.low);
}
