/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checksum.h"

#include <xxhash.h>

#include "base/checksum_avx2.h"

#ifdef ALLSHARD_HAVE_AVX2
#define FAST(call)                                                                                 \
    do {                                                                                           \
        if (__builtin_cpu_supports("avx2")) {                                                      \
            call;                                                                                  \
        }                                                                                          \
    } while (0)
#else
#define FAST(call)
#endif

uint64_t as_checksum(const void *bytes, size_t count)
{
    FAST(return as_checksum_avx2(bytes, count));
    return XXH3_64bits(bytes, count);
}

int as_checksum_open(as_checksum_stream **out, as_error *e)
{
    FAST(return as_checksum_avx2_open(out, e));
    /* xxHash allocates its own state, which wants more alignment than malloc promises. */
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        return as_fail_nomem(e);
    }
    *out = (as_checksum_stream *)(void *)state;
    as_checksum_begin(*out);
    return AS_OK;
}

/* An as_checksum_stream is xxHash's state under another name. */
static XXH3_state_t *state_of(const as_checksum_stream *s)
{
    return (XXH3_state_t *)(uintptr_t)s;
}

void as_checksum_begin(as_checksum_stream *s)
{
    FAST(as_checksum_avx2_begin(s); return );
    (void)XXH3_64bits_reset(state_of(s));
}

void as_checksum_add(as_checksum_stream *s, const void *bytes, size_t count)
{
    FAST(as_checksum_avx2_add(s, bytes, count); return );
    (void)XXH3_64bits_update(state_of(s), bytes, count);
}

uint64_t as_checksum_end(const as_checksum_stream *s)
{
    FAST(return as_checksum_avx2_end(s));
    return XXH3_64bits_digest(state_of(s));
}

void as_checksum_close(as_checksum_stream *s)
{
    FAST(as_checksum_avx2_close(s); return );
    (void)XXH3_freeState(state_of(s));
}
