/* SPDX-License-Identifier: Apache-2.0
 * .allshard/ and its folders: whose they may be, and that no link, pipe or second name that
 * somebody plants on the way to a staged file is followed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/fsuid.h>

#include <cmocka.h>

#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "commit/meta.h"
#include "commit/staged.h"
#include "commit/transaction.h"

static char dir[256];
static char outside[300]; /* where links lead */

static char *below(const char *name)
{
    static char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s", scratch_folder());
    must(chmod(dir, 0755) == 0, dir);
    (void)snprintf(outside, sizeof outside, "%s/outside", dir);
    must(mkdir(outside, 0755) == 0, outside);
    must(mkdir(below("outside/new"), 0755) == 0, outside);
    write_text(outside, "victim", "precious");
    write_text(outside, "new/victim", "precious");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    must(chmod(dir, 0755) == 0, dir);
    remove_tree(dir);
    return 0;
}

static void make_staging(void)
{
    must(mkdir(below(".allshard"), 0755) == 0, dir);
    must(mkdir(below(".allshard/new"), 0755) == 0, dir);
}

/* Opening staging must fail with a text that names `told`; nothing outside changes. */
static void expect_refused(int expected, const char *told)
{
    as_error e = AS_ERROR_INIT;
    int before = count_descriptors();
    int staged;
    assert_int_equal(as_staged_open(dir, &staged, &e), expected);
    assert_int_equal(staged, -1);
    if (!strstr(as_error_text(&e), told)) {
        fail_msg("\"%s\" does not tell \"%s\"", as_error_text(&e), told);
    }
    as_error_clear(&e);
    assert_int_equal(count_descriptors(), before);
}

static void test_links_on_the_way(void **state)
{
    (void)state;
    expect_refused(AS_NOT_FOUND, ".allshard");
    must(symlink(outside, below(".allshard")) == 0, "symlink");
    expect_refused(AS_INVALID, "/.allshard: a link or a file");
    must(unlink(below(".allshard")) == 0, "unlink");
    write_text(dir, ".allshard", "a file");
    expect_refused(AS_INVALID, "/.allshard: a link or a file");
    must(unlink(below(".allshard")) == 0, "unlink");

    must(mkdir(below(".allshard"), 0755) == 0, dir);
    expect_refused(AS_NOT_FOUND, "/.allshard/new: ");
    must(symlink("../outside/new", below(".allshard/new")) == 0, "symlink");
    expect_refused(AS_INVALID, "/.allshard/new: a link or a file");
    must(unlink(below(".allshard/new")) == 0, "unlink");
    write_text(dir, ".allshard/new", "a file");
    expect_refused(AS_INVALID, "/.allshard/new: a link or a file");
}

/* DIR itself may be a link: that is the user's own choice. */
static void test_folder_is_a_link(void **state)
{
    (void)state;
    make_staging();
    char link[300];
    (void)snprintf(link, sizeof link, "%s/link", dir);
    must(symlink(".", link) == 0, link);
    int staged;
    int fd;
    assert_int_equal(as_staged_open(link, &staged, NULL), AS_OK);
    assert_int_equal(as_staged_create_file(staged, "a", 0, "a", &fd, NULL), AS_OK);
    assert_true(exists(dir, ".allshard/new/a"));
    (void)close(fd);
    (void)close(staged);
}

static void test_files_in_the_way(void **state)
{
    (void)state;
    make_staging();
    int staged;
    int fd;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_staged_open(dir, &staged, NULL), AS_OK);
    int before = count_descriptors();

    must(symlink("../../outside/victim", below(".allshard/new/link")) == 0, "symlink");
    assert_int_equal(as_staged_create_file(staged, "link", 0, "P/link", &fd, &e), AS_SYSTEM);
    assert_int_equal(e.sys_errno, EEXIST);
    as_error_clear(&e);
    assert_int_equal(as_staged_open_file(staged, "link", O_WRONLY, "P/link", &fd, &e), AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "P/link"));
    as_error_clear(&e);

    /* Another name of a file that only this user may write to. */
    char victim[400];
    (void)snprintf(victim, sizeof victim, "%s/victim", outside);
    must(link(victim, below(".allshard/new/twice")) == 0, "link");
    assert_int_equal(as_staged_open_file(staged, "twice", O_WRONLY, "P/twice", &fd, &e),
                     AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "hard link"));
    as_error_clear(&e);

    /* A pipe: no waiting for somebody at its other end. */
    must(mkfifo(below(".allshard/new/pipe"), 0644) == 0, "mkfifo");
    assert_int_equal(as_staged_open_file(staged, "pipe", O_WRONLY, "P/pipe", &fd, &e), AS_SYSTEM);
    as_error_clear(&e);
    assert_int_equal(as_staged_open_file(staged, "pipe", O_RDWR, "P/pipe", &fd, &e), AS_INVALID);
    as_error_clear(&e);

    static const char *const bad[] = {"../lock", "..", "", "a/b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(as_staged_create_file(staged, bad[i], 0, "P", &fd, NULL), AS_INVALID);
        assert_int_equal(as_staged_open_file(staged, bad[i], O_WRONLY, "P", &fd, NULL), AS_INVALID);
    }
    assert_int_equal(as_staged_open_file(staged, "none", O_WRONLY, "P/none", &fd, &e), AS_SYSTEM);
    assert_non_null(strstr(as_error_text(&e), "all hosts share"));
    as_error_clear(&e);
    assert_int_equal(count_descriptors(), before);

    assert_int_equal(as_staged_create_file(staged, "good", 0, "P/good", &fd, NULL), AS_OK);
    (void)close(fd);
    assert_int_equal(as_staged_open_file(staged, "good", O_WRONLY, "P/good", &fd, NULL), AS_OK);
    assert_int_equal(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_WRONLY);
    (void)close(fd);
    (void)close(staged);
    assert_string_equal(read_text(outside, "victim"), "precious");
    assert_string_equal(read_text(outside, "new/victim"), "precious");
}

