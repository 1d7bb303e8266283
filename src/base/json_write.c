/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_write.h"

#include <stdbool.h>
#include <string.h>

#include "base/quote.h"
#include "base/utf8.h"

/* The letter of a two-character escape, 0 if the character has none. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\t':
        return 't';
    case '\n':
        return 'n';
    case '\f':
        return 'f';
    case '\r':
        return 'r';
    default:
        return 0;
    }
}

static int write_unit(as_buffer *b, uint32_t unit, as_error *e)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\',
                    'u',
                    digits[unit >> 12 & 15],
                    digits[unit >> 8 & 15],
                    digits[unit >> 4 & 15],
                    digits[unit & 15]};
    return as_buffer_append(b, text, sizeof text, e);
}

static int write_escaped(as_buffer *b, uint32_t c, as_error *e)
{
    char letter = c < 0x80 ? short_escape((unsigned char)c) : 0;
    if (letter) {
        char text[2] = {'\\', letter};
        return as_buffer_append(b, text, sizeof text, e);
    }
    if (c < 0x10000) {
        return write_unit(b, c, e);
    }
    int code = write_unit(b, 0xd800 + ((c - 0x10000) >> 10), e);
    return code == AS_OK ? write_unit(b, 0xdc00 + ((c - 0x10000) & 0x3ff), e) : code;
}

static bool is_plain(unsigned char c, bool ascii_only)
{
    return c >= 0x20 && c != '"' && c != '\\' && (!ascii_only || c < 0x7f);
}

static int write_string(as_buffer *b, const char *text, size_t length, bool ascii_only, as_error *e)
{
    if (!as_utf8_valid(text, length)) {
        return as_fail(e, AS_INVALID, 0, "%s is not UTF-8, which JSON needs",
                       as_quote(text, length).text);
    }
    int code = as_buffer_char(b, '"', e);
    size_t at = 0;
    while (code == AS_OK && at < length) {
        size_t run = at;
        while (run < length && is_plain((unsigned char)text[run], ascii_only)) {
            run++;
        }
        code = as_buffer_append(b, text + at, run - at, e);
        at = run;
        if (code == AS_OK && at < length) {
            uint32_t c = 0;
            at += as_utf8_decode(text + at, length - at, &c);
            code = write_escaped(b, c, e);
        }
    }
    return code == AS_OK ? as_buffer_char(b, '"', e) : code;
}

int as_json_write_serde(as_buffer *b, const char *text, size_t length, as_error *e)
{
    return write_string(b, text, length, false, e);
}

int as_json_write_python(as_buffer *b, const char *text, size_t length, as_error *e)
{
    return write_string(b, text, length, true, e);
}
