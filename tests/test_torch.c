/* SPDX-License-Identifier: Apache-2.0
 * The reader of torch's files: the golden vectors, pickles by hand, and what is refused.
 */
#include "torch_support.h"

#include "format/torch.h"
#include "format/zip_write.h"
#include "tensor/dtype.h"

static int number_of(const as_table *t, const char *name)
{
    for (size_t i = 0; i < as_table_count(t); i++) {
        if (strcmp(as_table_name(t, i), name) == 0) {
            return (int)i;
        }
    }
    fail_msg("no tensor %s", name);
    return 0;
}

/* Element (of floats) by index, as a reader of views gathers it. */
static float element(const as_table *t, const char *file, const char *name, uint64_t row,
                     uint64_t column)
{
    size_t i = (size_t)number_of(t, name);
    const uint64_t *strides = as_table_strides(t, i);
    uint64_t at = as_table_entry(t, i)->ndim == 2 ? row * strides[0] + column * strides[1]
                                                  : column * strides[0];
    float value;
    memcpy(&value, file + as_table_entry(t, i)->begin + at * sizeof value, sizeof value);
    return value;
}

static void open_golden(const char *name, as_buffer *b, as_table *t)
{
    char path[64];
    (void)snprintf(path, sizeof path, "golden/%s", name);
    slurp(data_path(path), b);
    as_source source = as_source_memory(b->data, b->size, name);
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_torch_read(&source, t, NULL, &e), &e);
}

static void test_shared(void **state)
{
    (void)state;
    as_buffer b;
    as_table t;
    open_golden("pt113_dict_shared.bin", &b, &t);
    assert_int_equal(as_table_count(&t), 8);
    for (uint64_t r = 0; r < 2; r++) {
        for (uint64_t c = 0; c < 3; c++) {
            assert_true(element(&t, b.data, "w", r, c) == (float)(r * 3 + c));
            assert_true(element(&t, b.data, "wt", c, r) == (float)(r * 3 + c));
            assert_true(r > 0 || element(&t, b.data, "s", 0, c) == (float)(3 + c));
        }
    }
    size_t w = (size_t)number_of(&t, "w");
    size_t wt = (size_t)number_of(&t, "wt");
    size_t s = (size_t)number_of(&t, "s");
    assert_true(as_table_is_dense(&t, w) && !as_table_is_dense(&t, wt) && as_table_is_dense(&t, s));
    /* One storage for the three of them. */
    assert_int_equal(as_table_storage(&t, w).begin, as_table_storage(&t, wt).begin);
    assert_int_equal(as_table_storage(&t, w).begin, as_table_storage(&t, s).begin);
    assert_int_equal(as_table_storage(&t, s).end, as_table_entry(&t, s)->end);
    static const struct {
        const char *name;
        int dtype;
        uint64_t bytes;
    } others[] = {{"e", AS_F32, 0},
                  {"sc", AS_I64, 8},
                  {"bf", AS_BF16, 6},
                  {"b", AS_BOOL, 2},
                  {"c", AS_C64, 16}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const as_entry *x = as_table_entry(&t, (size_t)number_of(&t, others[i].name));
        assert_int_equal(x->dtype, others[i].dtype);
        assert_int_equal(x->end - x->begin, others[i].bytes);
    }
    /* The order of the dict is that of the names. */
    assert_memory_equal(t.names.data, "w\0wt\0s\0e\0sc\0bf\0b\0c", 19);
    as_table_free(&t);
    as_buffer_free(&b);
}

