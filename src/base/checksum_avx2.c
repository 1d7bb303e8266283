/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checksum_avx2.h"

#ifdef ALLSHARD_HAVE_AVX2

#include <stdlib.h>

/* The whole of xxHash from its header, compiled here for AVX2. */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t as_checksum_avx2(const void *bytes, size_t count)
{
    return XXH3_64bits(bytes, count);
}

/* An as_checksum_stream is xxHash's state under another name. */
static XXH3_state_t *state_of(const as_checksum_stream *s)
{
    return (XXH3_state_t *)(uintptr_t)s;
}

int as_checksum_avx2_open(as_checksum_stream **out, as_error *e)
{
    void *state = NULL;
    if (posix_memalign(&state, 64, sizeof(XXH3_state_t)) != 0) {
        return as_fail_nomem(e);
    }
    XXH3_INITSTATE((XXH3_state_t *)state);
    *out = state;
    as_checksum_avx2_begin(*out);
    return AS_OK;
}

void as_checksum_avx2_begin(as_checksum_stream *s)
{
    (void)XXH3_64bits_reset(state_of(s));
}

void as_checksum_avx2_add(as_checksum_stream *s, const void *bytes, size_t count)
{
    (void)XXH3_64bits_update(state_of(s), bytes, count);
}

uint64_t as_checksum_avx2_end(const as_checksum_stream *s)
{
    return XXH3_64bits_digest(state_of(s));
}

void as_checksum_avx2_close(as_checksum_stream *s)
{
    free(s);
}

#endif
