/* SPDX-License-Identifier: Apache-2.0
 * The split: huggingface_hub's documented cases, and random inputs against a plain
 * transcription of its rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "box_support.h"
#include "plan/split.h"

/* ------------------------------------------------------------------------- the reference */

/* Shards as lists of items, grown one by one as Python's dicts are. */
typedef struct model {
    int64_t count; /* shards */
    int64_t *keys; /* [shard]: number of keys */
    int64_t **key; /* [shard][key]: item */
    int64_t total;
} model;

static void push_key(model *m, int64_t shard, int64_t item)
{
    m->key[shard][m->keys[shard]++] = item;
}

/* split_state_dict_into_shards_factory, rule by rule; everything quadratic. */
static void model_split(const as_split_item *items, int64_t count, int64_t limit, model *m)
{
    size_t n = (size_t)count + 1;
    *m = (model){.keys = calloc(n, sizeof *m->keys), .key = calloc(n, sizeof *m->key)};
    int64_t *current = calloc(n, sizeof *current);
    int64_t current_keys = 0;
    int64_t current_size = 0;
    assert_non_null(m->keys);
    assert_non_null(m->key);
    assert_non_null(current);
    for (size_t s = 0; s < n; s++) {
        m->key[s] = calloc(n, sizeof **m->key);
        assert_non_null(m->key[s]);
    }
    for (int64_t i = 0; i < count; i++) {
        bool seen = false;
        for (int64_t k = 0; k < i && items[i].storage; k++) {
            seen = seen || items[k].storage == items[i].storage;
        }
        if (seen) {
            continue;
        }
        m->total += items[i].bytes;
        if (items[i].bytes > limit) {
            push_key(m, m->count++, i);
            continue;
        }
        if (current_size + items[i].bytes > limit) {
            for (int64_t k = 0; k < current_keys; k++) {
                push_key(m, m->count, current[k]);
            }
            m->count++;
            current_keys = 0;
            current_size = 0;
        }
        current[current_keys++] = i;
        current_size += items[i].bytes;
    }
    if (current_keys) {
        for (int64_t k = 0; k < current_keys; k++) {
            push_key(m, m->count, current[k]);
        }
        m->count++;
    }
    free(current);
    for (int64_t first = 0; first < count; first++) {
        for (int64_t i = first + 1; i < count && items[first].storage; i++) {
            if (items[i].storage != items[first].storage) {
                continue;
            }
            for (int64_t s = 0; s < m->count; s++) {
                bool here = false;
                bool there = false;
                for (int64_t k = 0; k < m->keys[s]; k++) {
                    here = here || m->key[s][k] == first;
                    there = there || m->key[s][k] == i;
                }
                if (here && !there) {
                    push_key(m, s, i);
                }
            }
        }
    }
}

static void free_model(model *m, int64_t count)
{
    for (int64_t s = 0; s <= count; s++) {
        free(m->key[s]);
    }
    free(m->key);
    free(m->keys);
}

static void compare(as_split_item *items, int64_t count, int64_t limit)
{
    as_split_result result;
    model m;
    assert_int_equal(as_split(items, (size_t)count, limit, &result, NULL), AS_OK);
    model_split(items, count, limit, &m);
    assert_int_equal(result.shard_count, m.count);
    assert_int_equal(result.total_size, m.total);
    int64_t placed = 0;
    for (int64_t s = 0; s < m.count; s++) {
        assert_true(m.keys[s] > 0);
        for (int64_t k = 0; k < m.keys[s]; k++, placed++) {
            assert_int_equal(items[m.key[s][k]].shard, s);
            assert_int_equal(items[m.key[s][k]].place, k);
        }
    }
    assert_int_equal(placed, count);
    free_model(&m, count);
}

static void random_splits_are_the_references(void **state)
{
    (void)state;
    uint64_t seed = 6;
    for (int i = 0; i < 60000; i++) {
        as_split_item items[40] = {0};
        int64_t count = between(&seed, 0, 40);
        int64_t largest = between(&seed, 0, 30);
        int64_t kinds = between(&seed, 0, 2);
        for (int64_t k = 0; k < count; k++) {
            items[k].bytes = between(&seed, 0, largest);
            if (kinds == 1 && items[k].bytes == 0) {
                items[k].storage = 1; /* as a save does it */
            }
            if (kinds == 2 && between(&seed, 0, 2)) {
                items[k].storage = (uint64_t)between(&seed, 1, 8) << (between(&seed, 0, 1) * 56);
            }
        }
        int64_t limits[] = {between(&seed, 0, 100),
                            between(&seed, 0, largest),
                            0,
                            between(&seed, -3, -1),
                            INT64_MAX,
                            INT64_MIN};
        compare(items, count, limits[between(&seed, 0, 5)]);
    }
}

/* --------------------------------------------------------------------------- known cases */