static void test_legacy(void **state)
{
    (void)state;
    as_buffer b;
    as_table t;
    open_golden("pt113_legacy.bin", &b, &t);
    assert_int_equal(as_table_count(&t), 3);
    for (uint64_t c = 0; c < 3; c++) {
        assert_true(element(&t, b.data, "w", 1, c) == (float)(3 + c));
        assert_true(element(&t, b.data, "v", 0, c) == (float)(3 + c));
    }
    assert_int_equal(as_table_entry(&t, (size_t)number_of(&t, "b"))->dtype, AS_F16);
    as_table_free(&t);
    /* Cut anywhere it is refused; a byte more is told, as torch leaves it unread. */
    for (size_t size = 0; size < b.size; size++) {
        as_error e = AS_ERROR_INIT;
        as_source source = as_source_memory(b.data, size, "cut");
        assert_int_equal(as_torch_read(&source, &t, NULL, &e), AS_FORMAT);
        as_error_clear(&e);
    }
    assert_int_equal(as_buffer_char(&b, 'x', NULL), AS_OK);
    warnings w = {0};
    as_log log = {.call = count_warning, .user = &w};
    as_source source = as_source_memory(b.data, b.size, "longer");
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_torch_read(&source, &t, &log, &e), &e);
    assert_int_equal(w.count, 1);
    as_table_free(&t);
    as_buffer_free(&b);
}

static void test_others(void **state)
{
    (void)state;
    as_buffer b;
    as_table t;
    open_golden("pt113_linear_orderedDict_metadata.bin", &b, &t);
    assert_int_equal(as_table_count(&t), 2);
    (void)number_of(&t, "weight");
    as_table_free(&t);
    as_buffer_free(&b);
    open_golden("pt113_parameter.bin", &b, &t);
    assert_int_equal(as_table_count(&t), 1);
    assert_string_equal(as_table_name(&t, 0), "p");
    as_table_free(&t);
    as_buffer_free(&b);
}

/* ---- pickles by hand, in a zip file with storages "0" (24 bytes), "1" (0) and "2" (64) ---- */

typedef struct record {
    const char *name;
    const char *bytes;
    size_t size;
} record;

static int read_records(const record *records, size_t count, as_table *t, as_error *e)
{
    as_zip_writer w;
    as_file_layout l;
    as_zip_begin(&w, AS_ZIP_TORCH, 64);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(as_zip_add_bytes(&w, records[i].name, strlen(records[i].name),
                                          records[i].bytes, records[i].size, NULL, NULL),
                         AS_OK);
    }
    assert_int_equal(as_zip_end(&w, &l, NULL), AS_OK);
    as_source source = as_source_memory(l.literals[0].bytes, l.file_size, "m.bin");
    int code = as_torch_read(&source, t, NULL, e);
    as_file_layout_free(&l);
    return code;
}

static int read_pickle(const char *text, size_t size, as_table *t, as_error *e)
{
    static const char zeros[64];
    const record records[] = {{"m/data.pkl", text, size},
                              {"m/data/0", zeros, 24},
                              {"m/data/1", zeros, 0},
                              {"m/data/2", zeros, 64},
                              {"m/version", "3\n", 2}};
    return read_records(records, 5, t, e);
}

/* A dict {"w": tensor}: `rebuild` its name and end, `id` the persistent id, then offset, shape,
 * strides. */
#define V2 "ctorch._utils\n_rebuild_tensor_v2\n"
#define V3 "ctorch._utils\n_rebuild_tensor_v3\n"
#define ID(class, key, numel)                                                                      \
    "((X\7\0\0\0storagec" class "Storage\nX\1\0\0\0" key "X\3\0\0\0cpu" numel "tQ"
#define HOOKS                                                                                      \
    "\x89"                                                                                         \
    "ccollections\nOrderedDict\n)R"
#define BEGIN "\x80\2}X\1\0\0\0w"
#define END_2 HOOKS "tRs."
#define FLOATS ID("torch\nFloat", "0", "K\6")

typedef struct sample {
    const char *text;
    size_t size;
    int code;
    const char *part; /* of the error's text */
} sample;

#define GOOD(text)                                                                                 \
    {                                                                                              \
        text, sizeof(text) - 1, AS_OK, NULL                                                        \
    }
#define BAD(text, part)                                                                            \
    {                                                                                              \
        text, sizeof(text) - 1, AS_FORMAT, part                                                    \
    }
