/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes UTF-8 and the quoting of strings for error texts: whatever bytes come in, what comes out
 * is UTF-8 that a terminal shows and does not obey.
 */
#include "base/quote.h"
#include "fuzz.h"

/* Does the character change how the text around it is shown? */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x061c || c == 0x180e ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
           (c >= 0xe0000 && c <= 0xe0fff);
}

static void check_shown(const char *text, size_t length)
{
    while (length > 0) {
        uint32_t c;
        size_t taken = as_utf8_decode(text, length, &c);
        MUST(taken > 0 && !is_control(c));
        text += taken;
        length -= taken;
    }
}

static void check_quoted(const char *text, size_t size)
{
    as_quoted q = as_quote(text, size);
    size_t length = strlen(q.text);
    MUST(length >= 2 && length < sizeof q.text && q.text[0] == '"');
    check_shown(q.text, length);
    /* Inside the quotes no quote ends the string before its time. */
    size_t at = 1;
    while (at < length && q.text[at] != '"') {
        at += q.text[at] == '\\' ? 2 : 1;
    }
    MUST(at == length - 1 || strcmp(q.text + at, "\"…") == 0);
}

/* A text of any bytes but NUL. */
static void check_text(const char *text, size_t size)
{
    char *copy = fuzz_text((const uint8_t *)text, size);
    size_t length = strlen(copy);
    bool clean = as_utf8_valid(copy, length);
    for (size_t at = 0; clean && at < length;) {
        uint32_t c;
        at += as_utf8_decode(copy + at, length - at, &c);
        clean = !is_control(c);
    }
    char *shown = as_quote_text(copy);
    MUST(shown && strlen(shown) <= 4000);
    check_shown(shown, strlen(shown));
    MUST(!clean || length > 4000 || (strlen(shown) == length && memcmp(shown, text, length) == 0));
    free(shown);
}

/* Valid is what decodes from end to end, and what a check in pieces takes. */
static void check_utf8(const char *text, size_t size)
{
    bool whole = as_utf8_valid(text, size);
    size_t at = 0;
    bool decodes = true;
    while (decodes && at < size) {
        uint32_t c;
        size_t taken = as_utf8_decode(text + at, size - at, &c);
        decodes = taken > 0;
        if (decodes) {
            char again[4];
            MUST(c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff));
            MUST(as_utf8_encode(c, again) == taken && memcmp(again, text + at, taken) == 0);
        }
        at += taken;
    }
    MUST(decodes == whole);
    for (size_t cut = 0; cut <= size && cut < 16; cut++) {
        as_utf8 u = AS_UTF8_INIT;
        bool fits = as_utf8_feed(&u, text, cut) && as_utf8_feed(&u, text + cut, size - cut) &&
                    as_utf8_complete(&u);
        MUST(fits == whole);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    check_quoted(text, size);
    check_text(text, size);
    check_utf8(text, size);
    return 0;
}
