/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_lex.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/utf8.h"

/* Fuzzers take a small one, so that whatever they try crosses its edge. */
#ifndef ALLSHARD_JSON_WINDOW
#define ALLSHARD_JSON_WINDOW (256 * 1024)
#endif

enum {
    WINDOW = ALLSHARD_JSON_WINDOW,
    PYTHON_DIGITS = 4300, /* sys.get_int_max_str_digits() */
};

int as_json_lex_open(as_json_lex *l, as_json_fill fill, void *self, int dialect, as_error *e)
{
    *l = (as_json_lex){.fill = fill, .self = self, .dialect = dialect};
    l->window = malloc(WINDOW);
    return l->window ? AS_OK : as_fail_nomem(e);
}

void as_json_lex_close(as_json_lex *l)
{
    free(l->window);
    l->window = NULL;
    as_buffer_free(&l->text);
}

int as_json_lex_peek(as_json_lex *l, as_error *e)
{
    if (l->at == l->end && !l->ended) {
        l->base += l->end;
        l->at = 0;
        l->end = 0;
        int code = l->fill(l->self, l->window, WINDOW, &l->end, e);
        if (code != AS_OK) {
            l->end = 0;
            l->failed = code;
            l->fill_failed = true;
        }
        l->ended = l->end == 0;
    }
    return l->at < l->end ? (unsigned char)l->window[l->at] : -1;
}

int as_json_lex_peek_word(as_json_lex *l, as_error *e)
{
    int c = as_json_lex_peek(l, e);
    while (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
        as_json_lex_take(l);
        c = as_json_lex_peek(l, e);
    }
    return c;
}

int as_json_lex_fail(as_json_lex *l, const char *reason, as_error *e)
{
    if (l->failed == AS_OK) {
        l->failed = as_fail(e, AS_FORMAT, 0, "JSON, byte %llu: %s",
                            (unsigned long long)(l->base + l->at), reason);
    }
    return l->failed;
}

int as_json_lex_literal(as_json_lex *l, const char *word, as_error *e)
{
    for (; *word; word++) {
        if (as_json_lex_peek(l, e) != *word) {
            return as_json_lex_fail(l, "this is no JSON value", e);
        }
        as_json_lex_take(l);
    }
    return AS_OK;
}

/* ---- strings ---- */

static int hex_value(int c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int append_character(as_json_lex *l, uint32_t c, as_error *e)
{
    char bytes[4];
    return as_buffer_append(&l->text, bytes, as_utf8_encode(c, bytes), e);
}

/* Ends the wait for the second half of a surrogate pair. */
static int flush_surrogate(as_json_lex *l, uint32_t *high, as_error *e)
{
    uint32_t c = *high;
    if (c == 0) {
        return AS_OK;
    }
    *high = 0;
    if (l->dialect == AS_JSON_SERDE) {
        return as_json_lex_fail(l, "a \\u escape is half a surrogate pair", e);
    }
    return append_character(l, c, e);
}

/* \uXXXX, its "\u" taken. *high: an escape before it that waits for its second half. */
static int unicode_escape(as_json_lex *l, uint32_t *high, as_error *e)
{
    uint32_t c = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(as_json_lex_peek(l, e));
        if (digit < 0) {
            return as_json_lex_fail(l, "\\u needs four hexadecimal digits", e);
        }
        as_json_lex_take(l);
        c = c << 4 | (uint32_t)digit;
    }
    bool is_low = c >= 0xdc00 && c <= 0xdfff;
    if (*high && is_low) {
        c = 0x10000 + ((*high - 0xd800) << 10) + (c - 0xdc00);
        *high = 0;
        return append_character(l, c, e);
    }
    int code = flush_surrogate(l, high, e);
    if (code != AS_OK) {
        return code;
    }
    if (c >= 0xd800 && c <= 0xdbff) {
        *high = c;
        return AS_OK;
    }
    if (is_low) {
        return flush_surrogate(l, &c, e);
    }
    return append_character(l, c, e);
}

/* What a letter after a backslash stands for; −1 if it stands for nothing. */
static int escaped_letter(int c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return -1;
    }
}

/* An escape, its backslash peeked. */
static int escape(as_json_lex *l, uint32_t *high, as_error *e)
{
    as_json_lex_take(l);
    int c = as_json_lex_peek(l, e);
    if (c == 'u') {
        as_json_lex_take(l);
        return unicode_escape(l, high, e);
    }
    int letter = escaped_letter(c);
    if (letter < 0) {
        return as_json_lex_fail(l, "there is no such escape", e);
    }
    as_json_lex_take(l);
    int code = flush_surrogate(l, high, e);
    return code == AS_OK ? as_buffer_char(&l->text, (char)letter, e) : code;
}

/* Bytes of the window that stand for themselves. */
static size_t plain_run(const as_json_lex *l)
{
    size_t i = l->at;
    while (i < l->end && l->window[i] != '"' && l->window[i] != '\\' &&
           (unsigned char)l->window[i] >= 0x20) {
        i++;
    }
    return i - l->at;
}

