/* SPDX-License-Identifier: Apache-2.0
 * The journal: order, checks of names, checksum, and what it makes of hostile bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "commit/journal.h"
#include "commit/seal.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char *const incoming[] = {"model.safetensors.index.json",
                                       "model-00001-of-00002.safetensors", "config.json",
                                       "model-00002-of-00002.safetensors", "a\"b\\\xc3\xa9\n.json"};
static const int64_t sizes[] = {10, 20, 0, INT64_MAX, 7};
static const char *const outgoing[] = {
    "z.safetensors", "config.json",  "model.safetensors.index.json",
    "z.safetensors", "b.index.json", "config.json"};

static void make(as_journal *j)
{
    as_error e = AS_ERROR_INIT;
    int code = as_journal_make(j, incoming, sizes, COUNT(incoming), outgoing, COUNT(outgoing), &e);
    assert_int_equal(code, AS_OK);
    as_error_clear(&e);
}

static void check_made(const as_journal *j)
{
    static const char *const in_order[] = {"model-00001-of-00002.safetensors", "config.json",
                                           "model-00002-of-00002.safetensors",
                                           "a\"b\\\xc3\xa9\n.json", "model.safetensors.index.json"};
    static const int64_t in_sizes[] = {20, 0, INT64_MAX, 7, 10};
    static const char *const out_order[] = {"model.safetensors.index.json", "b.index.json",
                                            "z.safetensors", "config.json"};
    assert_int_equal(j->incoming.count, COUNT(in_order));
    for (size_t i = 0; i < COUNT(in_order); i++) {
        assert_string_equal(j->incoming.items[i], in_order[i]);
        assert_true(j->sizes[i] == in_sizes[i]);
        assert_true(as_journal_brings(j, in_order[i]));
    }
    assert_int_equal(j->outgoing.count, COUNT(out_order));
    for (size_t i = 0; i < COUNT(out_order); i++) {
        assert_string_equal(j->outgoing.items[i], out_order[i]);
        assert_true(as_journal_takes(j, out_order[i]));
    }
    assert_false(as_journal_brings(j, "z.safetensors"));
    assert_false(as_journal_takes(j, "model-00001-of-00002.safetensors"));
}

static void test_round_trip(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_journal j = AS_JOURNAL_INIT;
    as_journal back = AS_JOURNAL_INIT;
    as_buffer bytes = AS_BUFFER_INIT;
    as_buffer again = AS_BUFFER_INIT;
    make(&j);
    check_made(&j);
    assert_int_equal(as_journal_to_bytes(&j, &bytes, &e), AS_OK);
    assert_int_equal(as_journal_from_bytes(bytes.data, bytes.size, "journal", &back, &e), AS_OK);
    check_made(&back);
    assert_int_equal(as_journal_to_bytes(&back, &again, &e), AS_OK);
    assert_int_equal(bytes.size, again.size);
    assert_memory_equal(bytes.data, again.data, bytes.size);
    as_journal_free(&back);
    as_journal_free(&j);
    as_buffer_free(&bytes);
    as_buffer_free(&again);
    as_error_clear(&e);
}

/* Every flipped bit and every shortened file is found. */
static void test_damage(void **state)
{
    (void)state;
    as_journal j = AS_JOURNAL_INIT;
    as_buffer bytes = AS_BUFFER_INIT;
    make(&j);
    assert_int_equal(as_journal_to_bytes(&j, &bytes, NULL), AS_OK);
    as_journal_free(&j);
    for (size_t at = 0; at < bytes.size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[at] = (char)(bytes.data[at] ^ (1 << bit));
            as_error e = AS_ERROR_INIT;
            assert_int_equal(as_journal_from_bytes(bytes.data, bytes.size, "J", &j, &e), AS_FORMAT);
            assert_non_null(strstr(as_error_text(&e), "J: "));
            assert_non_null(strstr(as_error_text(&e), "allshard verify"));
            as_error_clear(&e);
            bytes.data[at] = (char)(bytes.data[at] ^ (1 << bit));
        }
    }
    /* The newline at the end alone may be missing. */
    for (size_t size = 0; size + 1 < bytes.size; size++) {
        assert_int_equal(as_journal_from_bytes(bytes.data, size, "J", &j, NULL), AS_FORMAT);
    }
    assert_int_equal(as_journal_from_bytes(bytes.data, bytes.size, "J", &j, NULL), AS_OK);
    as_journal_free(&j);
    as_buffer_free(&bytes);
}

