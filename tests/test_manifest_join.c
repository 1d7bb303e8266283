/* SPDX-License-Identifier: Apache-2.0
 * One manifest for the parts of a checkpoint, and what it tells of the whole.
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

static const uint64_t sums_a[] = {1};
static const uint64_t sums_b[] = {2};

/* A manifest of one part with a shard of its own and config.json. */
static as_manifest make(const char *part, const char *shard, int64_t config_size,
                        const uint64_t *config_sums)
{
    const as_manifest_file files[] = {
        {.name = shard, .size = 100, .role = AS_ROLE_SHARD},
        {.name = "config.json",
         .size = config_size,
         .role = AS_ROLE_EXTRA,
         .sums = config_sums,
         .sum_count = config_sums ? 1 : 0},
    };
    const as_manifest_part p = {.part = part,
                                .pattern = "x{suffix}.safetensors",
                                .created = "2026-01-31T12:00:00Z",
                                .world_size = 1,
                                .block_size = 4096,
                                .checksum = "xxh3-64",
                                .files = files,
                                .file_count = 2};
    as_buffer bytes = AS_BUFFER_INIT;
    as_manifest m;
    assert_int_equal(as_manifest_to_bytes(&p, "1", NULL, 0, NULL, NULL, &bytes, NULL), AS_OK);
    assert_int_equal(as_manifest_from_bytes(bytes.data, bytes.size, "m", &m, NULL), AS_OK);
    as_buffer_free(&bytes);
    return m;
}

static int join_two(as_manifest *a, as_manifest *b, const json_t *checkpoint, as_buffer *out)
{
    const as_manifest *const all[] = {a, b};
    as_error e = AS_ERROR_INIT;
    int code = as_manifest_join(all, 2, "2", checkpoint, out, &e);
    assert_int_equal(code == AS_OK, e.text == NULL);
    as_error_clear(&e);
    as_manifest_free(a);
    as_manifest_free(b);
    return code;
}

static void test_join(void **state)
{
    (void)state;
    as_manifest a = make("model", "model.safetensors", 5, sums_a);
    as_manifest b = make("ema", "ema.safetensors", 5, sums_a);
    json_t *checkpoint = json_pack("{s:i,s:[i]}", "step", 500, "new member", 1);
    as_buffer bytes = AS_BUFFER_INIT;
    as_manifest m;
    assert_int_equal(join_two(&a, &b, checkpoint, &bytes), AS_OK);
    assert_int_equal(as_manifest_from_bytes(bytes.data, bytes.size, "m", &m, NULL), AS_OK);
    assert_int_equal(m.part_count, 2);
    assert_string_equal(m.version, "2");
    assert_string_equal(m.parts[0].part, "model");
    assert_string_equal(m.parts[1].files[0].name, "ema.safetensors");
    assert_true(m.parts[1].files[1].sums[0] == 1);
    assert_true(json_equal(m.checkpoint, checkpoint));
    as_manifest_free(&m);

    /* A plain save into the folder leaves what the whole tells of itself. */
    as_manifest_file file = {.name = "model.safetensors", .size = 7, .role = AS_ROLE_SHARD};
    const as_manifest_part part = {.part = "model",
                                   .pattern = "model{suffix}.safetensors",
                                   .created = "2026-01-31T12:00:00Z",
                                   .checksum = "none",
                                   .files = &file,
                                   .file_count = 1};
    as_buffer again = AS_BUFFER_INIT;
    assert_int_equal(
        as_manifest_to_bytes(&part, "3", bytes.data, bytes.size, NULL, NULL, &again, NULL), AS_OK);
    assert_int_equal(as_manifest_from_bytes(again.data, again.size, "m", &m, NULL), AS_OK);
    assert_int_equal(m.part_count, 2);
    assert_true(json_equal(m.checkpoint, checkpoint));
    as_manifest_free(&m);
    as_buffer_free(&again);
    as_buffer_free(&bytes);
    json_decref(checkpoint);
}

static void test_none(void **state)
{
    (void)state;
    as_buffer bytes = AS_BUFFER_INIT;
    as_manifest m;
    assert_int_equal(as_manifest_join(NULL, 0, "2", NULL, &bytes, NULL), AS_OK);
    assert_int_equal(as_manifest_from_bytes(bytes.data, bytes.size, "m", &m, NULL), AS_OK);
    assert_int_equal(m.part_count, 0);
    assert_null(m.checkpoint);
    as_manifest_free(&m);
    as_buffer_free(&bytes);
}

/* What cannot lie in one folder. */
static void test_clashes(void **state)
{
    (void)state;
    const struct {
        const char *part;
        const char *shard;
        int64_t config_size;
        const uint64_t *sums;
        int code;
    } cases[] = {
        {"ema", "ema.safetensors", 5, sums_a, AS_OK},
        {"ema", "ema.safetensors", 5, NULL, AS_OK}, /* nothing speaks against it */
        {"ema", "ema.safetensors", 5, sums_b, AS_INVALID},
        {"ema", "ema.safetensors", 6, sums_a, AS_INVALID},
        {"ema", "model.safetensors", 5, sums_a, AS_INVALID},
        {"model", "ema.safetensors", 5, sums_a, AS_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        as_manifest a = make("model", "model.safetensors", 5, sums_a);
        as_manifest b = make(cases[i].part, cases[i].shard, cases[i].config_size, cases[i].sums);
        as_buffer bytes = AS_BUFFER_INIT;
        assert_int_equal(join_two(&a, &b, NULL, &bytes), cases[i].code);
        as_buffer_free(&bytes);
    }
}

static void test_checkpoint_is_no_object(void **state)
{
    (void)state;
    json_t *root = json_pack("{s:i,s:s,s:{},s:s}", AS_MANIFEST_KEY, 1, "version", "1", "parts",
                             AS_MANIFEST_CHECKPOINT, "500");
    as_buffer bytes = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    as_manifest m;
    assert_int_equal(as_seal(root, &bytes, NULL), AS_OK);
    assert_int_equal(as_manifest_from_bytes(bytes.data, bytes.size, "M", &m, &e), AS_FORMAT);
    assert_non_null(strstr(as_error_text(&e), "checkpoint"));
    as_error_clear(&e);
    as_buffer_free(&bytes);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_clashes),
        cmocka_unit_test(test_checkpoint_is_no_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
