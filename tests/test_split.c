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
static void model_split(const int64_t *items, int64_t count, int64_t limit, model *m)
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
        for (int64_t k = 0; k < i && items[i] == 0; k++) {
            seen = seen || items[k] == 0;
        }
        if (seen) {
            continue;
        }
        m->total += items[i];
        if (items[i] > limit) {
            push_key(m, m->count++, i);
            continue;
        }
        if (current_size + items[i] > limit) {
            for (int64_t k = 0; k < current_keys; k++) {
                push_key(m, m->count, current[k]);
            }
            m->count++;
            current_keys = 0;
            current_size = 0;
        }
        current[current_keys++] = i;
        current_size += items[i];
    }
    if (current_keys) {
        for (int64_t k = 0; k < current_keys; k++) {
            push_key(m, m->count, current[k]);
        }
        m->count++;
    }
    free(current);
    for (int64_t first = 0; first < count; first++) {
        for (int64_t i = first + 1; i < count && items[first] == 0; i++) {
            if (items[i] != 0) {
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

/* Splits; the caller frees. Every item's place is kept, or every third's. */
static int split(as_splitter *s, const int64_t *items, size_t count, int64_t limit, size_t step,
                 as_split_result *result, as_error *e)
{
    as_splitter_init(s, limit);
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = as_splitter_add(s, items[i], i % step == 0, e);
    }
    return code == AS_OK ? as_splitter_end(s, result, e) : code;
}

static void compare(const int64_t *items, int64_t count, int64_t limit)
{
    as_split_result result = {0};
    as_splitter s = {0};
    as_splitter some = {0};
    model m = {0};
    assert_int_equal(split(&s, items, (size_t)count, limit, 1, &result, NULL), AS_OK);
    model_split(items, count, limit, &m);
    assert_int_equal(result.shard_count, m.count);
    assert_int_equal(result.total_size, m.total);
    assert_int_equal(as_splitter_count(&s), count);
    int64_t placed = 0;
    for (int64_t shard = 0; shard < m.count; shard++) {
        assert_true(m.keys[shard] > 0);
        for (int64_t k = 0; k < m.keys[shard]; k++, placed++) {
            const as_split_place *p = as_splitter_place(&s, (size_t)m.key[shard][k]);
            assert_int_equal(p->item, m.key[shard][k]);
            assert_int_equal(p->shard, shard);
            assert_int_equal(p->place, k);
        }
    }
    assert_int_equal(placed, count);
    /* The same places if others are not asked for. */
    assert_int_equal(split(&some, items, (size_t)count, limit, 3, &result, NULL), AS_OK);
    assert_int_equal(as_splitter_count(&some), (count + 2) / 3);
    for (size_t i = 0; i < as_splitter_count(&some); i++) {
        assert_memory_equal(as_splitter_place(&some, i), as_splitter_place(&s, 3 * i),
                            sizeof(as_split_place));
    }
    as_splitter_free(&some);
    as_splitter_free(&s);
    free_model(&m, count);
}

static void random_splits_are_the_references(void **state)
{
    (void)state;
    uint64_t seed = 6;
    for (int i = 0; i < 60000; i++) {
        int64_t items[40] = {0};
        int64_t count = between(&seed, 0, 40);
        int64_t largest = between(&seed, 0, 30);
        int64_t least = between(&seed, 0, 2) ? 0 : largest ? 1 : 0;
        for (int64_t k = 0; k < count; k++) {
            items[k] = between(&seed, 0, 3) ? between(&seed, least, largest) : least;
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
static void expect(const char *shards, int64_t total, int64_t limit, const int64_t *items,
                   size_t count)
{
    as_split_result result = {0};
    as_splitter s = {0};
    char text[256] = "";
    size_t at = 0;
    assert_int_equal(split(&s, items, count, limit, 1, &result, NULL), AS_OK);
    for (int32_t shard = 0; shard < result.shard_count; shard++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", shard ? "| " : "");
        for (int64_t place = 0; place < (int64_t)count; place++) {
            for (size_t i = 0; i < count; i++) {
                const as_split_place *p = as_splitter_place(&s, i);
                if (p->shard == shard && p->place == place) {
                    at += (size_t)snprintf(text + at, sizeof text - at, "%zu ", i);
                }
            }
        }
    }
    assert_string_equal(text, shards);
    assert_int_equal(result.total_size, total);
    assert_true(at < sizeof text);
    as_splitter_free(&s);
}

static void documented_cases(void **state)
{
    (void)state;
    expect("0 | 2 | 1 | 3 4 ", 50, 10, (int64_t[]){6, 10, 30, 2, 2}, 5);
    expect("0 1 2 3 4 ", 50, 100, (int64_t[]){6, 10, 30, 2, 2}, 5);
    expect("0 1 2 | 3 4 ", 40, 30, (int64_t[]){8, 8, 8, 8, 8}, 5);
    expect("0 | 1 ", 8200000, 8199999, (int64_t[]){4100000, 4100000}, 2);
    expect("0 1 ", 8200000, 8200000, (int64_t[]){4100000, 4100000}, 2);
    /* tensors of no bytes share one storage */
    expect("0 1 2 4 | 3 ", 16, 8, (int64_t[]){0, 8, 0, 8, 0}, 5);
    expect("0 | 2 | 1 ", 12, 0, (int64_t[]){8, 0, 4}, 3);
    expect("0 2 | 1 ", 4, -1, (int64_t[]){0, 4, 0}, 3);
    expect("0 ", 11, 10, (int64_t[]){11}, 1);
    expect("0 ", 10, 10, (int64_t[]){10}, 1);
    expect("", 0, 10, NULL, 0);
}

static void sums_past_all_bounds_are_refused(void **state)
{
    (void)state;
    const int64_t items[] = {INT64_MAX, 1};
    as_split_result result = {0};
    as_splitter s = {0};
    as_error e = AS_ERROR_INIT;
    assert_int_equal(split(&s, items, 2, INT64_MAX, 1, &result, &e), AS_LIMIT);
    assert_non_null(strstr(as_error_text(&e), "2^63"));
    as_error_clear(&e);
    as_splitter_free(&s);
    expect("0 | 1 ", INT64_MAX, 5, (int64_t[]){INT64_MAX - 1, 1}, 2);
    expect("0 1 ", INT64_MAX, INT64_MAX, (int64_t[]){INT64_MAX - 1, 1}, 2);
}

/* A million tensors take no time worth naming, and no memory if no place is asked for. */
static void many_tensors(void **state)
{
    (void)state;
    const int64_t count = 1000000;
    as_split_result result = {0};
    as_splitter s = {0};
    as_splitter_init(&s, 10);
    for (int64_t i = 0; i < count; i++) {
        assert_int_equal(as_splitter_add(&s, 3, i == count - 1, NULL), AS_OK);
    }
    assert_int_equal(as_splitter_end(&s, &result, NULL), AS_OK);
    assert_int_equal(result.shard_count, (count + 2) / 3);
    assert_int_equal(as_splitter_count(&s), 1);
    assert_int_equal(as_splitter_place(&s, 0)->item, count - 1);
    assert_int_equal(as_splitter_place(&s, 0)->shard, result.shard_count - 1);
    as_splitter_free(&s);
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
