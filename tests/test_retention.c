/* SPDX-License-Identifier: Apache-2.0
 * Retention: each rule by itself, what always stays, and random series against a reference that is
 * written another way (it sorts, and takes from the front).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "box_support.h"
#include "series/retention.h"

enum { MOST = 24 };

static const int64_t now = INT64_C(1700000000000);

/* A good one of that step, saved a day ago. */
static as_kept_one good(int64_t step)
{
    return (as_kept_one){.step = step, .time_ms = now - 86400000, .good = true};
}

static as_kept_one measured(int64_t step, const char *metric, double value)
{
    as_kept_one one = good(step);
    one.metric = metric;
    one.metric_value = value;
    return one;
}

/* Steps 100, 200, … */
static size_t row(as_kept_one *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        items[i] = good((int64_t)(i + 1) * 100);
    }
    return count;
}

/* The items that stay, as digits from the lowest bit on: item 0 is bit 0. */
static uint32_t staying(const as_keep_rules *rules, const as_kept_one *items, size_t count)
{
    uint32_t reasons[MOST];
    as_retention(rules, items, count, now, reasons);
    uint32_t stay = 0;
    for (size_t i = 0; i < count; i++) {
        stay |= reasons[i] ? UINT32_C(1) << i : 0;
    }
    return stay;
}

static void without_a_rule_all_stay(void **state)
{
    (void)state;
    as_kept_one items[MOST];
    size_t count = row(items, 5);
    uint32_t reasons[MOST];
    as_keep_rules none = {.metric = "loss", .metric_max = true};
    assert_false(as_keep_rules_any(&none));
    as_retention(&none, items, count, now, reasons);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(reasons[i], AS_KEEP_NO_RULE | (i == 4 ? AS_KEEP_NEWEST : 0));
    }
    as_keep_rules negative = {.last = -1, .every = -1, .best = INT64_MIN, .seconds = NAN};
    assert_false(as_keep_rules_any(&negative));
    assert_int_equal(staying(&negative, items, count), 0x1f);
    as_retention(&none, NULL, 0, now, reasons);
}

static void the_last_stay(void **state)
{
    (void)state;
    as_kept_one items[MOST];
    size_t count = row(items, 6);
    assert_int_equal(staying(&(as_keep_rules){.last = 1}, items, count), 0x20);
    assert_int_equal(staying(&(as_keep_rules){.last = 3}, items, count), 0x38);
    assert_int_equal(staying(&(as_keep_rules){.last = 6}, items, count), 0x3f);
    assert_int_equal(staying(&(as_keep_rules){.last = INT64_MAX}, items, count), 0x3f);
    /* A damaged one stays, and is no substitute for a good one. */
    items[5].good = false;
    items[3].good = false;
    assert_int_equal(staying(&(as_keep_rules){.last = 2}, items, count), 0x3c);
}

static void every_so_many_steps_stay(void **state)
{
    (void)state;
    as_kept_one items[MOST];
    size_t count = row(items, 6);
    assert_int_equal(staying(&(as_keep_rules){.every = 300}, items, count), 0x24);
    assert_int_equal(staying(&(as_keep_rules){.every = 200}, items, count), 0x2a);
    assert_int_equal(staying(&(as_keep_rules){.every = 1}, items, count), 0x3f);
    assert_int_equal(staying(&(as_keep_rules){.every = 1000}, items, count), 0x20); /* newest */
    items[0].step = 0;
    assert_int_equal(staying(&(as_keep_rules){.every = 1000}, items, count), 0x21);
}

static void the_best_stay(void **state)
{
    (void)state;
    as_kept_one items[MOST];
    const double values[] = {3, 1, 2, 1, 5, 4, INFINITY, -INFINITY, NAN};
    size_t count = sizeof values / sizeof *values;
    for (size_t i = 0; i < count; i++) {
        items[i] = measured((int64_t)i, "loss", values[i]);
    }
    items[count] = good((int64_t)count); /* the newest, which nobody measured */
    count++;
    uint32_t newest = UINT32_C(1) << (count - 1);
    assert_int_equal(staying(&(as_keep_rules){.best = 1}, items, count), newest | 0x80);
    /* Of equal ones the newer: item 3 before item 1. */
    assert_int_equal(staying(&(as_keep_rules){.best = 2}, items, count), newest | 0x88);
    assert_int_equal(staying(&(as_keep_rules){.best = 3}, items, count), newest | 0x8a);
    assert_int_equal(staying(&(as_keep_rules){.best = 100}, items, count), newest | 0xff);
    as_keep_rules most = {.best = 2, .metric_max = true, .metric = "loss"};
    assert_int_equal(staying(&most, items, count), newest | 0x50);
    most.metric = "accuracy";
    assert_int_equal(staying(&most, items, count), newest);
    items[2].metric = "accuracy";
    assert_int_equal(staying(&most, items, count), newest | 0x04);
    most.metric = NULL; /* any */
    most.best = 4;
    assert_int_equal(staying(&most, items, count), newest | 0x71);
    /* A damaged one is not the best, it only stays. */
    items[7].good = false;
    assert_int_equal(staying(&(as_keep_rules){.best = 1}, items, count), newest | 0x88);
}

static void the_young_stay(void **state)
{
    (void)state;
    as_kept_one items[MOST];
    size_t count = row(items, 6);
    const int64_t ages[] = {INT64_C(3600000), 3600001, 3599999, 1, -1, 7200000};
    for (size_t i = 0; i < count; i++) {
        items[i].time_ms = now - ages[i];
    }
    assert_int_equal(staying(&(as_keep_rules){.seconds = 3600}, items, count), 0x3c);
    items[0].time_ms = INT64_MAX;
    items[1].time_ms = INT64_MIN;
    assert_int_equal(staying(&(as_keep_rules){.seconds = 3600}, items, count), 0x3d);
    assert_int_equal(staying(&(as_keep_rules){.seconds = INFINITY}, items, count), 0x3f);
}