#define LIMIT(text, part)                                                                          \
    {                                                                                              \
        text, sizeof(text) - 1, AS_LIMIT, part                                                     \
    }

static const sample samples[] = {
    GOOD(BEGIN V2 FLOATS "K\0K\2K\3\x86K\3K\1\x86" END_2),
    GOOD(BEGIN V2 FLOATS "K\1K\5\x85K\1\x85" END_2),
    GOOD(BEGIN V2 FLOATS "K\0K\x7fK\x7f\x86K\0K\0\x86" END_2), /* expanded */
    GOOD(BEGIN V2 FLOATS "K\x09K\0\x85K\1\x85" END_2),         /* nothing of it is looked at */
    GOOD(BEGIN V2 FLOATS "K\0))" HOOKS "}tRs."),               /* v2 with empty metadata */
    GOOD(BEGIN V3 ID("torch.storage\nUntyped", "2", "K@") "K\0K\x10\x85K\1\x85" HOOKS
                                                          "ctorch\nuint32\ntRs."),
    GOOD(BEGIN V3 ID("torch.storage\nUntyped", "2", "K@") "K\0K\4K\4\x86K\4K\1\x86" HOOKS
                                                          "ctorch\nfloat4_e2m1fn_x2\ntRs."),
    GOOD("\x80\5\x95\x04\0\0\0\0\0\0\0}\x94."), /* protocol 5: FRAME, MEMOIZE */
    GOOD("\x80\4}\x94(\x8c\1a\x94K\1\x8c\1b\x94G?\xf0\0\0\0\0\0\0\x8c\1c\x94\x8c\1t\x94u."),
    GOOD("\x80\4\x8c\x0b"
         "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94."),
    GOOD("\x80\2}U\1aU\1bs."), /* strings of Python 2 */
    GOOD("\x80\2ccollections\nOrderedDict\n](](U\1aK\1e](U\1bK\2ee\x85R."), /* of Python 2 */
};

