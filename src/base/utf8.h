/* SPDX-License-Identifier: Apache-2.0
 * UTF-8: checked as it streams by, taken apart and put together.
 */
#ifndef ALLSHARD_BASE_UTF8_H
#define ALLSHARD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The state of a check that is fed piece by piece. */
typedef struct as_utf8 {
    int need;                /* continuation bytes still to come */
    unsigned char low, high; /* what the next one must lie between */
} as_utf8;

#define AS_UTF8_INIT ((as_utf8){0})

/* Feeds `count` more bytes; false as soon as they cannot be UTF-8 (overlong
 * forms, surrogates and numbers past U+10FFFF among them). */
bool as_utf8_feed(as_utf8 *u, const char *bytes, size_t count);

/* Whether what was fed ends between two characters. */
static inline bool as_utf8_complete(const as_utf8 *u)
{
    return u->need == 0;
}

bool as_utf8_valid(const char *bytes, size_t count);

/* The first character of `count` > 0 bytes: its length (1…4), 0 if it is not UTF-8. */
size_t as_utf8_decode(const char *bytes, size_t count, uint32_t *character);

/* Bytes written to out. A surrogate becomes three bytes (WTF-8). */
size_t as_utf8_encode(uint32_t character, char out[4]);

#endif
