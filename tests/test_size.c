/* SPDX-License-Identifier: Apache-2.0
 * Sizes as people write them. Expected values are those of huggingface_hub's
 * parse_size_to_int and of Python's int().
 */
#include "format_support.h"

#include <locale.h>

#include "base/size.h"

static const struct {
    const char *text;
    int64_t bytes;
} good[] = {
    {"5GB", 5000000000},
    {"5gb", 5000000000},
    {"5Gb", 5000000000},
    {"10TB", 10000000000000},
    {" 10 KB ", 10000},
    {"20mb", 20000000},
    {"8.2MB", 8199999}, /* cut off, not rounded */
    {"1.001KB", 1000},
    {"4.35KB", 4350},
    {"5.1GB", 5100000000},
    {"1e3KB", 1000000},
    {"1E+3KB", 1000000},
    {"1_000KB", 1000000},
    {"1_0.2_5e1_0KB", 102500000000000},
    {"+5KB", 5000},
    {".5KB", 500},
    {"5.KB", 5000},
    {"-1KB", -1000},
    {"-0.0005KB", 0},
    {"\xc2\xa0"
     "5KB\xe3\x80\x80",
     5000},                               /* NBSP, ideographic space */
    {"\xef\xbc\x91KB", 1000},             /* fullwidth 1 */
    {"\xf0\x9d\x9f\x98.\xd9\xa3KB", 300}, /* mathematical 0, Arabic 3 */
    {"1e-400GB", 0},
    {"0e99999999999999999999GB", 0},
    {"9223372036854774KB", 9223372036854773760}, /* as a double gives it */
    {"-9223372036854775.808KB", INT64_MIN},
    {"0", 0},
    {"4096", 4096},
    {" +4_096 ", 4096},
    {"-7", -7},
    {"007", 7},
    {"9223372036854775807", INT64_MAX},
    {"-9223372036854775808", INT64_MIN},
};

/* What is refused, and what the text must say. */
static const struct {
    const char *text, *part;
} bad[] = {
    {"5GiB", "\"iB\""},
    {"1KiB", "\"iB\""},
    {"5PB", "\"PB\""},
    {"5B", "\"5B\""},
    {"5 G B", "\" B\""},
    {"1ooKB", "cannot be read"},
    {"KB", "cannot be read"},
    {"", "cannot be read"},
    {"  ", "cannot be read"},
    {"1__0KB", "cannot be read"},
    {"_1KB", "cannot be read"},
    {"1_KB", "cannot be read"},
    {"1_.5KB", "cannot be read"},
    {"1eKB", "cannot be read"},
    {".KB", "cannot be read"},
    {"--1KB", "cannot be read"},
    {"0x10KB", "cannot be read"},
    {"1,5KB", "cannot be read"},
    {"1 0KB", "cannot be read"},
    {"infGB", "cannot be read"},
    {"nanGB", "cannot be read"},
    {"1.5", "cannot be read"},
    {"1e3", "cannot be read"},
    {"- 5", "cannot be read"},
    {"5\xff", "cannot be read"},
    {"\xc2\xb2KB", "cannot be read"}, /* superscript 2 is no decimal digit */
    {"8e9TB", "2^63"},
    {"1e999KB", "2^63"},
    {"1e99999999999999999999KB", "2^63"},
    {"9223372036854775808", "2^63"},
    {"-9223372036854775809", "2^63"},
    {"9223372.036854775808TB", "2^63"},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t bytes = 1;
        as_error e = AS_ERROR_INIT;
        ASSERT_CODE(AS_OK, as_size_parse(good[i].text, &bytes, &e), &e);
        if (bytes != good[i].bytes) {
            fail_msg("%s is %lld, not %lld", good[i].text, (long long)bytes,
                     (long long)good[i].bytes);
        }
    }
}

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t bytes;
        ASSERT_FAILS(AS_SIZE, bad[i].part, as_size_parse(bad[i].text, &bytes, &e_));
    }
    int64_t bytes;
    ASSERT_FAILS(AS_SIZE, "TB, GB, MB or KB", as_size_parse("5GiB", &bytes, &e_));
    ASSERT_FAILS(AS_INVALID, "no size", as_size_parse(NULL, &bytes, &e_));
}

static void test_locale(void **state)
{
    (void)state;
    /* A locale with a decimal comma changes nothing; few machines have one, so any will do. */
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "C.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (setlocale(LC_ALL, names[i])) {
            break;
        }
    }
    test_good(state);
    (void)setlocale(LC_ALL, "C");
}

static void test_long(void **state)
{
    (void)state;
    char text[20001];
    memset(text, '0', sizeof text);
    text[9999] = '.';
    memcpy(text + 19000, "7e9003KB", 9);
    int64_t bytes;
    as_error e = AS_ERROR_INIT;
    /* 0.000…7 (9001 places) × 10^9003 × 1000 */
    ASSERT_CODE(AS_OK, as_size_parse(text, &bytes, &e), &e);
    assert_int_equal(bytes, 700000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_locale),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
