/* SPDX-License-Identifier: Apache-2.0
 * The reader of zip files: what it reads, and the crooked files that it refuses, each made of a
 * good one by a few bytes.
 */
#include "torch_support.h"

#include "format/zip_read.h"
#include "format/zip_write.h"

/* Two records in torch's style or Python's, with all that belongs to them. */
static void make(int style, as_buffer *out)
{
    as_zip_writer w;
    as_file_layout l;
    as_error e = AS_ERROR_INIT;
    as_zip_begin(&w, style, style == AS_ZIP_TORCH ? 64 : 1);
    ASSERT_CODE(AS_OK, as_zip_add_bytes(&w, "a/first", 7, "hello", 5, NULL, &e), &e);
    ASSERT_CODE(AS_OK, as_zip_add_bytes(&w, "a/other", 7, "", 0, NULL, &e), &e);
    ASSERT_CODE(AS_OK, as_zip_add_bytes(&w, "a/third", 7, "world!", 6, NULL, &e), &e);
    ASSERT_CODE(AS_OK, as_zip_end(&w, &l, &e), &e);
    assert_int_equal(l.literal_count, 1);
    *out = AS_BUFFER_INIT;
    assert_int_equal(as_buffer_append(out, l.literals[0].bytes, l.file_size, NULL), AS_OK);
    as_file_layout_free(&l);
}

static void test_read(void **state)
{
    (void)state;
    for (int style = AS_ZIP_TORCH; style <= AS_ZIP_PYTHON; style++) {
        as_buffer b;
        make(style, &b);
        as_source source = as_source_memory(b.data, b.size, "z");
        as_error e = AS_ERROR_INIT;
        as_zip z;
        ASSERT_CODE(AS_OK, as_zip_read(&source, &z, &e), &e);
        assert_int_equal(as_zip_count(&z), 3);
        assert_string_equal(as_zip_name(&z, 2), "a/third");
        assert_null(as_zip_find(&z, "a/fourth"));
        as_buffer payload = AS_BUFFER_INIT;
        ASSERT_CODE(AS_OK, as_zip_payload(&source, &z, as_zip_find(&z, "a/third"), 6, &payload, &e),
                    &e);
        assert_int_equal(payload.size, 6);
        assert_memory_equal(payload.data, "world!", 6);
        ASSERT_FAILS(AS_LIMIT, "6 bytes; 5 is the most",
                     as_zip_payload(&source, &z, as_zip_find(&z, "a/third"), 5, &payload, &e_));
        b.data[as_zip_find(&z, "a/third")->begin]++;
        ASSERT_FAILS(AS_CORRUPT, "CRC-32",
                     as_zip_payload(&source, &z, as_zip_find(&z, "a/third"), 6, &payload, &e_));
        as_buffer_free(&payload);
        as_zip_free(&z);
        as_buffer_free(&b);
    }
}

/* Where the n-th (from 0) occurrence of a signature lies. */
static size_t find(const as_buffer *b, const char *signature, int n)
{
    for (size_t i = 0; i + 4 <= b->size; i++) {
        if (memcmp(b->data + i, signature, 4) == 0 && n-- == 0) {
            return i;
        }
    }
    fail_msg("no such signature");
    return 0;
}

/* Puts bytes at a place counted from the n-th occurrence of a signature, and reads that. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): the order is that of a row below */
typedef struct twist {
    int style;
    const char *signature;
    int n;
    size_t at;
    const char *bytes;
    size_t count;
    const char *part; /* of the error's text */
} twist;

#define LOCAL "PK\3\4"
#define CENTRAL "PK\1\2"
#define END "PK\5\6"
#define END_64 "PK\6\6"
#define LOCATOR "PK\6\7"
#define DESCRIPTOR "PK\7\x8"
#define BYTES(text) text, sizeof(text) - 1

