/* SPDX-License-Identifier: Apache-2.0
 * Files of torch.save as we lay them out: byte for byte what torch 1.13 wrote, batches of 1000,
 * zip64, what is refused. tests/parity_torch.py holds them against zipfile, pickletools and torch
 * itself.
 */
#include "torch_support.h"

#include "format/torch.h"
#include "format/zip_read.h"
#include "tensor/dtype.h"

static as_torch_tensor tensor(const char *name, int dtype, const uint64_t *shape, int ndim,
                              size_t storage)
{
    return (as_torch_tensor){.name = name,
                             .name_length = strlen(name),
                             .shape = shape,
                             .ndim = ndim,
                             .dtype = dtype,
                             .storage = storage};
}

/* Lays out, takes the storages' bytes out of the golden file itself, and compares all of it. */
static void compare_golden(const char *golden, const as_torch_tensor *tensors, size_t count,
                           as_torch_storage *storages, size_t storage_count, as_torch_options o)
{
    char path[64];
    (void)snprintf(path, sizeof path, "golden/%s.bin", golden);
    as_buffer file;
    slurp(data_path(path), &file);
    as_error e = AS_ERROR_INIT;
    as_file_layout l;
    o.archive = golden;
    o.version = AS_TORCH_1_6;
    ASSERT_CODE(AS_OK, as_torch_layout(tensors, count, storages, storage_count, &o, &l, &e), &e);
    assert_int_equal(l.file_size, file.size);
    char *ours = calloc(1, file.size + 1);
    if (!ours || !file.data) {
        free(ours);
        fail_msg("no memory");
        return;
    }
    for (size_t i = 0; i < storage_count; i++) {
        assert_int_equal(storages[i].offset % 64, 0);
        memcpy(ours + storages[i].offset, file.data + storages[i].offset, storages[i].bytes);
    }
    finish_file(&l, ours);
    assert_memory_equal(ours, file.data, file.size);
    free(ours);
    as_file_layout_free(&l);
    as_buffer_free(&file);
}

static void test_golden_dict(void **state)
{
    (void)state;
    static const uint64_t two_three[] = {2, 3};
    static const uint64_t three_two[] = {3, 2};
    static const uint64_t turned[] = {1, 3};
    static const uint64_t three[] = {3};
    static const uint64_t none_three[] = {0, 3};
    static const uint64_t two[] = {2};
    as_torch_tensor t[] = {
        tensor("w", AS_F32, two_three, 2, 0), tensor("wt", AS_F32, three_two, 2, 0),
        tensor("s", AS_F32, three, 1, 0),     tensor("e", AS_F32, none_three, 2, 1),
        tensor("sc", AS_I64, NULL, 0, 2),     tensor("bf", AS_BF16, three, 1, 3),
        tensor("b", AS_BOOL, two, 1, 4),      tensor("c", AS_C64, two, 1, 5)};
    t[1].strides = turned;
    t[2].first = 3;
    as_torch_storage s[] = {{24, 0}, {0, 0}, {8, 0}, {6, 0}, {2, 0}, {16, 0}};
    compare_golden("pt113_dict_shared", t, 8, s, 6, (as_torch_options){0});
}

static void test_golden_ordered(void **state)
{
    (void)state;
    static const uint64_t one_two[] = {1, 2};
    static const uint64_t one[] = {1};
    as_torch_tensor t[] = {tensor("weight", AS_F32, one_two, 2, 0),
                           tensor("bias", AS_F32, one, 1, 1)};
    as_torch_storage s[] = {{8, 0}, {4, 0}};
    static const as_torch_module module = {.name = "", .name_length = 0, .version = 1};
    compare_golden("pt113_linear_orderedDict_metadata", t, 2, s, 2,
                   (as_torch_options){.ordered = true, .modules = &module, .module_count = 1});
}

static void test_golden_parameter(void **state)
{
    (void)state;
    static const uint64_t two[] = {2};
    as_torch_tensor t = tensor("p", AS_F32, two, 1, 0);
    t.parameter = true;
    t.needs_grad = true;
    as_torch_storage s = {8, 0};
    compare_golden("pt113_parameter", &t, 1, &s, 1, (as_torch_options){0});
}

