/* SPDX-License-Identifier: Apache-2.0
 * File name patterns: which may be used, the names they give, the names they know again.
 */
#include "format_support.h"

#include "format/pattern.h"

static void test_check(void **state)
{
    (void)state;
    static const char *const good[] = {
        "model{suffix}.safetensors",      "model.variant{suffix}.safetensors",
        "a{suffix}b{suffix}.safetensors", "{{x}}{suffix}.safetensors",
        "{suffix}m.safetensors",          ".hidden{suffix}.safetensors",
        "\xc3\xa9{suffix}.safetensors",   "m{suffix}}}.safetensors",
        "..m{suffix}.safetensors"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        as_error e = AS_ERROR_INIT;
        ASSERT_CODE(AS_OK, as_pattern_check(good[i], &e), &e);
    }
    static const struct {
        const char *pattern, *part;
    } bad[] = {
        {"", "has no {suffix}"},
        {"model.safetensors", "has no {suffix}"},
        {"model{{suffix}}.safetensors", "has no {suffix}"},
        {"model{Suffix}.safetensors", "has a brace"},
        {"model{suffix!s}.safetensors", "has a brace"},
        {"model{suffix:>20}.safetensors", "has a brace"},
        {"model{}{suffix}.safetensors", "has a brace"},
        {"model{0}{suffix}.safetensors", "has a brace"},
        {"model{suffix}.safetensors{", "has a brace"},
        {"model{ suffix}.safetensors", "has a brace"},
        {"model{suffix}}.safetensors", "closing brace"},
        {"model}{suffix}.safetensors", "closing brace"},
        {"sub/model{suffix}.safetensors", "another folder"},
        {"/model{suffix}.safetensors", "another folder"},
        {"model{suffix}", "extension"},
        {"model{suffix}.bin", "extension"},
        {"model{suffix}.SAFETENSORS", "extension"},
        {"model.safetensors{suffix}", "extension"},
        {"model.safe{suffix}tensors", "extension"},
        {"{suffix}", "extension"},
        {".{suffix}", "extension"},
        {"..{suffix}", "extension"},
        {"{suffix}.safetensors", "nothing before the extension"},
        {"C:{suffix}.safetensors", "Windows"},
        {"\\m{suffix}.safetensors", "Windows"},
        {"..\\m{suffix}.safetensors", "Windows"},
        {"m\xff{suffix}.safetensors", "UTF-8"},
        {"m\x1b[0m.safetensors", "\"m\\x1b[0m.safetensors\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ASSERT_FAILS(AS_PATTERN, bad[i].part, as_pattern_check(bad[i].pattern, &e_));
    }
    /* A shard's name of 255 bytes: 228 + 15 + 12. */
    char text[300];
    memset(text, 'x', sizeof text);
    (void)snprintf(text + 228, sizeof text - 228, "{suffix}.safetensors");
    assert_int_equal(as_pattern_check(text, NULL), AS_OK);
    (void)snprintf(text + 228, sizeof text - 228, "x{suffix}.safetensors");
    ASSERT_FAILS(AS_PATTERN, "longer than", as_pattern_check(text, &e_));
}

static void check_name(const char *pattern, uint64_t shard, uint64_t count, const char *expected)
{
    char *name;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_pattern_name(pattern, shard, count, &name, &e), &e);
    assert_string_equal(name, expected);
    free(name);
}

static void test_names(void **state)
{
    (void)state;
    const char *model = "model{suffix}.safetensors";
    check_name(model, 1, 1, "model.safetensors");
    check_name(model, 1, 2, "model-00001-of-00002.safetensors");
    check_name(model, 99999, 100000, "model-99999-of-100000.safetensors");
    check_name("{{a}}{suffix}}}{suffix}.safetensors", 3, 7,
               "{a}-00003-of-00007}-00003-of-00007.safetensors");
    char *name;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_pattern_index_name("m.v{suffix}.safetensors", &name, &e), &e);
    assert_string_equal(name, "m.v.safetensors.index.json");
    free(name);
    ASSERT_CODE(AS_OK, as_pattern_default("optimizer", &name, &e), &e);
    assert_string_equal(name, "optimizer{suffix}.safetensors");
    free(name);
    ASSERT_CODE(AS_OK, as_pattern_default("a{b}", &name, &e), &e);
    assert_string_equal(name, "a{{b}}{suffix}.safetensors");
    check_name(name, 1, 1, "a{b}.safetensors");
    free(name);
    ASSERT_FAILS(AS_PATTERN, "{suffix}", as_pattern_name("m", 1, 2, &name, &e_));
    assert_null(name);
    ASSERT_FAILS(AS_PATTERN, "{suffix}", as_pattern_index_name("m", &name, &e_));
    assert_null(name);
}

