/* SPDX-License-Identifier: Apache-2.0
 * The JSON pull parser in both dialects, the two ways of writing strings, UTF-8
 * and quoted names.
 */
#include "format_support.h"

#include "base/json_pull.h"
#include "base/json_write.h"
#include "base/quote.h"
#include "base/utf8.h"

/* Text that is handed out in pieces of `step` bytes. */
typedef struct feed {
    const char *text;
    size_t length, at, step;
    size_t fail_at; /* offset from which on reading fails; SIZE_MAX: never */
} feed;

static int fill(void *self, void *bytes, size_t capacity, size_t *count, as_error *e)
{
    feed *f = self;
    if (f->at >= f->fail_at) {
        return as_fail(e, AS_SYSTEM, 5, "disk");
    }
    size_t left = f->length - f->at;
    *count = left < f->step ? left : f->step;
    *count = *count < capacity ? *count : capacity;
    memcpy(bytes, f->text + f->at, *count);
    f->at += *count;
    return AS_OK;
}

static int append_token(const as_json_token *t, as_buffer *out)
{
    static const char signs[] = "$0ft..[]{.}";
    if (t->kind == AS_JSON_STRING || t->kind == AS_JSON_KEY) {
        assert_int_equal(t->text[t->length], '\0');
        return as_buffer_format(out, NULL, "%c%.*s ", t->kind == AS_JSON_KEY ? 'k' : 's',
                                (int)t->length, t->text);
    }
    if (t->kind == AS_JSON_NUMBER) {
        return t->is_u64 ? as_buffer_format(out, NULL, "%llu ", (unsigned long long)t->u64)
                         : as_buffer_format(out, NULL, "n ");
    }
    return as_buffer_format(out, NULL, "%c ", signs[t->kind]);
}

/* The tokens of a text in short form, or "!" where it is refused. Every size of piece must give the
 * same. */
static const char *tokens(int dialect, const char *text, size_t length)
{
    static char first[65536];
    static const size_t steps[] = {1, 2, 3, 7, 100000};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        feed f = {.text = text, .length = length, .step = steps[i], .fail_at = SIZE_MAX};
        as_json *j;
        as_json_token t;
        as_error e = AS_ERROR_INIT;
        as_buffer out = AS_BUFFER_INIT;
        assert_int_equal(as_json_open(&j, fill, &f, dialect, &e), AS_OK);
        int code;
        while ((code = as_json_next(j, &t, &e)) == AS_OK && t.kind != AS_JSON_END) {
            assert_int_equal(append_token(&t, &out), AS_OK);
        }
        if (code != AS_OK) {
            assert_int_equal(code, AS_FORMAT);
            assert_false(as_json_fill_failed(j));
            assert_int_equal(as_json_next(j, &t, &e), AS_FORMAT);
            out.size = 0;
        } else {
            assert_int_equal(f.at, length);
            assert_int_equal(as_json_next(j, &t, &e), AS_OK);
            assert_int_equal(t.kind, AS_JSON_END);
        }
        (void)as_buffer_format(&out, NULL, code == AS_OK ? "." : "!");
        if (i == 0) {
            (void)snprintf(first, sizeof first, "%s", as_buffer_string(&out));
        }
        assert_string_equal(first, as_buffer_string(&out));
        as_json_close(j);
        as_error_clear(&e);
        as_buffer_free(&out);
    }
    return first;
}

static void check(const char *text, const char *serde, const char *python)
{
    assert_string_equal(tokens(AS_JSON_SERDE, text, strlen(text)), serde);
    assert_string_equal(tokens(AS_JSON_PYTHON, text, strlen(text)), python);
}

static void check_both(const char *text, const char *expected)
{
    check(text, expected, expected);
}