static const size_t counts[] = {0, 1, 2, 999, 1000, 1001, 1999, 2000, 2001};

/* Dicts around the pickler's batches, read again by our own reader. */
static void test_batches(void **state)
{
    (void)state;
    for (size_t c = 0; c < 2 * sizeof counts / sizeof counts[0]; c++) {
        size_t count = counts[c / 2];
        bool ordered = c % 2 == 1;
        as_torch_tensor *t = calloc(count + 1, sizeof *t);
        as_torch_storage *s = calloc(count + 1, sizeof *s);
        char(*names)[32] = calloc(count + 1, sizeof *names);
        assert_true(t && s && names);
        for (size_t i = 0; i < count; i++) {
            (void)snprintf(names[i], sizeof names[i], "layer.%zu", i);
            t[i] = tensor(names[i], AS_I16, NULL, 0, i);
            s[i].bytes = 2;
        }
        as_error e = AS_ERROR_INIT;
        as_file_layout l;
        as_torch_options o = {.ordered = ordered};
        ASSERT_CODE(AS_OK, as_torch_layout(t, count, s, count, &o, &l, &e), &e);
        char *file = calloc(1, l.file_size);
        assert_non_null(file);
        for (size_t i = 0; i < count; i++) {
            memcpy(file + s[i].offset, (uint16_t[]){(uint16_t)i}, 2);
        }
        finish_file(&l, file);
        /* Where the pickle ends: "uu" or so is told in bytes. */
        as_source source = as_source_memory(file, l.file_size, "t.bin");
        as_zip z;
        ASSERT_CODE(AS_OK, as_zip_read(&source, &z, &e), &e);
        const as_zip_entry *x = as_zip_find(&z, "archive/data.pkl");
        assert_non_null(x);
        const char *end = file + x->end;
        bool extra = !ordered && count > 0 && count % 1000 == 0;
        assert_int_equal(memcmp(end - 4, "u(u.", 4) == 0, extra);
        as_zip_free(&z);
        as_table table;
        ASSERT_CODE(AS_OK, as_torch_read(&source, &table, NULL, &e), &e);
        assert_int_equal(as_table_count(&table), count);
        for (size_t i = 0; i < count; i++) {
            const as_entry *entry = as_table_entry(&table, i);
            uint16_t value;
            memcpy(&value, file + entry->begin, 2);
            (void)snprintf(names[count], sizeof names[count], "layer.%u", value);
            assert_string_equal(as_table_name(&table, i), names[count]);
        }
        as_table_free(&table);
        as_file_layout_free(&l);
        free(file);
        free(names);
        free(s);
        free(t);
    }
}

/* A file of 6 TiB whose data are not there: what is read of it comes from the literals. */
static int read_literals(const as_source *source, uint64_t offset, void *bytes, size_t count,
                         as_error *e)
{
    const as_file_layout *l = source->self;
    (void)e;
    memset(bytes, 0, count);
    for (size_t i = 0; i < l->literal_count; i++) {
        const as_literal *x = &l->literals[i];
        uint64_t low = x->offset > offset ? x->offset : offset;
        uint64_t high = x->offset + x->size < offset + count ? x->offset + x->size : offset + count;
        if (low < high) {
            memcpy((char *)bytes + (low - offset), x->bytes + (low - x->offset), high - low);
        }
    }
    return AS_OK;
}

static void test_zip64(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0xfffffffe, 0xffffffff, 0x100000000, 6, 0x60000000000, 2};
    enum { COUNT = 6 };
    as_torch_tensor t[COUNT];
    as_torch_storage s[COUNT];
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    for (size_t i = 0; i < COUNT; i++) {
        t[i] = tensor(names[i], AS_U8, &sizes[i], 1, i);
        s[i].bytes = sizes[i];
    }
    as_error e = AS_ERROR_INIT;
    as_file_layout l;
    ASSERT_CODE(AS_OK, as_torch_layout(t, COUNT, s, COUNT, NULL, &l, &e), &e);
    as_source source = {
        .read = read_literals, .self = &l, .size = l.file_size, .name = "large.bin"};
    as_table table;
    ASSERT_CODE(AS_OK, as_torch_read(&source, &table, NULL, &e), &e);
    assert_int_equal(as_table_count(&table), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(as_table_entry(&table, i)->begin, s[i].offset);
        assert_int_equal(as_table_entry(&table, i)->end, s[i].offset + sizes[i]);
        assert_int_equal(s[i].offset % 64, 0);
    }
    as_table_free(&table);
    as_file_layout_free(&l);
}

