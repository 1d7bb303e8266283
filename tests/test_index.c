/* SPDX-License-Identifier: Apache-2.0
 * The index of a sharded checkpoint: reading, the check of file names, writing.
 */
/* timeout: 300 */
#include "format_support.h"

#include <time.h>

#include "format/index.h"

static int read_text(const char *text, size_t length, as_index *x, warnings *w, as_error *e)
{
    as_source source = as_source_memory(text, length, "m.safetensors.index.json");
    as_log log = {.call = count_warning, .user = w};
    return as_index_read(&source, ".safetensors", x, w ? &log : NULL, e);
}

static void test_read(void **state)
{
    (void)state;
    static const char text[] =
        "{\"metadata\": {\"total_size\": 40, \"b\": \"a\", \"n\": 1.5, \"l\": [1, {}]},\n"
        " \"other\": [NaN, {\"weight_map\": 1}],"
        " \"weight_map\": {\"z\": \"m-2.safetensors\", \"a\\u0000\": \"./x.safetensors\","
        " \"\": \"m-2.safetensors\", \"\\ud83d\": \"sub/x..safetensors\"}}\n";
    as_index x;
    as_error e = AS_ERROR_INIT;
    warnings w = {0};
    ASSERT_CODE(AS_OK, read_text(text, strlen(text), &x, &w, &e), &e);
    assert_int_equal(as_index_count(&x), 4);
    static const char *const names[] = {"z", "a\0", "", "\xed\xa0\xbd"};
    static const uint32_t lengths[] = {1, 2, 0, 3};
    static const uint32_t files[] = {0, 1, 0, 2};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(as_index_entry_at(&x, i)->name_length, lengths[i]);
        assert_memory_equal(as_index_name(&x, i), names[i], lengths[i] + 1);
        assert_int_equal(as_index_entry_at(&x, i)->file, files[i]);
    }
    assert_int_equal(as_index_file_count(&x), 3);
    assert_string_equal(as_index_file(&x, 0), "m-2.safetensors");
    assert_string_equal(as_index_file(&x, 1), "x.safetensors");
    assert_string_equal(as_index_file(&x, 2), "sub/x..safetensors");
    assert_true(x.has_total_size);
    assert_int_equal(x.total_size, 40);
    assert_int_equal(x.metadata.count, 1);
    assert_string_equal(x.metadata.items[0].key, "b");
    assert_string_equal(x.metadata.items[0].value, "a");
    assert_int_equal(w.count, 0);
    as_index_free(&x);
}

static void test_read_twice(void **state)
{
    (void)state;
    /* The last of two counts, at the place of the first; what it replaces may be wrong. */
    static const char text[] =
        "{\"weight_map\": 7, \"metadata\": {\"total_size\": 1, \"a\": \"1\"},"
        " \"weight_map\": {\"a\": 5, \"b\": \"../x\", \"c\": \"1.safetensors\","
        " \"b\": \"2.safetensors\", \"a\": \"1.safetensors\"},"
        " \"metadata\": {\"a\": \"2\", \"b\": \"3\", \"a\": \"4\"}}";
    as_index x;
    as_error e = AS_ERROR_INIT;
    warnings w = {0};
    ASSERT_CODE(AS_OK, read_text(text, strlen(text), &x, &w, &e), &e);
    assert_int_equal(as_index_count(&x), 3);
    assert_string_equal(as_index_name(&x, 0), "a");
    assert_string_equal(as_index_name(&x, 1), "b");
    assert_string_equal(as_index_name(&x, 2), "c");
    assert_int_equal(as_index_file_count(&x), 2);
    assert_string_equal(as_index_file(&x, as_index_entry_at(&x, 0)->file), "1.safetensors");
    assert_string_equal(as_index_file(&x, as_index_entry_at(&x, 1)->file), "2.safetensors");
    assert_string_equal(as_index_file(&x, as_index_entry_at(&x, 2)->file), "1.safetensors");
    assert_false(x.has_total_size);
    assert_int_equal(x.metadata.count, 2);
    assert_string_equal(x.metadata.items[0].value, "4");
    assert_int_equal(w.count, 1);
    assert_non_null(strstr(w.last, "2 names"));
    as_index_free(&x);
}

