/* SPDX-License-Identifier: Apache-2.0
 * The checkpoints of a root: their order, look-ups, and what a reader sees while others replace and
 * remove them.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "series/members.h"
#include "series_scene.h"
#include "support_series.h"

static void lay(int parent, const char *name, int64_t id, int64_t step, int64_t time_ms)
{
    book_one one = {.id = id, .step = step, .time_ms = time_ms, .metric = "id"};
    as_error e = AS_ERROR_INIT;
    one.value = (double)id;
    (void)snprintf(one.name, sizeof one.name, "%s", name);
    if (series_lay(parent, folder, &one, &e) != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
}

static void read_members(as_members *m, const char *pattern)
{
    as_folder_pattern *p = NULL;
    as_error e = AS_ERROR_INIT;
    if (pattern) {
        assert_int_equal(as_folder_pattern_make(&p, pattern, NULL), AS_OK);
    }
    if (as_members_read(m, folder, p, NULL, &e) != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
    as_folder_pattern_free(p);
}

static void expect_order(const char *pattern, const char *names)
{
    char joined[512] = "";
    as_members m;
    read_members(&m, pattern);
    for (size_t i = 0; i < m.count; i++) {
        size_t at = strlen(joined);
        (void)snprintf(joined + at, sizeof joined - at, "%s%s", i ? " " : "", m.items[i].name);
        assert_ptr_equal(as_members_named(&m, m.items[i].name), &m.items[i]);
    }
    assert_string_equal(joined, names);
    as_members_free(&m);
}

static void test_order(void **state)
{
    (void)state;
    as_members m;
    expect_order(NULL, "");
    lay(root, "checkpoint-10", 1, 10, 5000);
    lay(root, "checkpoint-9", 2, 9, 9000);
    lay(root, "b", 3, 10, 4000);
    lay(root, "a", 4, 10, 5000);
    lay(root, ".hidden", 5, 99, 5000);
    expect_order(NULL, "checkpoint-9 b a checkpoint-10");
    expect_order("checkpoint-{step}", "checkpoint-9 checkpoint-10");
    expect_order("{x}", "checkpoint-9 b a checkpoint-10");
    expect_order("c-{step}", "");
    read_members(&m, NULL);
    assert_string_equal(as_members_newest(&m)->name, "checkpoint-10");
    assert_string_equal(as_members_of_step(&m, 10)->name, "checkpoint-10");
    assert_string_equal(as_members_of_step(&m, 9)->name, "checkpoint-9");
    assert_null(as_members_of_step(&m, 8));
    assert_null(as_members_named(&m, "c"));
    as_members_free(&m);
    series_damage(folder, "checkpoint-10");
    series_damage(folder, "a");
    read_members(&m, NULL);
    assert_string_equal(as_members_newest(&m)->name, "b");
    assert_int_equal(as_members_of_step(&m, 10)->state, AS_MEMBER_DAMAGED);
    assert_non_null(as_members_of_step(&m, 10)->why);
    as_members_free(&m);
    series_damage(folder, "b");
    series_damage(folder, "checkpoint-9");
    read_members(&m, NULL);
    assert_int_equal(m.count, 4);
    assert_null(as_members_newest(&m));
    as_members_free(&m);
}

static void test_no_root(void **state)
{
    (void)state;
    as_members m;
    char path[300];
    (void)snprintf(path, sizeof path, "%s/nowhere", folder);
    assert_int_equal(as_members_read(&m, path, NULL, NULL, NULL), AS_NOT_FOUND);
    as_members_free(&m);
    write_text(folder, "nowhere", "a file");
    assert_int_equal(as_members_read(&m, path, NULL, NULL, NULL), AS_INVALID);
    as_members_free(&m);
}

/* Replaces checkpoint-5 and removes checkpoint-7 without end, as saves and prunes do: whole folders
 * come in and go out by renames, and the files of those that went are removed. */
