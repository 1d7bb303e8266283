/* SPDX-License-Identifier: Apache-2.0
 * Names of a series' folders, fields, times: what is written is read back, and nothing else is.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "series/fields.h"
#include "series/folder_name.h"
#include "series/words.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static as_folder_pattern *make(const char *text)
{
    as_folder_pattern *p;
    as_error e = AS_ERROR_INIT;
    int code = as_folder_pattern_make(&p, text, &e);
    if (code != AS_OK) {
        print_message("%s\n", as_error_text(&e));
    }
    assert_int_equal(code, AS_OK);
    return p;
}

static void test_bad_patterns(void **state)
{
    (void)state;
    char long_text[300];
    memset(long_text, 'a', sizeof long_text);
    (void)snprintf(long_text + 256, 20, "{step}");
    const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"", "no field"},
        {"checkpoint", "no field"},
        {"a{{step}}", "no field"},
        {"a{step}b{step}", "{step} twice"},
        {"a{step}b{step:06}", "{step} twice"},
        {"{x}-{x}", "a field twice"},
        {"{step}{epoch}", "no text between"},
        {"{epoch}{step}", "no text between"},
        {"{step}0", "a digit right behind"},
        {"{step:06}9x", "a digit right behind"},
        {"{step:6}", "format"},
        {"{step:}", "format"},
        {"{step:0}", "format"},
        {"{step:00}", "format"},
        {"{step:019}", "format"},
        {"{step:0999}", "format"},
        {"{step:06x}", "format"},
        {"{step:d}", "format"},
        {"{epoch:03}", "format"},
        {"{}", "a field whose name"},
        {"{a b}", "a field whose name"},
        {"{\xc3\xa9}", "a field whose name"},
        {"{step", "not closed"},
        {"{{step}", "closing brace"},
        {"{step}}", "closing brace"},
        {"a}{step}", "closing brace"},
        {"a/{step}", "'/'"},
        {".a{step}", "begins with '.'"},
        {"a\n{step}", "control character"},
        {"a\xc2\x85{step}", "control character"},
        {"a\xff{step}", "UTF-8"},
        {long_text, "255 bytes"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        as_folder_pattern *p = NULL;
        as_error e = AS_ERROR_INIT;
        int code = as_folder_pattern_make(&p, cases[i].text, &e);
        if (code != AS_PATTERN || !strstr(as_error_text(&e), cases[i].says)) {
            fail_msg("%s: %d %s", cases[i].text, code, as_error_text(&e));
        }
        assert_null(p);
        as_error_clear(&e);
    }
}

static void set(as_fields *f, const char *name, const char *value)
{
    as_error e = AS_ERROR_INIT;
    if (as_fields_set(f, name, value, &e) != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
}

/* The name of the step with epoch and run; static. NULL: refused. */
static const char *name_of(const char *pattern, int64_t step, const char *epoch, const char *run)
{
    static char text[600];
    as_folder_pattern *p = make(pattern);
    as_fields f = AS_FIELDS_INIT;
    as_buffer b = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    if (epoch) {
        set(&f, "epoch", epoch);
    }
    if (run) {
        set(&f, "run", run);
    }
    set(&f, "other", "not in the pattern");
    /* Behind what is there already. */
    assert_int_equal(as_buffer_append(&b, "xy", 2, NULL), AS_OK);
    int code = as_folder_pattern_write(p, step, &f, &b, &e);
    assert_true(code == AS_OK || code == AS_INVALID);
    assert_memory_equal(b.data, "xy", 2);
    if (code == AS_OK) {
        assert_true(b.size < sizeof text);
        memcpy(text, b.data + 2, b.size - 2);
        text[b.size - 2] = '\0';
        assert_int_equal(b.data[b.size], 0);
    } else {
        assert_int_equal(b.size, 2);
    }
    as_error_clear(&e);
    as_buffer_free(&b);
    as_fields_free(&f);
    as_folder_pattern_free(p);
    return code == AS_OK ? text : NULL;
}

