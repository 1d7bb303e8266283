/* SPDX-License-Identifier: Apache-2.0
 * The manifest: what is written comes back, parts of other saves stay, damage is found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "commit/manifest.h"
#include "commit/seal.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const as_manifest_file model_files[] = {
    {.name = "model-00001-of-00002.safetensors", .size = 5000000000, .role = AS_ROLE_SHARD},
    {.name = "model-00002-of-00002.safetensors", .size = 8, .role = AS_ROLE_SHARD},
    {.name = "model.safetensors.index.json", .size = 300, .role = AS_ROLE_INDEX},
    {.name = "config.json", .size = 20, .role = AS_ROLE_EXTRA},
};
static const int64_t model_writers[] = {4000000000, 0, 1000000008};

static const as_manifest_part model = {
    .part = "model",
    .has_step = true,
    .step = -7,
    .pattern = "model{suffix}.safetensors",
    .index = "model.safetensors.index.json",
    .created = "2025-01-31T12:00:00Z",
    .world_size = 3,
    .block_size = 4194304,
    .checksum = "none",
    .total_size = 4999999000,
    .tensor_count = 12,
    .files = model_files,
    .file_count = COUNT(model_files),
    .writers = model_writers,
    .writer_count = COUNT(model_writers),
};

static const as_manifest_file optimizer_files[] = {
    {.name = "optimizer.safetensors", .size = 100, .role = AS_ROLE_SHARD},
    {.name = "config.json", .size = 33, .role = AS_ROLE_EXTRA},
};

static const as_manifest_part optimizer = {
    .part = "optimizer",
    .pattern = "optimizer{suffix}.safetensors",
    .created = "2025-02-01T12:00:00Z",
    .world_size = 1,
    .block_size = 4096,
    .checksum = "none",
    .total_size = 80,
    .tensor_count = 1,
    .files = optimizer_files,
    .file_count = COUNT(optimizer_files),
};

static void check_part(const as_manifest_part *a, const as_manifest_part *b)
{
    assert_non_null(a);
    assert_string_equal(a->part, b->part);
    assert_int_equal(a->has_step, b->has_step);
    assert_true(a->step == b->step);
    assert_string_equal(a->pattern, b->pattern);
    assert_int_equal(a->index == NULL, b->index == NULL);
    if (a->index) {
        assert_string_equal(a->index, b->index);
    }
    assert_string_equal(a->created, b->created);
    assert_string_equal(a->checksum, b->checksum);
    assert_true(a->world_size == b->world_size && a->block_size == b->block_size &&
                a->total_size == b->total_size && a->tensor_count == b->tensor_count);
    assert_int_equal(a->file_count, b->file_count);
    for (size_t i = 0; i < a->file_count; i++) {
        assert_string_equal(a->files[i].name, b->files[i].name);
        assert_true(a->files[i].size == b->files[i].size && a->files[i].role == b->files[i].role);
    }
    assert_int_equal(a->writer_count, b->writer_count);
    for (size_t i = 0; i < a->writer_count; i++) {
        assert_true(a->writers[i] == b->writers[i]);
    }
}

static void parse(const as_buffer *bytes, as_manifest *m)
{
    as_error e = AS_ERROR_INIT;
    int code = as_manifest_from_bytes(bytes->data, bytes->size, "manifest", m, &e);
    if (code != AS_OK) {
        print_message("%s\n", as_error_text(&e));
    }
    assert_int_equal(code, AS_OK);
}

static int warnings;

static void count_warning(int level, const char *text, void *user)
{
    (void)text;
    (void)user;
    warnings += level == AS_LOG_WARNING;
}

static const as_log counting = {.call = count_warning};

static void make_bytes(const as_manifest_part *part, const as_buffer *old, const as_names *gone,
                       as_buffer *out)
{
    warnings = 0;
    assert_int_equal(as_manifest_to_bytes(part, "1.2.3", old ? old->data : NULL,
                                          old ? old->size : 0, gone, &counting, out, NULL),
                     AS_OK);
}

static void test_round_trip(void **state)
{
    (void)state;
    as_buffer bytes = AS_BUFFER_INIT;
    as_buffer again = AS_BUFFER_INIT;
    as_manifest m;
    make_bytes(&model, NULL, NULL, &bytes);
    make_bytes(&model, NULL, NULL, &again);
    assert_int_equal(bytes.size, again.size);
    assert_memory_equal(bytes.data, again.data, bytes.size);
    parse(&bytes, &m);
    assert_string_equal(m.version, "1.2.3");
    assert_int_equal(m.part_count, 1);
    check_part(as_manifest_find(&m, "model"), &model);
    assert_null(as_manifest_find(&m, "optimizer"));
    as_manifest_free(&m);
    as_buffer_free(&bytes);
    as_buffer_free(&again);
}

static void test_merge(void **state)
{
    (void)state;
    as_buffer first = AS_BUFFER_INIT;
    as_buffer both = AS_BUFFER_INIT;
    as_buffer third = AS_BUFFER_INIT;
    as_manifest m;
    make_bytes(&model, NULL, NULL, &first);
    make_bytes(&optimizer, &first, NULL, &both);
    assert_int_equal(warnings, 0);
    parse(&both, &m);
    assert_int_equal(m.part_count, 2);
    check_part(as_manifest_find(&m, "optimizer"), &optimizer);
    /* The shared config.json is the new one for both. */
    const as_manifest_part *old = as_manifest_find(&m, "model");
    assert_non_null(old);
    assert_true(old->files[3].size == 33 && old->files[0].size == 5000000000);
    as_manifest_free(&m);

    /* The model again, in other files: the optimizer stays. */
    as_manifest_part later = model;
    later.step = 8;
    later.files = model_files + 1;
    later.file_count = 1;
    later.index = NULL;
    make_bytes(&later, &both, NULL, &third);
    assert_int_equal(warnings, 0);
    parse(&third, &m);
    assert_int_equal(m.part_count, 2);
    check_part(as_manifest_find(&m, "model"), &later);
    check_part(as_manifest_find(&m, "optimizer"), &optimizer);
    as_manifest_free(&m);
    as_buffer_free(&first);
    as_buffer_free(&both);
    as_buffer_free(&third);
}