static void change_without_end(void)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    int hidden = openat(root, ".aside", O_RDONLY | O_DIRECTORY);
    char aside[300];
    must(hidden >= 0, ".aside");
    (void)snprintf(aside, sizeof aside, "%s/.aside/old", folder);
    for (int64_t id = 100;; id++) {
        lay(hidden, "new", id, 5, id);
        must(renameat(root, "checkpoint-5", hidden, "old") == 0, "rename");
        must(renameat(hidden, "new", root, "checkpoint-5") == 0, "rename");
        remove_tree(aside);
        (void)nanosleep(&pause, NULL);
        must(renameat(root, "checkpoint-7", hidden, "old") == 0, "rename");
        remove_tree(aside);
        lay(hidden, "new", id, 7, id);
        must(renameat(hidden, "new", root, "checkpoint-7") == 0, "rename");
        (void)nanosleep(&pause, NULL);
    }
}

static void test_changing_root(void **state)
{
    (void)state;
    enum { READS = 100 };
    int64_t last = 0;
    int changes = 0;
    lay(root, "checkpoint-1", 1, 1, 1);
    lay(root, "checkpoint-5", 2, 5, 2);
    lay(root, "checkpoint-7", 3, 7, 3);
    must(mkdirat(root, ".aside", 0777) == 0, ".aside");
    pid_t changer = fork();
    must(changer >= 0, "fork");
    if (changer == 0) {
        change_without_end();
    }
    for (int i = 0; i < READS; i++) {
        as_members m;
        read_members(&m, NULL);
        assert_true(m.count >= 1 && m.count <= 3);
        assert_string_equal(m.items[0].name, "checkpoint-1");
        for (size_t k = 0; k < m.count; k++) {
            if (m.items[k].state != AS_MEMBER_GOOD) {
                (void)kill(changer, SIGKILL);
                fail_msg("%s: %s", m.items[k].name, m.items[k].why);
            }
            assert_true(m.items[k].has_record);
        }
        const as_member *five = as_members_of_step(&m, 5);
        if (five) {
            int64_t id = (int64_t)five->record.metric_value;
            assert_true(id >= last);
            changes += id != last;
            last = id;
        }
        as_members_free(&m);
    }
    must(kill(changer, SIGKILL) == 0, "kill");
    assert_int_equal(waitpid(changer, NULL, 0), changer);
    print_message("%d reads saw %d saves\n", READS, changes);
    assert_true(changes > 0);
}

/* ---- at one moment, each in turn ---- */

static int calls_left;    /* until the change; 0: none to come */
static bool with_another; /* one of the same name takes its place at once */

static void change_now(void)
{
    if (calls_left == 0 || --calls_left > 0) {
        return;
    }
    as_sys mine = as_sys_table;
    char aside[300];
    (void)snprintf(aside, sizeof aside, "%s/.aside", folder);
    as_sys_table = real;
    must(mkdir(aside, 0777) == 0, aside);
    int hidden = open(aside, O_RDONLY | O_DIRECTORY);
    must(hidden >= 0, aside);
    must(renameat(root, "checkpoint-5", hidden, "old") == 0, "rename");
    if (with_another) {
        lay(hidden, "new", 2, 5, 2);
        must(renameat(hidden, "new", root, "checkpoint-5") == 0, "rename");
    }
    (void)close(hidden);
    remove_tree(aside);
    as_sys_table = mine;
}

static int change_openat(int at, const char *path, int flags, mode_t mode)
{
    change_now();
    return real.openat(at, path, flags, mode);
}

static ssize_t change_pread(int file, void *bytes, size_t count, off_t offset)
{
    change_now();
    return real.pread(file, bytes, count, offset);
}

static int change_fstatat(int at, const char *path, struct stat *out, int flags)
{
    change_now();
    return real.fstatat(at, path, out, flags);
}

static struct dirent *change_readdir(DIR *dir)
{
    change_now();
    return real.readdir(dir);
}

static void test_change_at_each_call(void **state)
{
    (void)state;
    int moments = 0;
    int absent = 0;
    for (int another = 0; another < 2; another++) {
        for (int call = 1;; call++) {
            remove_tree(folder);
            must(mkdir(folder, 0777) == 0, folder);
            (void)close(root);
            root = open(folder, O_RDONLY | O_DIRECTORY);
            lay(root, "checkpoint-5", 1, 5, 1);
            with_another = another == 1;
            calls_left = call;
            as_sys_table.openat = change_openat;
            as_sys_table.pread = change_pread;
            as_sys_table.fstatat = change_fstatat;
            as_sys_table.readdir = change_readdir;
            as_members m;
            read_members(&m, "checkpoint-{step}");
            as_sys_table = real;
            if (m.count > 0 && m.items[0].state != AS_MEMBER_GOOD) {
                fail_msg("changed at call %d: %s", call, m.items[0].why);
            }
            assert_true(m.count == 1 || !with_another);
            absent += m.count == 0;
            as_members_free(&m);
            if (calls_left > 0) {
                calls_left = 0;
                break;
            }
            moments++;
        }
    }
    print_message("changed at %d moments, gone at %d\n", moments, absent);
    assert_true(moments > 40 && absent > 10);
}