static const sample bad_samples[] = {
    /* names and calls */
    BAD("\x80\2cos\nsystem\nX\6\0\0\0rm -rf\x85R.", "\"system\" of module \"os\""),
    BAD("\x80\2cbuiltins\neval\nX\1\0\0\0"
        "1\x85R.",
        "\"eval\""),
    BAD("\x80\2c__builtin__\nexec\n.", "\"exec\""),
    BAD("\x80\4\x8c\5posix\x94\x8c\6system\x94\x93\x94.", "\"posix\""),
    BAD("\x80\2ctorch.storage\n_load_from_bytes\nU\1x\x85R.", "_load_from_bytes"),
    BAD("\x80\2ctorch._utils\n_rebuild_sparse_tensor\n.", "_rebuild_sparse_tensor"),
    BAD("\x80\2cnumpy.core.multiarray\nscalar\n.", "scalar"),
    BAD("\x80\2ctorch\nSize\nh\0R.", "memo"),
    BAD("\x80\2ctorch\nFloatStorage\n)R.", "FloatStorage, which is no function"),
    BAD("\x80\2K\1)R.", "it calls a number"),
    BAD("\x80\2ccollections\nOrderedDict\n)R}NbNb.", "sets a state"),
    BAD("\x80\2ccollections\nOrderedDict\n)\x81.", "0x81"),
    BAD("\x80\2(ios\nsystem\n.", "0x69"),
    BAD("\x80\2(cos\nsystem\no.", "\"system\""),
    BAD("\x80\2P1\n.", "0x50"),
    BAD("\x80\2\x82\1.", "0x82"), /* EXT1 */
    /* persistent ids */
    BAD("\x80\2K\1Q.", "no storage"),
    BAD("\x80\2(X\6\0\0\0modulectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\6tQ.", "no storage"),
    BAD("\x80\2(X\7\0\0\0storageccollections\nOrderedDict\nX\1\0\0\0000X\3\0\0\0cpuK\6tQ.",
        "no storage"),
    BAD(BEGIN V2 ID("torch\nFloat", "9", "K\6") "K\0))" END_2, "no record for storage \"9\""),
    BAD(BEGIN V2 ID("torch\nFloat", "0", "K\7") "K\0))" END_2, "7 elements of FloatStorage"),
    BAD(BEGIN V2 ID("torch\nDouble", "0", "K\6") "K\0))" END_2, "24 bytes"),
    BAD(BEGIN V2 ID("torch\nFloat", "0", "\x8a\x08\0\0\0\0\0\0\0\x40") "K\0))" END_2, "24 bytes"),
    BAD(BEGIN V2 ID("torch\nFloat", "0", "J\xff\xff\xff\xff") "K\0))" END_2, "no storage"),
    BAD("\x80\2(" ID("torch\nFloat", "0", "K\6") ID("torch\nInt", "0", "K\6") ".", "two dtypes"),
    /* tensors */
    BAD(BEGIN V2 FLOATS "K\1K\2K\3\x86K\3K\1\x86" END_2, "\"w\": its elements reach past"),
    BAD(BEGIN V2 FLOATS "K\0K\7\x85K\1\x85" END_2, "reach past the end"),
    BAD(BEGIN V2 FLOATS "K\0K\2K\2\x86K\5K\1\x86" END_2, "reach past the end"),
    BAD(BEGIN V2 FLOATS "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\1\x85K\1\x85" END_2,
        "reach past"),
    BAD(BEGIN V2 FLOATS "K\0K\3\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85" END_2,
        "reach past"),
    BAD(BEGIN V2 FLOATS "K\0J\xff\xff\xff\xff\x85K\1\x85" END_2, "wrong things"),
    BAD(BEGIN V2 FLOATS "K\0K\2\x85J\xff\xff\xff\xff\x85" END_2, "wrong things"),
    BAD(BEGIN V2 FLOATS "K\0\x8a\x08\0\0\0\0\0\0\0\x40\x85K\0\x85" END_2, "2^61"),
    BAD(BEGIN V2 FLOATS "K\0K\2\x85)" END_2, "wrong things"),
    BAD(BEGIN V2 FLOATS "K\0]])" END_2, "wrong things"),
    BAD(BEGIN V2 "(NK\0))" END_2, "wrong things"),
    BAD(BEGIN V2 FLOATS "K\0))" HOOKS "}X\4\0\0\0conj\x88stRs.", "resolve_conj"),
    BAD(BEGIN V3 ID("torch.storage\nUntyped", "2", "K@") "K\0))" HOOKS "NtRs.", "no dtype"),
    BAD(BEGIN V2 ID("torch.storage\nUntyped", "2", "K@") "K\0))" END_2, "no dtype"),
    LIMIT(BEGIN V2 ID("torch\nComplexDouble", "2", "K\4") "K\0))" END_2, "ComplexDoubleStorage"),
    BAD(BEGIN V3 ID("torch.storage\nUntyped", "2", "K@") "K\0))" HOOKS
                                                         "ctorch\nfloat4_e2m1fn_x2\ntRs.",
        "float4"),
    /* dicts */
    BAD("\x80\2}(X\1\0\0\0w" V2 FLOATS "K\0))" HOOKS "tRX\1\0\0\0w" V2 FLOATS "K\0))" HOOKS "tRu.",
        "two tensors have the name \"w\""),
    BAD("\x80\2}X\1\0\0\0\xff" V2 FLOATS "K\0))" END_2, "UTF-8"),
    BAD("\x80\2})N"
        "s.",
        "a tuple for a key"),
    BAD("\x80\2K\1.", "a number, not a dict"),
    BAD("\x80\2" V2 FLOATS "K\0))" HOOKS "tR.", "a tensor, not a dict"),
    /* things without end */
    LIMIT("\x80\2]q\0h\0a.", "64 levels"),
    LIMIT("\x80\2}q\0X\1\0\0\0ah\0s.", "64 levels"),
    /* a stack that is not there, text that is not there */
    BAD("\x80\2.", "one value"),
    BAD("\x80\2NN.", "one value"),
    BAD("\x80\2(N.", "one value"),
    BAD("\x80\2s.", "more from its stack"),
    BAD("\x80\2}N(s.", "more from its stack"),
    BAD("\x80\2Nt.", "a mark"),
    BAD("\x80\2)Na.", "a tuple as if that were a list"),
    BAD("\x80\2}(Nu.", "a key without a value"),
    BAD("\x80\2(Nd.", "odd number"),
    BAD("\x80\2\x86.", "more from its stack"),
    BAD("\x80\2R.", "more from its stack"),
    BAD("\x80\2h\0.", "memo"),
    BAD("\x80\2Nr\xff\xff\xff\xff.", "memo number"),
    BAD("\x80\2q\0.", "more from its stack"),
    BAD("\x80\2X\xff\xff\xff\xffx.", "cut short"),
    BAD("\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xffx.", "cut short"),
    BAD("\x80\2\x8b\xff\xff\xff\xff.", "cut short"),
    BAD("\x80\2\x8a\xff.", "cut short"),
    BAD("\x80\2ctorch", "cut short"),
    BAD("\x80\2N", "cut short"),
    BAD("\x80\2K", "cut short"),
    BAD("", "cut short"),
    BAD("\x80\1N.", "protocol 1"),
    BAD("\x80\6N.", "protocol 6"),
    BAD("N.", "no pickle of protocol 2"),
    BAD("\x80\2}.N", "bytes follow"),
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        as_table t;
        as_error e = AS_ERROR_INIT;
        int code = read_pickle(samples[i].text, samples[i].size, &t, &e);
        if (code != AS_OK) {
            fail_msg("good sample %zu: %s", i, as_error_text(&e));
        }
        as_table_free(&t);
    }
}

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_samples / sizeof bad_samples[0]; i++) {
        const sample *s = &bad_samples[i];
        as_table t;
        as_error e = AS_ERROR_INIT;
        int code = read_pickle(s->text, s->size, &t, &e);
        if (code != s->code || !strstr(as_error_text(&e), s->part) ||
            !strstr(as_error_text(&e), "m.bin: ")) {
            fail_msg("sample %zu: %s, \"%s\" not in: %s", i, as_code_name(code), s->part,
                     as_error_text(&e));
        }
        assert_int_equal(as_table_count(&t), 0);
        as_error_clear(&e);
    }
}

