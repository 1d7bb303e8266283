/* SPDX-License-Identifier: Apache-2.0 */
#include "base/size.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/quote.h"
#include "base/utf8.h"

static const char accepted[] =
    "write a number with a unit of TB, GB, MB or KB (powers of ten), such as \"5GB\" or "
    "\"8.2MB\", or a whole number of bytes";

static const struct {
    char name[3];
    double bytes;
} units[] = {{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}};

/* The zeros of Unicode's decimal digits (category Nd, Unicode 15); nine more follow each. */
static const uint32_t zeros[] = {
    0x30,    0x660,   0x6f0,   0x7c0,   0x966,   0x9e6,   0xa66,   0xae6,   0xb66,   0xbe6,
    0xc66,   0xce6,   0xd66,   0xde6,   0xe50,   0xed0,   0xf20,   0x1040,  0x1090,  0x17e0,
    0x1810,  0x1946,  0x19d0,  0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,
    0xa8d0,  0xa900,  0xa9d0,  0xa9f0,  0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0,
    0x11950, 0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8,
    0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e950, 0x1fbf0};

/* Python's str.isspace(). */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* What a character is to a number: itself if it is ASCII, its digit, a space, or '?'. */
static char as_ascii(uint32_t c)
{
    if (is_space(c)) {
        return ' ';
    }
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++) {
        if (c >= zeros[i] && c - zeros[i] < 10) {
            return (char)('0' + (c - zeros[i]));
        }
    }
    return c < 0x80 ? (char)c : '?';
}

/* The text with one ASCII character for each character. False if it is not UTF-8. */
static int to_ascii(const char *text, as_buffer *out, bool *is_utf8, as_error *e)
{
    size_t length = strlen(text);
    int code = AS_OK;
    *is_utf8 = true;
    while (code == AS_OK && length > 0) {
        uint32_t c;
        size_t taken = as_utf8_decode(text, length, &c);
        if (taken == 0) {
            *is_utf8 = false;
            break;
        }
        code = as_buffer_char(out, as_ascii(c), e);
        text += taken;
        length -= taken;
    }
    if (code == AS_OK && !as_buffer_string(out)) {
        code = as_fail_nomem(e);
    }
    return code;
}

