/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/words.h"

#include <string.h>

int as_words_put(as_buffer *b, const int64_t *words, size_t count, as_error *e)
{
    return as_buffer_append(b, words, count * sizeof *words, e);
}

int as_words_put_bytes(as_buffer *b, const char *bytes, size_t length, as_error *e)
{
    int64_t word = (int64_t)length;
    size_t padded = (length + 7) / 8 * 8;
    void *place;
    int code = as_words_put(b, &word, 1, e);
    if (code == AS_OK) {
        code = as_buffer_extend(b, padded, &place, e);
    }
    if (code == AS_OK && length) {
        memcpy(place, bytes, length);
    }
    return code;
}

as_words as_words_of(const char *bytes, size_t size)
{
    const int64_t *at = (const int64_t *)(const void *)bytes;
    return (as_words){.at = at, .end = at ? at + size / sizeof *at : at};
}

as_words as_words_between(const char *bytes, size_t from, size_t to)
{
    return as_words_of(bytes ? bytes + from : NULL, to - from);
}

const int64_t *as_words_take(as_words *w, size_t count)
{
    if (!w->at || (size_t)(w->end - w->at) < count) {
        return NULL;
    }
    const int64_t *words = w->at;
    w->at += count;
    return words;
}

const char *as_words_take_bytes(as_words *w, size_t *length)
{
    const int64_t *head = as_words_take(w, 1);
    if (!head) {
        return NULL;
    }
    *length = (size_t)head[0];
    return (const char *)as_words_take(w, (*length + 7) / 8);
}
