/* SPDX-License-Identifier: Apache-2.0
 * The trial between two ways of blocks, by a clock that is played: random times, blocks that end in
 * any order and late, and storage that does one block after the other or several at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/gds_move.h"
#include "transfer/gds_trial.h"

enum { BLOCK = 4 << 20, LANES = 4 };

static uint64_t random_state = 1;

static int64_t pick(int64_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (int64_t)((random_state >> 33) % (uint64_t)below);
}

/* Runs a trial where a block takes so long each way; gives the blocks that it took. */
static int run(as_gds_trial *t, const int64_t each[2], int64_t lanes)
{
    int64_t now = 1000;
    int64_t ends[LANES] = {0};
    int under_way = 0;
    int blocks = 0;
    *t = (as_gds_trial){0};
    while (!t->decided) {
        enum as_gds_way way = as_gds_trial_way(t);
        if (way != AS_GDS_LATER && under_way < lanes) {
            as_gds_trial_begin(t, BLOCK, now);
            ends[under_way++] = now + each[way] + pick(3);
            blocks++;
            continue;
        }
        assert_true(under_way > 0); /* or it would wait for ever */
        int first = 0;
        for (int i = 1; i < under_way; i++) {
            first = ends[i] < ends[first] ? i : first;
        }
        now = ends[first] > now ? ends[first] : now;
        ends[first] = ends[--under_way];
        (void)as_gds_trial_end(t, now);
    }
    assert_int_equal(under_way, 0);
    return blocks;
}

static void test_winner(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        as_gds_trial t;
        int64_t each[2] = {100000 + pick(900000), 100000 + pick(900000)};
        assert_int_equal(run(&t, each, 1 + i % LANES), AS_GDS_TURN * AS_GDS_TURNS);
        double ratio = (double)each[0] / (double)each[1];
        if (ratio > 1.01 || ratio < 0.99) {
            assert_int_equal(t.winner, ratio > 1 ? AS_GDS_STRAIGHT : AS_GDS_BY_HOST);
        }
        assert_int_equal(as_gds_trial_way(&t), t.winner);
        double host = as_gds_trial_rate(&t, AS_GDS_BY_HOST);
        double straight = as_gds_trial_rate(&t, AS_GDS_STRAIGHT);
        assert_true(host > 0 && straight > 0);
        assert_true((straight >= host) == (t.winner == AS_GDS_STRAIGHT));
        /* Blocks after it change nothing. */
        as_gds_trial before = t;
        as_gds_trial_begin(&t, BLOCK, 5);
        assert_false(as_gds_trial_end(&t, 6));
        assert_memory_equal(&before, &t, sizeof t);
    }
}

/* Gigabytes a second: bytes by nanoseconds, of all turns of a way together. */
static void test_rate(void **state)
{
    (void)state;
    as_gds_trial t = {0};
    int64_t now = 0;
    for (int turn = 0; turn < AS_GDS_TURNS; turn++) {
        for (int i = 0; i < AS_GDS_TURN; i++) {
            assert_int_equal(as_gds_trial_way(&t), turn % 2 ? AS_GDS_STRAIGHT : AS_GDS_BY_HOST);
            as_gds_trial_begin(&t, 1000, now);
        }
        assert_int_equal(as_gds_trial_way(&t), AS_GDS_LATER);
        now += turn % 2 ? 2000 : 4000;
        for (int i = 0; i < AS_GDS_TURN; i++) {
            bool last = turn == AS_GDS_TURNS - 1 && i == AS_GDS_TURN - 1;
            assert_int_equal(as_gds_trial_end(&t, now), last);
        }
        now += 100000; /* between the turns: nobody's */
    }
    assert_true(as_gds_trial_rate(&t, AS_GDS_BY_HOST) == 2);
    assert_true(as_gds_trial_rate(&t, AS_GDS_STRAIGHT) == 4);
    assert_int_equal(t.winner, AS_GDS_STRAIGHT);
}

static void test_not_made(void **state)
{
    (void)state;
    as_gds_trial t = as_gds_trial_won(AS_GDS_STRAIGHT);
    assert_int_equal(as_gds_trial_way(&t), AS_GDS_STRAIGHT);
    assert_false(as_gds_trial_end(&t, 1));
    /* A clock that stands still gives no rate without end. */
    const int64_t none[2] = {0, 0};
    (void)run(&t, none, 1);
    assert_true(as_gds_trial_rate(&t, AS_GDS_STRAIGHT) > 0);
}

/* Its last blocks may end when cuFile has failed already: that is what is told. */
static void a_trial_does_not_hide_why_it_was_stopped(void **state)
{
    (void)state;
    as_gds_mover m;
    char text[AS_GDS_REASON];
    as_gds_mover_init(&m, NULL, NULL);
    as_gds_mover_note(&m, "it was faster");
    as_gds_mover_reason(&m, text);
    assert_string_equal(text, "it was faster");
    as_gds_mover_stop(&m, "cuFileWrite failed");
    as_gds_mover_stop(&m, "another one failed");
    as_gds_mover_note(&m, "it was faster");
    as_gds_mover_reason(&m, text);
    assert_string_equal(text, "cuFileWrite failed");
    as_gds_mover_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_winner),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_not_made),
        cmocka_unit_test(a_trial_does_not_hide_why_it_was_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