/* Expects "0 2 | 1": item numbers in key order, shard after shard. */
static void expect(const char *shards, int64_t total, int64_t limit, as_split_item *items,
                   size_t count)
{
    as_split_result result;
    char text[256] = "";
    size_t at = 0;
    assert_int_equal(as_split(items, count, limit, &result, NULL), AS_OK);
    for (int32_t s = 0; s < result.shard_count; s++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", s ? "| " : "");
        for (int64_t place = 0; place < (int64_t)count; place++) {
            for (size_t i = 0; i < count; i++) {
                if (items[i].shard == s && items[i].place == place) {
                    at += (size_t)snprintf(text + at, sizeof text - at, "%zu ", i);
                }
            }
        }
    }
    assert_string_equal(text, shards);
    assert_int_equal(result.total_size, total);
    assert_true(at < sizeof text);
}

static void sizes_only(const char *shards, int64_t total, int64_t limit, const int64_t *bytes,
                       size_t count)
{
    as_split_item items[16] = {0};
    for (size_t i = 0; i < count; i++) {
        items[i].bytes = bytes[i];
    }
    expect(shards, total, limit, items, count);
}

static void documented_cases(void **state)
{
    (void)state;
    const int64_t five[] = {6, 10, 30, 2, 2};
    sizes_only("0 | 2 | 1 | 3 4 ", 50, 10, five, 5);
    sizes_only("0 1 2 3 4 ", 50, 100, five, 5);
    /* one storage per value: each counts once, later names go behind the first one's shard */
    as_split_item shared[] = {{.bytes = 1, .storage = 11},
                              {.bytes = 2, .storage = 12},
                              {.bytes = 1, .storage = 11},
                              {.bytes = 2, .storage = 12},
                              {.bytes = 1, .storage = 11}};
    expect("1 3 | 0 2 4 ", 3, 1, shared, 5);
    sizes_only("0 1 2 | 3 4 ", 40, 30, (int64_t[]){8, 8, 8, 8, 8}, 5);
    sizes_only("0 | 1 ", 8200000, 8199999, (int64_t[]){4100000, 4100000}, 2);
    sizes_only("0 1 ", 8200000, 8200000, (int64_t[]){4100000, 4100000}, 2);
    /* tensors of no bytes share one storage */
    as_split_item empty[] = {
        {.storage = 1}, {.bytes = 8}, {.storage = 1}, {.bytes = 8}, {.storage = 1}};
    expect("0 1 2 4 | 3 ", 16, 8, empty, 5);
    as_split_item zero[] = {{.bytes = 8}, {.storage = 1}, {.bytes = 4}};
    expect("0 | 2 | 1 ", 12, 0, zero, 3);
    as_split_item negative[] = {{.storage = 1}, {.bytes = 4}, {.storage = 1}};
    expect("0 2 | 1 ", 4, -1, negative, 3);
    sizes_only("0 ", 11, 10, (int64_t[]){11}, 1);
    sizes_only("0 ", 10, 10, (int64_t[]){10}, 1);
    expect("", 0, 10, NULL, 0);
}

static void sums_past_all_bounds_are_refused(void **state)
{
    (void)state;
    as_split_item items[] = {{.bytes = INT64_MAX}, {.bytes = 1}};
    as_split_result result;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_split(items, 2, INT64_MAX, &result, &e), AS_LIMIT);
    assert_non_null(strstr(as_error_text(&e), "2^63"));
    as_error_clear(&e);
    sizes_only("0 | 1 ", INT64_MAX, 5, (int64_t[]){INT64_MAX - 1, 1}, 2);
    sizes_only("0 1 ", INT64_MAX, INT64_MAX, (int64_t[]){INT64_MAX - 1, 1}, 2);
}

/* A million tensors, each with its own storage or all with one, take no time worth naming. */
static void many_tensors(void **state)
{
    (void)state;
    const size_t count = 1000000;
    as_split_item *items = calloc(count, sizeof *items);
    assert_non_null(items);
    for (size_t i = 0; i < count; i++) {
        items[i] = (as_split_item){.bytes = 3, .storage = (i + 1) << 20};
    }
    as_split_result result;
    assert_int_equal(as_split(items, count, 10, &result, NULL), AS_OK);
    assert_int_equal(result.shard_count, (count + 2) / 3);
    assert_int_equal(items[count - 1].shard, result.shard_count - 1);
    for (size_t i = 0; i < count; i++) {
        items[i].storage = 1;
    }
    assert_int_equal(as_split(items, count, 10, &result, NULL), AS_OK);
    assert_int_equal(result.shard_count, 1);
    assert_int_equal(result.total_size, 3);
    assert_int_equal(items[count - 1].place, count - 1);
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented_cases),
        cmocka_unit_test(random_splits_are_the_references),
        cmocka_unit_test(sums_past_all_bounds_are_refused),
        cmocka_unit_test(many_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