static void test_structure(void **state)
{
    (void)state;
    check_both("{}", "{ } .");
    check_both(" \t\r\n[ ] ", "[ ] .");
    check_both("{\"a\":[1,{\"b\":null},true],\"c\":false}", "{ ka [ 1 { kb 0 } t ] kc f } .");
    static const char *const bad[] = {"",           " ",
                                      "{",          "[",
                                      "}",          "{]",
                                      "[}",         "[1,]",
                                      "[,1]",       "[1 2]",
                                      "{\"a\"}",    "{\"a\":}",
                                      "{\"a\":1,}", "{a:1}",
                                      "{\"a\" 1}",  "{1:2}",
                                      "{} x",       "[] []",
                                      "nul",        "nulL",
                                      "truee",      "\xef\xbb\xbf{}",
                                      "{/**/}",     "\v1",
                                      "'a'",        "{\"a\":1 \"b\":2}",
                                      "[1}",        "{\"a\":1]",
                                      "1,"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_both(bad[i], "!");
    }
    assert_string_equal(tokens(AS_JSON_SERDE, "{}\0", 3), "!");
}

static void test_strings(void **state)
{
    (void)state;
    check_both("\"\"", "s .");
    check_both("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\"", "sa\"\\/\b\f\n\r\tA\xc3\xa9 .");
    check_both("\"\\ud83d\\ude00\"", "s\xf0\x9f\x98\x80 .");
    check_both("\"\\uD83D\\uDE00 \xe2\x82\xac\"", "s\xf0\x9f\x98\x80 \xe2\x82\xac .");
    check("\"\\ud83d\"", "!", "s\xed\xa0\xbd .");
    check("\"\\ude00x\"", "!", "s\xed\xb8\x80x .");
    check("\"\\ud83d\\u0041\"", "!", "s\xed\xa0\xbd\x41 .");
    check("\"\\ud83d\\n\"", "!", "s\xed\xa0\xbd\n .");
    check("\"\\ud83d\\ud83d\\ude00\"", "!", "s\xed\xa0\xbd\xf0\x9f\x98\x80 .");
    static const char *const bad[] = {
        "\"",          "\"\\\"",           "\"\\x\"",      "\"\\u12\"", "\"\\u12g4\"", "\"\n\"",
        "\"\x01\"",    "\"\x1f\"",         "\"\\",         "\"\\u",     "\"\x80\"",    "\"\xc3\"",
        "\"\xc3\\n\"", "\"\xed\xa0\xbd\"", "\"\xc0\x80\"", "\"\xf5\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_both(bad[i], "!");
    }
    /* NUL by an escape: the length counts. */
    feed f = {.text = "\"a\\u0000b\"", .length = 10, .step = 3, .fail_at = SIZE_MAX};
    as_json *j;
    as_json_token t;
    assert_int_equal(as_json_open(&j, fill, &f, AS_JSON_SERDE, NULL), AS_OK);
    assert_int_equal(as_json_next(j, &t, NULL), AS_OK);
    assert_int_equal(t.length, 3);
    assert_memory_equal(t.text, "a\0b", 4);
    as_json_close(j);
}

static void test_numbers(void **state)
{
    (void)state;
    check_both("0", "0 .");
    check_both("18446744073709551615", "18446744073709551615 .");
    check_both("18446744073709551616", "n .");
    check_both("-0", "n .");
    check_both("-5", "n .");
    check_both("1.0", "n .");
    check_both("1e0", "n .");
    check_both("0.5E-3", "n .");
    check_both("1e308", "n .");
    check_both("1e-400", "n .");
    check_both("0e999999999999999999999", "n .");
    check("1e309", "!", "n .");
    check("-1e999", "!", "n .");
    check("1e99999999999999999999", "!", "n .");
    check("NaN", "!", "n .");
    check("[Infinity,-Infinity]", "!", "[ n n ] .");
    static const char *const bad[] = {"01",  "+1",  "-",   "1.",  ".5",   "1e",   "1e+",
                                      "--1", "0x1", "1 2", "-01", "1.e5", "-Inf", "Inf"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_both(bad[i], "!");
    }
    char digits[5001];
    memset(digits, '9', sizeof digits);
    assert_string_equal(tokens(AS_JSON_PYTHON, digits, 4300), "n .");
    assert_string_equal(tokens(AS_JSON_PYTHON, digits, 4301), "!");
    assert_string_equal(tokens(AS_JSON_SERDE, digits, 308), "n .");
    assert_string_equal(tokens(AS_JSON_SERDE, digits, 309), "!");
    digits[309] = '.';
    digits[310] = '0';
    assert_string_equal(tokens(AS_JSON_SERDE, digits, 311), "!");
}