static void test_names(void **state)
{
    (void)state;
    char long_name[257];
    memset(long_name, 'a', 256);
    long_name[256] = '\0';
    const char *const bad[] = {"",     ".",         "..",        "a/b",   "/etc/passwd",
                               "../a", ".allshard", ".AllShard", "./a.b", long_name};
    const int64_t size = 1;
    as_journal j = AS_JOURNAL_INIT;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(as_journal_make(&j, &bad[i], &size, 1, NULL, 0, NULL), AS_INVALID);
        assert_int_equal(as_journal_make(&j, NULL, NULL, 0, &bad[i], 1, NULL), AS_INVALID);
    }
    const char *const good[] = {"..a", "a..b", "...", ".allshard2", long_name + 1, "a b", "-rf"};
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(as_journal_make(&j, &good[i], &size, 1, &good[i], 1, NULL), AS_OK);
        as_journal_free(&j);
    }
    const char *const twice[] = {"a", "b", "a"};
    const int64_t three[] = {1, 2, 3};
    assert_int_equal(as_journal_make(&j, twice, three, 3, NULL, 0, NULL), AS_INVALID);
    const char *const not_utf8[] = {"a\xff"};
    as_buffer bytes = AS_BUFFER_INIT;
    assert_int_equal(as_journal_make(&j, not_utf8, three, 1, NULL, 0, NULL), AS_OK);
    assert_int_equal(as_journal_to_bytes(&j, &bytes, NULL), AS_INVALID);
    as_journal_free(&j);
    as_buffer_free(&bytes);
}

/* Sealed well, and wrong all the same. */
static void test_hostile(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"incoming\":[],\"outgoing\":[]}",
        "{\"allshard_journal\":2,\"incoming\":[],\"outgoing\":[]}",
        "{\"allshard_journal\":\"1\",\"incoming\":[],\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"incoming\":[]}",
        "{\"allshard_journal\":1,\"incoming\":{},\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"incoming\":[\"a\"],\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"incoming\":[{\"name\":\"a\"}],\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"incoming\":[{\"name\":\"a\",\"size\":-1}],\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"incoming\":[{\"name\":\"a\",\"size\":1.0}],\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"incoming\":[{\"name\":\"../a\",\"size\":1}],\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"incoming\":[{\"name\":\"a/b\",\"size\":1}],\"outgoing\":[]}",
        ("{\"allshard_journal\":1,\"incoming\":[{\"name\":\"a\",\"size\":1},"
         "{\"name\":\"a\",\"size\":1}],\"outgoing\":[]}"),
        "{\"allshard_journal\":1,\"incoming\":[],\"outgoing\":[\".allshard\"]}",
        "{\"allshard_journal\":1,\"incoming\":[],\"outgoing\":[1]}",
        "{\"allshard_journal\":1,\"incoming\":[],\"outgoing\":[\"a\",\"a\"]}",
        "{\"allshard_journal\":0,\"incoming\":[],\"outgoing\":[]}",
        "{\"allshard_journal\":1,\"folders\":true,\"incoming\":[],\"outgoing\":[]}",
        "{\"allshard_journal\":2,\"folders\":false,\"incoming\":[],\"outgoing\":[]}",
        "{\"allshard_journal\":2,\"folders\":1,\"incoming\":[],\"outgoing\":[]}",
        ("{\"allshard_journal\":2,\"folders\":true,\"incoming\":[{\"name\":\"a\",\"size\":0}],"
         "\"outgoing\":[]}"),
        ("{\"allshard_journal\":2,\"folders\":true,\"incoming\":[{\"name\":\"a/b\"}],"
         "\"outgoing\":[]}"),
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        json_t *object = json_loads(texts[i], 0, NULL);
        assert_non_null(object);
        as_buffer bytes = AS_BUFFER_INIT;
        assert_int_equal(as_seal(object, &bytes, NULL), AS_OK);
        json_decref(object);
        as_journal j = AS_JOURNAL_INIT;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_journal_from_bytes(bytes.data, bytes.size, "J", &j, &e), AS_FORMAT);
        assert_int_equal(e.code, AS_FORMAT);
        as_error_clear(&e);
        as_buffer_free(&bytes);
    }
    static const char *const raw[] = {"", "null", "[]", "{}", "{\"checksum\":1}", "[[[[", "\xff"};
    for (size_t i = 0; i < COUNT(raw); i++) {
        as_journal j = AS_JOURNAL_INIT;
        assert_int_equal(as_journal_from_bytes(raw[i], strlen(raw[i]), "J", &j, NULL), AS_FORMAT);
    }
    /* 100,000 brackets are refused, not followed. */
    char *deep = malloc(100001);
    assert_non_null(deep);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    as_journal j = AS_JOURNAL_INIT;
    assert_int_equal(as_journal_from_bytes(deep, 100000, "J", &j, NULL), AS_FORMAT);
    free(deep);
}

