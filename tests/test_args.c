/* SPDX-License-Identifier: Apache-2.0
 * The parser of command lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/args.h"

static bool json;
static const char *size;
static as_arg_list pairs;

static const as_arg_option options[] = {
    {.name = "json", .help = "one object", .flag = &json},
    {.name = "max-shard-size", .value = "S", .help = "limit", .text = &size},
    {.name = "metadata", .value = "K=V", .help = "metadata", .list = &pairs},
    {.name = NULL},
};

static const as_arg_command command = {
    .name = "copy",
    .usage = "SRC DST",
    .summary = "Copies.\n",
    .examples = "  allshard copy a b\n",
    .least = 2,
    .most = 2,
    .operands = "SRC and DST",
    .options = options,
};

static as_arg_result result;
static as_error error;

static int forget(void **state)
{
    (void)state;
    as_arg_result_free(&result);
    as_arg_list_free(&pairs);
    as_error_clear(&error);
    json = false;
    size = NULL;
    return 0;
}

/* Parses up to 8 arguments, which end with NULL. */
static int parse(const char *const *given)
{
    static char storage[8][64];
    char *argv[9];
    int argc = 0;
    (void)forget(NULL);
    for (; given[argc]; argc++) {
        assert_true(argc < 8 && strlen(given[argc]) < sizeof storage[0]);
        memcpy(storage[argc], given[argc], strlen(given[argc]) + 1);
        argv[argc] = storage[argc];
    }
    argv[argc] = NULL;
    return as_args_parse(&command, argc, argv, &result, &error);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

static void expect_text(const char *part)
{
    if (!strstr(as_error_text(&error), part)) {
        fail_msg("\"%s\" lacks \"%s\"", as_error_text(&error), part);
    }
}

static void takes_options_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--json", "a", "--max-shard-size", "5GB", "b"), AS_OK);
    assert_true(json);
    assert_string_equal(size, "5GB");
    assert_int_equal(result.operand_count, 2);
    assert_string_equal(result.operands[0], "a");
    assert_string_equal(result.operands[1], "b");
}

static void takes_values_behind_an_equals_sign(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a", "b", "--max-shard-size=1=2"), AS_OK);
    assert_string_equal(size, "1=2");
    assert_int_equal(PARSE("a", "b", "--max-shard-size="), AS_OK);
    assert_string_equal(size, "");
}

static void the_last_value_counts_and_lists_grow(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a", "b", "--max-shard-size=1", "--max-shard-size=2"), AS_OK);
    assert_string_equal(size, "2");
    assert_int_equal(PARSE("a", "b", "--metadata", "k=v", "--metadata=l=w"), AS_OK);
    assert_int_equal(pairs.count, 2);
    assert_string_equal(pairs.items[0], "k=v");
    assert_string_equal(pairs.items[1], "l=w");
}

static void a_value_may_look_like_an_option(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a", "b", "--max-shard-size", "-1"), AS_OK);
    assert_string_equal(size, "-1");
}

static void two_dashes_end_the_options(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--", "--json", "--help"), AS_OK);
    assert_false(json);
    assert_false(result.help);
    assert_string_equal(result.operands[0], "--json");
}

static void help_comes_before_everything(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--bogus", "--help"), AS_OK);
    assert_true(result.help);
    assert_int_equal(PARSE("-h"), AS_OK);
    assert_true(result.help);
}

static void refuses_with_a_text_that_helps(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a", "b", "--max-shard", "1"), AS_INVALID);
    expect_text("--max-shard");
    expect_text("did you mean --max-shard-size");
    assert_int_equal(PARSE("a", "b", "--frobnicate"), AS_INVALID);
    expect_text("--frobnicate");
    expect_text("allshard copy --help");
    assert_int_equal(PARSE("a", "b", "-x"), AS_INVALID);
    expect_text("\"-x\"");
    assert_int_equal(PARSE("a", "b", "--json=1"), AS_INVALID);
    expect_text("takes no value");
    assert_int_equal(PARSE("a", "b", "--max-shard-size"), AS_INVALID);
    expect_text("needs a value");
    assert_int_equal(PARSE("a"), AS_INVALID);
    expect_text("SRC and DST");
    assert_int_equal(PARSE("a", "b", "c"), AS_INVALID);
    expect_text("\"c\"");
    assert_int_equal(PARSE("a", ""), AS_INVALID);
    expect_text("empty");
    /* Longer than any option: no overrun. */
    assert_int_equal(PARSE("--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                     AS_INVALID);
}

static void reads_numbers(void **state)
{
    (void)state;
    int64_t n = 0;
    assert_int_equal(as_args_number("42", "--n", 1, 100, &n, NULL), AS_OK);
    assert_int_equal(n, 42);
    static const char *const bad[] = {"",   "0",  "101", "-1",  "+1",
                                      " 1", "1 ", "1.0", "0x1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(as_args_number(bad[i], "--n", 1, 100, &n, NULL), AS_INVALID);
    }
}

static void reads_modes(void **state)
{
    (void)state;
    int mode = 0;
    assert_int_equal(as_args_mode("640", &mode, NULL), AS_OK);
    assert_int_equal(mode, 0640);
    assert_int_equal(as_args_mode("0644", &mode, NULL), AS_OK);
    assert_int_equal(mode, 0644);
    static const char *const bad[] = {"", "0", "8", "1777", "-640", "rw-r--r--", "0o640"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(as_args_mode(bad[i], &mode, NULL), AS_INVALID);
    }
}

static void reads_amounts_of_memory(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"0", 0},
                {"65536", 65536},
                {"4MB", 4000000},
                {"64MiB", 67108864},
                {"64mib", 67108864},
                {"2GiB", INT64_C(2147483648)},
                {"1kb", 1000}};
    int64_t bytes = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(as_args_memory(good[i].text, "--memory", &bytes, NULL), AS_OK);
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {"", "MB", "1.5MB", "-1MB", "1 MB", "4M", "9999999999TiB"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(as_args_memory(bad[i], "--memory", &bytes, NULL), AS_INVALID);
    }
}

static void finds_the_nearest_word(void **state)
{
    (void)state;
    static const char *const words[] = {"copy", "verify", "diff", "recover"};
    assert_string_equal(as_args_nearest("verfy", words, 4, sizeof words[0]), "verify");
    assert_string_equal(as_args_nearest("coyp", words, 4, sizeof words[0]), "copy");
    assert_string_equal(as_args_nearest("rec", words, 4, sizeof words[0]), "recover");
    assert_null(as_args_nearest("frobnicate", words, 4, sizeof words[0]));
    assert_null(as_args_nearest("", words, 4, sizeof words[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(takes_options_in_any_order, forget),
        cmocka_unit_test_teardown(takes_values_behind_an_equals_sign, forget),
        cmocka_unit_test_teardown(the_last_value_counts_and_lists_grow, forget),
        cmocka_unit_test_teardown(a_value_may_look_like_an_option, forget),
        cmocka_unit_test_teardown(two_dashes_end_the_options, forget),
        cmocka_unit_test_teardown(help_comes_before_everything, forget),
        cmocka_unit_test_teardown(refuses_with_a_text_that_helps, forget),
        cmocka_unit_test(reads_numbers),
        cmocka_unit_test(reads_modes),
        cmocka_unit_test(reads_amounts_of_memory),
        cmocka_unit_test(finds_the_nearest_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