static int string_body(as_json_lex *l, as_error *e)
{
    as_utf8 utf8 = AS_UTF8_INIT;
    uint32_t high = 0;
    int code = AS_OK;
    while (code == AS_OK) {
        int c = as_json_lex_peek(l, e);
        if (c < 0) {
            return as_json_lex_fail(l, "the text ends inside a string", e);
        }
        size_t run = plain_run(l);
        if (run > 0) {
            if (!as_utf8_feed(&utf8, l->window + l->at, run)) {
                return as_json_lex_fail(l, "a string is not UTF-8", e);
            }
            code = flush_surrogate(l, &high, e);
            if (code == AS_OK) {
                code = as_buffer_append(&l->text, l->window + l->at, run, e);
            }
            l->at += run;
        } else if (!as_utf8_complete(&utf8)) {
            return as_json_lex_fail(l, "a string is not UTF-8", e);
        } else if (c == '"') {
            as_json_lex_take(l);
            return flush_surrogate(l, &high, e);
        } else if (c == '\\') {
            code = escape(l, &high, e);
        } else {
            return as_json_lex_fail(l, "a control character stands bare in a string", e);
        }
    }
    return code;
}

int as_json_lex_string(as_json_lex *l, as_json_token *t, as_error *e)
{
    as_json_lex_take(l);
    l->text.size = 0;
    int code = string_body(l, e);
    if (code != AS_OK) {
        l->failed = code;
        return code;
    }
    t->text = as_buffer_string(&l->text);
    t->length = l->text.size;
    if (!t->text) {
        l->failed = as_fail_nomem(e);
    }
    return l->failed;
}

/* ---- numbers ---- */

/* A number as serde_json keeps it while it reads: digits beyond a u64 are only counted. */
typedef struct number {
    uint64_t significand;
    int64_t exponent;
    int64_t digits; /* of the whole part */
    bool whole;     /* neither fraction nor exponent nor dropped digits */
} number;

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* Takes digit c into the significand if it still fits. */
static bool push_digit(number *n, int c)
{
    uint64_t s;
    if (!as_mul_u64(n->significand, 10, &s) || !as_add_u64(s, (uint64_t)(c - '0'), &s)) {
        return false;
    }
    n->significand = s;
    return true;
}

static int whole_part(as_json_lex *l, number *n, as_error *e)
{
    int c = as_json_lex_peek(l, e);
    if (!is_digit(c)) {
        return as_json_lex_fail(l, "a number needs a digit here", e);
    }
    bool zero = c == '0';
    while (is_digit(c)) {
        n->digits++;
        if (zero && n->digits > 1) {
            return as_json_lex_fail(l, "a number begins with a needless 0", e);
        }
        if (n->exponent > 0 || !push_digit(n, c)) {
            n->whole = false;
            n->exponent++;
        }
        as_json_lex_take(l);
        c = as_json_lex_peek(l, e);
    }
    return AS_OK;
}

static int fraction(as_json_lex *l, number *n, as_error *e)
{
    as_json_lex_take(l);
    n->whole = false;
    int c = as_json_lex_peek(l, e);
    if (!is_digit(c)) {
        return as_json_lex_fail(l, "a number needs a digit after its point", e);
    }
    bool fits = true;
    while (is_digit(c)) {
        fits = fits && push_digit(n, c);
        n->exponent -= fits;
        as_json_lex_take(l);
        c = as_json_lex_peek(l, e);
    }
    return AS_OK;
}

static int exponent(as_json_lex *l, number *n, as_error *e)
{
    as_json_lex_take(l);
    n->whole = false;
    int c = as_json_lex_peek(l, e);
    bool negative = c == '-';
    if (c == '+' || c == '-') {
        as_json_lex_take(l);
        c = as_json_lex_peek(l, e);
    }
    if (!is_digit(c)) {
        return as_json_lex_fail(l, "a number needs a digit in its exponent", e);
    }
    int64_t value = 0;
    while (is_digit(c)) {
        /* Far beyond any double, and far from overflow. */
        value = value < INT32_MAX ? value * 10 + (c - '0') : value;
        as_json_lex_take(l);
        c = as_json_lex_peek(l, e);
    }
    n->exponent += negative ? -value : value;
    return AS_OK;
}

/* serde_json's test, with its own rounding: significand × 10^exponent as two doubles. */
static bool beyond_double(const number *n)
{
    if (n->exponent <= 0 || n->significand == 0) {
        return false;
    }
    if (n->exponent > 308) {
        return true;
    }
    char power[8];
    (void)snprintf(power, sizeof power, "1e%d", (int)n->exponent);
    /* No decimal point, so strtod needs no locale. */
    return isinf((double)n->significand * strtod(power, NULL));
}

int as_json_lex_number(as_json_lex *l, as_json_token *t, as_error *e)
{
    number n = {.whole = true};
    bool negative = as_json_lex_peek(l, e) == '-';
    if (negative) {
        as_json_lex_take(l);
        if (l->dialect == AS_JSON_PYTHON && as_json_lex_peek(l, e) == 'I') {
            return as_json_lex_literal(l, "Infinity", e);
        }
    }
    int code = whole_part(l, &n, e);
    bool is_integer = true;
    if (code == AS_OK && as_json_lex_peek(l, e) == '.') {
        is_integer = false;
        code = fraction(l, &n, e);
    }
    if (code == AS_OK && (as_json_lex_peek(l, e) == 'e' || as_json_lex_peek(l, e) == 'E')) {
        is_integer = false;
        code = exponent(l, &n, e);
    }
    if (code == AS_OK && l->dialect == AS_JSON_SERDE && beyond_double(&n)) {
        code = as_json_lex_fail(l, "a number is too large", e);
    }
    if (code == AS_OK && l->dialect == AS_JSON_PYTHON && is_integer && n.digits > PYTHON_DIGITS) {
        code = as_json_lex_fail(l, "a whole number has more than 4300 digits", e);
    }
    if (code == AS_OK && l->failed != AS_OK) {
        code = l->failed; /* fill failed where the number might have gone on */
    }
    t->is_u64 = n.whole && !negative;
    t->u64 = t->is_u64 ? n.significand : 0;
    return code;
}
