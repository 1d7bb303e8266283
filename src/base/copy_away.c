/* SPDX-License-Identifier: Apache-2.0 */
#include "base/copy_away.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__

#include <emmintrin.h>

enum {
    LEAST = 64 << 10, /* what is smaller may as well go through the cache */
    LINE = 64,
    PAGE = 4096,
    /* Of so many pages at a time a line each: memory is busier than with one page after the other,
     * by half. glibc does the same, for copies that no cache has room for. */
    PAGES = 4,
    CHUNK = PAGES * PAGE
};

static void copy_line(char *to, const char *from)
{
    const __m128i *in = (const __m128i *)(const void *)from;
    __m128i *out = (__m128i *)(void *)to;
    __m128i a = _mm_loadu_si128(in);
    __m128i b = _mm_loadu_si128(in + 1);
    __m128i c = _mm_loadu_si128(in + 2);
    __m128i d = _mm_loadu_si128(in + 3);
    _mm_stream_si128(out, a);
    _mm_stream_si128(out + 1, b);
    _mm_stream_si128(out + 2, c);
    _mm_stream_si128(out + 3, d);
}

static void copy_chunk(char *to, const char *from)
{
    for (size_t at = 0; at < PAGE; at += 2 * (size_t)LINE) {
        for (size_t page = 0; page < CHUNK; page += PAGE) {
            copy_line(to + page + at, from + page + at);
            copy_line(to + page + at + LINE, from + page + at + LINE);
        }
    }
}

void as_copy_away(void *to, const void *from, size_t bytes)
{
    char *out = to;
    const char *in = from;
    if (bytes < LEAST) {
        memcpy(to, from, bytes);
        return;
    }
    size_t head = (LINE - (uintptr_t)out % LINE) % LINE;
    memcpy(out, in, head);
    out += head;
    in += head;
    bytes -= head;
    for (; bytes >= CHUNK; bytes -= CHUNK) {
        copy_chunk(out, in);
        out += CHUNK;
        in += CHUNK;
    }
    _mm_sfence(); /* such stores come in any order: another thread may look after this one's */
    memcpy(out, in, bytes);
}

#else

void as_copy_away(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

#endif