static mode_t mode_of(const char *name)
{
    struct stat status;
    must(stat(below(name), &status) == 0, name);
    return status.st_mode & 0777;
}

/* Nobody gets more rights in .allshard/ than in DIR, however generous the umask. */
static void test_modes(void **state)
{
    (void)state;
    static const struct {
        mode_t dir, umask, meta;
    } cases[] = {{0755, 0, 0755},   {0775, 0, 0775},   {0777, 0, 0775},
                 {0775, 022, 0755}, {0755, 077, 0700}, {0700, 002, 0755}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        must(chmod(dir, cases[i].dir) == 0, dir);
        mode_t before = umask(cases[i].umask);
        as_txn *t;
        assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, NULL), AS_OK);
        (void)umask(before);
        assert_int_equal(mode_of(".allshard"), cases[i].meta);
        assert_int_equal(mode_of(".allshard/new"), cases[i].meta);
        as_txn_abort(t);
    }
}

/* A save and a look at .allshard/ of that mode and owner in a DIR of that mode. */
static void expect_owner(mode_t dir_mode, uid_t dir_owner, mode_t mode, uid_t owner, bool good)
{
    make_staging();
    must(chmod(dir, dir_mode) == 0 && chmod(below(".allshard"), mode) == 0, "chmod");
    if (geteuid() == 0) {
        must(chown(dir, dir_owner, (gid_t)-1) == 0, "chown");
        must(chown(below(".allshard"), owner, (gid_t)-1) == 0, "chown");
    }
    int staged;
    if (good) {
        assert_int_equal(as_staged_open(dir, &staged, NULL), AS_OK);
        (void)close(staged);
    } else {
        expect_refused(AS_INVALID, "/.allshard: ");
        as_error e = AS_ERROR_INIT;
        as_txn *t;
        assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "/.allshard: "));
        as_error_clear(&e);
        assert_true(exists(dir, ".allshard/new"));
    }
    must(chown(dir, geteuid(), (gid_t)-1) == 0, "chown");
    remove_tree(below(".allshard"));
}

/* As where a server takes root for nobody: the process's own folder is not its euid's. */
static void test_other_number(void **state)
{
    (void)state;
    enum { NOBODY = 65534 };
    if (geteuid() != 0) {
        print_message("not root: left out\n");
        return;
    }
    const mode_t modes[] = {0777, 01777};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        must(chmod(dir, modes[i]) == 0, dir);
        (void)setfsuid(NOBODY);
        as_txn *t;
        int staged;
        int code = as_txn_begin(&t, dir, NULL, NULL, NULL);
        int second = as_staged_open(dir, &staged, NULL);
        (void)setfsuid(0);
        assert_int_equal(code, AS_OK);
        assert_int_equal(second, AS_OK);
        (void)close(staged);
        expect_refused(AS_INVALID, "cannot be trusted"); /* by root itself */
        (void)setfsuid(NOBODY);
        as_txn_abort(t);
        (void)setfsuid(0);
        assert_false(exists(dir, ".allshard"));
    }
}

static void test_strangers_folder(void **state)
{
    (void)state;
    uid_t me = geteuid();
    expect_owner(0755, me, 0755, me, true);
    expect_owner(0755, me, 0777, me, false);
    expect_owner(01777, me, 0777, me, false);
    /* A mount that shows 0777 for everything. */
    expect_owner(0777, me, 0777, me, true);
    if (me != 0) {
        print_message("not root: other owners are left out\n");
        return;
    }
    enum { FRIEND = 4321, STRANGER = 4322 };
    expect_owner(0755, me, 0755, STRANGER, true); /* who could write to DIR then */
    expect_owner(01777, me, 0755, STRANGER, false);
    expect_owner(0777, me, 0755, STRANGER, false);
    expect_owner(01777, FRIEND, 0755, STRANGER, false);
    expect_owner(01777, FRIEND, 0755, FRIEND, true);
    expect_owner(01777, FRIEND, 0755, 0, true);
    expect_owner(0775, FRIEND, 0775, STRANGER, true); /* the group is trusted */
    expect_owner(0775, FRIEND, 0777, STRANGER, false);
}

#define META_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        META_TEST(test_links_on_the_way), META_TEST(test_folder_is_a_link),
        META_TEST(test_files_in_the_way), META_TEST(test_modes),
        META_TEST(test_strangers_folder), META_TEST(test_other_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