/* Entries whose data this save removes or replaces do not stay. */
static void test_lost_parts(void **state)
{
    (void)state;
    as_buffer first = AS_BUFFER_INIT;
    as_buffer second = AS_BUFFER_INIT;
    as_manifest m;
    as_names gone = AS_NAMES_INIT;
    make_bytes(&model, NULL, NULL, &first);
    assert_int_equal(as_names_add(&gone, "z", NULL), AS_OK);
    assert_int_equal(as_names_add(&gone, "model-00002-of-00002.safetensors", NULL), AS_OK);
    make_bytes(&optimizer, &first, &gone, &second);
    assert_int_equal(warnings, 1);
    parse(&second, &m);
    assert_int_equal(m.part_count, 1);
    check_part(&m.parts[0], &optimizer);
    as_manifest_free(&m);
    as_names_free(&gone);
    as_buffer_free(&second);

    as_manifest_part thief = optimizer;
    thief.files = model_files;
    thief.file_count = 1;
    make_bytes(&thief, &first, NULL, &second);
    assert_int_equal(warnings, 1);
    parse(&second, &m);
    assert_int_equal(m.part_count, 1);
    as_manifest_free(&m);
    as_buffer_free(&first);
    as_buffer_free(&second);
}

static void test_unreadable_old(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{}", "garbage", "{\"allshard_manifest\":1}"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        as_buffer bytes = AS_BUFFER_INIT;
        as_manifest m;
        warnings = 0;
        assert_int_equal(as_manifest_to_bytes(&model, "1", texts[i], strlen(texts[i]), NULL,
                                              &counting, &bytes, NULL),
                         AS_OK);
        assert_int_equal(warnings, 1);
        parse(&bytes, &m);
        check_part(&m.parts[0], &model);
        as_manifest_free(&m);
        as_buffer_free(&bytes);
    }
}

