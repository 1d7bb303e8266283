/* SPDX-License-Identifier: Apache-2.0
 * What a recovery tells: whose leftovers it found, what they were and what became of them; and
 * that a dry run promises nothing that is then refused.
 */
#include "save_scene.h"

/* A save of a child that is killed at call `at`; true: it was. */
static bool leave(const scene *s, int at)
{
    set_scene(s);
    return killed_at(at, act_save, s);
}

/* At every step of a save: the report says what is true. */
static void test_report_is_true(void **state)
{
    (void)state;
    int cases[5] = {0};
    for (size_t i = 0; i < 2; i++) {
        const scene *s = &scenes[i];
        for (int at = 1; leave(s, at); at++) {
            as_recover_report r = AS_RECOVER_REPORT_INIT;
            bool had_lock = exists(dir, AS_META_NAME "/" AS_LOCK_NAME);
            assert_int_equal(recover(&r, NULL), AS_OK);
            enum found now = look_at_folder(s);
            assert_int_equal(r.had_owner, had_lock);
            assert_true(!had_lock || r.owner.pid > 0);
            if (r.outcome == AS_RECOVER_NOTHING) {
                cases[0]++;
            } else if (r.outcome == AS_RECOVER_FINISHED) {
                cases[1]++;
                assert_int_equal(now, NEW);
            } else if (r.had_old) {
                cases[2]++;
                assert_int_equal(now, NEW);
                assert_int_equal(r.cleared.count, 0);
                assert_true(r.freed.count == 0 || r.freed_bytes > 0);
            } else if (r.had_staging) {
                cases[3]++;
                assert_int_equal(now, OLD);
                assert_int_equal(r.freed.count, 0);
            } else {
                cases[4]++;
                assert_true(r.cleared.count == 0 && r.freed.count == 0);
            }
            as_recover_report_free(&r);
        }
    }
    print_message("nothing %d, finished %d, complete %d, never counted %d, first or last %d\n",
                  cases[0], cases[1], cases[2], cases[3], cases[4]);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_true(cases[i] > 0);
    }
}

/* Kills a save when its journal is there, before the first move. */
static void leave_journal(const scene *s)
{
    int at = 1;
    do {
        assert_true(leave(s, at++));
    } while (!exists(dir, AS_META_NAME "/" AS_JOURNAL_NAME));
}

static void expect_both_refuse(int code, const char *told)
{
    for (int dry = 1; dry >= 0; dry--) {
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_recover(dir, dry == 1, lease_ms, NULL, NULL, &e), code);
        if (!strstr(as_error_text(&e), told)) {
            fail_msg("\"%s\" does not tell \"%s\"", as_error_text(&e), told);
        }
        as_error_clear(&e);
        assert_int_equal(look_at_folder(&scenes[0]), OLD);
    }
}

static void test_dry_run_refuses_alike(void **state)
{
    (void)state;
    const scene *s = &scenes[0];
    char path[400];
    leave_journal(s);
    write_text(dir, AS_META_NAME "/new/config.json", "shorter");
    expect_both_refuse(AS_FORMAT, "config.json");
    leave_journal(s);
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/new/tokenizer.json", dir);
    must(unlink(path) == 0, path);
    expect_both_refuse(AS_FORMAT, "tokenizer.json");
    leave_journal(s);
    must(unlink(path) == 0 && symlink("/etc/hostname", path) == 0, path);
    expect_both_refuse(AS_FORMAT, "tokenizer.json");

    /* Staging itself is a link now: where it leads is not looked at. */
    leave_journal(s);
    char away[400];
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/new", dir);
    (void)snprintf(away, sizeof away, "%s/" AS_META_NAME "/moved", dir);
    must(rename(path, away) == 0 && symlink("moved", path) == 0, path);
    expect_both_refuse(AS_INVALID, path);

    /* A folder lies where an old file has to go: refused before anything is moved. */
    leave_journal(s);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    must(unlink(path) == 0 && mkdir(path, 0755) == 0, path);
    for (int dry = 1; dry >= 0; dry--) {
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_recover(dir, dry == 1, lease_ms, NULL, NULL, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "\"model.safetensors\" is a folder"));
        as_error_clear(&e);
        assert_true(exists(dir, "model.safetensors.index.json"));
    }
    must(rmdir(path) == 0, path);
    assert_int_equal(recover(NULL, NULL), AS_OK);
    assert_int_equal(look_at_folder(s), NEW);
}

/* Whatever else lies in .allshard/ goes, and is told. */
static void test_other_leftovers(void **state)
{
    (void)state;
    const scene *s = &scenes[0];
    static const char *const names[] = {
        "journal-0123456789abcdef", "journal-folder", "journal.tmp",
        "lock-0123456789abcdef",    "owner-1-2",      "what is this"};
    set_scene(s);
    char path[400];
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME, dir);
    must(mkdir(path, 0755) == 0, path);
    for (size_t i = 0; i < COUNT(names); i++) {
        (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/%s", dir, names[i]);
        if (strcmp(names[i], "journal-folder") == 0) {
            must(mkdir(path, 0755) == 0, path);
            write_text(path, "inside", "x");
        } else {
            write_text(dir, path + strlen(dir) + 1, "x");
        }
    }
    for (int dry = 1; dry >= 0; dry--) {
        as_recover_report r = AS_RECOVER_REPORT_INIT;
        assert_int_equal(as_recover(dir, dry == 1, lease_ms, &r, NULL, NULL), AS_OK);
        assert_int_equal(r.outcome, AS_RECOVER_CLEARED);
        assert_false(r.had_owner || r.had_old || r.had_staging);
        assert_int_equal(r.others.count, COUNT(names));
        for (size_t i = 0; i < COUNT(names); i++) {
            assert_string_equal(r.others.items[i], names[i]);
        }
        assert_int_equal(has_leftovers(), dry == 1);
        as_recover_report_free(&r);
    }
    assert_int_equal(look_at_folder(s), OLD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_is_true),
        cmocka_unit_test(test_dry_run_refuses_alike),
        cmocka_unit_test(test_other_leftovers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