static const twist twists[] = {
    /* names */
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a\\first"), "backslash"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("../irst"), "leads elsewhere"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a/../st"), "leads elsewhere"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a/./rst"), "leads elsewhere"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("/afirst"), "leads elsewhere"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a//irst"), "leads elsewhere"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("C:first"), "drive"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a/firs/"), "folder"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a/fir\0t"), "UTF-8"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a/fir\xfft"), "UTF-8"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 46, BYTES("a/other"), "local header"},
    {AS_ZIP_PYTHON, LOCAL, 0, 30, BYTES("a/other"), "local header"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 28, BYTES("\0\0"), "no name"},
    /* sizes and places that lie */
    {AS_ZIP_PYTHON, CENTRAL, 0, 20, BYTES("\4\0\0\0\4"), "local header"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 24, BYTES("\6"), "two different sizes"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 20, BYTES("\xf0\0\0\0\xf0"), "next record"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 20, BYTES("\xff\xff\xff\xff"), "zip64"},
    {AS_ZIP_PYTHON, CENTRAL, 1, 42, BYTES("\0\0\0\0"), "next record"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 42, BYTES("\1"), "before its first record"},
    {AS_ZIP_PYTHON, CENTRAL, 2, 42, BYTES("\xf0\xff"), "next record"},
    {AS_ZIP_PYTHON, LOCAL, 0, 57, BYTES("x"), NULL},
    {AS_ZIP_PYTHON, LOCAL, 0, 28, BYTES("\x13"), "broken extra"},
    {AS_ZIP_PYTHON, LOCAL, 0, 28, BYTES("\xff\xff"), "next record"},
    {AS_ZIP_PYTHON, LOCAL, 0, 37, BYTES("\2"), "zip64"},
    {AS_ZIP_PYTHON, LOCAL, 0, 41, BYTES("\6"), "local header"},
    {AS_ZIP_PYTHON, LOCAL, 0, 14, BYTES("x"), "local header"},
    {AS_ZIP_PYTHON, LOCAL, 0, 0, BYTES("QK"), "no local header"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 16, BYTES("x"), "local header"},
    {AS_ZIP_TORCH, CENTRAL, 0, 16, BYTES("x"), "descriptor"},
    {AS_ZIP_TORCH, DESCRIPTOR, 0, 0, BYTES("QK"), "descriptor"},
    {AS_ZIP_TORCH, DESCRIPTOR, 0, 8, BYTES("\6"), "descriptor"},
    {AS_ZIP_TORCH, LOCAL, 0, 22, BYTES("\6"), "local header"},
    /* what is not read */
    {AS_ZIP_PYTHON, CENTRAL, 0, 10, BYTES("\x8"), "compressed"},
    {AS_ZIP_PYTHON, LOCAL, 0, 8, BYTES("\x8"), "local header"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 8, BYTES("\1"), "encrypted"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 8, BYTES("\x20"), "not known"},
    {AS_ZIP_PYTHON, LOCAL, 0, 6, BYTES("\x8"), "local header"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 32, BYTES("\1"), "comment"},
    {AS_ZIP_PYTHON, CENTRAL, 2, 32, BYTES("\1"), "damaged"},
    {AS_ZIP_PYTHON, CENTRAL, 0, 34, BYTES("\1"), "another disk"},
    {AS_ZIP_PYTHON, CENTRAL, 1, 0, BYTES("QK"), "damaged"},
    /* ends */
    {AS_ZIP_PYTHON, END, 0, 4, BYTES("\1"), "disks"},
    {AS_ZIP_PYTHON, END, 0, 8, BYTES("\2"), "disks"},
    {AS_ZIP_PYTHON, END, 0, 8, BYTES("\2\0\2"), "number of records"},
    {AS_ZIP_PYTHON, END, 0, 8, BYTES("\x40\0\x40"), "too short for its records"},
    {AS_ZIP_PYTHON, END, 0, 12, BYTES("\1"), "end record has it"},
    {AS_ZIP_PYTHON, END, 0, 16, BYTES("\xff\xff\xff\xff"), "end record has it"},
    {AS_ZIP_PYTHON, END, 0, 20, BYTES("\1"), "comment"},
    {AS_ZIP_PYTHON, END, 0, 0, BYTES("QK"), "no end record"},
    {AS_ZIP_TORCH, END, 0, 10, BYTES("\4"), "disks"},
    {AS_ZIP_TORCH, END, 0, 12, BYTES("\1"), "disagree"},
    {AS_ZIP_TORCH, LOCATOR, 0, 8, BYTES("\1"), "locator"},
    {AS_ZIP_TORCH, LOCATOR, 0, 16, BYTES("\2"), "disks"},
    {AS_ZIP_TORCH, LOCATOR, 0, 0, BYTES("QK"), "end record has it"},
    {AS_ZIP_TORCH, END_64, 0, 0, BYTES("QK"), "damaged"},
    {AS_ZIP_TORCH, END_64, 0, 4, BYTES("\x2d"), "damaged"},
    {AS_ZIP_TORCH, END_64, 0, 16, BYTES("\1"), "disks"},
    {AS_ZIP_TORCH, END_64, 0, 24, BYTES("\2"), "disks"},
    {AS_ZIP_TORCH, END_64, 0, 40, BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"), "disagree"},
    {AS_ZIP_TORCH, END_64, 0, 48, BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"), "disagree"},
};

static void test_crooked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof twists / sizeof twists[0]; i++) {
        const twist *t = &twists[i];
        as_buffer b;
        make(t->style, &b);
        memcpy(b.data + find(&b, t->signature, t->n) + t->at, t->bytes, t->count);
        as_source source = as_source_memory(b.data, b.size, "z.zip");
        as_error e = AS_ERROR_INIT;
        as_zip z;
        int code = as_zip_read(&source, &z, &e);
        if (code != (t->part ? AS_FORMAT : AS_OK) ||
            (t->part && !strstr(as_error_text(&e), t->part))) {
            fail_msg("twist %zu: \"%s\" is not in: %s", i, t->part ? t->part : "success",
                     as_error_text(&e));
        }
        assert_true(code == AS_OK || strstr(as_error_text(&e), "z.zip: ") != NULL);
        if (code == AS_OK) {
            as_zip_free(&z);
        }
        as_error_clear(&e);
        as_buffer_free(&b);
    }
}

