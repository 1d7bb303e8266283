/* SPDX-License-Identifier: Apache-2.0
 * The safetensors writer, byte for byte against files of the reference and at the
 * format's limits; the lists that formats share.
 */
#include "format_support.h"

#include "format/safetensors.h"
#include "tensor/dtype.h"

/* Reads a golden file, lays its tensors out again and compares header, size and offsets. */
static void rewrite(const char *name)
{
    char path[64];
    (void)snprintf(path, sizeof path, "golden/%s", name);
    as_buffer file;
    slurp(data_path(path), &file);
    as_source source = as_source_memory(file.data, file.size, name);
    as_table t;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_format_safetensors.read(&source, &t, NULL, &e), &e);
    size_t count = as_table_count(&t);
    as_format_tensor *tensors = calloc(count + 1, sizeof *tensors);
    assert_non_null(tensors);
    /* Backwards: the order of the input must not matter. */
    for (size_t i = 0; i < count; i++) {
        const as_entry *x = as_table_entry(&t, count - 1 - i);
        tensors[i] = (as_format_tensor){.name = as_table_name(&t, count - 1 - i),
                                        .name_length = x->name_length,
                                        .shape = as_table_shape(&t, count - 1 - i),
                                        .ndim = (int)x->ndim,
                                        .dtype = x->dtype,
                                        .bytes = x->end - x->begin};
    }
    as_file_layout layout;
    ASSERT_CODE(AS_OK,
                as_format_safetensors.layout(tensors, count, t.has_metadata ? &t.metadata : NULL, 0,
                                             &layout, &e),
                &e);
    assert_int_equal(layout.file_size, file.size);
    assert_int_equal(layout.literal_count, 1);
    assert_int_equal(layout.literals[0].offset, 0);
    assert_int_equal(layout.literals[0].size, t.data_begin);
    assert_memory_equal(layout.literals[0].bytes, file.data, t.data_begin);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(tensors[i].offset, as_table_entry(&t, count - 1 - i)->begin);
    }
    as_file_layout_free(&layout);
    free(tensors);
    as_table_free(&t);
    as_buffer_free(&file);
}

static void test_golden(void **state)
{
    (void)state;
    rewrite("st_empty_nometa.safetensors");
    rewrite("st_empty_pt.safetensors");
    rewrite("st_escape.safetensors");
    rewrite("st_f4.safetensors");
    rewrite("st_mixed_order.safetensors");
    rewrite("st_one_f32.safetensors");
    rewrite("st_scalar_i64.safetensors");
    rewrite("st_zero_size.safetensors");
}

static const uint64_t two[] = {2};

static as_format_tensor tensor(const char *name, size_t length, int dtype)
{
    return (as_format_tensor){.name = name,
                              .name_length = length,
                              .shape = two,
                              .ndim = 1,
                              .dtype = dtype,
                              .bytes = (uint64_t)as_dtype_bits(dtype) * 2 / 8};
}

static void check_header(as_format_tensor *tensors, size_t count, const as_pairs *metadata,
                         const char *expected)
{
    as_file_layout l;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_safetensors_layout(tensors, count, metadata, 0, &l, &e), &e);
    assert_int_equal(l.literals[0].size % 8, 0);
    uint64_t length = l.literals[0].size - 8;
    for (int i = 0; i < 8; i++) {
        assert_int_equal((unsigned char)l.literals[0].bytes[i], length >> (8 * i) & 0xff);
    }
    assert_true(length - strlen(expected) < 8);
    assert_memory_equal(l.literals[0].bytes + 8, expected, strlen(expected));
    for (uint64_t i = strlen(expected); i < length; i++) {
        assert_int_equal(l.literals[0].bytes[8 + i], ' ');
    }
    as_file_layout_free(&l);
}

