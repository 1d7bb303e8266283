/* SPDX-License-Identifier: Apache-2.0
 * DDUF files: the golden vector both ways, weights with a layout of their own inside, and the
 * rules.
 */
#include "torch_support.h"

#include "format/dduf.h"
#include "tensor/dtype.h"

static as_dduf_entry entry(const char *name, const char *bytes)
{
    return (as_dduf_entry){.name = name,
                           .name_length = strlen(name),
                           .bytes = bytes,
                           .size = bytes ? strlen(bytes) : 0};
}

static void test_golden_read(void **state)
{
    (void)state;
    as_buffer b;
    slurp(data_path("golden/dduf_py3112.dduf"), &b);
    as_source source = as_source_memory(b.data, b.size, "g.dduf");
    as_error e = AS_ERROR_INIT;
    as_zip z;
    ASSERT_CODE(AS_OK, as_dduf_read(&source, &z, &e), &e);
    assert_int_equal(as_zip_count(&z), 3);
    assert_string_equal(as_zip_name(&z, 0), "model_index.json");
    const as_zip_entry *weights = as_zip_find(&z, "vae/diffusion_pytorch_model.safetensors");
    assert_non_null(weights);
    /* What lies inside is read as a file of its own. */
    as_dduf_part part;
    as_source inside = as_dduf_entry_source(&part, &source, weights, "weights");
    as_table t;
    ASSERT_CODE(AS_OK, as_format_safetensors.read(&inside, &t, NULL, &e), &e);
    assert_true(as_table_count(&t) > 0);
    as_table_free(&t);
    char byte;
    ASSERT_FAILS(AS_FORMAT, "weights", inside.read(&inside, inside.size, &byte, 1, &e_));
    as_zip_free(&z);
    as_buffer_free(&b);
}

/* The vector is of CPython 3.11.2, which wrote other local headers than later ones do. */
static void test_golden_write(void **state)
{
    (void)state;
    as_buffer b;
    slurp(data_path("golden/dduf_py3112.dduf"), &b);
    as_source source = as_source_memory(b.data, b.size, "g.dduf");
    as_error e = AS_ERROR_INIT;
    as_zip z;
    ASSERT_CODE(AS_OK, as_dduf_read(&source, &z, &e), &e);
    for (int style = AS_ZIP_PYTHON; style <= AS_ZIP_PYTHON_3_11_3; style++) {
        as_dduf_entry entries[3];
        for (size_t i = 0; i < 3; i++) {
            const as_zip_entry *x = as_zip_entry_at(&z, i);
            entries[i] = (as_dduf_entry){.name = as_zip_name(&z, i),
                                         .name_length = x->name_length,
                                         .bytes = i < 2 ? b.data + x->begin : NULL,
                                         .size = x->end - x->begin};
        }
        as_file_layout l;
        ASSERT_CODE(AS_OK, as_dduf_layout(entries, 3, style, &l, &e), &e);
        assert_int_equal(l.file_size, b.size);
        assert_int_equal(entries[0].offset, 66);
        char *file = calloc(1, l.file_size);
        if (!file || !b.data) {
            free(file);
            fail_msg("no memory");
            return;
        }
        memcpy(file + entries[2].offset, b.data + entries[2].offset, entries[2].size);
        finish_file(&l, file);
        assert_int_equal(memcmp(file, b.data, b.size) == 0, style == AS_ZIP_PYTHON_3_11_3);
        free(file);
        as_file_layout_free(&l);
    }
    as_zip_free(&z);
    as_buffer_free(&b);
}

/* Weights laid out by the safetensors format: header and tensors find their places in the DDUF. */
static void test_inner_layout(void **state)
{
    (void)state;
    static const uint64_t shape[] = {3};
    as_format_tensor tensors[] = {
        {.name = "a", .name_length = 1, .shape = shape, .ndim = 1, .dtype = AS_U8, .bytes = 3},
        {.name = "b", .name_length = 1, .shape = shape, .ndim = 1, .dtype = AS_F32, .bytes = 12}};
    as_error e = AS_ERROR_INIT;
    as_file_layout inner;
    ASSERT_CODE(AS_OK, as_format_safetensors.layout(tensors, 2, NULL, 0, &inner, &e), &e);
    as_dduf_entry entries[] = {entry("model_index.json", "{\"vae\":[\"diffusers\",\"X\"]}"),
                               entry("vae/config.json", "{}"),
                               entry("vae/model.safetensors", NULL)};
    entries[2].file = &inner;
    as_file_layout l;
    ASSERT_CODE(AS_OK, as_dduf_layout(entries, 3, AS_ZIP_PYTHON, &l, &e), &e);
    assert_null(inner.literals);
    char *file = calloc(1, l.file_size);
    assert_non_null(file);
    for (size_t i = 0; i < 2; i++) {
        memset(file + entries[2].offset + tensors[i].offset, 'A' + (int)i, tensors[i].bytes);
    }
    finish_file(&l, file);
    as_source source = as_source_memory(file, l.file_size, "x.dduf");
    as_zip z;
    ASSERT_CODE(AS_OK, as_dduf_read(&source, &z, &e), &e);
    const as_zip_entry *weights = as_zip_find(&z, "vae/model.safetensors");
    assert_int_equal(weights->begin, entries[2].offset);
    as_buffer bytes = AS_BUFFER_INIT;
    ASSERT_CODE(AS_OK, as_zip_payload(&source, &z, weights, 4096, &bytes, &e), &e); /* the CRC */
    as_source inside = as_source_memory(bytes.data, bytes.size, "inside");
    as_table t;
    ASSERT_CODE(AS_OK, as_format_safetensors.read(&inside, &t, NULL, &e), &e);
    assert_int_equal(bytes.data[as_table_entry(&t, 0)->begin], 'B');
    assert_int_equal(bytes.data[as_table_entry(&t, 1)->begin], 'A');
    as_table_free(&t);
    as_buffer_free(&bytes);
    as_zip_free(&z);
    free(file);
    as_file_layout_free(&l);
}