/* Cuts the spaces off at both ends. */
static char *strip(char *s)
{
    while (*s == ' ') {
        s++;
    }
    size_t length = strlen(s);
    while (length > 0 && s[length - 1] == ' ') {
        length--;
    }
    s[length] = '\0';
    return s;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes out underscores; false where Python allows none: they must stand between digits. */
static bool drop_underscores(char *s)
{
    char *to = s;
    char before = '\0';
    for (const char *from = s; *from; from++) {
        if (*from == '_') {
            if (!is_digit(before) || !is_digit(from[1])) {
                return false;
            }
        } else {
            *to++ = *from;
        }
        before = *from;
    }
    *to = '\0';
    return true;
}

/* Copies digits; returns how many. */
static int64_t take_digits(const char **from, char **to)
{
    int64_t count = 0;
    while (is_digit(**from)) {
        *(*to)++ = *(*from)++;
        count++;
    }
    return count;
}

/* The exponent of a number and what follows it: false if there is no digit. */
static bool take_exponent(const char **from, int64_t *exponent)
{
    bool negative = **from == '-';
    *from += **from == '-' || **from == '+';
    if (!is_digit(**from)) {
        return false;
    }
    int64_t value = 0;
    while (is_digit(**from)) {
        /* Far beyond any double, and far from overflow. */
        value = value < INT64_C(1000000000000000) ? value * 10 + (**from - '0') : value;
        (*from)++;
    }
    *exponent = negative ? -value : value;
    return true;
}

/* A number as Python's float() reads it, but for inf and nan, which are no size. It is rewritten
 * without a decimal point, because strtod's depends on the locale. `scratch` has room
 * for the text and 24 bytes more. */
static bool parse_float(char *s, char *scratch, double *out)
{
    if (!drop_underscores(s)) {
        return false;
    }
    const char *from = s;
    char *to = scratch;
    if (*from == '-' || *from == '+') {
        *to++ = *from++;
    }
    int64_t digits = take_digits(&from, &to);
    int64_t behind = 0;
    if (*from == '.') {
        from++;
        behind = take_digits(&from, &to);
    }
    if (digits + behind == 0) {
        return false;
    }
    int64_t exponent = 0;
    if (*from == 'e' || *from == 'E') {
        from++;
        if (!take_exponent(&from, &exponent)) {
            return false;
        }
    }
    if (*from != '\0') {
        return false;
    }
    (void)snprintf(to, 24, "e%lld", (long long)(exponent - behind));
    *out = strtod(scratch, NULL);
    return true;
}

enum outcome { GOOD, UNREADABLE, TOO_LARGE };

/* A number as Python's int() reads it. */
static int parse_int(char *s, int64_t *out)
{
    if (!drop_underscores(s)) {
        return UNREADABLE;
    }
    bool negative = *s == '-';
    s += *s == '-' || *s == '+';
    if (!is_digit(*s)) {
        return UNREADABLE;
    }
    bool fits = true;
    int64_t value = 0;
    for (; is_digit(*s); s++) {
        int digit = *s - '0';
        fits = fits && as_mul_i64(value, 10, &value) &&
               as_add_i64(value, negative ? -digit : digit, &value);
    }
    *out = value;
    return *s != '\0' ? UNREADABLE : fits ? GOOD : TOO_LARGE;
}

static char upper(char c)
{
    return (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
}

/* Bytes of the unit that the text ends in, 0 if it ends in none. */
static double unit_bytes(const char *s, size_t length)
{
    for (size_t i = 0; length >= 2 && i < sizeof units / sizeof units[0]; i++) {
        if (upper(s[length - 2]) == units[i].name[0] && upper(s[length - 1]) == units[i].name[1]) {
            return units[i].bytes;
        }
    }
    return 0;
}

/* The size of stripped ASCII text; `scratch` as for parse_float. */
static int parse(char *s, char *scratch, int64_t *bytes)
{
    size_t length = strlen(s);
    double unit = unit_bytes(s, length);
    if (unit == 0) {
        return parse_int(s, bytes);
    }
    s[length - 2] = '\0';
    double value;
    if (!parse_float(strip(s), scratch, &value)) {
        return UNREADABLE;
    }
    value *= unit;
    /* Both ends of int64_t are powers of two, exact in double. */
    if (!(value >= -9223372036854775808.0 && value < 9223372036854775808.0)) {
        return TOO_LARGE;
    }
    *bytes = (int64_t)value;
    return GOOD;
}

static int refuse(const char *text, const char *stripped, bool has_unit, as_error *e)
{
    as_quoted q = as_quote(text, strlen(text));
    size_t length = strlen(stripped);
    if (has_unit || length == 0 || is_digit(stripped[length - 1])) {
        return as_fail(e, AS_SIZE, 0, "the size %s cannot be read: %s", q.text, accepted);
    }
    const char *unit = stripped + (length >= 2 ? length - 2 : 0);
    return as_fail(e, AS_SIZE, 0, "the size %s has the unit %s, which is not known: %s", q.text,
                   as_quote(unit, strlen(unit)).text, accepted);
}

int as_size_parse(const char *text, int64_t *bytes, as_error *e)
{
    if (!text) {
        return as_fail(e, AS_INVALID, 0, "there is no size to read");
    }
    as_buffer ascii = AS_BUFFER_INIT;
    as_buffer scratch = AS_BUFFER_INIT;
    bool is_utf8;
    int code = to_ascii(text, &ascii, &is_utf8, e);
    if (code == AS_OK) {
        code = as_buffer_reserve(&scratch, ascii.size + 24, e);
    }
    if (code == AS_OK && !is_utf8) {
        code = as_fail(e, AS_SIZE, 0, "the size %s cannot be read: %s",
                       as_quote(text, strlen(text)).text, accepted);
    }
    if (code == AS_OK) {
        char *s = strip(ascii.data);
        bool has_unit = unit_bytes(s, strlen(s)) != 0;
        int outcome = parse(s, scratch.data, bytes);
        if (outcome == TOO_LARGE) {
            code = as_fail(e, AS_SIZE, 0, "the size %s is beyond 2^63 bytes",
                           as_quote(text, strlen(text)).text);
        } else if (outcome == UNREADABLE) {
            code = refuse(text, s, has_unit, e);
        }
    }
    as_buffer_free(&ascii);
    as_buffer_free(&scratch);
    return code;
}
