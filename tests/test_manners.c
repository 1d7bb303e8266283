/* SPDX-License-Identifier: Apache-2.0
 * Lists of processors as people write them, threads that take manners and lose them again, and the
 * limit of bytes a second, with a clock of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/sys.h"
#include "io/manners.h"

#include <cmocka.h>

enum { SECOND = 1000000000 };

/* ---- lists ---- */

static void test_lists(void **state)
{
    static const struct {
        const char *list;
        const char *told;
    } cases[] = {
        {"0", "0"},
        {"2-3,8", "2-3,8"},
        {"8,2-3", "2-3,8"},
        {"3-3", "3"},
        {"0-6:2", "0,2,4,6"},
        {"0-6:2,1-5:2", "0-6"},
        {"1-3:100", "1"},
        {"007", "7"},
        {"63,64,127,128", "63-64,127-128"},
        {"1023-1024,8191", "1023-1024,8191"},
        {"0-8191", "0-8191"},
        {"0-8191:8191", "0,8191"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        as_error e = AS_ERROR_INIT;
        as_cpus c;
        if (as_cpus_parse(&c, cases[i].list, &e) != AS_OK) {
            fail_msg("%s: %s", cases[i].list, as_error_text(&e));
        }
        assert_string_equal(as_cpus_tell(&c).text, cases[i].told);
    }
    as_cpus c = {0};
    assert_string_equal(as_cpus_tell(&c).text, "none");
    assert_int_equal(as_cpus_count(&c), 0);
    for (int i = 1000; i < AS_CPUS_MOST; i += 2) {
        as_cpus_put(&c, i);
    }
    assert_int_equal(as_cpus_count(&c), (AS_CPUS_MOST - 1000) / 2);
    as_cpus_text cut = as_cpus_tell(&c);
    assert_non_null(strstr(cut.text, "1000,1002,1004,"));
    assert_string_equal(cut.text + strlen(cut.text) - strlen(",…"), ",…");
}

static void test_bad_lists(void **state)
{
    static const struct {
        const char *list;
        const char *told;
    } cases[] = {
        {"", "cpus is \"\": a number is missing (at character 1)"},
        {" ", "a number is missing (at character 1)"},
        {"2-", "a number is missing (at character 3)"},
        {"-3", "a number is missing (at character 1)"},
        {"2--3", "a number is missing (at character 3)"},
        {"1,,2", "a number is missing (at character 3)"},
        {"1,", "a number is missing (at character 3)"},
        {",1", "a number is missing (at character 1)"},
        {"+1", "a number is missing (at character 1)"},
        {"all", "a number is missing (at character 1)"},
        {"0-4:", "a number is missing (at character 5)"},
        {"1, 2", "a number is missing (at character 3)"},
        {"1 ,2", "a blank has no place there (at character 2)"},
        {"1\n", "cpus is \"1\\n\": a blank has no place there (at character 2)"},
        {"0x1", "a comma was expected (at character 2)"},
        {"1;2", "a comma was expected (at character 2)"},
        {"1:2", "a comma was expected (at character 2)"},
        {"0-4:2:2", "a comma was expected (at character 6)"},
        {"1-2-3", "a comma was expected (at character 4)"},
        {"0,8-2", "the range runs backwards (at character 3)"},
        {"0-4:0", "a step is 1 at least (at character 1)"},
        {"2,2", "a processor is named twice (at character 3)"},
        {"0-4,1-2", "a processor is named twice (at character 5)"},
        {"8192", "which end at 8191 (at character 1)"},
        {"0-8192", "which end at 8191 (at character 3)"},
        {"4294967296", "which end at 8191 (at character 1)"},
        {"18446744073709551617", "which end at 8191 (at character 1)"},
        {"0-1:99999999999999999999999999", "which end at 8191 (at character 5)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        as_error e = AS_ERROR_INIT;
        as_cpus c;
        as_manners m = {.cpus = cases[i].list};
        assert_int_equal(as_cpus_parse(&c, cases[i].list, &e), AS_INVALID);
        if (!strstr(as_error_text(&e), cases[i].told)) {
            fail_msg("\"%s\": %s", cases[i].list, as_error_text(&e));
        }
        as_error_clear(&e);
        assert_int_equal(as_manners_check(&m, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), cases[i].told));
        as_error_clear(&e);
    }
}

/* ---- what is asked for ---- */

static void test_check(void **state)
{
    static const char *const good[] = {"idle", "best-effort:0", "best-effort:3", "best-effort:7",
                                       NULL};
    static const char *const bad[] = {"",   "Idle",           "idle ",        "idle:0",
                                      "4",  "best-effort",    "best-effort:", "best-effort:8",
                                      "rt", "best-effort:10", "realtime:0",   "best-effort:-1"};
    (void)state;
    as_error e = AS_ERROR_INIT;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        as_manners m = {.priority = good[i], .bytes_per_s = INT64_MAX};
        assert_int_equal(as_manners_check(&m, &e), AS_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        as_manners m = {.priority = bad[i]};
        assert_int_equal(as_manners_check(&m, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "it must be \"idle\", or \"best-effort:0\""));
        as_error_clear(&e);
    }
    assert_int_equal(as_manners_check(&(as_manners){.bytes_per_s = -1}, &e), AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "bandwidth is -1"));
    as_error_clear(&e);
}

