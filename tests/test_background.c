/* SPDX-License-Identifier: Apache-2.0
 * The thread that does one job at a time: outcomes, what jobs have to tell, and the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "transfer/background.h"

#include <cmocka.h>

typedef struct work {
    as_log log;
    int number;
    int fails;
    long nap_us;
    int done;
} work;

static int job(void *user, as_error *e)
{
    work *w = user;
    struct timespec t = {.tv_nsec = w->nap_us * 1000};
    (void)nanosleep(&t, NULL);
    as_log_say(&w->log, AS_LOG_WARNING, "line %d", w->number);
    w->done++;
    return w->fails ? as_fail(e, AS_SYSTEM, 5, "job %d", w->number) : AS_OK;
}

static void count_lines(int level, const char *text, void *user)
{
    int *lines = user;
    char expected[32];
    (void)snprintf(expected, sizeof expected, "line %d", *lines);
    assert_int_equal(level, AS_LOG_WARNING);
    assert_string_equal(text, expected);
    (*lines)++;
}

static void test_jobs(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_background *b = NULL;
    assert_int_equal(as_background_open(&b, &e), AS_OK);
    assert_true(as_background_idle(b));
    assert_int_equal(as_background_take(b, &e), AS_OK);
    int lines = 0;
    as_log log = {.call = count_lines, .user = &lines};
    for (int i = 0; i < 200; i++) {
        work w = {.log = as_background_log(b), .number = i, .fails = i % 3 == 0, .nap_us = i % 5};
        as_background_start(b, job, &w);
        if (i % 2) {
            as_background_wait(b);
        } else {
            while (!as_background_idle(b)) {
            }
        }
        assert_int_equal(w.done, 1);
        assert_int_equal(as_background_take(b, &e), w.fails ? AS_SYSTEM : AS_OK);
        if (w.fails) {
            assert_int_equal(e.sys_errno, 5);
            as_error_clear(&e);
        }
        assert_int_equal(as_background_take(b, &e), AS_OK); /* once */
        if (i % 7 == 0) {
            as_background_tell(b, &log);
            assert_int_equal(lines, i + 1);
        }
    }
    as_background_tell(b, &log);
    assert_int_equal(lines, 200);
    as_background_close(b);
}

/* Closing waits for the job, and drops its error and lines. */
static void test_close(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_background *b = NULL;
    assert_int_equal(as_background_open(&b, &e), AS_OK);
    work w = {.log = as_background_log(b), .fails = 1, .nap_us = 20000};
    as_background_start(b, job, &w);
    as_background_close(b);
    assert_int_equal(w.done, 1);
    as_background_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs),
        cmocka_unit_test(test_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
