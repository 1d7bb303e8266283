/* SPDX-License-Identifier: Apache-2.0
 * What a checkpoint tells of itself: out of JSON comes what went in, and what is wrong is told.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint_folder.h"
#include "series/record.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static json_t *parse(const char *text)
{
    json_t *tree = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(tree);
    return tree;
}

static void test_record(void **state)
{
    (void)state;
    const double values[] = {
        2.5, -0.1, 1e300, 5e-324, (double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i <= COUNT(values); i++) {
        bool plain = i == COUNT(values);
        as_record r = AS_RECORD_INIT;
        r.step = INT64_MAX;
        r.time_ms = 1769860800123;
        r.save_seconds = 1.25;
        r.world_size = 8;
        if (!plain) {
            r.parent = strdup("checkpoint-400");
            r.metric = strdup("loss \xc3\xa9");
            r.metric_value = values[i];
            assert_int_equal(as_fields_set(&r.fields, "epoch", "3", NULL), AS_OK);
            assert_int_equal(as_fields_set(&r.job, "SLURM_JOB_ID", "17", NULL), AS_OK);
        }
        json_t *tree;
        assert_int_equal(as_record_to_json(&r, &tree, NULL), AS_OK);
        /* As it comes out of a file. */
        char *text = json_dumps(tree, 0);
        json_decref(tree);
        tree = parse(text);
        free(text);
        assert_int_equal(json_object_size(tree), plain ? 4 : 8);
        as_record s;
        assert_int_equal(as_record_from_json(tree, "M", &s, NULL), AS_OK);
        json_decref(tree);
        assert_true(s.step == r.step && s.time_ms == r.time_ms && s.world_size == 8);
        assert_true(s.save_seconds == 1.25);
        if (plain) {
            assert_true(!s.parent && !s.metric && s.fields.count == 0 && s.job.count == 0);
        } else {
            assert_string_equal(s.parent, "checkpoint-400");
            assert_string_equal(s.metric, "loss \xc3\xa9");
            assert_true(isnan(values[i]) ? isnan(s.metric_value) : s.metric_value == values[i]);
            assert_string_equal(as_fields_get(&s.fields, "epoch"), "3");
            assert_string_equal(as_fields_get(&s.job, "SLURM_JOB_ID"), "17");
        }
        as_record_free(&r);
        as_record_free(&s);
    }
}

static void test_bad_records(void **state)
{
    (void)state;
    static const char good[] = "{\"step\": 5, \"time\": \"2026-01-31T12:00:00Z\", "
                               "\"save_seconds\": 1, \"world_size\": 2, \"new member\": {}}";
    const struct {
        const char *field;
        const char *value; /* NULL: taken away */
    } cases[] = {
        {"step", NULL},
        {"step", "-1"},
        {"step", "1.5"},
        {"step", "\"5\""},
        {"time", NULL},
        {"time", "5"},
        {"time", "\"yesterday\""},
        {"save_seconds", NULL},
        {"save_seconds", "-0.5"},
        {"save_seconds", "\"1\""},
        {"world_size", NULL},
        {"world_size", "0"},
        {"parent", "null"},
        {"parent", "\"\""},
        {"parent", "\"../x\""},
        {"metric", "null"},
        {"metric", "{}"},
        {"metric", "{\"name\": \"loss\"}"},
        {"metric", "{\"value\": 1}"},
        {"metric", "{\"name\": \"\", \"value\": 1}"},
        {"metric", "{\"name\": \"a\\nb\", \"value\": 1}"},
        {"metric", "{\"name\": \"loss\", \"value\": \"nan\"}"},
        {"metric", "{\"name\": \"loss\", \"value\": null}"},
        {"fields", "[]"},
        {"fields", "{\"a\": 1}"},
        {"fields", "{\"a b\": \"x\"}"},
        {"fields", "{\"a\": \"x\\ny\"}"},
        {"job", "\"17\""},
    };
    as_record r = {.step = 77};
    json_t *tree = parse(good);
    assert_int_equal(as_record_from_json(tree, "M", &r, NULL), AS_OK);
    assert_true(r.step == 5);
    as_record_free(&r);
    json_decref(tree);
    for (size_t i = 0; i < COUNT(cases); i++) {
        as_error e = AS_ERROR_INIT;
        tree = parse(good);
        if (cases[i].value) {
            assert_int_equal(json_object_set_new(tree, cases[i].field, parse(cases[i].value)), 0);
        } else {
            assert_int_equal(json_object_del(tree, cases[i].field), 0);
        }
        r.step = 77;
        if (as_record_from_json(tree, "M", &r, &e) != AS_FORMAT ||
            !strstr(as_error_text(&e), cases[i].field) || !strstr(as_error_text(&e), "M: ")) {
            fail_msg("case %zu: %s", i, as_error_text(&e));
        }
        assert_true(r.step == 77);
        as_error_clear(&e);
        json_decref(tree);
    }
    const char *const others[] = {"[]", "5", "\"x\"", "null"};
    for (size_t i = 0; i < COUNT(others); i++) {
        tree = parse(others[i]);
        assert_int_equal(as_record_from_json(tree, "M", &r, NULL), AS_FORMAT);
        json_decref(tree);
    }
}

static void test_unwritable_records(void **state)
{
    (void)state;
    as_record r = {.step = 1, .world_size = 1, .metric = strdup("a\nb")};
    json_t *tree;
    assert_int_equal(as_record_to_json(&r, &tree, NULL), AS_INVALID);
    assert_null(tree);
    free(r.metric);
    r.metric = NULL;
    r.step = -1;
    assert_int_equal(as_record_to_json(&r, &tree, NULL), AS_INTERNAL);
    r.step = 1;
    r.save_seconds = (double)NAN;
    assert_int_equal(as_record_to_json(&r, &tree, NULL), AS_INTERNAL);
}

static void test_job(void **state)
{
    (void)state;
    as_record r = AS_RECORD_INIT;
    must(setenv("SLURM_JOB_ID", "17", 1) == 0 && setenv("PBS_JOBID", "a\nb", 1) == 0, "setenv");
    must(setenv("SLURM_RESTART_COUNT", "3", 1) == 0 && unsetenv("LSB_JOBID") == 0, "setenv");
    assert_int_equal(as_record_job(&r, NULL), AS_OK);
    assert_string_equal(as_fields_get(&r.job, "SLURM_JOB_ID"), "17");
    assert_string_equal(as_fields_get(&r.job, "SLURM_RESTART_COUNT"), "3");
    assert_null(as_fields_get(&r.job, "PBS_JOBID")); /* no scheduler says that */
    assert_null(as_fields_get(&r.job, "LSB_JOBID"));
    as_record_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_unwritable_records),
        cmocka_unit_test(test_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
