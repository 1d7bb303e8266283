/* SPDX-License-Identifier: Apache-2.0
 * Folders that cannot be moved: a commit that would have to is refused before its journal is written,
 * and the next one goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <sys/mount.h>

#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "commit/meta.h"
#include "commit/movable.h"
#include "commit/recover.h"
#include "commit/transaction.h"

enum { NOBODY = 65534 };

static char root[600];
static int root_fd;

static int begin(void **state)
{
    (void)snprintf(root, sizeof root, "%s", scratch_folder());
    must(chmod(root, 0777) == 0, root);
    root_fd = open(root, O_RDONLY | O_DIRECTORY);
    must(root_fd >= 0, root);
    *state = NULL;
    return 0;
}

static int end(void **state)
{
    (void)state;
    (void)seteuid(0);
    (void)fchmodat(root_fd, "one", 0755, 0);
    (void)close(root_fd);
    remove_tree(root);
    return 0;
}

/* As a save of a series does it. */
static int replace(const char *name, as_error *e)
{
    as_txn *t;
    int code = as_txn_begin(&t, root, NULL, NULL, e);
    if (code != AS_OK) {
        return code;
    }
    must(mkdirat(as_txn_staged(t), name, 0777) == 0, name);
    code = as_txn_commit_folders(t, &name, 1, NULL, 0, e);
    if (code != AS_OK) {
        as_txn_abort(t);
        return code;
    }
    return as_txn_finish(t, e);
}

static void one_without_write_permission_is_not_replaced(void **state)
{
    as_error e = AS_ERROR_INIT;
    (void)state;
    if (geteuid() == 0) {
        must(seteuid(NOBODY) == 0, "seteuid");
    }
    must(mkdirat(root_fd, "one", 0777) == 0, "one");
    must(fchmodat(root_fd, "one", 0555, 0) == 0, "one");
    assert_non_null(as_immovable(root_fd, "one"));
    assert_null(as_immovable(root_fd, "gone"));
    assert_int_equal(replace("one", &e), AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "\"one\" has to be replaced"));
    assert_non_null(strstr(as_error_text(&e), "chmod"));
    as_error_clear(&e);
    assert_false(exists(root, ".allshard"));
    assert_int_equal(replace("two", &e), AS_OK);
    must(fchmodat(root_fd, "one", 0755, 0) == 0, "one");
    assert_null(as_immovable(root_fd, "one"));
    assert_int_equal(replace("one", &e), AS_OK);
}

/* A mount of the same file system has the same st_dev. */
static void a_mount_is_not_replaced(void **state)
{
    char path[700];
    as_error e = AS_ERROR_INIT;
    (void)state;
    must(mkdirat(root_fd, "one", 0777) == 0 && mkdirat(root_fd, "other", 0777) == 0, "folders");
    (void)snprintf(path, sizeof path, "%s/one", root);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(root, path, NULL, MS_BIND, NULL) != 0) {
        skip(); /* not the right to */
    }
    int fd = open(root, O_RDONLY | O_DIRECTORY); /* root_fd knows nothing of the mount */
    bool told = as_immovable(fd, "one") != NULL;
    must(close(fd) == 0, root);
    int code = replace("one", &e);
    must(umount2(path, MNT_DETACH) == 0, path);
    assert_true(told);
    assert_int_equal(code, AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "mounted"));
    as_error_clear(&e);
    assert_int_equal(replace("one", &e), AS_OK);
}

/* Nor is what is mounted deeper in it emptied. */
static void a_mount_within_is_not_emptied(void **state)
{
    char path[700];
    char there[700];
    as_error e = AS_ERROR_INIT;
    (void)state;
    (void)snprintf(path, sizeof path, "%s/one/data", root);
    (void)snprintf(there, sizeof there, "%s/mine", root);
    must(mkdirat(root_fd, "one", 0777) == 0 && mkdir(path, 0777) == 0, path);
    must(mkdir(there, 0777) == 0, there);
    write_text(there, "text", "precious");
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(there, path, NULL, MS_BIND, NULL) != 0) {
        skip(); /* not the right to */
    }
    int on = open(path, O_RDONLY | O_DIRECTORY); /* the mount moves with the folder */
    must(on >= 0, path);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", on);
    int first = replace("one", &e);
    int second = replace("one", &e);
    int folder = open(root, O_RDONLY | O_DIRECTORY);
    as_error why = AS_ERROR_INIT;
    must(folder >= 0, root);
    int third = as_recover(root, false, 0, NULL, NULL, &e);
    int removed = as_tree_remove(folder, AS_META_NAME, root, NULL, &why);
    must(close(folder) == 0, root);
    must(umount2(path, MNT_DETACH) == 0 && close(on) == 0, path);
    assert_int_equal(first, AS_OK);
    assert_int_equal(second, AS_OK);
    assert_int_equal(third, AS_OK);
    assert_int_equal(removed, AS_SYSTEM);
    assert_non_null(strstr(as_error_text(&why), "mounted"));
    as_error_clear(&why);
    assert_string_equal(read_text(there, "text"), "precious");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_without_write_permission_is_not_replaced, begin, end),
        cmocka_unit_test_setup_teardown(a_mount_is_not_replaced, begin, end),
        cmocka_unit_test_setup_teardown(a_mount_within_is_not_emptied, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