/* What a later version adds to an entry is kept when another part is saved. */
static void test_unknown_keys_stay(void **state)
{
    (void)state;
    as_buffer first = AS_BUFFER_INIT;
    as_buffer changed = AS_BUFFER_INIT;
    as_buffer both = AS_BUFFER_INIT;
    make_bytes(&model, NULL, NULL, &first);
    json_t *root;
    assert_int_equal(as_unseal(first.data, first.size, "m", &root, NULL), AS_OK);
    json_t *part = json_object_get(json_object_get(root, "parts"), "model");
    assert_int_equal(json_object_set_new(part, "blocks", json_pack("[i,i]", 1, 2)), 0);
    assert_int_equal(as_seal(root, &changed, NULL), AS_OK);
    json_decref(root);
    make_bytes(&optimizer, &changed, NULL, &both);
    assert_int_equal(warnings, 0);
    assert_int_equal(as_unseal(both.data, both.size, "m", &root, NULL), AS_OK);
    part = json_object_get(json_object_get(root, "parts"), "model");
    assert_int_equal(json_array_size(json_object_get(part, "blocks")), 2);
    json_decref(root);
    as_buffer_free(&first);
    as_buffer_free(&changed);
    as_buffer_free(&both);
}

static void test_damage(void **state)
{
    (void)state;
    as_buffer bytes = AS_BUFFER_INIT;
    as_manifest m;
    make_bytes(&model, NULL, NULL, &bytes);
    for (size_t at = 0; at < bytes.size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[at] = (char)(bytes.data[at] ^ (1 << bit));
            assert_int_equal(as_manifest_from_bytes(bytes.data, bytes.size, "M", &m, NULL),
                             AS_FORMAT);
            bytes.data[at] = (char)(bytes.data[at] ^ (1 << bit));
        }
    }
    for (size_t size = 0; size + 1 < bytes.size; size++) {
        assert_int_equal(as_manifest_from_bytes(bytes.data, size, "M", &m, NULL), AS_FORMAT);
    }
    as_buffer_free(&bytes);
}

/* Every field in turn is left out or of the wrong kind: refused, by name. */
static void test_fields(void **state)
{
    (void)state;
    static const char *const fields[] = {"pattern",    "index",        "created",
                                         "world_size", "block_size",   "checksum",
                                         "total_size", "tensor_count", "files"};
    as_buffer bytes = AS_BUFFER_INIT;
    make_bytes(&model, NULL, NULL, &bytes);
    for (size_t i = 0; i < 2 * COUNT(fields) + 6; i++) {
        json_t *root;
        as_manifest m;
        const char *field = fields[i % COUNT(fields)];
        assert_int_equal(as_unseal(bytes.data, bytes.size, "m", &root, NULL), AS_OK);
        json_t *part = json_object_get(json_object_get(root, "parts"), "model");
        if (i < COUNT(fields)) {
            assert_int_equal(json_object_del(part, field), 0);
        } else if (i < 2 * COUNT(fields)) {
            assert_int_equal(json_object_set_new(part, field, json_true()), 0);
        } else {
            static const struct {
                const char *field, *json;
            } bad[] = {
                {"files", "[{\"name\":\"../a\",\"size\":1,\"role\":\"shard\"}]"},
                {"files", "[{\"name\":\"a\",\"size\":1,\"role\":\"other\"}]"},
                {"files", "[{\"name\":\"a\",\"size\":-1,\"role\":\"shard\"}]"},
                {"writers", "[1, \"2\"]"},
                {"index", "\"../model.safetensors.index.json\""},
                {"engine", "7"},
            };
            size_t k = i - 2 * COUNT(fields);
            field = bad[k].field;
            json_t *value = json_loads(bad[k].json, JSON_DECODE_ANY, NULL);
            assert_int_equal(json_object_set_new(part, field, value), 0);
        }
        as_buffer changed = AS_BUFFER_INIT;
        assert_int_equal(as_seal(root, &changed, NULL), AS_OK);
        json_decref(root);
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_manifest_from_bytes(changed.data, changed.size, "M", &m, &e),
                         AS_FORMAT);
        assert_non_null(strstr(as_error_text(&e), field));
        as_error_clear(&e);
        as_buffer_free(&changed);
    }
    as_buffer_free(&bytes);
}

/* A part whose files have checksums: blocks of 16 bytes. */
static const uint64_t three_sums[] = {0, UINT64_MAX, 0x0123456789abcdef};
static const uint64_t no_sums[] = {0};

