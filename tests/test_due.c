/* SPDX-License-Identifier: Apache-2.0
 * What is due at a step: every reason for itself, together, and what saves and failures change.
 */
#include "due_scene.h"
#include "series/interval.h"

/* The reasons for a save at that step; −1 if there is none but reasons all the same. */
static int saves_at(int64_t step, double passed)
{
    as_verdict v = poll(step, passed);
    return v.save ? v.reasons : v.reasons ? -1 : 0;
}

static void near(double got, double wanted)
{
    if (!(fabs(got - wanted) <= 1e-6 * fmax(1, fabs(wanted)))) {
        fail_msg("%.12g, not %.12g", got, wanted);
    }
}

/* -------------------------------------------------------------------- one by one */

static void test_no_rule(void **state)
{
    (void)state;
    begin((as_due_rules){0});
    for (int64_t step = 0; step < 100; step++) {
        as_verdict v = poll(step, 1e6);
        assert_false(v.save || v.stop || v.requeue || v.reasons || v.signal || v.held);
        near(v.seconds_left, -1);
        near(v.interval_s, 0);
    }
}

static void test_every_steps(void **state)
{
    (void)state;
    begin((as_due_rules){.every_steps = 10});
    for (int64_t step = 0; step <= 40; step++) {
        int wanted = step > 0 && step % 10 == 0 ? AS_REASON_STEPS : 0;
        assert_int_equal(saves_at(step, 1), wanted);
        assert_int_equal(saves_at(step, 1), wanted); /* it is not forgotten */
        if (wanted) {
            (void)save(step, 1, 1);
            assert_int_equal(saves_at(step, 1), 0); /* nor told again */
        }
    }
    /* Polls may step over the multiples; what was told and not done stays due. */
    assert_int_equal(saves_at(47, 1), 0);
    assert_int_equal(saves_at(53, 1), AS_REASON_STEPS);
    assert_int_equal(saves_at(54, 1), AS_REASON_STEPS);
    (void)save(54, 1, 1);
    assert_int_equal(saves_at(59, 1), 0);
    assert_int_equal(saves_at(60, 1), AS_REASON_STEPS);
    /* A run that goes on from a checkpoint, told and not told. */
    begin((as_due_rules){.every_steps = 10});
    as_due_loaded(&due, 20, 0, sight.now);
    assert_int_equal(saves_at(20, 1), 0);
    assert_int_equal(saves_at(29, 1), 0);
    assert_int_equal(saves_at(30, 1), AS_REASON_STEPS);
    begin((as_due_rules){.every_steps = 10});
    assert_int_equal(saves_at(21, 1), 0);
    assert_int_equal(saves_at(30, 1), AS_REASON_STEPS);
    begin((as_due_rules){.every_steps = 1});
    assert_int_equal(saves_at(0, 1), 0);
    assert_int_equal(saves_at(1, 1), AS_REASON_STEPS);
    begin((as_due_rules){.every_steps = INT64_MAX});
    assert_int_equal(saves_at(1, 1), 0);
    assert_int_equal(saves_at(INT64_MAX, 1), AS_REASON_STEPS);
}

static void test_every_seconds(void **state)
{
    (void)state;
    begin((as_due_rules){.every_s = 100});
    assert_int_equal(saves_at(1, 0), 0);
    assert_int_equal(saves_at(2, 99), 0);
    assert_int_equal(saves_at(3, 1), AS_REASON_SECONDS);
    (void)save(3, 10, 10); /* from begin to begin */
    assert_int_equal(saves_at(4, 89), 0);
    assert_int_equal(saves_at(5, 1), AS_REASON_SECONDS);
    /* While one is on its way no other begins for a clock's sake. */
    as_due_began(&due, 5, sight.now);
    assert_int_equal(saves_at(6, 500), 0);
    (void)as_due_saved(&due, 5, 1, 500);
    assert_int_equal(saves_at(7, 0), AS_REASON_SECONDS);
}