#define INDEX "{\"vae\": 1, \"unet\": {\"a\": [1, 2]}, \"_class_name\": NaN}"

typedef struct rule {
    const char *index; /* NULL: none */
    const char *names[3];
    const char *part; /* of the error's text; NULL: good */
} rule;

static const rule rules[] = {
    {INDEX, {"vae/config.json", "vae/w.safetensors", "readme.txt"}, NULL},
    {INDEX, {"vae/scheduler_config.json", "vae/a.model"}, NULL},
    {INDEX, {"unet/tokenizer_config.json", "vae/preprocessor_config.json"}, NULL},
    {"{}", {"a.txt", "b.model", "c.json"}, NULL},
    {INDEX, {"vae/w.safetensors"}, "without config.json"},
    {INDEX, {"vae/w.safetensors", "unet/config.json"}, "\"vae/w.safetensors\" lies in a folder"},
    {INDEX, {"other/config.json"}, "does not name"},
    {"{\"a\": {\"other\": 1}}", {"other/config.json"}, "does not name"},
    {NULL, {"a.txt"}, "is missing"},
    {"[]", {"a.txt"}, "an array, not an object"},
    {"1", {"a.txt"}, "a number"},
    {"{", {"a.txt"}, "model_index.json"},
    {"{} x", {"a.txt"}, "model_index.json"},
    {"", {"a.txt"}, "model_index.json"},
    {INDEX, {"a/b/c.json"}, "deeper than one folder"},
    {INDEX, {"vae/config.json", "vae/w.bin"}, "is none of"},
    {INDEX, {"a.JSON"}, "is none of"},
    {INDEX, {"json"}, "is none of"},
    {INDEX, {"a\\b.json"}, "backslash"},
    {INDEX, {"../a.json"}, "elsewhere"},
    {INDEX, {"./a.json"}, "elsewhere"},
    {INDEX, {"/a.json"}, "elsewhere"},
    {INDEX, {"a.txt", "a.txt"}, NULL}, /* refused below */
};

/* Each rule when a file is laid out, and when one that breaks it is read. */
static void test_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const rule *r = &rules[i];
        as_dduf_entry entries[4];
        size_t count = 0;
        as_zip_writer w;
        as_file_layout l;
        as_error e = AS_ERROR_INIT;
        as_zip_begin(&w, AS_ZIP_PYTHON, 1);
        if (r->index) {
            entries[count++] = entry("model_index.json", r->index);
        }
        for (size_t k = 0; k < 3 && r->names[k]; k++) {
            entries[count++] = entry(r->names[k], "x");
        }
        for (size_t k = 0; k < count; k++) {
            assert_int_equal(as_zip_add_bytes(&w, entries[k].name, entries[k].name_length,
                                              entries[k].bytes, (size_t)entries[k].size, NULL, &e),
                             AS_OK);
        }
        bool twice = r->names[0] && r->names[1] && strcmp(r->names[0], r->names[1]) == 0;
        const char *part = twice ? "twice" : r->part;
        int code = as_dduf_layout(entries, count, AS_ZIP_PYTHON, &l, &e);
        if (code != (part ? AS_INVALID : AS_OK) || (part && !strstr(as_error_text(&e), part))) {
            fail_msg("rule %zu, writing: %s", i, as_error_text(&e));
        }
        as_file_layout_free(&l);
        as_error_clear(&e);
        ASSERT_CODE(AS_OK, as_zip_end(&w, &l, &e), &e);
        as_source source = as_source_memory(l.literals[0].bytes, l.file_size, "r.dduf");
        as_zip z;
        code = as_dduf_read(&source, &z, &e);
        /* The zip reader is the first to refuse some of them. */
        if (code != (part ? AS_FORMAT : AS_OK) ||
            (part && !strstr(as_error_text(&e), "r.dduf: "))) {
            fail_msg("rule %zu, reading: %s", i, as_error_text(&e));
        }
        as_zip_free(&z);
        as_file_layout_free(&l);
        as_error_clear(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_read),
        cmocka_unit_test(test_golden_write),
        cmocka_unit_test(test_inner_layout),
        cmocka_unit_test(test_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