static void test_write(void **state)
{
    (void)state;
    char long_value[300];
    memset(long_value, 'v', sizeof long_value);
    long_value[250] = '\0';
    const struct {
        const char *pattern;
        int64_t step;
        const char *epoch;
        const char *run;
        const char *name; /* NULL: refused */
    } cases[] = {
        {NULL, 500, NULL, NULL, "checkpoint-500"},
        {NULL, 0, NULL, NULL, "checkpoint-0"},
        {NULL, INT64_MAX, NULL, NULL, "checkpoint-9223372036854775807"},
        {NULL, -1, NULL, NULL, NULL},
        {"{step}", 7, NULL, NULL, "7"},
        {"checkpoint_epoch{epoch}_step{step}", 12, "3", NULL, "checkpoint_epoch3_step12"},
        {"checkpoint_epoch{epoch}_step{step}", 12, NULL, NULL, NULL},
        {"checkpoint_epoch{epoch}_step{step}", 12, "3_step4", NULL, NULL},
        {"s{step:06}", 12, NULL, NULL, "s000012"},
        {"s{step:06d}", 1234567, NULL, NULL, "s1234567"},
        {"v{run}", 9, NULL, "1.0", "v1.0"},
        {"v{run}", 9, NULL, "", NULL},
        {"v{run}", 9, NULL, "a/b", NULL},
        {"{run}", 9, NULL, "latest", NULL},
        {"{run}", 9, NULL, "allshard.control", NULL},
        {"{run}", 9, NULL, ".hidden", NULL},
        {"{run}", 9, NULL, "..", NULL},
        {"{run}-x", 9, NULL, "a-x", "a-x-x"}, /* the end of the name is the end of the value */
        {"{{{step}}}", 9, NULL, NULL, "{9}"},
        {"{run}_{step}", 9, NULL, long_value, "+"},
        {"{run}_{epoch}_{step}", 9, "12345", long_value, NULL}, /* 258 bytes */
        {"\xc3\xa9-{step}", 9, NULL, NULL, "\xc3\xa9-9"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *name = name_of(cases[i].pattern, cases[i].step, cases[i].epoch, cases[i].run);
        if (!cases[i].name || !name) {
            assert_true(!cases[i].name && !name);
        } else if (strcmp(cases[i].name, "+") != 0) {
            assert_string_equal(name, cases[i].name);
        }
    }
}

static void test_read(void **state)
{
    (void)state;
    const struct {
        const char *pattern;
        const char *name;
        int64_t step; /* −2: it is none */
    } cases[] = {
        {NULL, "checkpoint-500", 500},
        {NULL, "checkpoint-0", 0},
        {NULL, "checkpoint-", -2},
        {NULL, "checkpoint-0500", -2},
        {NULL, "checkpoint-00", -2},
        {NULL, "checkpoint--5", -2},
        {NULL, "checkpoint-+5", -2},
        {NULL, "checkpoint- 5", -2},
        {NULL, "checkpoint-5 ", -2},
        {NULL, "checkpoint-5\n", -2},
        {NULL, "Checkpoint-5", -2},
        {NULL, "xcheckpoint-5", -2},
        {NULL, "checkpoint-5x", -2},
        {NULL, "checkpoint-9223372036854775807", INT64_MAX},
        {NULL, "checkpoint-9223372036854775808", -2},
        {NULL, "checkpoint-92233720368547758070", -2},
        {"s{step:06}", "s000012", 12},
        {"s{step:06}", "s12", -2},
        {"s{step:06}", "s0000012", -2},
        {"s{step:06}", "s1234567", 1234567},
        {"{run}-{step}", "a-5", 5},
        {"{run}-{step}", "a-b-5", -2},
        {"{run}-{step}", "-5", -2},
        {"{run}-x", "a-x-x", -1},
        {"{run}-x", "-x", -2},
        {"{run}-x", "x", -2},
        {"{run}", "latest", -2},
        {"{run}", "allshard.history.jsonl", -2},
        {"{run}", ".allshard", -2},
        {"{run}", ".x", -2},
        {"{run}", "a/b", -2},
        {"{run}", "a\nb", -2},
        {"{run}", "a\xff", -2},
        {"{run}", "", -2},
        {"{run}", "anything else", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        as_folder_pattern *p = make(cases[i].pattern);
        int64_t step = 77;
        bool good = as_folder_pattern_read(p, cases[i].name, &step, NULL);
        if (good != (cases[i].step != -2) || step != (good ? cases[i].step : -1)) {
            fail_msg("%s: %d %" PRId64, cases[i].name, good, step);
        }
        as_folder_pattern_free(p);
    }
}

static void test_read_fields(void **state)
{
    (void)state;
    as_folder_pattern *p = make("{run}_epoch{epoch}_step{step:03}");
    as_fields f = AS_FIELDS_INIT;
    int64_t step;
    set(&f, "before", "1");
    assert_true(as_folder_pattern_has_step(p));
    assert_false(as_folder_pattern_read(p, "r_epoch2.5_step12", &step, &f));
    assert_string_equal(as_fields_get(&f, "before"), "1");
    assert_true(as_folder_pattern_read(p, "r_epoch2.5_step012", &step, &f));
    assert_int_equal(f.count, 2);
    assert_string_equal(as_fields_get(&f, "run"), "r");
    assert_string_equal(as_fields_get(&f, "epoch"), "2.5");
    assert_null(as_fields_get(&f, "before"));
    assert_true(step == 12);
    as_fields_free(&f);
    as_folder_pattern_free(p);
}

/* Whatever the values: a name that is written is read back as what it was made of. */
static void test_random_names(void **state)
{
    (void)state;
    static const char *const patterns[] = {NULL,
                                           "{epoch}_{step}",
                                           "a{epoch}b{step:04}c{run}",
                                           "{run}-{epoch}",
                                           "{step:018}.{run}.x",
                                           "{{{run}}}{step}",
                                           "{run}--{epoch}-{step}"};
    static const char letters[] = "0123456789-_.ab{}x ";
    unsigned seed = 12345;
    int written = 0;
    for (int i = 0; i < 20000; i++) {
        const char *pattern = patterns[(size_t)i % COUNT(patterns)];
        char values[2][8];
        for (int v = 0; v < 2; v++) {
            int length = rand_r(&seed) % 7;
            for (int k = 0; k < length; k++) {
                values[v][k] = letters[(size_t)rand_r(&seed) % (sizeof letters - 1)];
            }
            values[v][length] = '\0';
        }
        int64_t step = (int64_t)rand_r(&seed) >> (rand_r(&seed) % 31);
        const char *name = name_of(pattern, step, values[0], values[1]);
        if (!name) {
            continue;
        }
        written++;
        as_folder_pattern *p = make(pattern);
        as_fields f = AS_FIELDS_INIT;
        int64_t again;
        assert_true(as_folder_pattern_read(p, name, &again, &f));
        assert_true(again == (as_folder_pattern_has_step(p) ? step : -1));
        const char *epoch = as_fields_get(&f, "epoch");
        const char *run = as_fields_get(&f, "run");
        assert_true(!epoch || strcmp(epoch, values[0]) == 0);
        assert_true(!run || strcmp(run, values[1]) == 0);
        as_fields_free(&f);
        as_folder_pattern_free(p);
    }
    assert_true(written > 5000);
}

static void test_fields(void **state)
{
    (void)state;
    as_fields f = AS_FIELDS_INIT;
    char value[AS_LONGEST_FIELD + 2];
    char name[AS_LONGEST_FIELD_NAME + 2];
    memset(value, 'v', sizeof value);
    memset(name, 'n', sizeof name);
    value[sizeof value - 1] = '\0';
    name[sizeof name - 1] = '\0';
    assert_int_equal(as_fields_set(&f, "a", value, NULL), AS_INVALID);
    assert_int_equal(as_fields_set(&f, name, "v", NULL), AS_INVALID);
    value[AS_LONGEST_FIELD] = '\0';
    name[AS_LONGEST_FIELD_NAME] = '\0';
    set(&f, name, value);
    const char *const bad[][2] = {{"", "v"},     {"step", "v"},  {"a-b", "v"},  {"\xc3\xa9", "v"},
                                  {"a", "a\nb"}, {"a", "a\x7f"}, {"a", "\xff"}, {"a", "\x1b[0m"}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(as_fields_set(&f, bad[i][0], bad[i][1], NULL), AS_INVALID);
    }
    assert_int_equal(f.count, 1);
    set(&f, name, ""); /* over the old one */
    assert_int_equal(f.count, 1);
    assert_string_equal(as_fields_get(&f, name), "");
    for (int i = 1; i < AS_MOST_FIELDS; i++) {
        char one[16];
        (void)snprintf(one, sizeof one, "f%d", i);
        set(&f, one, one);
    }
    assert_int_equal(as_fields_set(&f, "one_more", "v", NULL), AS_LIMIT);
    set(&f, "f7", "again");
    assert_string_equal(as_fields_get(&f, "f7"), "again");
    assert_null(as_fields_get(&f, "one_more"));
    as_fields_free(&f);
    assert_int_equal(f.count, 0);
}

static void test_stamps(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int64_t ms; /* −1: it is none */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:00.001Z", 1},
        {"2026-01-31T12:00:00.123Z", INT64_C(1769860800123)},
        {"2026-01-31T12:00:00.1Z", INT64_C(1769860800100)},
        {"2026-01-31T12:00:00.123999999Z", INT64_C(1769860800123)},
        {"2024-02-29T00:00:00Z", INT64_C(1709164800000)},
        {"9999-12-31T23:59:59.999Z", INT64_C(253402300799999)},
        {"2026-02-29T00:00:00Z", -1},
        {"2026-13-01T00:00:00Z", -1},
        {"2026-00-01T00:00:00Z", -1},
        {"2026-01-31T24:00:00Z", -1},
        {"2026-01-31T12:00:60Z", -1},
        {"2026-01-31T12:00:00", -1},
        {"2026-01-31T12:00:00+01:00", -1},
        {"2026-01-31 12:00:00Z", -1},
        {"2026-01-31T12:00:00.Z", -1},
        {"2026-01-31T12:00:00.1234567890Z", -1},
        {"2026-01-31T12:00:00Zx", -1},
        {"1969-12-31T23:59:59Z", -1},
        {"2026-1-31T12:00:00Z", -1},
        {"", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t ms = -7;
        bool good = as_stamp_read(cases[i].text, &ms);
        if (good != (cases[i].ms >= 0) || ms != (good ? cases[i].ms : -7)) {
            fail_msg("%s: %d %" PRId64, cases[i].text, good, ms);
        }
    }
    unsigned seed = 7;
    for (int i = 0; i < 20000; i++) {
        int64_t ms =
            ((int64_t)rand_r(&seed) * INT64_C(118000) + rand_r(&seed)) % INT64_C(253402300800000);
        char text[AS_STAMP_SIZE];
        int64_t again;
        as_stamp_write(ms, text);
        assert_true(as_stamp_read(text, &again));
        assert_true(again == ms);
    }
    char text[AS_STAMP_SIZE];
    as_stamp_write(-5, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    as_stamp_write(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    assert_true(as_stamp_now() > INT64_C(1700000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_patterns), cmocka_unit_test(test_write),
        cmocka_unit_test(test_read),         cmocka_unit_test(test_read_fields),
        cmocka_unit_test(test_random_names), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_stamps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
