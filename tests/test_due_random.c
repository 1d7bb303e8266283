/* SPDX-License-Identifier: Apache-2.0
 * What is due at a step, at random: rules, signals, words, ends of jobs, saves and failures.
 */
#include "box_support.h"
#include "due_scene.h"

/* Whatever happens: no save is asked for at a step that is being saved; a stop stays; a stop signal
 * is answered by a save at once; who answers every verdict is asked for no save twice. */
static void test_random(void **state)
{
    (void)state;
    uint64_t seed = 5;
    int64_t polls = 0;
    int64_t saved = 0;
    for (int run = 0; run < 3000; run++) {
        begin((as_due_rules){.every_steps = between(&seed, 0, 4) * between(&seed, 0, 5),
                             .every_s = (double)(between(&seed, 0, 1) * between(&seed, 1, 300)),
                             .overhead_percent =
                                 (double)(between(&seed, 0, 1) * between(&seed, 1, 50)),
                             .mtbf_s = (double)(between(&seed, 0, 1) * between(&seed, 10, 10000)),
                             .margin = 1.2,
                             .margin_s = 5,
                             .first_margin_s = 120});
        if (between(&seed, 0, 1)) {
            as_due_loaded(&due, between(&seed, 0, 50), (double)between(&seed, 0, 20), sight.now);
        }
        int64_t step = due.first_step < 0 ? 0 : due.first_step;
        bool stopped = false;
        bool person = false;
        int64_t last_saved = due.saved_step;
        for (int i = 0; i < 60; i++, polls++) {
            step += between(&seed, 0, 3);
            sight.seconds_left =
                between(&seed, 0, 20) ? sight.seconds_left : (double)between(&seed, -1, 2000);
            sight.words = between(&seed, 0, 15) ? sight.words : (unsigned)between(&seed, 0, 7);
            int stop = between(&seed, 0, 40) ? 0 : SIGTERM;
            int save_signal = between(&seed, 0, 20) ? 0 : SIGUSR1;
            as_verdict v = poll_with(step, (double)between(&seed, 0, 100), stop, save_signal);
            person = person || (sight.words & AS_CONTROL_STOP);
            assert_true(v.stop || !(stop || stopped || person));
            assert_true(v.requeue == (v.stop && !person));
            assert_false(v.save && step == last_saved);
            assert_true(v.save || !save_signal || step == last_saved);
            assert_true(v.save || !stop || stopped || step == last_saved);
            assert_true(v.held == ((sight.words & AS_CONTROL_HOLD) != 0));
            assert_true(v.margin_s >= 0 && v.interval_s >= 0 && isfinite(v.interval_s));
            stopped = v.stop;
            if (v.save && between(&seed, 0, 9)) {
                as_due_began(&due, step, sight.now);
                last_saved = step;
                sight.now += (double)between(&seed, 0, 30);
                if (between(&seed, 0, 5)) {
                    unsigned words = as_due_saved(&due, step, 1, (double)between(&seed, 0, 30));
                    assert_true((words & ~(unsigned)(AS_CONTROL_STOP | AS_CONTROL_SAVE)) == 0);
                    sight.words &= between(&seed, 0, 1) ? ~words : ~0U;
                    saved++;
                } else {
                    as_due_failed(&due, step, sight.now);
                    last_saved = -1;
                }
            } else if (due.in_flight) {
                fail_msg("nothing is left in flight here");
            }
        }
    }
    print_message("%lld polls, %lld saves\n", (long long)polls, (long long)saved);
    assert_true(saved > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