static void test_overhead(void **state)
{
    (void)state;
    begin((as_due_rules){.overhead_percent = 10});
    assert_int_equal(saves_at(5, 1), 0);
    assert_int_equal(saves_at(6, 0), AS_REASON_OVERHEAD); /* to learn what it costs */
    (void)save(6, 3, 5);
    near(poll(7, 0).interval_s, 30);
    assert_int_equal(saves_at(8, 24), 0);
    assert_int_equal(saves_at(9, 1), AS_REASON_OVERHEAD);
    (void)save(9, 30, 30); /* one that took long has to pay for itself */
    near(poll(10, 0).interval_s, 300);
    assert_int_equal(saves_at(11, 269), 0);
    assert_int_equal(saves_at(12, 1), AS_REASON_OVERHEAD);
    (void)save(12, 0, 0);
    assert_int_equal(saves_at(13, 0), AS_REASON_OVERHEAD);
}

static void test_failures(void **state)
{
    (void)state;
    begin((as_due_rules){.mtbf_s = 86400});
    assert_int_equal(saves_at(1, 50), 0);
    assert_int_equal(saves_at(2, 50), AS_REASON_FAILURES);
    (void)save(2, 60, 600);
    double interval = as_interval_failures(60, 86400);
    near(poll(3, 0).interval_s, interval);
    assert_int_equal(saves_at(4, interval - 601), 0);
    assert_int_equal(saves_at(5, 1), AS_REASON_FAILURES);
    as_due_began(&due, 5, sight.now);
    assert_int_equal(saves_at(6, 2 * interval), 0); /* that one first */
    (void)as_due_saved(&due, 5, 60, 2 * interval);
    assert_int_equal(saves_at(7, 0), AS_REASON_FAILURES);
    /* A run that goes on knows from the record what a save takes. */
    begin((as_due_rules){.mtbf_s = 86400});
    as_due_loaded(&due, 100, 60, sight.now);
    assert_int_equal(saves_at(101, interval - 1), 0);
    assert_int_equal(saves_at(102, 1), AS_REASON_FAILURES);
    as_due_loaded(&due, 100, NAN, sight.now);
    near(poll(101, 0).interval_s, 0);
    assert_int_equal(saves_at(102, 0), AS_REASON_FAILURES);
}

static void test_overhead_limits_failures(void **state)
{
    (void)state;
    begin((as_due_rules){.mtbf_s = 86400, .overhead_percent = 1});
    as_due_loaded(&due, 1, 60, sight.now);
    near(poll(2, 0).interval_s, 6000);
    assert_int_equal(saves_at(3, 5999), 0);
    assert_int_equal(saves_at(4, 1), AS_REASON_OVERHEAD);
    begin((as_due_rules){.mtbf_s = 86400, .overhead_percent = 5});
    as_due_loaded(&due, 1, 60, sight.now);
    double interval = as_interval_failures(60, 86400);
    near(poll(2, 0).interval_s, interval);
    assert_int_equal(saves_at(3, interval), AS_REASON_FAILURES);
}

/* ------------------------------------------------------------------------ signals */

static void test_stop_signal(void **state)
{
    (void)state;
    begin((as_due_rules){0});
    assert_int_equal(saves_at(1, 1), 0);
    as_verdict v = poll_with(2, 1, SIGTERM, 0);
    assert_true(v.save && v.stop && v.requeue);
    assert_int_equal(v.reasons, AS_REASON_SIGNAL);
    assert_int_equal(v.signal, SIGTERM);
    v = poll(3, 1); /* not done yet */
    assert_true(v.save && v.stop && v.requeue);
    (void)save(3, 1, 1);
    v = poll_with(4, 1, SIGUSR2, 0); /* told twice */
    assert_true(!v.save && v.stop && v.requeue);
    assert_int_equal(v.signal, SIGTERM);
    assert_int_equal(v.reasons, AS_REASON_SIGNAL);
    v = poll(5, 1);
    assert_true(!v.save && v.stop);
    /* A state that is saved already is not saved again. */
    begin((as_due_rules){.every_steps = 2});
    assert_int_equal(saves_at(2, 1), AS_REASON_STEPS);
    (void)save(2, 1, 1);
    v = poll_with(2, 1, SIGTERM, 0);
    assert_true(!v.save && v.stop && v.requeue);
}

