/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include <string.h>

/* Takes the first byte of a character of several; false if no character begins so. */
static bool begin(as_utf8 *u, unsigned char c)
{
    u->low = 0x80;
    u->high = 0xbf;
    if (c >= 0xc2 && c <= 0xdf) {
        u->need = 1;
    } else if (c >= 0xe0 && c <= 0xef) {
        u->need = 2;
        u->low = c == 0xe0 ? 0xa0 : 0x80;  /* no overlong forms */
        u->high = c == 0xed ? 0x9f : 0xbf; /* no surrogates */
    } else if (c >= 0xf0 && c <= 0xf4) {
        u->need = 3;
        u->low = c == 0xf0 ? 0x90 : 0x80;
        u->high = c == 0xf4 ? 0x8f : 0xbf; /* nothing past U+10FFFF */
    } else {
        return false;
    }
    return true;
}

static bool go_on(as_utf8 *u, unsigned char c)
{
    if (c < u->low || c > u->high) {
        return false;
    }
    u->need--;
    u->low = 0x80;
    u->high = 0xbf;
    return true;
}

bool as_utf8_feed(as_utf8 *u, const char *bytes, size_t count)
{
    const unsigned char *p = (const unsigned char *)bytes;
    const unsigned char *end = p + count;
    while (p < end) {
        if (u->need == 0) {
            /* Nearly all text is ASCII: eight bytes at a time. */
            uint64_t word;
            while (end - p >= (ptrdiff_t)sizeof word) {
                memcpy(&word, p, sizeof word);
                if (word & UINT64_C(0x8080808080808080)) {
                    break;
                }
                p += sizeof word;
            }
            if (p < end && *p >= 0x80 && !begin(u, *p)) {
                return false;
            }
        } else if (!go_on(u, *p)) {
            return false;
        }
        p += p < end;
    }
    return true;
}

bool as_utf8_valid(const char *bytes, size_t count)
{
    as_utf8 u = AS_UTF8_INIT;
    return count == 0 || (as_utf8_feed(&u, bytes, count) && as_utf8_complete(&u));
}

size_t as_utf8_decode(const char *bytes, size_t count, uint32_t *character)
{
    const unsigned char *p = (const unsigned char *)bytes;
    if (p[0] < 0x80) {
        *character = p[0];
        return 1;
    }
    as_utf8 u = AS_UTF8_INIT;
    if (!begin(&u, p[0]) || (size_t)u.need >= count) {
        return 0;
    }
    size_t length = (size_t)u.need + 1;
    /* The first byte carries 7 − length bits. */
    uint32_t c = p[0] & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if (!go_on(&u, p[i])) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3fU);
    }
    *character = c;
    return length;
}

size_t as_utf8_encode(uint32_t character, char out[4])
{
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    size_t length = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (character & 0x3f));
        character >>= 6;
    }
    out[0] = (char)((0xf00U >> length & 0xffU) | character);
    return length;
}