/* Other spacing and another order of keys are no damage. */
/* Nobody is told to remove what is only too new. */
static void test_newer(void **state)
{
    (void)state;
    json_t *object = json_pack("{s:i,s:s}", "allshard_journal", 3, "moves", "?");
    as_buffer bytes = AS_BUFFER_INIT;
    as_journal j = AS_JOURNAL_INIT;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_seal(object, &bytes, NULL), AS_OK);
    json_decref(object);
    assert_int_equal(as_journal_from_bytes(bytes.data, bytes.size, "J", &j, &e), AS_FORMAT);
    assert_non_null(strstr(as_error_text(&e), "J: the save of a newer allshard"));
    assert_null(strstr(as_error_text(&e), "remove the folder"));
    as_error_clear(&e);
    as_buffer_free(&bytes);
}

static void test_folders(void **state)
{
    (void)state;
    static const char *const in[] = {"checkpoint-7"};
    static const char *const out[] = {"checkpoint-3", "checkpoint-7"};
    static const int64_t none[] = {0};
    as_journal j = AS_JOURNAL_INIT;
    as_journal back = AS_JOURNAL_INIT;
    as_buffer bytes = AS_BUFFER_INIT;
    assert_int_equal(as_journal_make(&j, in, none, 1, out, 2, NULL), AS_OK);
    assert_false(j.folders);
    j.folders = true;
    assert_int_equal(as_journal_to_bytes(&j, &bytes, NULL), AS_OK);
    assert_int_equal(as_buffer_append(&bytes, "", 1, NULL), AS_OK);
    assert_non_null(strstr(bytes.data, "\"allshard_journal\": 2"));
    assert_null(strstr(bytes.data, "size"));
    assert_int_equal(as_journal_from_bytes(bytes.data, bytes.size - 1, "J", &back, NULL), AS_OK);
    assert_true(back.folders);
    assert_int_equal(back.incoming.count, 1);
    assert_int_equal(back.outgoing.count, 2);
    assert_string_equal(back.outgoing.items[0], "checkpoint-3");
    assert_true(as_journal_brings(&back, "checkpoint-7") &&
                as_journal_takes(&back, "checkpoint-7"));
    as_journal_free(&back);
    as_journal_free(&j);
    as_buffer_free(&bytes);
}

static void test_reformatted(void **state)
{
    (void)state;
    as_journal j = AS_JOURNAL_INIT;
    as_buffer bytes = AS_BUFFER_INIT;
    make(&j);
    assert_int_equal(as_journal_to_bytes(&j, &bytes, NULL), AS_OK);
    as_journal_free(&j);
    json_t *object = json_loadb(bytes.data, bytes.size, 0, NULL);
    char *text = json_dumps(object, JSON_INDENT(8) | JSON_SORT_KEYS);
    assert_non_null(text);
    assert_int_equal(as_journal_from_bytes(text, strlen(text), "J", &j, NULL), AS_OK);
    check_made(&j);
    as_journal_free(&j);
    free(text);
    json_decref(object);
    as_buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_damage),
        cmocka_unit_test(test_names),       cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_reformatted), cmocka_unit_test(test_newer),
        cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