static void test_depth(void **state)
{
    (void)state;
    char text[2200];
    for (int dialect = AS_JSON_SERDE; dialect <= AS_JSON_PYTHON; dialect++) {
        size_t most = dialect == AS_JSON_SERDE ? 127 : 1000;
        memset(text, '[', sizeof text);
        memset(text + most, ']', most);
        const char *good = tokens(dialect, text, 2 * most);
        assert_string_equal(good + strlen(good) - 2, " .");
        memset(text, '[', most + 1);
        memset(text + most + 1, ']', most + 1);
        assert_string_equal(tokens(dialect, text, 2 * most + 2), "!");
    }
}

static void test_skip(void **state)
{
    (void)state;
    const char *text = "{\"a\":{\"x\":[1,[2,{}]]},\"b\":7,\"c\":[],\"d\":\"end\"}";
    feed f = {.text = text, .length = strlen(text), .step = 4, .fail_at = SIZE_MAX};
    as_json *j;
    as_json_token t;
    assert_int_equal(as_json_open(&j, fill, &f, AS_JSON_SERDE, NULL), AS_OK);
    assert_int_equal(as_json_next(j, &t, NULL), AS_OK);
    for (const char *key = "abc"; *key; key++) {
        assert_int_equal(as_json_next(j, &t, NULL), AS_OK);
        assert_int_equal(t.kind, AS_JSON_KEY);
        assert_int_equal(t.text[0], *key);
        if (*key == 'a') {
            assert_int_equal(as_json_next(j, &t, NULL), AS_OK);
        }
        assert_int_equal(as_json_skip(j, &t, NULL), AS_OK);
    }
    assert_int_equal(as_json_next(j, &t, NULL), AS_OK);
    assert_string_equal(t.text, "d");
    assert_int_equal(as_json_next(j, &t, NULL), AS_OK);
    assert_string_equal(t.text, "end");
    as_json_close(j);
}

static void test_long_string(void **state)
{
    (void)state;
    /* Several windows long, with a character of three bytes across each border. */
    size_t length = 1000000;
    char *text = malloc(length + 2);
    assert_non_null(text);
    text[0] = '"';
    for (size_t i = 0; i < length; i++) {
        text[i + 1] = "\xe2\x82\xac"[i % 3];
    }
    text[length] = '"'; /* 999999 bytes: 333333 characters */
    feed f = {.text = text, .length = length + 1, .step = SIZE_MAX, .fail_at = SIZE_MAX};
    as_json *j;
    as_json_token t;
    assert_int_equal(as_json_open(&j, fill, &f, AS_JSON_SERDE, NULL), AS_OK);
    assert_int_equal(as_json_next(j, &t, NULL), AS_OK);
    assert_int_equal(t.length, 999999);
    assert_memory_equal(t.text, text + 1, t.length);
    as_json_close(j);
    free(text);
}

static void test_fill_fails(void **state)
{
    (void)state;
    static const char text[] = "[1,\"two\",3]";
    for (size_t at = 0; at <= strlen(text); at++) {
        feed f = {.text = text, .length = strlen(text), .step = 1, .fail_at = at};
        as_json *j;
        as_json_token t;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_json_open(&j, fill, &f, AS_JSON_PYTHON, &e), AS_OK);
        int code = AS_OK;
        do {
            code = as_json_next(j, &t, &e);
        } while (code == AS_OK && t.kind != AS_JSON_END);
        assert_int_equal(code, AS_SYSTEM);
        assert_true(as_json_fill_failed(j));
        assert_non_null(strstr(as_error_text(&e), "disk"));
        as_json_close(j);
        as_error_clear(&e);
    }
}

