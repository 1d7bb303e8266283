/* SPDX-License-Identifier: Apache-2.0
 * How far apart saves should be, and what they are expected to take.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "box_support.h"
#include "series/interval.h"
#include "series/timing.h"

static void near(double got, double wanted, double tolerance)
{
    if (!(fabs(got - wanted) <= tolerance)) {
        fail_msg("%.12g, not %.12g", got, wanted);
    }
}

/* Share of the time that is lost with saves so far apart, of which each costs so much and failures
 * come at random: Daly's complete model, equation 20 of the same paper, without the restart. */
static double lost(double interval, double cost, double mtbf)
{
    double work = interval - cost;
    return mtbf * expm1(interval / mtbf) / work - 1;
}

/* The best interval of the complete model, by golden section. */
static double best(double cost, double mtbf)
{
    double low = cost * (1 + 1e-9);
    double high = cost + 4 * mtbf;
    for (int i = 0; i < 200; i++) {
        double a = high - (high - low) * 0.6180339887498949;
        double b = low + (high - low) * 0.6180339887498949;
        if (lost(a, cost, mtbf) < lost(b, cost, mtbf)) {
            high = b;
        } else {
            low = a;
        }
    }
    return (low + high) / 2;
}

static void test_failures(void **state)
{
    (void)state;
    /* sqrt(2 · 60 · 86400) = 3219.94; the terms after it: · (1 + 0.00621 + 0.0000386) */
    near(as_interval_failures(60, 86400), 3240.04, 0.05);
    near(as_interval_failures(0, 86400), 0, 0);
    /* More than twice the time between failures: the work is that time. */
    near(as_interval_failures(300, 100), 400, 1e-9);
    /* The estimate is near the best of the complete model as long as saves are cheap. */
    for (int i = 0; i < 24; i++) {
        double ratio = 1e-6 * pow(1.7, i);
        double exact = best(ratio * 1000, 1000);
        double ours = as_interval_failures(ratio * 1000, 1000);
        assert_true(fabs(ours - exact) < 0.03 * exact);
        assert_true(lost(ours, ratio * 1000, 1000) < 1.001 * lost(exact, ratio * 1000, 1000));
    }
}

static void test_overhead(void **state)
{
    (void)state;
    near(as_interval_overhead(3, 5), 60, 1e-9);
    near(as_interval_overhead(3, 0.1), 3000, 1e-6);
    near(as_interval_overhead(3, 100), 3, 0);
}

static void test_timing(void **state)
{
    (void)state;
    as_timing t = {.count = 0};
    near(as_timing_typical(&t), 0, 0);
    near(as_timing_careful(&t), 0, 0);
    near(as_timing_last(&t), 0, 0);
    as_timing_add(&t, 2);
    near(as_timing_typical(&t), 2, 0);
    near(as_timing_careful(&t), 2, 0);
    /* One that took ten times as long counts in full next time, then less and less. */
    as_timing_add(&t, 20);
    for (int i = 0; i < 7; i++) {
        near(as_timing_careful(&t), 20 * pow(0.9, i), 1e-9);
        as_timing_add(&t, 2);
        near(as_timing_typical(&t), 2, 0);
        near(as_timing_last(&t), 2, 0);
    }
    as_timing_add(&t, 2); /* it is forgotten */
    near(as_timing_careful(&t), 2, 0);
    as_timing_add(&t, NAN);
    as_timing_add(&t, -5);
    as_timing_add(&t, INFINITY);
    near(as_timing_last(&t), 0, 0);
    near(as_timing_typical(&t), 2, 0);
}

/* The median of eight in any order. */
static void test_median(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 200; round++) {
        as_timing t = {.count = 0};
        double values[AS_TIMING_KEPT];
        int count = (int)between(&seed, 1, AS_TIMING_KEPT);
        for (int i = 0; i < count; i++) {
            values[i] = (double)between(&seed, 0, 9);
            as_timing_add(&t, values[i]);
        }
        double median = as_timing_typical(&t);
        int below = 0;
        int above = 0;
        for (int i = 0; i < count; i++) {
            below += values[i] < median;
            above += values[i] > median;
        }
        assert_true(below <= count / 2 && above <= (count - 1) / 2);
        assert_true(as_timing_careful(&t) >= median);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_overhead),
        cmocka_unit_test(test_timing),
        cmocka_unit_test(test_median),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