static void test_save_signal(void **state)
{
    (void)state;
    begin((as_due_rules){0});
    as_verdict v = poll_with(1, 1, 0, SIGUSR1);
    assert_true(v.save && !v.stop && !v.requeue);
    assert_int_equal(v.signal, SIGUSR1);
    v = poll(2, 1);
    assert_true(v.save && v.signal == SIGUSR1);
    (void)save(2, 1, 1);
    v = poll(3, 1);
    assert_true(!v.save && v.signal == 0);
    v = poll_with(4, 1, SIGTERM, SIGUSR1);
    assert_true(v.save && v.stop && v.signal == SIGTERM);
}

/* ---------------------------------------------------------------------- wall time */

static void test_walltime(void **state)
{
    (void)state;
    begin((as_due_rules){.margin = 1.2, .margin_s = 5, .first_margin_s = 120});
    sight.seconds_left = 3600;
    near(poll(1, 0).margin_s, 120);
    (void)save(1, 1, 50);
    near(poll(2, 0).margin_s, 65);
    /* Steps take ten seconds: at the last poll that leaves room for the save and one more step. */
    int64_t step = 3;
    as_verdict v = poll(step++, 10);
    while (!v.stop) {
        assert_true(v.seconds_left > 75);
        v = poll(step++, 10);
    }
    assert_true(v.save && v.requeue && v.reasons == AS_REASON_WALLTIME);
    assert_true(v.seconds_left <= 75 && v.seconds_left > 65);
    (void)save(step - 1, 1, 50);
    v = poll(step, 1);
    assert_true(!v.save && v.stop && v.requeue);
    sight.seconds_left = 5000; /* the operator makes the job longer too late */
    v = poll(step + 1, 1);
    assert_true(!v.save && v.stop);
}

/* Near the end there is time for one save, and none after it. */
static void test_last_save(void **state)
{
    (void)state;
    const as_due_rules rules = {
        .every_s = 60, .every_steps = 10, .margin = 1.2, .margin_s = 5, .first_margin_s = 120};
    for (int i = 0; i < 3; i++) {
        begin(rules);
        sight.seconds_left = 1000;
        (void)poll(1, 0);
        (void)save(1, 1, 50); /* from now on 65 seconds */
        (void)poll(2, 0);
        assert_int_equal(saves_at(3, 10), AS_REASON_SECONDS);
        sight.seconds_left = 139;
        as_verdict v = poll_with(i == 1 ? 10 : 4, 1, 0, i == 2 ? SIGUSR1 : 0);
        if (i == 0) { /* what a clock asks for waits for the last one */
            assert_false(v.save || v.stop);
        } else { /* what is for this step is the last one */
            int reason = i == 1 ? AS_REASON_STEPS : AS_REASON_SIGNAL;
            assert_true(v.save && v.stop && v.requeue);
            assert_int_equal(v.reasons, reason | AS_REASON_WALLTIME);
        }
    }
    begin(rules);
    sight.seconds_left = 1000;
    (void)poll(1, 0);
    (void)save(1, 1, 50);
    (void)poll(2, 0);
    assert_int_equal(saves_at(3, 10), AS_REASON_SECONDS);
    sight.seconds_left = 142; /* there is */
    assert_int_equal(saves_at(4, 1), AS_REASON_SECONDS);
}

static void test_walltime_of_short_jobs(void **state)
{
    (void)state;
    begin((as_due_rules){.margin = 1.2, .margin_s = 5, .first_margin_s = 120});
    sight.seconds_left = 100;
    as_verdict v = poll(1, 0);
    assert_false(v.stop);
    near(v.margin_s, 25);
    assert_false(poll(2, 1).stop);
    near(poll(3, 1).margin_s, 25);
    assert_false(poll(4, 60).stop);
    assert_true(poll(5, 14).stop);
}

static void test_walltime_with_one_in_flight(void **state)
{
    (void)state;
    begin((as_due_rules){.margin = 1.2, .margin_s = 5, .first_margin_s = 120});
    sight.seconds_left = 1000;
    (void)poll(1, 0);
    (void)save(1, 1, 100); /* from now on 125 seconds */
    as_due_began(&due, 2, sight.now);
    near(poll(3, 0).margin_s, 250); /* that one first */
    near(poll(4, 100).margin_s, 150);
    near(poll(5, 100).margin_s, 125);
    (void)as_due_saved(&due, 2, 1, 200);
    near(poll(6, 0).margin_s, 245);
}