/* Bytes before the first record, behind the end, and a file cut at every place. */
static void test_around(void **state)
{
    (void)state;
    for (int style = AS_ZIP_TORCH; style <= AS_ZIP_PYTHON; style++) {
        as_buffer b;
        make(style, &b);
        as_zip z;
        as_buffer more = AS_BUFFER_INIT;
        assert_int_equal(as_buffer_append(&more, "#!", 2, NULL), AS_OK);
        assert_int_equal(as_buffer_append(&more, b.data, b.size, NULL), AS_OK);
        assert_int_equal(as_buffer_char(&more, '\n', NULL), AS_OK);
        as_source source = as_source_memory(more.data, more.size - 1, "z");
        ASSERT_FAILS(AS_FORMAT, "safely", as_zip_read(&source, &z, &e_));
        source = as_source_memory(more.data + 2, more.size - 2, "z");
        ASSERT_FAILS(AS_FORMAT, "other bytes follow", as_zip_read(&source, &z, &e_));
        for (size_t size = 0; size < b.size; size++) {
            as_error e = AS_ERROR_INIT;
            source = as_source_memory(b.data, size, "z");
            assert_int_equal(as_zip_read(&source, &z, &e), AS_FORMAT);
            as_error_clear(&e);
        }
        as_buffer_free(&more);
        as_buffer_free(&b);
    }
}

static void test_twice(void **state)
{
    (void)state;
    as_zip_writer w;
    as_file_layout l;
    as_error e = AS_ERROR_INIT;
    as_zip_begin(&w, AS_ZIP_PYTHON, 1);
    ASSERT_CODE(AS_OK, as_zip_add_bytes(&w, "same", 4, "1", 1, NULL, &e), &e);
    ASSERT_CODE(AS_OK, as_zip_add_bytes(&w, "same", 4, "2", 1, NULL, &e), &e);
    ASSERT_CODE(AS_OK, as_zip_end(&w, &l, &e), &e);
    as_source source = as_source_memory(l.literals[0].bytes, l.file_size, "z");
    as_zip z;
    ASSERT_FAILS(AS_FORMAT, "two records \"same\"", as_zip_read(&source, &z, &e_));
    as_file_layout_free(&l);
}

/* Sums of parts of any length, joined, are the sum of the whole. */
static void test_crc32(void **state)
{
    (void)state;
    assert_int_equal(as_crc32(0, "123456789", 9), 0xcbf43926);
    unsigned char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * i + 3);
    }
    uint32_t whole = as_crc32(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        uint32_t first = as_crc32(0, bytes, cut);
        uint32_t rest = as_crc32(0, bytes + cut, sizeof bytes - cut);
        assert_int_equal(as_crc32_join(first, rest, sizeof bytes - cut), whole);
        assert_int_equal(as_crc32(first, bytes + cut, sizeof bytes - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),  cmocka_unit_test(test_crooked), cmocka_unit_test(test_around),
        cmocka_unit_test(test_twice), cmocka_unit_test(test_crc32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
