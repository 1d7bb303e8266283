/* SPDX-License-Identifier: Apache-2.0
 * Messages between ranks are runs of 64-bit words in the machine's own order:
 * aligned, so that a reader looks at them in place.
 */
#ifndef ALLSHARD_PLAN_WORDS_H
#define ALLSHARD_PLAN_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/hash.h"

int as_words_put(as_buffer *b, const int64_t *words, size_t count, as_error *e);

/* One word with the length, then the bytes, filled up to whole words with zeros. */
int as_words_put_bytes(as_buffer *b, const char *bytes, size_t length, as_error *e);

typedef struct as_words {
    const int64_t *at;
    const int64_t *end;
} as_words;

as_words as_words_of(const char *bytes, size_t size);

/* Those of bytes [from, to). `bytes` may be NULL where a buffer stayed empty. */
as_words as_words_between(const char *bytes, size_t from, size_t to);

/* The next `count` words, or NULL if fewer are left. */
const int64_t *as_words_take(as_words *w, size_t count);

/* What as_words_put_bytes wrote; NULL if it is not all there. Not NUL-terminated. */
const char *as_words_take_bytes(as_words *w, size_t *length);

static inline as_hash as_words_hash(const int64_t *words)
{
    return (as_hash){.high = (uint64_t)words[0], .low = (uint64_t)words[1]};
}

#endif