/* ---- again and again ---- */

static int reads;

static ssize_t count_pread(int file, void *bytes, size_t count, off_t offset)
{
    reads++;
    return real.pread(file, bytes, count, offset);
}

/* As saves do it: the new one comes before the old one goes. */
static void replace(int64_t step, int64_t id)
{
    char name[32];
    char aside[300];
    must(mkdirat(root, ".aside", 0777) == 0, ".aside");
    int hidden = openat(root, ".aside", O_RDONLY | O_DIRECTORY);
    must(hidden >= 0, ".aside");
    (void)snprintf(name, sizeof name, "checkpoint-%d", (int)step);
    (void)snprintf(aside, sizeof aside, "%s/.aside", folder);
    lay(hidden, "new", id, step, id);
    (void)renameat(root, name, hidden, "old");
    must(renameat(hidden, "new", root, name) == 0, name);
    (void)close(hidden);
    remove_tree(aside);
}

static void expect_same(const as_members *a, const as_members *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const as_member *x = &a->items[i];
        const as_member *y = &b->items[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->state, y->state);
        assert_true(x->step == y->step && x->time_ms == y->time_ms && x->bytes == y->bytes);
        assert_int_equal(x->has_manifest, y->has_manifest);
        assert_int_equal(x->has_record, y->has_record);
        assert_true(x->record.metric_value == y->record.metric_value);
        assert_int_equal(x->parts.count, y->parts.count);
        assert_int_equal(x->tags.count, y->tags.count);
    }
}

static void test_read_again(void **state)
{
    (void)state;
    enum { STEPS = 6, ROUNDS = 300 };
    as_members m = AS_MEMBERS_INIT;
    unsigned seed = 4;
    int quiet = 0;
    for (int64_t s = 0; s < STEPS; s++) {
        replace(s, s);
    }
    assert_int_equal(as_members_read_again(&m, folder, NULL, NULL, NULL), AS_OK);
    for (int64_t round = 0; round < ROUNDS; round++) {
        int64_t step = rand_r(&seed) % STEPS;
        char name[32];
        char path[300];
        (void)snprintf(name, sizeof name, "checkpoint-%d", (int)step);
        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        bool there = exists(folder, name);
        bool untouched = false;
        switch (rand_r(&seed) % 6) {
        case 0:
            replace(step, 1000 + round);
            break;
        case 1:
            remove_tree(path);
            break;
        case 2:
            if (there) {
                series_damage(folder, name);
            }
            break;
        case 3:
            if (there) {
                series_tag(folder, name, rand_r(&seed) % 2 == 0);
            }
            break;
        default:
            untouched = true;
        }
        as_members fresh;
        read_members(&fresh, NULL);
        bool all_good = true;
        for (size_t i = 0; i < fresh.count; i++) {
            all_good = all_good && fresh.items[i].state == AS_MEMBER_GOOD &&
                       fresh.items[i].tags.count == 0;
        }
        reads = 0;
        as_sys_table.pread = count_pread;
        assert_int_equal(as_members_read_again(&m, folder, NULL, NULL, NULL), AS_OK);
        as_sys_table = real;
        expect_same(&m, &fresh);
        if (untouched && all_good) {
            assert_int_equal(reads, 0);
            quiet++;
        }
        as_members_free(&fresh);
    }
    assert_true(quiet > 5);
    char gone[300];
    (void)snprintf(gone, sizeof gone, "%s/nowhere", folder);
    assert_int_equal(as_members_read_again(&m, gone, NULL, NULL, NULL), AS_NOT_FOUND);
    assert_int_equal(m.count, 0);
    assert_null(m.items);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_order),         CASE(test_no_root),
        CASE(test_changing_root), CASE(test_change_at_each_call),
        CASE(test_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