static void test_read_small(void **state)
{
    (void)state;
    as_index x;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, read_text("{\"weight_map\":{}}", 17, &x, NULL, &e), &e);
    assert_int_equal(as_index_count(&x), 0);
    assert_int_equal(as_index_file_count(&x), 0);
    as_index_free(&x);
    static const char *const totals[] = {"-1", "1.0", "\"7\"", "9223372036854775808", "null", "[]"};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        char text[100];
        (void)snprintf(text, sizeof text, "{\"weight_map\":{},\"metadata\":{\"total_size\":%s}}",
                       totals[i]);
        ASSERT_CODE(AS_OK, read_text(text, strlen(text), &x, NULL, &e), &e);
        assert_false(x.has_total_size);
        assert_int_equal(x.metadata.count, i == 2);
        as_index_free(&x);
    }
    const char *list = "{\"metadata\":[{}],\"weight_map\":{}}";
    ASSERT_CODE(AS_OK, read_text(list, strlen(list), &x, NULL, &e), &e);
    as_index_free(&x);
}

static void test_read_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "the text ends"},
        {"[]", "it is an array, not an object"},
        {"{}", "no weight_map"},
        {"{\"weight_map\":[]}", "weight_map is an array"},
        {"{\"weight_map\":null}", "weight_map is null"},
        {"{\"weight_map\":{\"a\":1}}", "the file of tensor \"a\" is no string"},
        {"{\"weight_map\":{\"a\":{}}}", "the file of tensor \"a\" is no string"},
        {"{\"weight_map\":{}} x", "behind the end"},
        {"\xef\xbb\xbf{\"weight_map\":{}}", "byte 0"},
        {"{\"weight_map\":{\"a\":\"x.bin\"}}", "\"x.bin\" is refused"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "\"../x.safetensors\" is refused"},
        {"{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}", "NUL"},
        {"{\"weight_map\":{\"a\":\"\\n.bin\"}}", "\"\\n.bin\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        as_index x;
        ASSERT_FAILS(AS_FORMAT, bad[i].part,
                     read_text(bad[i].text, strlen(bad[i].text), &x, NULL, &e_));
        ASSERT_FAILS(AS_FORMAT, "m.safetensors.index.json: ",
                     read_text(bad[i].text, strlen(bad[i].text), &x, NULL, &e_));
        assert_int_equal(as_index_count(&x), 0);
    }
    as_source huge = as_source_memory("", 0, "huge");
    huge.size = (UINT64_C(4) << 30) + 1;
    as_index x;
    ASSERT_FAILS(AS_LIMIT, "4 GiB", as_index_read(&huge, ".safetensors", &x, NULL, &e_));
}

static void test_check_file(void **state)
{
    (void)state;
    static const char *const good[] = {
        "x.safetensors",     "./x.safetensors",    "x..safetensors",  "sub/x.safetensors",
        ".safetensors",      "a\\b.safetensors",   "....safetensors", ".. /x.safetensors",
        "a/b:c.safetensors", "...\\x.safetensors", ":.safetensors"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        as_error e = AS_ERROR_INIT;
        ASSERT_CODE(AS_OK, as_index_check_file(good[i], strlen(good[i]), ".safetensors", &e), &e);
    }
    static const char *const bad[] = {"",
                                      "x.bin",
                                      "x.SAFETENSORS",
                                      "safetensors",
                                      "/x.safetensors",
                                      "\\x.safetensors",
                                      "\\\\srv\\s\\x.safetensors",
                                      "//s/x.safetensors",
                                      "C:x.safetensors",
                                      "c:\\x.safetensors",
                                      "a:b.safetensors",
                                      "1:b.safetensors",
                                      "\xc3\xa9:b.safetensors",
                                      "../x.safetensors",
                                      "..\\x.safetensors",
                                      "a/../x.safetensors",
                                      "a\\..\\x.safetensors",
                                      "..",
                                      "x.safetensors/..",
                                      "x.safetensors/",
                                      "../.safetensors"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (as_index_check_file(bad[i], strlen(bad[i]), ".safetensors", NULL) != AS_FORMAT) {
            fail_msg("%s passes", bad[i]);
        }
    }
    assert_int_equal(as_index_check_file("a\0.safetensors", 14, ".safetensors", NULL), AS_FORMAT);
}

static void append_lines(as_buffer *b, bool first, const char *const *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(as_index_write_line(b, first && i == 0, lines[2 * i], strlen(lines[2 * i]),
                                             lines[2 * i + 1], NULL),
                         AS_OK);
    }
}