/* Processors that are there may be named, one that is not is told, and the thread that asks
 * stays where it was. */
static void test_allowed(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_cpus before;
    as_cpus after;
    char list[200];
    assert_true(as_cpus_of_thread(&before));
    int first = 0;
    while (!as_cpus_has(&before, first)) {
        first++;
    }
    (void)snprintf(list, sizeof list, "%d", first);
    assert_int_equal(as_manners_check(&(as_manners){.cpus = list}, &e), AS_OK);
    assert_true(as_cpus_of_thread(&after));
    assert_true(as_cpus_equal(&before, &after));

    if (!as_cpus_has(&before, 8191)) {
        (void)snprintf(list, sizeof list, "8191,%d", first);
        assert_int_equal(as_manners_check(&(as_manners){.cpus = list}, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "not there: 8191; possible are "));
        as_error_clear(&e);
        assert_int_equal(as_manners_check(&(as_manners){.cpus = "8191"}, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "not there: 8191; possible are "));
        as_error_clear(&e);
        assert_true(as_cpus_of_thread(&after));
        assert_true(as_cpus_equal(&before, &after));
    }
}

static int no_thread(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *user)
{
    *out = pthread_self();
    (void)how;
    (void)run;
    (void)user;
    return EAGAIN;
}

/* Without a thread nobody finds out, and the thread itself tells later. */
static void test_no_thread(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_sys good = as_sys_table;
    as_sys_table.pthread_create = no_thread;
    int code = as_manners_check(&(as_manners){.cpus = "8191"}, &e);
    as_sys_table = good;
    assert_int_equal(code, AS_OK);
}

/* ---- what a thread takes ---- */

typedef struct scene {
    as_manners_home caller;
    as_manners_home taken;
    as_manners_home inherited; /* by a thread that it made */
    as_manners_home returned;
    as_manners_home left;  /* without a home: as it was */
    as_manners_home other; /* of another thread */
    char one[16];          /* a list of one processor */
    int code;
    int impossible;
    char told[300];
} scene;

static void *note(void *user)
{
    as_manners_note(user);
    return NULL;
}

static void *lane(void *user)
{
    scene *s = user;
    as_error e = AS_ERROR_INIT;
    as_manners m = {.cpus = s->one, .priority = "best-effort:6"};
    pthread_t thread;
    s->code = as_manners_take(&m, &s->caller, &e);
    as_manners_note(&s->taken);
    if (pthread_create(&thread, NULL, note, &s->inherited) == 0) {
        (void)pthread_join(thread, NULL);
    }
    s->code = s->code == AS_OK ? as_manners_take(&(as_manners){0}, NULL, &e) : s->code;
    as_manners_note(&s->left);
    s->code = s->code == AS_OK ? as_manners_take(&(as_manners){0}, &s->caller, &e) : s->code;
    as_manners_note(&s->returned);
    /* One that is refused, with one that is not. */
    m = (as_manners){.cpus = "8191", .priority = "idle"};
    s->impossible = as_manners_take(&m, &s->caller, &e);
    as_manners_note(&s->other);
    (void)snprintf(s->told, sizeof s->told, "%s", as_error_text(&e));
    as_error_clear(&e);
    return NULL;
}

