/* SPDX-License-Identifier: Apache-2.0
 * The safetensors reader: its verdicts against vectors of the reference, what it
 * reads, what it says.
 */
#include "format_support.h"

#include "format/safetensors.h"
#include "tensor/dtype.h"

/* A file in memory: length, header, zeros. */
static void make_file(as_buffer *b, const char *header, size_t length, uint64_t claim, size_t zeros)
{
    *b = AS_BUFFER_INIT;
    char bytes[8];
    void *place;
    for (int i = 0; i < 8; i++) {
        bytes[i] = (char)(claim >> (8 * i) & 0xff);
    }
    assert_int_equal(as_buffer_append(b, bytes, 8, NULL), AS_OK);
    assert_int_equal(as_buffer_append(b, header, length, NULL), AS_OK);
    assert_int_equal(as_buffer_extend(b, zeros, &place, NULL), AS_OK);
}

/* Reads a file of that header and so many zero bytes; the verdict. */
static int read_header(const char *header, size_t length, size_t zeros, as_table *t, warnings *w,
                       as_error *e)
{
    as_buffer b;
    make_file(&b, header, length, length, zeros);
    as_source source = as_source_memory(b.data, b.size, "m.safetensors");
    as_log log = {.call = count_warning, .user = w};
    int verdict;
    int code = as_safetensors_read(&source, t, w ? &log : NULL, &verdict, e);
    assert_int_equal(code == AS_OK, verdict == AS_SAFETENSORS_OK);
    as_buffer_free(&b);
    return verdict;
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void test_reader_cases(void **state)
{
    (void)state;
    as_buffer file;
    slurp(data_path("golden/st_reader_cases.tsv"), &file);
    int rows = 0;
    char *rest;
    for (char *line = strtok_r(file.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] == '#') {
            continue;
        }
        char *name = strsep(&line, "\t");
        char *hex = strsep(&line, "\t");
        const char *zeros = strsep(&line, "\t");
        size_t length = strlen(hex) / 2;
        for (size_t i = 0; i < length; i++) {
            hex[i] = (char)(hex_digit(hex[2 * i]) * 16 + hex_digit(hex[2 * i + 1]));
        }
        as_table t;
        as_error e = AS_ERROR_INIT;
        int verdict = read_header(hex, length, strtoul(zeros, NULL, 10), &t, NULL, &e);
        if (strcmp(as_safetensors_verdict_name(verdict), line) != 0) {
            fail_msg("%s: %s, not %s: %s", name, as_safetensors_verdict_name(verdict), line,
                     as_error_text(&e));
        }
        if (verdict != AS_SAFETENSORS_OK) {
            /* The text names file and verdict, and says more. */
            assert_non_null(strstr(as_error_text(&e), "m.safetensors: "));
            assert_non_null(strstr(as_error_text(&e), line));
            assert_int_equal(e.code, AS_FORMAT);
        }
        as_table_free(&t);
        as_error_clear(&e);
        rows++;
    }
    assert_int_equal(rows, 60);
    as_buffer_free(&file);
}

static void test_contents(void **state)
{
    (void)state;
    static const char header[] =
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[4,12]},"
        "\"z2\":[\"F64\",[0],[4,4]],\"\\u0000n\":{\"data_offsets\":[0,4],\"shape\":[],\"dtype\":"
        "{\"I32\":null}},\"z1\":[\"U8\",[3,0],[4,4]],"
        "\"__metadata__\":{\"k\":\"1\",\"l\":\"\",\"k\":\"2\"}}";
    as_table t;
    as_error e = AS_ERROR_INIT;
    warnings w = {0};
    assert_int_equal(read_header(header, strlen(header), 12, &t, &w, &e), AS_SAFETENSORS_OK);
    assert_int_equal(as_table_count(&t), 4);
    assert_int_equal(t.data_begin, 8 + strlen(header));
    assert_int_equal(t.file_size, t.data_begin + 12);
    /* By begin, end, then place in the header. */
    static const char *const names[] = {"\0n", "z2", "z1", "b"};
    static const uint64_t begins[] = {0, 4, 4, 4};
    static const uint32_t ndims[] = {0, 1, 2, 2};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(as_table_entry(&t, i)->name_length, i == 3 ? 1 : 2);
        assert_memory_equal(as_table_name(&t, i), names[i], i == 3 ? 2 : 3);
        assert_int_equal(as_table_entry(&t, i)->begin, t.data_begin + begins[i]);
        assert_int_equal(as_table_entry(&t, i)->ndim, ndims[i]);
    }
    assert_int_equal(as_table_entry(&t, 3)->end, t.file_size);
    assert_int_equal(as_table_entry(&t, 0)->dtype, AS_I32);
    assert_int_equal(as_table_shape(&t, 2)[0], 3);
    assert_int_equal(as_table_shape(&t, 3)[0], 2);
    assert_true(t.has_metadata);
    assert_int_equal(t.metadata.count, 2);
    assert_string_equal(t.metadata.items[0].value, "2");
    assert_string_equal(t.metadata.items[1].value, "");
    assert_int_equal(w.count, 1);
    assert_non_null(strstr(w.last, "__metadata__"));
    as_table_free(&t);
}