static void test_write(void **state)
{
    (void)state;
    as_buffer b = AS_BUFFER_INIT;
    assert_int_equal(as_index_write_begin(&b, 0, NULL, NULL), AS_OK);
    assert_int_equal(as_index_write_end(&b, true, NULL), AS_OK);
    assert_string_equal(
        as_buffer_string(&b),
        "{\n  \"metadata\": {\n    \"total_size\": 0\n  },\n  \"weight_map\": {}\n}");
    b.size = 0;

    /* Fragments of two shards, made apart and put together. */
    static const char *const one[] = {"a", "1.safetensors", "\xc3\xa9\x7f\"", "1.safetensors"};
    static const char *const two[] = {"\xf0\x9f\x98\x80", "2.safetensors"};
    as_pairs pairs = AS_PAIRS_INIT;
    assert_int_equal(as_pairs_set(&pairs, "b", 1, "a", 1, NULL), AS_OK);
    assert_int_equal(as_pairs_set(&pairs, "total_size", 10, "7", 1, NULL), AS_OK);
    assert_int_equal(as_pairs_set(&pairs, "c\n", 2, "", 0, NULL), AS_OK);
    as_buffer second = AS_BUFFER_INIT;
    append_lines(&second, false, two, 1);
    assert_int_equal(as_index_write_begin(&b, 40, &pairs, NULL), AS_OK);
    append_lines(&b, true, one, 2);
    assert_int_equal(as_buffer_append(&b, second.data, second.size, NULL), AS_OK);
    assert_int_equal(as_index_write_end(&b, false, NULL), AS_OK);
    assert_string_equal(as_buffer_string(&b),
                        "{\n  \"metadata\": {\n    \"total_size\": \"7\",\n    \"b\": \"a\",\n"
                        "    \"c\\n\": \"\"\n  },\n  \"weight_map\": {\n"
                        "    \"a\": \"1.safetensors\",\n"
                        "    \"\\u00e9\\u007f\\\"\": \"1.safetensors\",\n"
                        "    \"\\ud83d\\ude00\": \"2.safetensors\"\n  }\n}");
    as_index x;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, read_text(b.data, b.size, &x, NULL, &e), &e);
    assert_int_equal(as_index_count(&x), 3);
    assert_string_equal(as_index_name(&x, 1), one[2]);
    assert_string_equal(as_pairs_find(&x.metadata, "total_size", 10)->value, "7");
    as_index_free(&x);
    ASSERT_FAILS(AS_INVALID, "\"\\xff\"", as_index_write_line(&b, true, "\xff", 1, "f", &e_));
    assert_int_equal(as_pairs_set(&pairs, "c\n", 2, "\xff", 1, NULL), AS_OK);
    ASSERT_FAILS(AS_INVALID, "metadata", as_index_write_begin(&b, 1, &pairs, &e_));
    as_pairs_free(&pairs);
    as_buffer_free(&b);
    as_buffer_free(&second);
}

static double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A million names: `files` files in turn. */
static void read_million(unsigned files, bool same_name)
{
    unsigned count = UNDER_SANITIZER ? 100000 : 1000000;
    as_buffer b = AS_BUFFER_INIT;
    assert_int_equal(as_index_write_begin(&b, 1, NULL, NULL), AS_OK);
    for (unsigned i = 0; i < count; i++) {
        char name[64];
        char file[64];
        int length = snprintf(name, sizeof name, "layers.%u.weight", same_name ? 0 : i);
        (void)snprintf(file, sizeof file, "m-%05u.safetensors", i % files);
        assert_int_equal(as_index_write_line(&b, i == 0, name, (size_t)length, file, NULL), AS_OK);
    }
    assert_int_equal(as_index_write_end(&b, false, NULL), AS_OK);
    as_index x;
    as_error e = AS_ERROR_INIT;
    double begin = seconds();
    ASSERT_CODE(AS_OK, read_text(b.data, b.size, &x, NULL, &e), &e);
    assert_true(seconds() - begin < 20);
    assert_int_equal(as_index_count(&x), same_name ? 1 : count);
    assert_int_equal(as_index_file_count(&x), same_name ? 1 : files);
    if (!same_name) {
        assert_int_equal(as_index_entry_at(&x, count - 1)->file, (count - 1) % files);
        assert_string_equal(as_index_file(&x, 0), "m-00000.safetensors");
    }
    as_index_free(&x);
    as_buffer_free(&b);
}

static void test_million(void **state)
{
    (void)state;
    read_million(7, false);
    read_million(UNDER_SANITIZER ? 100000 : 1000000, false);
    read_million(3, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),       cmocka_unit_test(test_read_twice),
        cmocka_unit_test(test_read_small), cmocka_unit_test(test_read_bad),
        cmocka_unit_test(test_check_file), cmocka_unit_test(test_write),
        cmocka_unit_test(test_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