static bool same(const as_manners_home *a, const as_manners_home *b)
{
    return as_cpus_equal(&a->cpus, &b->cpus) && a->has_priority == b->has_priority &&
           a->priority == b->priority;
}

static void test_take(void **state)
{
    enum { BEST_EFFORT_6 = 2 << 13 | 6, IDLE = 3 << 13 };
    (void)state;
    scene s = {0};
    as_manners_home after;
    pthread_t thread;
    as_manners_note(&s.caller);
    assert_true(as_cpus_count(&s.caller.cpus) >= 1);
    assert_true(s.caller.has_priority);
    int last = 0;
    for (int i = 0; i < AS_CPUS_MOST; i++) {
        last = as_cpus_has(&s.caller.cpus, i) ? i : last;
    }
    (void)snprintf(s.one, sizeof s.one, "%d", last);
    assert_int_equal(pthread_create(&thread, NULL, lane, &s), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.code, AS_OK);
    assert_string_equal(as_cpus_tell(&s.taken.cpus).text, s.one);
    assert_int_equal(s.taken.priority, BEST_EFFORT_6);
    assert_true(same(&s.inherited, &s.taken));
    assert_true(same(&s.left, &s.taken));
    assert_true(same(&s.returned, &s.caller));
    as_manners_note(&after);
    assert_true(same(&after, &s.caller));
    if (!as_cpus_has(&s.caller.cpus, 8191)) {
        assert_int_equal(s.impossible, AS_SYSTEM);
        assert_non_null(strstr(s.told, "cannot run on processors 8191: "));
        assert_true(as_cpus_equal(&s.other.cpus, &s.caller.cpus));
        assert_int_equal(s.other.priority, IDLE);
    }
}

/* What the check would have refused is an error here too, and what is right is taken. */
static void *lane_of_nonsense(void *user)
{
    scene *s = user;
    as_error e = AS_ERROR_INIT;
    as_manners m = {.cpus = "x", .priority = "best-effort:6"};
    s->code = as_manners_take(&m, NULL, &e);
    as_manners_note(&s->taken);
    as_error_clear(&e);
    m = (as_manners){.cpus = s->one, .priority = "x"};
    s->impossible = as_manners_take(&m, NULL, &e);
    as_manners_note(&s->other);
    as_error_clear(&e);
    return NULL;
}

static void test_nonsense(void **state)
{
    (void)state;
    scene s = {0};
    pthread_t thread;
    as_manners_note(&s.caller);
    int first = 0;
    while (!as_cpus_has(&s.caller.cpus, first)) {
        first++;
    }
    (void)snprintf(s.one, sizeof s.one, "%d", first);
    assert_int_equal(pthread_create(&thread, NULL, lane_of_nonsense, &s), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.code, AS_INVALID);
    assert_int_equal(s.taken.priority, 2 << 13 | 6);
    assert_true(as_cpus_equal(&s.taken.cpus, &s.caller.cpus));
    assert_int_equal(s.impossible, AS_INVALID);
    assert_string_equal(as_cpus_tell(&s.other.cpus).text, s.one);
}

/* ---- pace ---- */

static void test_no_limit(void **state)
{
    (void)state;
    as_pace p = {0};
    for (int i = 0; i < 100; i++) {
        assert_int_equal(as_pace_ask_at(&p, INT64_MAX, 0), 0);
    }
    p.bytes_per_s = -1;
    assert_int_equal(as_pace_ask(&p, INT64_MAX), 0);
    p.bytes_per_s = 1;
    assert_int_equal(as_pace_ask(&p, 0), 0);
    assert_int_equal(as_pace_ask(&p, -5), 0);
    assert_int_equal(as_pace_ask(&p, 1), 0);
    assert_true(as_pace_ask(&p, 1) > 0);
}

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* One writer that comes up to `late_most` after it was told to, at odd sizes. In every span between
 * two calls no more went than the limit allows; over all of it, no less if it never came too
 * late. */