static void test_writer(void **state)
{
    (void)state;
    as_pairs none = AS_PAIRS_INIT;
    check_header(NULL, 0, NULL, "{}");
    check_header(NULL, 0, &none, "{\"__metadata__\":{}}");
    as_format_tensor t[3] = {tensor("b", 1, AS_U8), tensor("a", 1, AS_U8), tensor("c", 1, AS_I64)};
    check_header(t, 3, NULL,
                 "{\"c\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
                 "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[16,18]},"
                 "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[18,20]}}");
    assert_int_equal(t[0].offset - t[2].offset, 18);
    assert_int_equal(t[1].offset - t[2].offset, 16);
    /* Every number of padding spaces; names with NUL and with a common beginning. */
    as_format_tensor n[2] = {tensor("a\0b", 3, AS_U8), tensor("a", 1, AS_U8)};
    check_header(n, 2, &none,
                 "{\"__metadata__\":{},\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":"
                 "[0,2]},\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}");
    as_pairs pairs = AS_PAIRS_INIT;
    assert_int_equal(as_pairs_set(&pairs, "z", 1, "1", 1, NULL), AS_OK);
    assert_int_equal(as_pairs_set(&pairs, "a", 1, "\n", 1, NULL), AS_OK);
    assert_int_equal(as_pairs_set(&pairs, "", 0, "", 0, NULL), AS_OK);
    for (char key[] = "m"; strlen(key) < 2 && pairs.count < 11; key[0]++) {
        assert_int_equal(as_pairs_set(&pairs, key, 1, "", 0, NULL), AS_OK);
    }
    check_header(NULL, 0, &pairs,
                 "{\"__metadata__\":{\"\":\"\",\"a\":\"\\n\",\"m\":\"\",\"n\":\"\",\"o\":\"\","
                 "\"p\":\"\",\"q\":\"\",\"r\":\"\",\"s\":\"\",\"t\":\"\",\"z\":\"1\"}}");
    as_pairs_free(&pairs);
}

/* Data on a boundary: spaces fill the gap, and the reader takes the file all the same. */
static void test_writer_align(void **state)
{
    (void)state;
    for (int64_t align = 1; align <= 1 << 20; align *= 2) {
        as_format_tensor t[] = {tensor("a", 1, AS_F32), tensor("b", 1, AS_U8)};
        as_file_layout l;
        as_table table;
        as_error e = AS_ERROR_INIT;
        ASSERT_CODE(AS_OK, as_safetensors_layout(t, 2, NULL, align, &l, &e), &e);
        uint64_t size = l.literals[0].size;
        assert_int_equal(size % (uint64_t)(align < 8 ? 8 : align), 0);
        assert_true(size <= 136 || size <= (uint64_t)align);
        assert_int_equal(t[0].offset, size);
        assert_int_equal(t[1].offset, size + 8);
        assert_int_equal(l.file_size, size + 10);
        char *file = calloc(1, l.file_size);
        assert_non_null(file);
        memcpy(file, l.literals[0].bytes, size);
        as_source source = as_source_memory(file, l.file_size, "aligned");
        ASSERT_CODE(AS_OK, as_format_safetensors.read(&source, &table, NULL, &e), &e);
        as_table_free(&table);
        free(file);
        as_file_layout_free(&l);
    }
}

static void test_writer_refuses(void **state)
{
    (void)state;
    as_file_layout l;
    as_format_tensor t[2] = {tensor("__metadata__", 12, AS_U8), tensor("b", 1, AS_U8)};
    ASSERT_FAILS(AS_INVALID, "\"__metadata__\"", as_safetensors_layout(t, 2, NULL, 0, &l, &e_));
    t[0] = tensor("a\xff", 2, AS_U8);
    ASSERT_FAILS(AS_INVALID, "\"a\\xff\"", as_safetensors_layout(t, 2, NULL, 0, &l, &e_));
    t[0] = tensor("b", 1, AS_F32);
    ASSERT_FAILS(AS_INVALID, "\"b\" stands twice", as_safetensors_layout(t, 2, NULL, 0, &l, &e_));
    t[0] = tensor("a", 1, AS_U8);
    t[0].bytes = 3;
    ASSERT_FAILS(AS_INVALID, "3 bytes were declared",
                 as_safetensors_layout(t, 2, NULL, 0, &l, &e_));
    t[0] = tensor("a", 1, 99);
    ASSERT_FAILS(AS_INVALID, "dtype or shape", as_safetensors_layout(t, 2, NULL, 0, &l, &e_));
    t[0] = tensor("a", 1, AS_F6_E2M3);
    ASSERT_FAILS(AS_INVALID, "whole bytes", as_safetensors_layout(t, 2, NULL, 0, &l, &e_));
    as_pairs pairs = AS_PAIRS_INIT;
    assert_int_equal(as_pairs_set(&pairs, "k", 1, "\xff", 1, NULL), AS_OK);
    ASSERT_FAILS(AS_INVALID, "metadata", as_safetensors_layout(t + 1, 1, &pairs, 0, &l, &e_));
    as_pairs_free(&pairs);
    static const uint64_t huge[] = {UINT64_C(1) << 62};
    for (int i = 0; i < 2; i++) {
        t[i] = tensor(i ? "b" : "a", 1, AS_U8);
        t[i].shape = huge;
        t[i].bytes = huge[0];
    }
    /* 2^62 bits of elements pass 2^64 with 8 bits each: the format's own check. */
    ASSERT_FAILS(AS_INVALID, "out of range", as_safetensors_layout(t, 2, NULL, 0, &l, &e_));
}

