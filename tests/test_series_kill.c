/* SPDX-License-Identifier: Apache-2.0
 * Saves of a series, and recoveries, killed at every call that touches the disk: afterwards the root
 * holds the checkpoints of before, or the new one, too, whole, and of the others none is gone before
 * that counts; the old checkpoint of a step that is replaced stays until then. What goes by the rules
 * goes wholly or not at all. Then each call fails once. Every third call, and others in each scene;
 * with ALLSHARD_LONG=1 every one. (Killed again and again, at random: test_series_model.c.)
 */
/* sanitize: no */
/* timeout: 120 */
/* long-timeout: 3600 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "support_faults.h"
#include "support_series.h"
#include "support_series_jobs.h"

enum { NOW_MS = 1700000000 };

static char root[256];

typedef struct scene {
    const char *what;
    int64_t step;     /* that is saved */
    int64_t keep;     /* keep_last */
    int before;       /* checkpoints that are there */
    bool tag_in_time; /* the oldest one gets a tag just before it is moved away */
} scene;

static const scene scenes[] = {
    {"the first one", 1, 0, 0, false},
    {"a new one, and two go", 5, 3, 4, false},
    {"one is replaced", 2, 0, 3, false},
    {"the newest is replaced, and one goes", 3, 2, 3, false},
    {"one that was to go gets a tag", 4, 2, 3, true},
};

static book_one one_of(int64_t step, int64_t id)
{
    book_one one = {.id = id, .step = step, .time_ms = NOW_MS + step * 1000};
    (void)snprintf(one.name, sizeof one.name, "e0_s%d", (int)step);
    return one;
}

static job job_of(const scene *s)
{
    job j = {.kind = JOB_SAVE,
             .root = root,
             .now_ms = NOW_MS + 100000,
             .one = one_of(s->step, 1000),
             .rules = {.last = s->keep}};
    if (s->tag_in_time) {
        (void)snprintf(j.tag, sizeof j.tag, "e0_s1");
    }
    return j;
}

/* The root as it is before, by saves that go well. */
static void set_root(const scene *s, book *b)
{
    remove_tree(root);
    must(mkdir(root, 0777) == 0, root);
    *b = (book){.count = 0};
    for (int i = 1; i <= s->before; i++) {
        const job j = {.kind = JOB_SAVE, .root = root, .now_ms = NOW_MS, .one = one_of(i, i)};
        assert_int_equal(job_do(&j, NULL), AS_OK);
        book_put(b, &j.one);
        (void)snprintf(b->latest, sizeof b->latest, "%s", j.one.name);
    }
}

enum found { NEITHER, OLD, NEW };

/* A look that failed may have taken a good one for damaged, so that another stays in its place. */
static bool some_may_stay;

static bool holds(const book *b, const char *latest)
{
    book copy = *b;
    (void)snprintf(copy.latest, sizeof copy.latest, "%s", latest);
    return book_compare(&copy, root) == NULL;
}

/* Which of the states that are allowed is it? */
static enum found look(const scene *s, const book *before)
{
    const job j = job_of(s);
    const char *const used[] = {j.one.name, NULL};
    if (holds(before, before->latest)) {
        return OLD;
    }
    book after = *before;
    book_put(&after, &j.one);
    for (int pruned = 0; pruned < 2; pruned++) {
        for (int tagged = 0; tagged < (s->tag_in_time ? 2 : 1); tagged++) {
            book b = after;
            if (tagged) {
                book_find(&b, j.tag)->tagged = true;
            }
            if (pruned) {
                book_prune(&b, &j.rules, used, j.now_ms, some_may_stay);
            }
            if (holds(&b, before->latest) || holds(&b, j.one.name)) {
                return NEW;
            }
        }
    }
    return NEITHER;
}

static bool has_leftovers(void)
{
    return exists(root, AS_META_NAME);
}

enum { SHORT_LEASE_MS = 300 };

static const job recovery = {.kind = JOB_RECOVER, .root = root};

/* Steps from one call to the next. */
static int stride(int usual)
{
    const char *text = getenv("ALLSHARD_LONG");
    return text && *text && strcmp(text, "0") != 0 ? 1 : usual;
}