/* -------------------------------------------------------------------- control file */

static void test_save_now(void **state)
{
    (void)state;
    begin((as_due_rules){0});
    assert_int_equal(saves_at(1, 1), 0);
    sight.words = AS_CONTROL_SAVE;
    assert_int_equal(saves_at(2, 1), AS_REASON_CONTROL);
    assert_int_equal(saves_at(3, 1), AS_REASON_CONTROL);
    as_due_began(&due, 3, sight.now);
    assert_int_equal(saves_at(4, 1), 0); /* it is answered, if the save lasts */
    assert_int_equal(as_due_saved(&due, 3, 1, 1), AS_CONTROL_SAVE);
    assert_int_equal(saves_at(5, 1), 0); /* not struck out yet */
    sight.words = 0;
    assert_int_equal(saves_at(6, 1), 0);
    sight.words = AS_CONTROL_SAVE; /* again */
    assert_int_equal(saves_at(7, 1), AS_REASON_CONTROL);
    sight.words = 0; /* somebody has thought better of it */
    assert_int_equal(saves_at(8, 1), 0);
    assert_int_equal(save(8, 1, 1), 0);
    /* A save that had begun before does not answer it. */
    as_due_began(&due, 9, sight.now);
    sight.words = AS_CONTROL_SAVE;
    assert_int_equal(saves_at(10, 1), AS_REASON_CONTROL);
    assert_int_equal(as_due_saved(&due, 9, 1, 1), 0);
    assert_int_equal(saves_at(11, 1), AS_REASON_CONTROL);
    assert_int_equal(save(11, 1, 1), AS_CONTROL_SAVE);
    assert_int_equal(as_due_ends(&due), 0);
}

static void test_stop_word(void **state)
{
    (void)state;
    begin((as_due_rules){0});
    sight.words = AS_CONTROL_STOP;
    as_verdict v = poll(1, 1);
    assert_true(v.save && v.stop && !v.requeue);
    assert_int_equal(v.reasons, AS_REASON_CONTROL);
    v = poll(2, 1);
    assert_true(v.save && v.stop && !v.requeue);
    assert_int_equal(save(2, 1, 1), AS_CONTROL_STOP);
    v = poll(3, 1);
    assert_true(!v.save && v.stop && !v.requeue);
    sight.words = 0;
    v = poll_with(4, 1, SIGTERM, 0); /* also the scheduler ends it: it is not started again */
    assert_true(!v.save && v.stop && !v.requeue);
    assert_int_equal(v.reasons, AS_REASON_CONTROL | AS_REASON_SIGNAL);
    assert_int_equal(as_due_ends(&due), AS_CONTROL_STOP);
    /* The other way round. */
    begin((as_due_rules){0});
    v = poll_with(1, 1, SIGTERM, 0);
    assert_true(v.save && v.stop && v.requeue);
    sight.words = AS_CONTROL_STOP;
    v = poll(1, 1);
    assert_true(v.save && v.stop && !v.requeue);
    (void)save(1, 1, 1);
    v = poll(2, 1);
    assert_true(!v.save && v.stop && !v.requeue);
}

static void test_hold(void **state)
{
    (void)state;
    begin((as_due_rules){.every_steps = 1, .every_s = 1, .mtbf_s = 10, .overhead_percent = 50});
    sight.words = AS_CONTROL_HOLD;
    for (int64_t step = 1; step < 5; step++) {
        as_verdict v = poll(step, 10);
        assert_true(!v.save && v.held && v.reasons == 0);
    }
    as_verdict v = poll_with(5, 1, 0, SIGUSR1);
    assert_true(v.save && v.held && v.reasons == AS_REASON_SIGNAL);
    (void)save(5, 1, 1);
    sight.words |= AS_CONTROL_SAVE;
    v = poll(6, 10);
    assert_true(v.save && v.held && v.reasons == AS_REASON_CONTROL);
    assert_int_equal(save(6, 1, 1), AS_CONTROL_SAVE);
    sight.words = AS_CONTROL_HOLD;
    assert_false(poll(7, 10).save);
    sight.words = 0;
    v = poll(8, 1); /* what waited is due at once */
    assert_true(v.save && !v.held);
    assert_int_equal(v.reasons & (AS_REASON_STEPS | AS_REASON_SECONDS),
                     AS_REASON_STEPS | AS_REASON_SECONDS);
}

