/* SPDX-License-Identifier: Apache-2.0
 * Which members of a series go: what a member tells the rules, and the words for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "series/prune.h"

enum { MOST = 8 };

static const int64_t now = INT64_C(1700000000000);

/* A series whose strings live in the program; it is never freed. */
static void lay(as_members *m, as_member *items, size_t count)
{
    static char *const names[MOST] = {"checkpoint-100", "checkpoint-200", "checkpoint-300",
                                      "checkpoint-400", "checkpoint-500", "checkpoint-600",
                                      "checkpoint-700", "checkpoint-800"};
    assert_true(count <= MOST);
    memset(items, 0, count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        items[i].name = names[i];
        items[i].step = (int64_t)(i + 1) * 100;
        items[i].time_ms = now - (int64_t)(count - i) * 60000;
        items[i].state = AS_MEMBER_GOOD;
        items[i].has_manifest = true;
        items[i].has_record = true;
        items[i].record.step = items[i].step;
        items[i].bytes = INT64_C(1) << i;
    }
    *m = (as_members){.items = items, .count = count};
}

/* "100 300": the steps of those that go. */
static void check_going(const as_members *m, const as_keep_rules *rules, const as_names *in_use,
                        const char *expected, int64_t bytes)
{
    as_error e = AS_ERROR_INIT;
    as_prune plan;
    assert_int_equal(as_prune_plan(&plan, m, rules, in_use, now, &e), AS_OK);
    assert_int_equal(plan.count, m->count);
    as_buffer found = AS_BUFFER_INIT;
    for (size_t i = 0; i < plan.going.count; i++) {
        assert_int_equal(strncmp(plan.going.items[i], "checkpoint-", 11), 0);
        assert_int_equal(
            as_buffer_format(&found, &e, "%s%s", i ? " " : "", plan.going.items[i] + 11), AS_OK);
    }
    assert_string_equal(found.size ? found.data : "", expected);
    assert_int_equal(plan.bytes, bytes);
    as_buffer_free(&found);
    as_prune_free(&plan);
}

static void the_rules_are_asked_about_all_that_members_tell(void **state)
{
    (void)state;
    as_member items[MOST];
    as_members m;
    lay(&m, items, 6);
    check_going(&m, &(as_keep_rules){0}, NULL, "", 0);
    check_going(&m, &(as_keep_rules){.last = 2}, NULL, "100 200 300 400", 15);
    check_going(&m, &(as_keep_rules){.last = 1, .every = 300}, NULL, "100 200 400 500", 27);
    check_going(&m, &(as_keep_rules){.seconds = 121}, NULL, "100 200 300 400", 15);
    check_going(&m, &(as_keep_rules){.seconds = 120}, NULL, "100 200 300 400 500", 31);

    char *tag = (char *)"best";
    m.items[0].tags = (as_names){.items = &tag, .count = 1, .capacity = 1};
    m.items[1].state = AS_MEMBER_DAMAGED;
    m.items[5].state = AS_MEMBER_DAMAGED;
    check_going(&m, &(as_keep_rules){.last = 1}, NULL, "300 400", 12);
    m.items[3].record.metric = (char *)"loss";
    m.items[3].record.metric_value = 3;
    check_going(&m, &(as_keep_rules){.best = 1}, NULL, "300", 4);
    m.items[2].record.metric = (char *)"loss";
    m.items[2].record.metric_value = 1;
    check_going(&m, &(as_keep_rules){.best = 1}, NULL, "400", 8);
    check_going(&m, &(as_keep_rules){.best = 1, .metric = "f1"}, NULL, "300 400", 12);
    check_going(&m, &(as_keep_rules){.best = 1, .metric_max = true}, NULL, "300", 4);
    m.items[2].step = -1;
    check_going(&m, &(as_keep_rules){.last = 1}, NULL, "400", 8);
}

/* Somebody else's checkpoint is not ours to remove, and no reason to remove ours either. */
static void what_no_series_saved_stays(void **state)
{
    (void)state;
    as_member items[MOST];
    as_members m;
    lay(&m, items, 4);
    m.items[1].has_record = false;
    m.items[1].record = (as_record){.metric = (char *)"stale"};
    m.items[3].has_record = false;
    m.items[3].has_manifest = false;
    check_going(&m, &(as_keep_rules){.last = 1}, NULL, "100 300", 5);
    check_going(&m, &(as_keep_rules){.last = 2}, NULL, "100", 1);
    check_going(&m, &(as_keep_rules){.best = 2}, NULL, "100 300", 5);
}

static void what_is_in_use_stays(void **state)
{
    (void)state;
    as_member items[MOST];
    as_members m;
    lay(&m, items, 4);
    as_error e = AS_ERROR_INIT;
    as_names used = AS_NAMES_INIT;
    check_going(&m, &(as_keep_rules){.last = 1}, &used, "100 200 300", 7);
    assert_int_equal(as_names_add(&used, "checkpoint-300", &e), AS_OK);
    assert_int_equal(as_names_add(&used, "checkpoint-1", &e), AS_OK);
    assert_int_equal(as_names_add(&used, "checkpoint-100", &e), AS_OK);
    check_going(&m, &(as_keep_rules){.last = 1}, &used, "200", 2);
    as_names_free(&used);
}

static void sizes_that_are_lies_do_not_overflow(void **state)
{
    (void)state;
    as_member items[MOST];
    as_members m;
    lay(&m, items, 3);
    m.items[0].bytes = INT64_MAX;
    m.items[1].bytes = INT64_MAX;
    check_going(&m, &(as_keep_rules){.last = 1}, NULL, "100 200", INT64_MAX);
    lay(&m, items, 0);
    check_going(&m, &(as_keep_rules){.last = 1}, NULL, "", 0);
}

static void check_words(uint32_t reasons, const char *expected)
{
    as_error e = AS_ERROR_INIT;
    as_buffer words = AS_BUFFER_INIT;
    assert_int_equal(as_prune_words(reasons, &words, &e), AS_OK);
    assert_string_equal(as_buffer_string(&words), expected);
    as_buffer_free(&words);
}

static void reasons_have_words(void **state)
{
    (void)state;
    check_words(0, "goes");
    check_words(AS_KEEP_TAGGED, "tagged");
    check_words(AS_KEEP_NEWEST | AS_KEEP_LAST | AS_KEEP_YOUNG, "newest good, last, young");
    check_words(4095, "newest good, damaged, step unknown, tagged, in use, last, every, best, "
                      "young, not of a series, may not be moved, no rule");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_are_asked_about_all_that_members_tell),
        cmocka_unit_test(what_no_series_saved_stays),
        cmocka_unit_test(what_is_in_use_stays),
        cmocka_unit_test(sizes_that_are_lies_do_not_overflow),
        cmocka_unit_test(reasons_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