static void check_match(const char *pattern, const char *name, int kind, uint64_t shard,
                        uint64_t count)
{
    int got_kind;
    uint64_t got_shard;
    uint64_t got_count;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_pattern_match(pattern, name, &got_kind, &got_shard, &got_count, &e), &e);
    if (got_kind != kind) {
        fail_msg("%s and %s: kind %d, not %d", pattern, name, got_kind, kind);
    }
    if (kind == AS_PATTERN_SHARD) {
        assert_int_equal(got_shard, shard);
        assert_int_equal(got_count, count);
    }
}

static void test_match(void **state)
{
    (void)state;
    const char *m = "model{suffix}.safetensors";
    check_match(m, "model.safetensors", AS_PATTERN_SINGLE, 0, 0);
    check_match(m, "model.safetensors.index.json", AS_PATTERN_INDEX, 0, 0);
    check_match(m, "model-00001-of-00002.safetensors", AS_PATTERN_SHARD, 1, 2);
    check_match(m, "model-00007-of-00002.safetensors", AS_PATTERN_SHARD, 7, 2);
    check_match(m, "model-00000-of-00000.safetensors", AS_PATTERN_SHARD, 0, 0);
    check_match(m, "model-100000-of-123456.safetensors", AS_PATTERN_SHARD, 100000, 123456);
    static const char *const others[] = {
        "",
        "m",
        "model",
        "model-",
        "model-0",
        "model-00001",
        "model-00001-",
        "model-00001-of",
        "model-00001-of-",
        "model-00001-of-00002",
        "model.safetensors.bak",
        "modelXsafetensors",
        "model.safetensors\n",
        "model.fp16.safetensors",
        "my_model.safetensors",
        "MODEL.safetensors",
        "model-1-of-2.safetensors",
        "model-000001-of-000002.safetensors",
        "model-00001-of-00002.safetensors.tmp",
        "model-00001-of-00002.safetensors.index.json",
        "model.safetensors.index.json.bak",
        "model-0001-of-00002.safetensors",
        "model--0001-of-00002.safetensors",
        "model-00001-of-000002.safetensors",
        "model-\xd9\xa1\xd9\xa1\xd9\xa1\xd9\xa1\xd9\xa1-of-00002.safetensors",
        "model-00001-OF-00002.safetensors",
        "model_00001-of-00002.safetensors",
        "model-1000000000000000000-of-00002.safetensors",
        "model-00001-of-99999999999999999999999999999999.safetensors",
        "xmodel.safetensors"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        check_match(m, others[i], AS_PATTERN_NONE, 0, 0);
    }
    const char *two = "a{suffix}b{suffix}.safetensors";
    check_match(two, "ab.safetensors", AS_PATTERN_SINGLE, 0, 0);
    check_match(two, "a-00001-of-00002b-00001-of-00002.safetensors", AS_PATTERN_SHARD, 1, 2);
    check_match(two, "a-00001-of-00002b-00002-of-00002.safetensors", AS_PATTERN_NONE, 0, 0);
    check_match(two, "a-00001-of-00002b.safetensors", AS_PATTERN_NONE, 0, 0);
    /* Digits of the pattern right behind the suffix. */
    const char *digits = "a{suffix}5.safetensors";
    check_match(digits, "a5.safetensors", AS_PATTERN_SINGLE, 0, 0);
    check_match(digits, "a-00001-of-000025.safetensors", AS_PATTERN_SHARD, 1, 2);
    check_match(digits, "a-00001-of-1234565.safetensors", AS_PATTERN_SHARD, 1, 123456);
    check_match("{{x}}{suffix}.safetensors", "{x}-00001-of-00001.safetensors", AS_PATTERN_SHARD, 1,
                1);
    int kind;
    uint64_t number;
    ASSERT_FAILS(AS_PATTERN, "{suffix}", as_pattern_match("m", "m", &kind, &number, &number, &e_));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
