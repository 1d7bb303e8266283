/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/sums.h"

#include <xxhash.h>

/* as_sum is the library's state under another name. */
static XXH3_state_t *state_of(as_sum *s)
{
    return (XXH3_state_t *)(void *)s;
}

int as_sum_open(as_sum **out, as_error *e)
{
    *out = (as_sum *)(void *)XXH3_createState();
    return *out ? AS_OK : as_fail_nomem(e);
}

void as_sum_close(as_sum *s)
{
    (void)XXH3_freeState(state_of(s));
}

void as_sum_begin(as_sum *s)
{
    (void)XXH3_64bits_reset(state_of(s));
}

void as_sum_add(as_sum *s, const void *bytes, size_t count)
{
    (void)XXH3_64bits_update(state_of(s), bytes, count);
}

uint64_t as_sum_end(as_sum *s)
{
    return XXH3_64bits_digest(state_of(s));
}

uint64_t as_sum_of(const void *bytes, size_t count)
{
    return XXH3_64bits(bytes, count);
}