/* Before anybody recovers: nothing is missing but what a journal can give back. */
static void check_unrecovered(const scene *s, const book *before)
{
    char meta[400];
    char aside[400];
    if (exists(root, AS_META_NAME "/" AS_JOURNAL_NAME)) {
        return;
    }
    (void)snprintf(meta, sizeof meta, "%s/" AS_META_NAME, root);
    (void)snprintf(aside, sizeof aside, "%s.meta", root);
    bool any = rename(meta, aside) == 0;
    assert_int_not_equal(look(s, before), NEITHER);
    must(!any || rename(aside, meta) == 0, meta);
}

static void check_recovered(const scene *s, const book *before, enum found expected, int at)
{
    enum found found = look(s, before);
    if (found == NEITHER || (expected != NEITHER && found != expected) || has_leftovers()) {
        book_print(before);
        print_error("%s, killed at call %d: %s\n", s->what, at,
                    has_leftovers()    ? ".allshard is left"
                    : found == NEITHER ? "neither"
                    : found == OLD     ? "the old ones"
                                       : "the new one");
        fail();
    }
}

static void test_killed_saves(void **state)
{
    (void)state;
    int kills = 0;
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        const scene *s = &scenes[i];
        const job j = job_of(s);
        book before;
        enum found last = OLD;
        for (int at = 1 + (int)i % stride(3);; at += stride(3), kills++) {
            set_root(s, &before);
            if (job_do_in_child(&j, FAULT_KILL, at, 0) != JOB_KILLED) {
                break;
            }
            check_unrecovered(s, &before);
            assert_int_equal(job_do(&recovery, NULL), AS_OK);
            check_recovered(s, &before, last == NEW ? NEW : NEITHER, at);
            last = look(s, &before);
        }
        assert_int_equal(last, NEW);
        check_recovered(s, &before, NEW, 0);
        assert_true(!s->tag_in_time || exists(root, j.tag)); /* nobody was killed: it came back */
    }
    print_message("saves killed: %d\n", kills);
    assert_true(kills > 500);
}

static void test_killed_recoveries(void **state)
{
    (void)state;
    int kills = 0;
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        const scene *s = &scenes[i];
        const job j = job_of(s);
        book before;
        for (int at = 1 + (int)i;; at += stride(11)) {
            set_root(s, &before);
            if (job_do_in_child(&j, FAULT_KILL, at, 0) != JOB_KILLED) {
                break;
            }
            /* Each recovery is killed a little later, upon what the one before has left. */
            for (int step = 1; job_do_in_child(&recovery, FAULT_KILL, step, 0) == JOB_KILLED;
                 step += stride(1 + step / 2), kills++) {
            }
            check_recovered(s, &before, NEITHER, at);
        }
    }
    print_message("recoveries killed: %d\n", kills);
    assert_true(kills > 500);
}

/* Each call fails once: the code tells what is there. */
static void test_failing_calls(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC};
    int faults = 0;
    /* A lock that could not be removed is emptied, and to be waited for. */
    const job afterwards = {.kind = JOB_RECOVER, .root = root, .lease_ms = SHORT_LEASE_MS};
    some_may_stay = true;
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        for (size_t n = 0; n < sizeof errors / sizeof *errors; n++) {
            const scene *s = &scenes[i];
            job j = job_of(s);
            j.lease_ms = SHORT_LEASE_MS;
            book before;
            for (int at = 1 + (int)(2 * i + n) % stride(7);; at += stride(7), faults++) {
                set_root(s, &before);
                as_error e = AS_ERROR_INIT;
                fault_set(FAULT_FAIL, at, errors[n]);
                int code = job_do(&j, &e);
                bool reached = fault_first_hit()->happened;
                (void)fault_end();
                if (!reached) {
                    assert_int_equal(code, AS_OK);
                    break;
                }
                bool sure = code != AS_PENDING && code != AS_UNKNOWN;
                if (sure && code != AS_OK && has_leftovers()) {
                    print_error("%s, call %d: %s, and .allshard is left\n", s->what, at,
                                as_error_text(&e));
                    fail();
                }
                assert_int_equal(job_do(&afterwards, NULL), AS_OK);
                check_recovered(s, &before,
                                code == AS_OK || code == AS_PENDING ? NEW
                                : sure                              ? OLD
                                                                    : NEITHER,
                                at);
                as_error_clear(&e);
            }
        }
    }
    print_message("calls that failed: %d\n", faults);
    assert_true(faults > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_saves),
        cmocka_unit_test(test_killed_recoveries),
        cmocka_unit_test(test_failing_calls),
    };
    (void)snprintf(root, sizeof root, "%s", scratch_folder());
    fault_install();
    job_install();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_tree(root);
    remove_tree(root);
    return failed;
}