/* Lists of lists of lists, each of which holds the one before ten times: 10^8 values of 200 bytes.
 * */
static void test_bomb(void **state)
{
    (void)state;
    as_buffer b = AS_BUFFER_INIT;
    assert_int_equal(as_buffer_append(&b, "\x80\2]q\0", 5, NULL), AS_OK);
    for (int level = 0; level < 8; level++) {
        assert_int_equal(as_buffer_append(&b, "](", 2, NULL), AS_OK);
        for (int i = 0; i < 10; i++) {
            char get[] = {'h', (char)level};
            assert_int_equal(as_buffer_append(&b, get, 2, NULL), AS_OK);
        }
        char put[] = {'e', 'q', (char)(level + 1)};
        assert_int_equal(as_buffer_append(&b, put, 3, NULL), AS_OK);
    }
    /* What is left on the stack becomes a tuple, of which the last is the large one. */
    as_buffer text = AS_BUFFER_INIT;
    assert_int_equal(as_buffer_append(&text, "\x80\2(", 3, NULL), AS_OK);
    assert_int_equal(as_buffer_append(&text, b.data + 2, b.size - 2, NULL), AS_OK);
    assert_int_equal(as_buffer_append(&text, "t.", 2, NULL), AS_OK);
    as_table t;
    ASSERT_FAILS(AS_LIMIT, "16 million", read_pickle(text.data, text.size, &t, &e_));
    as_buffer_free(&text);
    as_buffer_free(&b);
}

