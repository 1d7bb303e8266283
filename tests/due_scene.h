/* SPDX-License-Identifier: Apache-2.0
 * A run with a clock of its own, for tests of what is due.
 */
#ifndef ALLSHARD_TESTS_DUE_SCENE_H
#define ALLSHARD_TESTS_DUE_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <string.h>

#include "series/control.h"
#include "series/due.h"

static as_due due;
static as_due_sight sight;

static inline void begin(as_due_rules rules)
{
    as_due_open(&due, &rules, 1000);
    sight = (as_due_sight){.now = 1000, .seconds_left = -1};
}

/* A poll: the reasons of its verdict, with the seconds that passed since the last. */
static inline as_verdict poll_with(int64_t step, double passed, int stop_signal, int save_signal)
{
    sight.step = step;
    sight.now += passed;
    if (sight.seconds_left >= 0) {
        sight.seconds_left = fmax(sight.seconds_left - passed, 0);
    }
    as_due before = due;
    as_due_wish w = as_due_look(&due, &sight);
    assert_memory_equal(&before, &due, sizeof due); /* to look changes nothing */
    as_verdict v = as_due_judge(&w, stop_signal, save_signal);
    as_due_told(&due, &sight, &w, stop_signal, save_signal);
    assert_int_equal(v.requeue && !v.stop, 0);
    assert_int_equal((v.save || v.stop) ? v.reasons != 0 : v.reasons, v.save || v.stop);
    return v;
}

static inline as_verdict poll(int64_t step, double passed)
{
    return poll_with(step, passed, 0, 0);
}

static inline unsigned save(int64_t step, double blocked, double durable)
{
    as_due_began(&due, step, sight.now);
    sight.now += durable;
    if (sight.seconds_left >= 0) {
        sight.seconds_left = fmax(sight.seconds_left - durable, 0);
    }
    return as_due_saved(&due, step, blocked, durable);
}

#endif