/* ----------------------------------------------------------------- saves that fail */

static void fail_save(int64_t step)
{
    as_due_began(&due, step, sight.now);
    as_due_failed(&due, step, sight.now);
}

static void test_failed_saves(void **state)
{
    (void)state;
    begin((as_due_rules){.every_steps = 1000});
    assert_int_equal(saves_at(1000, 1), AS_REASON_STEPS);
    double pause = 60;
    int64_t step = 1001;
    for (int i = 0; i < 10; i++) {
        fail_save(step - 1);
        assert_int_equal(saves_at(step++, pause - 1), 0);
        assert_int_equal(saves_at(step++, 1), AS_REASON_STEPS);
        pause = fmin(pause * 2, 3600);
    }
    (void)save(step - 1, 1, 1);
    assert_int_equal(saves_at(step++, 10000), 0);
    /* In a row only. */
    assert_int_equal(saves_at(2000, 1), AS_REASON_STEPS);
    fail_save(2000);
    assert_int_equal(saves_at(2001, 60), AS_REASON_STEPS);
    /* What is new does not wait. */
    fail_save(2001);
    as_verdict v = poll_with(2002, 1, SIGTERM, 0);
    assert_true(v.save && v.stop);
    assert_true(poll(2003, 1).save);
    fail_save(2003);
    v = poll(2004, 1);
    assert_true(!v.save && v.stop);
    assert_true(poll(2005, 3600).save);
    /* A word is asked for again, and not struck out before. */
    begin((as_due_rules){0});
    sight.words = AS_CONTROL_SAVE;
    assert_int_equal(saves_at(1, 1), AS_REASON_CONTROL);
    fail_save(1);
    assert_int_equal(saves_at(2, 59), 0);
    assert_int_equal(saves_at(3, 1), AS_REASON_CONTROL);
    assert_int_equal(save(3, 1, 1), AS_CONTROL_SAVE);
    /* The first save, which is to tell the cost, fails. */
    begin((as_due_rules){.mtbf_s = 1000});
    (void)poll(1, 1);
    assert_int_equal(saves_at(2, 1), AS_REASON_FAILURES);
    fail_save(2);
    assert_int_equal(saves_at(3, 1), 0);
    assert_int_equal(saves_at(4, 59), AS_REASON_FAILURES);
}

/* Of another step than the one that began nothing is believed. */
static void test_strange_ends(void **state)
{
    (void)state;
    begin((as_due_rules){.every_steps = 5});
    assert_int_equal(as_due_saved(&due, 3, 1, 1), 0);
    as_due_failed(&due, 3, sight.now);
    as_due_began(&due, 4, sight.now);
    assert_int_equal(as_due_saved(&due, 3, 1, 1), 0);
    assert_int_equal(due.durable.count, 0);
    assert_true(due.in_flight);
    assert_int_equal(as_due_saved(&due, 4, 1, 1), 0);
    assert_int_equal(due.durable.count, 1);
    assert_int_equal(as_due_saved(&due, 4, 1, 1), 0);
    assert_int_equal(due.durable.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_rule),
        cmocka_unit_test(test_every_steps),
        cmocka_unit_test(test_every_seconds),
        cmocka_unit_test(test_overhead),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_overhead_limits_failures),
        cmocka_unit_test(test_stop_signal),
        cmocka_unit_test(test_save_signal),
        cmocka_unit_test(test_walltime),
        cmocka_unit_test(test_last_save),
        cmocka_unit_test(test_walltime_of_short_jobs),
        cmocka_unit_test(test_walltime_with_one_in_flight),
        cmocka_unit_test(test_save_now),
        cmocka_unit_test(test_stop_word),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_failed_saves),
        cmocka_unit_test(test_strange_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