static void check_write(const char *text, size_t length, const char *serde, const char *python)
{
    as_buffer b = AS_BUFFER_INIT;
    assert_int_equal(as_json_write_serde(&b, text, length, NULL), AS_OK);
    assert_string_equal(as_buffer_string(&b), serde);
    b.size = 0;
    assert_int_equal(as_json_write_python(&b, text, length, NULL), AS_OK);
    assert_string_equal(as_buffer_string(&b), python);
    as_buffer_free(&b);
}

static void test_write(void **state)
{
    (void)state;
    check_write("", 0, "\"\"", "\"\"");
    check_write("a/<\"\\", 5, "\"a/<\\\"\\\\\"", "\"a/<\\\"\\\\\"");
    check_write("\b\t\n\f\r", 5, "\"\\b\\t\\n\\f\\r\"", "\"\\b\\t\\n\\f\\r\"");
    check_write("\0\x1f", 2, "\"\\u0000\\u001f\"", "\"\\u0000\\u001f\"");
    check_write("\x7f", 1, "\"\x7f\"", "\"\\u007f\"");
    check_write("\xc3\xa9\xe2\x80\xa8", 5, "\"\xc3\xa9\xe2\x80\xa8\"", "\"\\u00e9\\u2028\"");
    check_write("\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", 8, "\"\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"",
                "\"\\ud83d\\ude00\\udbff\\udfff\"");
    as_buffer b = AS_BUFFER_INIT;
    ASSERT_FAILS(AS_INVALID, "\"a\\xff\"", as_json_write_serde(&b, "a\xff", 2, &e_));
    ASSERT_FAILS(AS_INVALID, "UTF-8", as_json_write_python(&b, "\xed\xa0\x80", 3, &e_));
    as_buffer_free(&b);
}

static void test_utf8(void **state)
{
    (void)state;
    /* Every character, there and back; nothing else decodes. */
    for (uint32_t c = 0; c <= 0x110000; c++) {
        char bytes[4];
        uint32_t back = 0;
        size_t length = as_utf8_encode(c, bytes);
        bool good = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        assert_int_equal(as_utf8_decode(bytes, length, &back), good ? length : 0);
        assert_int_equal(as_utf8_valid(bytes, length), good);
        if (good) {
            assert_int_equal(back, c);
            assert_int_equal(as_utf8_decode(bytes, length - 1 + (length == 1), &back), length == 1);
        }
    }
    static const char *const bad[] = {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf",
                                      "\xfe", "\xe2\x82", "12345678\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(as_utf8_valid(bad[i], strlen(bad[i])));
    }
    as_utf8 u = AS_UTF8_INIT;
    assert_true(as_utf8_feed(&u, "abcdefgh\xe2", 9));
    assert_false(as_utf8_complete(&u));
    assert_true(as_utf8_feed(&u, "\x82\xac!", 3));
    assert_true(as_utf8_complete(&u));
}

static void test_quote(void **state)
{
    (void)state;
    assert_string_equal(as_quote("w.1", 3).text, "\"w.1\"");
    assert_string_equal(as_quote("\0\n\x1b[31m\"\\\x7f\xff\xc3\xa9", 13).text,
                        "\"\\x00\\n\\x1b[31m\\\"\\\\\\u007f\\xff\xc3\xa9\"");
    assert_string_equal(as_quote("\xe2\x80\xae", 3).text, "\"\\u202e\"");
    char text[1000];
    memset(text, 'x', sizeof text);
    as_quoted q = as_quote(text, sizeof text);
    assert_true(strlen(q.text) < sizeof q.text);
    assert_string_equal(q.text + strlen(q.text) - 5, "x\"\xe2\x80\xa6");
    /* The longest that is shown whole. */
    for (size_t n = 240; n < 260; n++) {
        q = as_quote(text, n);
        assert_true(strlen(q.text) < sizeof q.text);
        assert_true(strlen(q.text) == n + 2 || strstr(q.text, "\xe2\x80\xa6"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),  cmocka_unit_test(test_strings),
        cmocka_unit_test(test_numbers),    cmocka_unit_test(test_depth),
        cmocka_unit_test(test_skip),       cmocka_unit_test(test_long_string),
        cmocka_unit_test(test_fill_fails), cmocka_unit_test(test_write),
        cmocka_unit_test(test_utf8),       cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