static as_manifest_part summed_part(as_manifest_file *files)
{
    files[0] = (as_manifest_file){
        .name = "ema.safetensors", .size = 33, .sums = three_sums, .sum_count = 3};
    files[1] = (as_manifest_file){.name = "empty.json", .role = AS_ROLE_EXTRA, .sums = no_sums};
    files[2] = (as_manifest_file){.name = "config.json",
                                  .size = 20,
                                  .role = AS_ROLE_EXTRA,
                                  .sums = three_sums,
                                  .sum_count = 2};
    as_manifest_part part = optimizer;
    part.part = "ema";
    part.pattern = "ema{suffix}.safetensors";
    part.block_size = 16;
    part.checksum = "xxh3-64";
    part.engine = "uring";
    part.engine_reason = "ext4: \"fast\"";
    part.files = files;
    part.file_count = 3;
    return part;
}

static void test_sums(void **state)
{
    (void)state;
    as_manifest_file files[3];
    as_manifest_part part = summed_part(files);
    as_buffer bytes = AS_BUFFER_INIT;
    as_manifest m;
    make_bytes(&part, NULL, NULL, &bytes);
    parse(&bytes, &m);
    const as_manifest_part *p = as_manifest_find(&m, "ema");
    check_part(p, &part);
    assert_string_equal(p->engine, "uring");
    assert_string_equal(p->engine_reason, "ext4: \"fast\"");
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(p->files[i].sums);
        assert_int_equal(p->files[i].sum_count, files[i].sum_count);
        for (size_t k = 0; k < files[i].sum_count; k++) {
            assert_true(p->files[i].sums[k] == files[i].sums[k]);
        }
    }
    as_manifest_free(&m);
    /* Another part brings the shared file anew, in other blocks: its sums hold no more there. */
    as_buffer both = AS_BUFFER_INIT;
    make_bytes(&optimizer, &bytes, NULL, &both);
    parse(&both, &m);
    p = as_manifest_find(&m, "ema");
    assert_non_null(p);
    assert_true(p->files[2].size == 33 && !p->files[2].sums);
    assert_int_equal(p->files[0].sum_count, 3);
    as_manifest_free(&m);
    as_buffer_free(&both);
    as_buffer_free(&bytes);
}

/* Checksums that are no text, no digits, too few or too many: refused. */
static void test_bad_sums(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "7",
        "null",
        "\"\"",
        "\"0123456789abcdef0123456789abcdef\"",
        "\"0123456789abcdef0123456789abcdef0123456789abcde\"",
        "\"0123456789abcdef0123456789abcdef0123456789abcdeg\"",
        "\"0123456789ABCDEF0123456789abcdef0123456789abcdef\"",
        "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\""};
    as_manifest_file files[3];
    as_manifest_part part = summed_part(files);
    as_buffer bytes = AS_BUFFER_INIT;
    make_bytes(&part, NULL, NULL, &bytes);
    for (size_t i = 0; i <= COUNT(bad); i++) {
        json_t *root;
        as_manifest m;
        assert_int_equal(as_unseal(bytes.data, bytes.size, "m", &root, NULL), AS_OK);
        json_t *object = json_object_get(json_object_get(root, "parts"), "ema");
        json_t *file = json_array_get(json_object_get(object, "files"), 0);
        if (i < COUNT(bad)) {
            json_t *value = json_loads(bad[i], JSON_DECODE_ANY, NULL);
            assert_int_equal(json_object_set_new(file, "checksums", value), 0);
        } else { /* blocks of no bytes */
            assert_int_equal(json_object_set_new(object, "block_size", json_integer(0)), 0);
        }
        as_buffer changed = AS_BUFFER_INIT;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_seal(root, &changed, NULL), AS_OK);
        json_decref(root);
        assert_int_equal(as_manifest_from_bytes(changed.data, changed.size, "M", &m, &e),
                         AS_FORMAT);
        assert_non_null(strstr(as_error_text(&e), "checksums"));
        as_error_clear(&e);
        as_buffer_free(&changed);
    }
    as_buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_lost_parts),
        cmocka_unit_test(test_unreadable_old),
        cmocka_unit_test(test_unknown_keys_stay),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_bad_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