static void test_archive_names(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"a/b/pytorch_model.bin", "pytorch_model"},
                                           {"x.y.z.bin", "x.y.z"},
                                           {"m", "m"},
                                           {"d.d/m", "m"},
                                           {"d/.bin", "archive"},
                                           {"d/", "archive"},
                                           {"d\xc3\xa9/m.bin", "archive"},
                                           {"c:\\d\\m.pt", "m"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *name;
        assert_int_equal(as_torch_archive(cases[i][0], &name, NULL), AS_OK);
        assert_string_equal(name, cases[i][1]);
        free(name);
    }
}

static void check_refused(as_torch_tensor t, uint64_t bytes, int version, const char *part)
{
    as_file_layout l;
    as_torch_storage s = {bytes, 0};
    as_torch_options o = {.version = version};
    ASSERT_FAILS(AS_INVALID, part, as_torch_layout(&t, 1, &s, 1, &o, &l, &e_));
    assert_int_equal(l.literal_count, 0);
}

static void test_refused(void **state)
{
    (void)state;
    static const uint64_t two[] = {2, 2};
    static const uint64_t huge[] = {UINT64_C(1) << 62, 4};
    static const uint64_t wide[] = {UINT64_C(1) << 63, 1};
    static const uint64_t odd[] = {3};
    static const uint64_t none[] = {0, UINT64_C(1) << 62, 4};
    as_torch_tensor t = tensor("t", AS_F32, two, 2, 0);
    check_refused(t, 15, 0, "past the end of its storage");
    check_refused(t, 18, 0, "in the middle of an element");
    t.first = 1;
    check_refused(t, 16, 0, "past the end of its storage");
    t.first = 0;
    t.strides = wide;
    check_refused(t, 16, 0, "past the end");
    t.strides = NULL;
    t.storage = 1;
    check_refused(t, 16, 0, "a storage that there is not");
    t = tensor("t", AS_F32, huge, 2, 0);
    check_refused(t, 16, 0, "past the end");
    check_refused(tensor("t", AS_F32, none, 3, 0), 0, 0, "pass 2^63");
    check_refused(tensor("t\xff", AS_F32, two, 2, 0), 16, 0, "UTF-8");
    check_refused(tensor("t", AS_F6_E2M3, two, 2, 0), 3, 0, "F6_E2M3");
    check_refused(tensor("t", AS_F8_E4M3, two, 2, 0), 4, AS_TORCH_1_6, "before 2.1");
    check_refused(tensor("t", AS_F4, odd, 1, 0), 2, 0, "pairs");
    check_refused(tensor("t", AS_F32, two, 2, 0), 16, 9, "version 9");

    as_torch_tensor both[] = {tensor("a", AS_F32, two, 2, 0), tensor("a", AS_F32, two, 2, 0)};
    as_torch_storage s[] = {{16, 0}, {4, 0}};
    as_file_layout l;
    ASSERT_FAILS(AS_INVALID, "twice", as_torch_layout(both, 2, s, 1, NULL, &l, &e_));
    both[1] = tensor("b", AS_I32, two, 2, 0);
    ASSERT_FAILS(AS_INVALID, "another dtype", as_torch_layout(both, 2, s, 1, NULL, &l, &e_));
    ASSERT_FAILS(AS_INVALID, "storage 1", as_torch_layout(both, 1, s, 2, NULL, &l, &e_));
    as_torch_options o = {.archive = "a/b"};
    ASSERT_FAILS(AS_INVALID, "a/b", as_torch_layout(both, 1, s, 1, &o, &l, &e_));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_dict),
        cmocka_unit_test(test_golden_ordered),
        cmocka_unit_test(test_golden_parameter),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_zip64),
        cmocka_unit_test(test_archive_names),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