static void test_names_twice(void **state)
{
    (void)state;
    static const char header[] = "{\"t\":[\"F32\",[1],[0,4]],\"u\":[\"F32\",[0],[4,4]],"
                                 "\"t\":[\"I32\",[1],[0,4]],\"t\":[\"U32\",[1],[0,4]]}";
    as_table t;
    as_error e = AS_ERROR_INIT;
    warnings w = {0};
    assert_int_equal(read_header(header, strlen(header), 4, &t, &w, &e), AS_SAFETENSORS_OK);
    assert_int_equal(as_table_count(&t), 2);
    assert_string_equal(as_table_name(&t, 0), "t");
    assert_int_equal(as_table_entry(&t, 0)->dtype, AS_U32);
    assert_int_equal(w.count, 2);
    assert_non_null(strstr(w.last, "\"t\""));
    as_table_free(&t);
    /* Each of them must be right, also those that do not count. */
    static const char bad[] = "{\"t\":[\"F33\",[1],[0,4]],\"t\":[\"I32\",[1],[0,4]]}";
    assert_int_equal(read_header(bad, strlen(bad), 4, &t, NULL, &e),
                     AS_SAFETENSORS_DESERIALIZATION);
    assert_int_equal(as_table_count(&t), 0);
    as_error_clear(&e);
}

/* One reading of a header that is refused: verdict and a part of the text. */
static void check_refused(const char *header, size_t zeros, int verdict, const char *part)
{
    as_table t;
    as_error e = AS_ERROR_INIT;
    int got = read_header(header, strlen(header), zeros, &t, NULL, &e);
    if (got != verdict || !strstr(as_error_text(&e), part)) {
        fail_msg("%s: %s: %s", header, as_safetensors_verdict_name(got), as_error_text(&e));
    }
    as_error_clear(&e);
}

static void test_error_texts(void **state)
{
    (void)state;
    check_refused("{\"a\\u001b[2J\":[\"F32\",[1],[4,8]]}", 8, AS_SAFETENSORS_OFFSET,
                  "tensor \"a\\x1b[2J\" has data_offsets [4,8]: there is a hole before it");
    check_refused("{\"a\":[\"F32\",[1],[0,4]],\"b\":[\"F32\",[1],[2,6]]}", 6, AS_SAFETENSORS_OFFSET,
                  "tensor \"b\" has data_offsets [2,6]: it overlaps");
    check_refused("{\"a\":[\"F32\",[1],[0,8]]}", 8, AS_SAFETENSORS_INFO,
                  "tensor \"a\" needs 4 bytes");
    check_refused("{\"a\":[\"F4\",[3],[0,1]]}", 1, AS_SAFETENSORS_MISALIGNED, "3 elements of F4");
    check_refused("{\"a\":[\"F32\",[1],[0,4]]}", 3, AS_SAFETENSORS_INCOMPLETE,
                  "take 4 bytes, but it has 3");
    check_refused("{\"a\":{\"dtype\":\"C128\"}}", 0, AS_SAFETENSORS_DESERIALIZATION,
                  "tensor \"a\": there is no dtype \"C128\"");
    check_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, AS_SAFETENSORS_DESERIALIZATION,
                  "tensor \"a\": data_offsets is missing");
    check_refused("{\"a\":7}", 0, AS_SAFETENSORS_DESERIALIZATION,
                  "tensor \"a\": its description is a number, not an object");
    check_refused("{\"a\":[\"F32\",[1.0],[0,4]]}", 4, AS_SAFETENSORS_DESERIALIZATION,
                  "tensor \"a\": shape holds something other");
    check_refused("{\"__metadata__\":{\"k\":1}}", 0, AS_SAFETENSORS_DESERIALIZATION,
                  "the value of \"k\" is a number, not a string");
    check_refused("{\"a\":[\"F32\",[1],[0,4]],}", 4, AS_SAFETENSORS_DESERIALIZATION, "byte 23");
    /* Bad encoding comes before all else that is wrong. */
    check_refused("{\"a\":7,}\xff", 0, AS_SAFETENSORS_HEADER, "not UTF-8");
    check_refused("{\"a\xff\":7}", 0, AS_SAFETENSORS_HEADER, "not UTF-8");
    check_refused("{\"a\":\xe2\x82", 0, AS_SAFETENSORS_HEADER, "not UTF-8");
}

static void test_same_bytes(void **state)
{
    (void)state;
    /* The reference's third attack: 100,000 tensors that all claim the same bytes. */
    as_buffer header = AS_BUFFER_INIT;
    assert_int_equal(as_buffer_char(&header, '{', NULL), AS_OK);
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(as_buffer_format(&header, NULL,
                                          "%s\"t%d\":{\"dtype\":\"F32\",\"shape\":[200,200],"
                                          "\"data_offsets\":[0,160000]}",
                                          i ? "," : "", i),
                         AS_OK);
    }
    assert_int_equal(as_buffer_char(&header, '}', NULL), AS_OK);
    as_table t;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(read_header(header.data, header.size, 160000, &t, NULL, &e),
                     AS_SAFETENSORS_OFFSET);
    assert_non_null(strstr(as_error_text(&e), "\"t1\""));
    as_error_clear(&e);
    as_buffer_free(&header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_cases), cmocka_unit_test(test_contents),
        cmocka_unit_test(test_names_twice),  cmocka_unit_test(test_error_texts),
        cmocka_unit_test(test_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