static void test_metadata(void **state)
{
    (void)state;
    static const char text[] = "\x80\4}(\x8c\5epoch\x4b\7\x8c\4name\x8c\3gpt\x8c\2lrG?"
                               "\xe0\0\0\0\0\0\0\x8c\1n\x4e\x8c\2ok\x88\x8c\1l]"
                               "(K\1\x8a\1\xff\x8a\x09\0\0\0\0\0\0\0\0\1eu.";
    as_table t;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, read_pickle(text, sizeof text - 1, &t, &e), &e);
    static const char *const pairs[][2] = {{"epoch", "7"}, {"name", "gpt"}, {"lr", "0.5"},
                                           {"ok", "true"}, {"l.0", "1"},    {"l.1", "-1"}};
    assert_int_equal(t.metadata.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(t.metadata.items[i].key, pairs[i][0]);
        assert_string_equal(t.metadata.items[i].value, pairs[i][1]);
    }
    as_table_free(&t);
}

static void test_archives(void **state)
{
    (void)state;
    as_table t;
#define RECORD(name, bytes)                                                                        \
    {                                                                                              \
        name, bytes, sizeof(bytes) - 1                                                             \
    }
    static const struct {
        record records[3];
        int code;
        const char *part;
    } cases[] = {
        {{RECORD("m/data.pkl", "\x80\2}."), RECORD("m/.data/version", "10"), RECORD("m/x", "")},
         AS_OK,
         NULL},
        {{RECORD("m/data.pkl", "\x80\2}."), RECORD("m/byteorder", "little"),
          RECORD("m/version", "1\n")},
         AS_OK,
         NULL},
        {{RECORD("m/data.pkl", "\x80\2}."), RECORD("m/byteorder", "big"), RECORD("m/version", "3")},
         AS_FORMAT,
         "says \"big\""},
        {{RECORD("m/data.pkl", "\x80\2}."), RECORD("m/x", ""), RECORD("m/version", "11")},
         AS_FORMAT,
         "version"},
        {{RECORD("m/data.pkl", "\x80\2}."), RECORD("m/x", ""), RECORD("m/version", "")},
         AS_FORMAT,
         "version"},
        {{RECORD("m/data.pkl", "\x80\2}."), RECORD("m/x", ""), RECORD("m/y", "")},
         AS_FORMAT,
         "version"},
        {{RECORD("m/x", ""), RECORD("n/data.pkl", "\x80\2}."), RECORD("m/version", "3")},
         AS_FORMAT,
         "no data.pkl"},
        {{RECORD("x", ""), RECORD("m/data.pkl", "\x80\2}."), RECORD("m/version", "3")},
         AS_FORMAT,
         "in a folder"},
        {{RECORD("m/data.pkl", "\x80\2}."), RECORD("m/constants.pkl", "\x80\2)."),
          RECORD("m/version", "3")},
         AS_FORMAT,
         "TorchScript"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        as_error e = AS_ERROR_INIT;
        int code = read_records(cases[i].records, 3, &t, &e);
        if (code != cases[i].code || (cases[i].part && !strstr(as_error_text(&e), cases[i].part))) {
            fail_msg("case %zu: %s", i, as_error_text(&e));
        }
        as_table_free(&t);
        as_error_clear(&e);
    }
    char tar[600] = {0};
    memcpy(tar + 257, (const char[]){'u', 's', 't', 'a', 'r'}, 5);
    as_source source = as_source_memory(tar, sizeof tar, "old");
    ASSERT_FAILS(AS_FORMAT, "a tar file", as_torch_read(&source, &t, NULL, &e_));
    source = as_source_memory("GGUF", 4, "other");
    ASSERT_FAILS(AS_FORMAT, "not a file of torch.save", as_torch_read(&source, &t, NULL, &e_));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared),   cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_others),   cmocka_unit_test(test_good),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_metadata), cmocka_unit_test(test_archives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