static void some_always_stay(void **state)
{
    (void)state;
    as_kept_one items[MOST];
    size_t count = row(items, 7);
    items[0].tagged = true;
    items[1].in_use = true;
    items[2].good = false;
    items[3].step = -1;
    items[6].good = false;
    uint32_t reasons[MOST];
    as_retention(&(as_keep_rules){.every = 1000}, items, count, now, reasons);
    const uint32_t expected[] = {
        AS_KEEP_TAGGED, AS_KEEP_IN_USE, AS_KEEP_DAMAGED, AS_KEEP_UNKNOWN, 0,
        AS_KEEP_NEWEST, AS_KEEP_DAMAGED};
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(reasons[i], expected[i]);
    }
}

/* ---- the reference ---- */

static const as_keep_rules *sort_rules;
static const as_kept_one *sort_items;

static int by_merit(const void *a, const void *b)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    double p = sort_items[x].metric_value;
    double q = sort_items[y].metric_value;
    if (p != q) {
        return (p < q) != sort_rules->metric_max ? -1 : 1;
    }
    return x > y ? -1 : x < y;
}

static void reference(const as_keep_rules *rules, const as_kept_one *items, size_t count,
                      uint32_t *reasons)
{
    memset(reasons, 0, count * sizeof *reasons);
    size_t good_ones[MOST] = {0};
    size_t goods = 0;
    size_t ranked[MOST] = {0};
    size_t measures = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].good) {
            good_ones[goods++] = i;
            bool named =
                items[i].metric && (!rules->metric || !strcmp(items[i].metric, rules->metric));
            if (named && items[i].metric_value == items[i].metric_value) {
                ranked[measures++] = i;
            }
        } else {
            reasons[i] |= AS_KEEP_DAMAGED;
        }
        int64_t step = items[i].step;
        reasons[i] |= items[i].tagged ? AS_KEEP_TAGGED : 0;
        reasons[i] |= items[i].in_use ? AS_KEEP_IN_USE : 0;
        reasons[i] |= step < 0 ? AS_KEEP_UNKNOWN : 0;
        if (rules->every && step >= 0 && step / rules->every * rules->every == step) {
            reasons[i] |= AS_KEEP_EVERY;
        }
        if (rules->seconds > 0 && now - (int64_t)(rules->seconds * 1000) < items[i].time_ms) {
            reasons[i] |= AS_KEEP_YOUNG;
        }
        if (!rules->last && !rules->every && !rules->best && rules->seconds == 0) {
            reasons[i] |= AS_KEEP_NO_RULE;
        }
    }
    for (size_t k = 0; k < goods && (int64_t)k < rules->last; k++) {
        reasons[good_ones[goods - 1 - k]] |= AS_KEEP_LAST;
    }
    if (goods) {
        reasons[good_ones[goods - 1]] |= AS_KEEP_NEWEST;
    }
    sort_rules = rules;
    sort_items = items;
    qsort(ranked, measures, sizeof *ranked, by_merit);
    for (size_t k = 0; k < measures && (int64_t)k < rules->best; k++) {
        reasons[ranked[k]] |= AS_KEEP_BEST;
    }
}

static void random_series_keep_what_the_reference_keeps(void **state)
{
    (void)state;
    static const char *const metrics[] = {NULL, "loss", "accuracy"};
    uint64_t seed = 7;
    for (int i = 0; i < 200000; i++) {
        as_kept_one items[MOST];
        size_t count = (size_t)between(&seed, 0, MOST);
        int64_t step = between(&seed, -2, 3);
        for (size_t k = 0; k < count; k++) {
            step += between(&seed, 0, 3);
            items[k] = (as_kept_one){
                .step = step < 0 ? -1 : step,
                .time_ms = now + between(&seed, -20, 2) * 500,
                .good = between(&seed, 0, 3) != 0,
                .tagged = between(&seed, 0, 7) == 0,
                .in_use = between(&seed, 0, 15) == 0,
                .metric = metrics[between(&seed, 0, 2)],
                .metric_value = between(&seed, 0, 9) ? (double)between(&seed, -4, 4) : NAN,
            };
        }
        as_keep_rules rules = {
            .last = between(&seed, 0, 1) ? between(&seed, 0, 6) : 0,
            .every = between(&seed, 0, 1) ? between(&seed, 0, 9) : 0,
            .best = between(&seed, 0, 1) ? between(&seed, 0, 6) : 0,
            .metric = metrics[between(&seed, 0, 2)],
            .metric_max = between(&seed, 0, 1) != 0,
            .seconds = between(&seed, 0, 1) ? (double)between(&seed, 0, 20) / 2 : 0,
        };
        uint32_t expected[MOST];
        uint32_t found[MOST];
        reference(&rules, items, count, expected);
        as_retention(&rules, items, count, now, found);
        for (size_t k = 0; k < count; k++) {
            assert_int_equal(expected[k], found[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rule_all_stay),
        cmocka_unit_test(the_last_stay),
        cmocka_unit_test(every_so_many_steps_stay),
        cmocka_unit_test(the_best_stay),
        cmocka_unit_test(the_young_stay),
        cmocka_unit_test(some_always_stay),
        cmocka_unit_test(random_series_keep_what_the_reference_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
