/* SPDX-License-Identifier: Apache-2.0 */
#include "base/quote.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { PIECE = 12, LONGEST_TEXT = 4000, KEPT_END = 1000 };

/* Characters that change how the text around them is shown, or that are not seen at all. */
static bool is_format_control(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x7f, 0x9f},     {0xad, 0xad},      {0x61c, 0x61c},   {0x180e, 0x180e},
                  {0x200b, 0x200f}, {0x2028, 0x202e},  {0x2060, 0x206f}, {0xfeff, 0xfeff},
                  {0xfff9, 0xfffb}, {0xe0000, 0xe0fff}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (c >= ranges[i].first && c <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

/* Characters that are none: texts use them for themselves (plan/fault.h). */
static bool is_reserved(uint32_t c)
{
    return c >= 0xfdd0 && c <= 0xfdef;
}

/* How the first character is shown. Returns its bytes taken. */
static size_t show(const char *text, size_t length, bool quoted, char piece[PIECE])
{
    uint32_t c;
    size_t taken = as_utf8_decode(text, length, &c);
    if (taken == 0) {
        (void)snprintf(piece, PIECE, "\\x%02x", (unsigned char)text[0]);
        return 1;
    }
    if (quoted && (c == '"' || c == '\\')) {
        (void)snprintf(piece, PIECE, "\\%c", (char)c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
        (void)snprintf(piece, PIECE, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    } else if (c < 0x20) {
        (void)snprintf(piece, PIECE, "\\x%02x", c);
    } else if (is_format_control(c) || (quoted && is_reserved(c))) {
        (void)snprintf(piece, PIECE, c > 0xffff ? "\\U%08x" : "\\u%04x", c);
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
        char piece[PIECE];
        size_t taken = show(text, length, true, piece);
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

/* Bytes of the text when it is shown; written to `out` if that is not NULL. */
static size_t show_all(const char *text, size_t length, char *out)
{
    size_t size = 0;
    while (length > 0) {
        char piece[PIECE];
        size_t taken = show(text, length, false, piece);
        size_t count = strlen(piece);
        for (size_t i = 0; out && i < count; i++) {
            out[size + i] = piece[i];
        }
        size += count;
        text += taken;
        length -= taken;
    }
    return size;
}

/* Leaves out the middle, between whole characters. */
static void shorten(char *text, size_t length)
{
    static const char gap[] = " [...] ";
    size_t begin = LONGEST_TEXT - KEPT_END - sizeof gap;
    size_t end = length - KEPT_END;
    while (begin > 0 && ((unsigned char)text[begin] & 0xc0) == 0x80) {
        begin--;
    }
    while (end < length && ((unsigned char)text[end] & 0xc0) == 0x80) {
        end++;
    }
    memcpy(text + begin, gap, sizeof gap - 1);
    memmove(text + begin + sizeof gap - 1, text + end, length - end + 1);
}

char *as_quote_text(char *text)
{
    size_t length = strlen(text);
    size_t size = show_all(text, length, NULL);
    if (size != length) {
        char *shown = malloc(size + 1);
        if (shown) {
            (void)show_all(text, length, shown);
            shown[size] = '\0';
        }
        free(text);
        text = shown;
    }
    if (text && size > LONGEST_TEXT) {
        shorten(text, size);
    }
    return text;
}
