/* SPDX-License-Identifier: Apache-2.0 */
#include "base/quote.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Characters that change how the text around them is shown. */
static bool is_format_control(uint32_t c)
{
    return (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

/* How the first character is shown. Returns its bytes taken. */
static size_t show(const char *text, size_t length, char piece[8])
{
    uint32_t c;
    size_t taken = as_utf8_decode(text, length, &c);
    if (taken == 0) {
        (void)snprintf(piece, 8, "\\x%02x", (unsigned char)text[0]);
        return 1;
    }
    if (c == '"' || c == '\\') {
        (void)snprintf(piece, 8, "\\%c", (char)c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
        (void)snprintf(piece, 8, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    } else if (c < 0x20) {
        (void)snprintf(piece, 8, "\\x%02x", c);
    } else if (is_format_control(c)) {
        (void)snprintf(piece, 8, "\\u%04x", c & 0xffffU);
    } else {
        memcpy(piece, text, taken);
        piece[taken] = '\0';
    }
    return taken;
}

as_quoted as_quote(const char *text, size_t length)
{
    static const char cut[] = "\"…";
    as_quoted q;
    size_t at = 0;
    q.text[at++] = '"';
    while (length > 0) {
        char piece[8];
        size_t taken = show(text, length, piece);
        size_t size = strlen(piece);
        if (at + size + sizeof cut > sizeof q.text) {
            memcpy(q.text + at, cut, sizeof cut);
            return q;
        }
        memcpy(q.text + at, piece, size);
        at += size;
        text += taken;
        length -= taken;
    }
    q.text[at++] = '"';
    q.text[at] = '\0';
    return q;
}
