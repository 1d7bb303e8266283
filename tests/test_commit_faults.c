/* SPDX-License-Identifier: Apache-2.0
 * Every call of a save or a recovery that touches the disk goes wrong in several ways: the
 * folder can be recovered, and the code tells what recovery will give. With ALLSHARD_LONG=1
 * no combination is left out.
 */
/* timeout: 300 */
/* long-timeout: 3600 */
#include "save_scene.h"

/* Does the code tell the truth about what recovery will find? */
static void check_told(const scene *s, int code)
{
    enum found now = check_recovery(s);
    switch (code) {
    case AS_OK:
    case AS_PENDING:
        assert_int_equal(now, NEW);
        break;
    case AS_UNKNOWN:
        break;
    default:
        assert_int_equal(now, OLD);
    }
}

typedef struct tally {
    int faults, ok, failed, pending, unknown;
} tally;

static void count_code(tally *t, int code)
{
    t->faults++;
    t->ok += code == AS_OK;
    t->pending += code == AS_PENDING;
    t->unknown += code == AS_UNKNOWN;
    t->failed += code != AS_OK && code != AS_PENDING && code != AS_UNKNOWN;
}

/* Calls number 1, 2, 3 … go wrong in the given way until a save has fewer calls. */
static void fail_everywhere(const scene *s, enum fault_mode mode, int error, tally *t)
{
    int descriptors = count_descriptors();
    /* A lock that could not be removed is emptied, and to be waited for. */
    lease_ms = SHORT_LEASE_MS;
    for (int at = 1;; at++) {
        set_scene(s);
        as_error e = AS_ERROR_INIT;
        int finish;
        fault_set(mode, at, error);
        int code = save(s, &finish, &e);
        int calls = fault_end();
        if (calls < at) {
            assert_int_equal(code, AS_OK);
            as_error_clear(&e);
            break;
        }
        count_code(t, code);
        assert_int_equal(count_descriptors(), descriptors);
        if (code != AS_OK) {
            assert_int_equal(e.code, code);
            assert_true(strlen(as_error_text(&e)) > 10);
            assert_true(mode == FAULT_LIE || e.sys_errno == error);
        } else {
            assert_true(finish == AS_OK || finish == AS_PENDING);
        }
        bool gave_up = code != AS_OK && code != AS_PENDING && code != AS_UNKNOWN;
        if (mode == FAULT_FAIL && gave_up) {
            /* Only one call failed: everything could be put back, at once. */
            assert_int_equal(look_at_folder(s), OLD);
            assert_false(has_leftovers());
            assert_int_equal(access(dir, F_OK) == 0, s->exists);
        }
        if (code == AS_OK && finish == AS_OK && mode == FAULT_FAIL) {
            assert_int_equal(look_at_folder(s), NEW);
        }
        as_error_clear(&e);
        check_told(s, code);
    }
    lease_ms = LONG_LEASE_MS;
}

static void print_tally(const char *what, const tally *t)
{
    print_message("%s: %d faults: %d saves all the same, %d failed, %d pending, %d unknown\n", what,
                  t->faults, t->ok, t->failed, t->pending, t->unknown);
}

static void test_each_call_fails(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EACCES};
    tally t = {0};
    for (size_t i = 0; i < COUNT(scenes); i++) {
        fail_everywhere(&scenes[i], FAULT_FAIL, errors[i % COUNT(errors)], &t);
    }
    fail_everywhere(&scenes[0], FAULT_FAIL, ENOSPC, &t);
    print_tally("one call fails", &t);
    assert_true(t.failed > 0 && t.pending > 0 && t.ok > 0);
}

static void test_each_call_lies(void **state)
{
    (void)state;
    tally t = {0};
    fail_everywhere(&scenes[0], FAULT_LIE, EIO, &t);
    fail_everywhere(&scenes[3], FAULT_LIE, EIO, &t);
    print_tally("one call is made, but reported as failed", &t);
    assert_true(t.failed > 0 && t.pending > 0);
}

static void test_dead_disk(void **state)
{
    (void)state;
    tally t = {0};
    fail_everywhere(&scenes[0], FAULT_DEAD_DISK, EIO, &t);
    fail_everywhere(&scenes[3], FAULT_DEAD_DISK, EROFS, &t);
    print_tally("nothing can be changed from then on", &t);
    assert_true(t.failed > 0 && t.pending > 0 && t.unknown > 0);
}

static void test_full_disk(void **state)
{
    (void)state;
    tally t = {0};
    fail_everywhere(&scenes[0], FAULT_FULL_DISK, ENOSPC, &t);
    fail_everywhere(&scenes[4], FAULT_FULL_DISK, EDQUOT, &t);
    print_tally("no space from then on", &t);
    assert_true(t.failed > 0);
}

/* Every call of a recovery fails once: a code, and the next recovery does it. */
static void test_failing_recovery(void **state)
{
    (void)state;
    int faults = 0;
    const scene *s = &scenes[0];
    for (int at = 1;; at += stride(13)) {
        set_scene(s);
        if (!killed_at(at, act_save, s)) {
            break;
        }
        enum found truth = look_through_view(s);
        int descriptors = count_descriptors();
        lease_ms = SHORT_LEASE_MS;
        for (int step = 1;; step++) {
            as_error e = AS_ERROR_INIT;
            fault_set(FAULT_FAIL, step, EIO);
            int code = recover(NULL, &e);
            int calls = fault_end();
            assert_int_equal(count_descriptors(), descriptors);
            assert_int_equal(look_through_view(s), truth);
            assert_int_equal(e.code, code);
            as_error_clear(&e);
            if (calls < step) {
                assert_int_equal(code, AS_OK);
                break;
            }
            faults++;
            if (code == AS_OK && !has_leftovers()) {
                lease_ms = LONG_LEASE_MS;
                set_scene(s);
                assert_true(killed_at(at, act_save, s));
                lease_ms = SHORT_LEASE_MS;
            }
        }
        (void)check_recovery(s);
        lease_ms = LONG_LEASE_MS;
    }
    print_message("recoveries with a failing call: %d\n", faults);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_call_fails),  cmocka_unit_test(test_each_call_lies),
        cmocka_unit_test(test_dead_disk),        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failing_recovery),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
