/* SPDX-License-Identifier: Apache-2.0
 * Commit and recovery killed at every call that touches the disk: afterwards the folder holds
 * exactly the old or exactly the new files. With ALLSHARD_LONG=1 no combination is left out. With
 * sanitizers, which make each of thousands of forks dear, three scenes of five and four in five of
 * the other kills are.
 */
/* timeout: 300 */
/* long-timeout: 3600 */
#include "save_scene.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SPARSE = 5, SCENE_STEP = 3 };
#else
enum { SPARSE = 1, SCENE_STEP = 1 };
#endif

static void test_killed_save(void **state)
{
    (void)state;
    int kills = 0;
    for (size_t i = 0; i < COUNT(scenes); i += SCENE_STEP) {
        const scene *s = &scenes[i];
        enum found last = OLD;
        int at = 1;
        for (;; at++) {
            set_scene(s);
            if (!killed_at(at, act_save, s)) {
                break;
            }
            kills++;
            enum found now = check_recovery(s);
            /* There is one moment that counts. */
            assert_true(now >= last);
            last = now;
        }
        assert_int_equal(last, NEW);
        assert_int_equal(look_at_folder(s), NEW);
    }
    print_message("saves killed: %d\n", kills);
}

/* The next save needs no recovery of its own. */
static void test_save_after_kill(void **state)
{
    (void)state;
    int kills = 0;
    const scene *s = &scenes[0];
    for (int at = 1;; at += SPARSE) {
        set_scene(s);
        if (!killed_at(at, act_save, s)) {
            break;
        }
        kills++;
        int finish;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(save(s, &finish, &e), AS_OK);
        assert_int_equal(finish, AS_OK);
        assert_int_equal(look_at_folder(s), NEW);
        assert_false(has_leftovers());
        as_error_clear(&e);
    }
    print_message("saves after a kill: %d\n", kills);
}

static void test_killed_recovery(void **state)
{
    (void)state;
    int kills = 0;
    for (size_t i = 0; i < 3; i++) {
        const scene *s = &scenes[i];
        /* Some steps of the save, others in each scene; all steps of the recovery. */
        for (int at = 1 + (int)i;; at += stride(29 * SPARSE)) {
            set_scene(s);
            if (!killed_at(at, act_save, s)) {
                break;
            }
            enum found truth = look_through_view(s);
            for (int step = 1;; step++) {
                if (!killed_at(step, act_recover, s)) {
                    break;
                }
                kills++;
                assert_int_equal(look_through_view(s), truth);
                /* From the same start each time: the rest of the work is not lost, so begin
                 * anew. */
                set_scene(s);
                assert_true(killed_at(at, act_save, s));
            }
            assert_int_equal(look_at_folder(s), truth);
            assert_false(has_leftovers());
        }
    }
    print_message("recoveries killed: %d\n", kills);
}

/* Kill upon kill, without a fresh start: each recovery gets one step further. */
static void test_recovery_killed_again_and_again(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    int kills = 0;
    for (int at = 1;; at += stride(13 * SPARSE)) {
        set_scene(s);
        if (!killed_at(at, act_save, s)) {
            break;
        }
        enum found truth = look_through_view(s);
        for (int step = 1; killed_at(step, act_recover, s); step++) {
            kills++;
            assert_int_equal(look_through_view(s), truth);
        }
        assert_int_equal(look_at_folder(s), truth);
        assert_false(has_leftovers());
    }
    print_message("recoveries killed in a row: %d\n", kills);
}

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 8;
}

/* Saves, and recoveries of recoveries, of which each is killed somewhere: whatever the chain, the
 * folder holds one of the two at any time, and once it is the new one it stays so. */
static void test_random_chains(void **state)
{
    (void)state;
    const char *text = getenv("ALLSHARD_SEED");
    unsigned seed = text ? (unsigned)strtoul(text, NULL, 0) : 20251122U;
    int kills = 0;
    int chains = 3000 / stride(50 * SPARSE);
    for (int chain = 0; chain < chains; chain++) {
        unsigned begin = seed;
        const scene *s = &scenes[next_random(&seed) % 3];
        set_scene(s);
        enum found last = OLD;
        for (unsigned length = 2 + next_random(&seed) % 8; length > 0; length--) {
            bool saves = next_random(&seed) % 3 == 0;
            /* Early calls are where a recovery that was killed before is taken up again. */
            int at = 1 + (int)(next_random(&seed) % (saves ? 160 : 60));
            kills += killed_at(at, saves ? act_save : act_recover, s);
            enum found now = look_through_view(s);
            if (now == NEITHER || now < last) {
                fail_msg("chain %d, of seed %u: %d after %d", chain, begin, now, last);
            }
            last = now;
        }
        assert_int_equal(check_recovery(s), last);
    }
    print_message("%d chains from seed %u, processes killed: %d\n", chains,
                  text ? (unsigned)strtoul(text, NULL, 0) : 20251122U, kills);
    assert_true(kills > chains);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_save),
        cmocka_unit_test(test_save_after_kill),
        cmocka_unit_test(test_killed_recovery),
        cmocka_unit_test(test_recovery_killed_again_and_again),
        cmocka_unit_test(test_random_chains),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