static void drive(int64_t rate, int64_t size_most, int64_t late_most, uint64_t seed)
{
    enum { CALLS = 3000, TENTH = SECOND / 10 };
    static int64_t at[CALLS];
    static int64_t bytes[CALLS];
    as_pace p = {.bytes_per_s = rate};
    int64_t now = 12345678901;
    for (int i = 0; i < CALLS; i++) {
        bytes[i] = 1 + (int64_t)(random_next(&seed) % (uint64_t)size_most);
        int64_t wait;
        while ((wait = as_pace_ask_at(&p, bytes[i], now)) > 0) {
            now += wait + (int64_t)(random_next(&seed) % (uint64_t)(late_most + 1));
        }
        assert_int_equal(wait, 0);
        at[i] = now;
    }
    for (int first = 0; first < CALLS; first += 1 + first / 50) {
        __int128 sum = 0;
        for (int last = first; last < CALLS; last++) {
            /* The last one's bytes are the one call that comes on top. */
            assert_true(sum * SECOND <= (__int128)rate * (at[last] - at[first] + TENTH + 1));
            sum += bytes[last];
        }
    }
    if (late_most <= TENTH) {
        __int128 sum = 0;
        for (int i = 0; i + 1 < CALLS; i++) {
            sum += bytes[i];
        }
        __int128 due = (__int128)rate * (at[CALLS - 1] - at[0]);
        assert_true(sum * SECOND >= due - (__int128)rate * (late_most + 1));
    }
}

static void test_pace(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        drive(100000000, 4 << 20, 0, seed);
        drive(100000000, 4 << 20, SECOND / 10, seed);
        drive(100000000, 4 << 20, SECOND, seed);
        drive(INT64_C(9999999967), 4096, 70000, seed); /* 0.4 µs a call */
        drive(INT64_C(300000000007), 100, 10, seed);   /* 0.3 ns a call */
        drive(3, 5, SECOND / 100, seed);               /* slower than anyone wants */
        drive(1, 1 << 20, 1000, seed);                 /* six days a call */
        drive(INT64_MAX, INT64_MAX, 1000, seed);
    }
}

/* A tenth of a second is made up for, not more. */
static void test_burst(void **state)
{
    (void)state;
    as_pace p = {.bytes_per_s = 1000};
    int64_t now = 100 * (int64_t)SECOND;
    int count = 0;
    while (as_pace_ask_at(&p, 10, now) == 0) {
        count++;
    }
    assert_int_equal(count, 11);
    assert_int_equal(as_pace_ask_at(&p, 10, now), SECOND / 100);
    now += SECOND / 100;
    assert_int_equal(as_pace_ask_at(&p, 10, now), 0);
    now += 50 * (int64_t)SECOND;
    for (count = 0; as_pace_ask_at(&p, 10, now) == 0;) {
        count++;
    }
    assert_int_equal(count, 11);
}

/* The largest numbers make it wait, and never go wrong. */
static void test_extremes(void **state)
{
    (void)state;
    as_pace p = {.bytes_per_s = 1};
    assert_int_equal(as_pace_ask_at(&p, INT64_MAX, 5), 0);
    assert_int_equal(as_pace_ask_at(&p, 1, 5), INT64_MAX - 5);
    assert_int_equal(as_pace_ask_at(&p, INT64_MAX, INT64_MAX - 1), 1);
    p = (as_pace){.bytes_per_s = INT64_MAX};
    assert_int_equal(as_pace_ask_at(&p, INT64_MAX, 0), 0);
    assert_int_equal(as_pace_ask_at(&p, 1, 0), SECOND);
    p = (as_pace){.bytes_per_s = INT64_MAX};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(as_pace_ask_at(&p, 1, 0), 0);
    }
    p = (as_pace){.bytes_per_s = INT64_MAX};
    assert_int_equal(as_pace_ask_at(&p, INT64_MAX, INT64_MAX), 0);
    assert_int_equal(as_pace_ask_at(&p, 1, INT64_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),     cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_check),     cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_no_thread), cmocka_unit_test(test_take),
        cmocka_unit_test(test_nonsense),  cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_pace),      cmocka_unit_test(test_burst),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