static void test_writer_limit(void **state)
{
    (void)state;
    /* {"__metadata__":{"k":"…"}} has 25 bytes beside the value. */
    size_t most = 100000000 - 25;
    char *value = malloc(most + 1);
    assert_non_null(value);
    memset(value, 'x', most + 1);
    for (size_t more = 0; more < 2; more++) {
        as_pairs pairs = AS_PAIRS_INIT;
        as_file_layout l;
        assert_int_equal(as_pairs_set(&pairs, "k", 1, value, most + more, NULL), AS_OK);
        if (more) {
            ASSERT_FAILS(AS_LIMIT, "100000000", as_safetensors_layout(NULL, 0, &pairs, 0, &l, &e_));
        } else {
            assert_int_equal(as_safetensors_layout(NULL, 0, &pairs, 0, &l, NULL), AS_OK);
            assert_int_equal(l.file_size, 100000008);
            as_file_layout_free(&l);
        }
        as_pairs_free(&pairs);
    }
    free(value);
}

static void test_formats(void **state)
{
    (void)state;
    assert_ptr_equal(as_format_by_name("model.safetensors"), &as_format_safetensors);
    assert_null(as_format_by_name("model.SAFETENSORS"));
    assert_null(as_format_by_name("model.safetensors.index.json"));
    assert_null(as_format_by_name("model.bin"));
    assert_null(as_format_by_name(""));
}

static void test_table_and_pairs(void **state)
{
    (void)state;
    as_table t = AS_TABLE_INIT;
    static const uint64_t shape[] = {3, 4};
    assert_int_equal(as_table_add(&t, "s", 1, AS_F32, 0, NULL, 8, 12, NULL), AS_OK);
    assert_null(as_table_shape(&t, 0));
    assert_int_equal(as_table_add(&t, "", 0, AS_F32, 2, shape, 12, 60, NULL), AS_OK);
    assert_int_equal(as_table_count(&t), 2);
    assert_string_equal(as_table_name(&t, 1), "");
    assert_int_equal(as_table_shape(&t, 1)[1], 4);
    assert_int_equal(as_table_add(&t, "x", 1, AS_F32, -1, NULL, 0, 0, NULL), AS_LIMIT);
    as_table_free(&t);

    as_pairs p = AS_PAIRS_INIT;
    assert_null(as_pairs_find(&p, "a", 1));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i++) {
            char key[16];
            int length = snprintf(key, sizeof key, "%d", i);
            assert_int_equal(as_pairs_append(&p, key, (size_t)length, round ? "b" : "a", 1, NULL),
                             AS_OK);
        }
    }
    assert_int_equal(as_pairs_unique(&p, NULL), AS_OK);
    assert_int_equal(p.count, 5000);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(strtol(p.items[i].key, NULL, 10), i);
        assert_string_equal(p.items[i].value, "b");
    }
    assert_int_equal(as_pairs_set(&p, "77", 2, "a\0c", 3, NULL), AS_OK);
    const as_pair *found = as_pairs_find(&p, "77", 2);
    assert_ptr_equal(found, &p.items[77]);
    assert_int_equal(found->value_length, 3);
    assert_memory_equal(found->value, "a\0c", 4);
    as_pairs_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),          cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_align),    cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_writer_limit),    cmocka_unit_test(test_formats),
        cmocka_unit_test(test_table_and_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
