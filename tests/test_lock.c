/* SPDX-License-Identifier: Apache-2.0
 * The lock of a checkpoint folder: who holds it, whether that one lives, and what is told.
 */
#include <time.h>

#include "lock_scene.h"

static void test_take_and_release(void **state)
{
    (void)state;
    as_lock *lock;
    as_lock *other;
    as_error e = AS_ERROR_INIT;
    int before = count_descriptors();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(take(&lock, &e), AS_OK);
        assert_false(lock->broke_stale);
        /* Only the lock itself: no draft is left. */
        as_names names = AS_NAMES_INIT;
        assert_int_equal(as_folder_list(lock->meta, dir, &names, &e), AS_OK);
        assert_int_equal(names.count, 1);
        assert_string_equal(names.items[0], AS_LOCK_NAME);
        as_names_free(&names);
        assert_int_equal(take(&other, &e), AS_BUSY);
        assert_null(other);
        as_error_clear(&e);
        assert_int_equal(as_lock_refresh(lock, false, &e), AS_OK);
        assert_int_equal(as_lock_refresh(lock, true, &e), AS_OK);
        assert_int_equal(as_lock_release(lock, folder, &e), AS_OK);
        assert_false(exists(dir, AS_META_NAME));
    }
    assert_int_equal(count_descriptors(), before);
    assert_int_equal(as_lock_release(NULL, folder, &e), AS_OK);
}

/* A child that takes the lock, says so and lives until it is killed. */
static pid_t start_holder(void)
{
    int pipes[2];
    must(pipe(pipes) == 0, "pipe");
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        as_lock *lock;
        char c = take(&lock, NULL) == AS_OK ? 'y' : 'n';
        must(write(pipes[1], &c, 1) == 1, "write");
        for (;;) {
            (void)pause();
        }
    }
    char c = 0;
    must(read(pipes[0], &c, 1) == 1 && c == 'y', "holder");
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    return child;
}

static void test_live_and_killed_holder(void **state)
{
    (void)state;
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    pid_t child = start_holder();
    assert_int_equal(take(&lock, &e), AS_BUSY);
    char text[64];
    (void)snprintf(text, sizeof text, "process %d ", (int)child);
    as_owner me = self();
    assert_non_null(strstr(as_error_text(&e), text));
    assert_non_null(strstr(as_error_text(&e), me.host));
    assert_non_null(strstr(as_error_text(&e), "since 20"));
    as_error_clear(&e);
    assert_true(exists(dir, AS_META_NAME "/" AS_LOCK_NAME));

    bool stale;
    as_owner who;
    assert_int_equal(as_lock_look(folder, dir, LEASE_MS, NULL, &stale, &who, &e), AS_BUSY);
    as_error_clear(&e);

    /* Killed, but not yet waited for: a zombie is as dead as can be. */
    must(kill(child, SIGKILL) == 0, "kill");
    siginfo_t info;
    must(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0, "waitid");
    assert_int_equal(as_lock_look(folder, dir, LEASE_MS, NULL, &stale, &who, &e), AS_OK);
    assert_true(stale);
    assert_int_equal(who.pid, child);
    assert_true(exists(dir, AS_META_NAME "/" AS_LOCK_NAME));
    expect_stale(true);
    must(waitpid(child, NULL, 0) == child, "waitpid");

    child = start_holder();
    must(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, "kill");
    expect_stale(true);
    assert_int_equal(as_lock_look(folder, dir, LEASE_MS, NULL, &stale, &who, &e), AS_OK);
    assert_false(stale);
}

static void test_stale_on_this_host(void **state)
{
    (void)state;
    /* The number is in use again, by another process (here: this one). */
    as_owner o = self();
    o.start += 1;
    plant(&o);
    expect_stale(true);
    /* Another boot of this machine, or a clone of it that runs: nobody can tell. */
    o = self();
    (void)snprintf(o.boot, sizeof o.boot, "%s", "another boot");
    plant(&o);
    expect_stale(false);
    /* This process's own, which it does not hold: it could not remove it. */
    o = self();
    plant(&o);
    expect_stale(true);
}

static void test_far_holder(void **state)
{
    (void)state;
    as_owner o = self();
    (void)snprintf(o.host, sizeof o.host, "%s", "node-of-another-kind");
    plant(&o);
    expect_stale(false);
    /* Same host, other container: its process numbers mean nothing here. */
    o = self();
    (void)snprintf(o.space, sizeof o.space, "%s", "pid:[1]");
    plant(&o);
    expect_stale(false);
    /* Nobody knows whose it is. */
    plant(&o);
    write_text(dir, AS_META_NAME "/" AS_LOCK_NAME, "");
    expect_stale(false);
    plant(&o);
    write_text(dir, AS_META_NAME "/" AS_LOCK_NAME, "{\"allshard_lock\":1}");
    expect_stale(false);
}

/* Sets the age of the lock that lies there. */
static void make_old(int64_t seconds)
{
    char path[300];
    const struct timespec when = {.tv_sec = time(NULL) - (time_t)seconds};
    const struct timespec times[2] = {when, when};
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/" AS_LOCK_NAME, dir);
    must(utimensat(AT_FDCWD, path, times, 0) == 0, path);
}

/* Garbage that nobody touched for long is nobody's; anything that tells a holder is watched. */
static void test_old_garbage(void **state)
{
    (void)state;
    static const char *const garbage[] = {"", "\n", "{\"allshard_lock\":1}", "\xff\xfe", "[]"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        as_owner o = self();
        plant(&o);
        write_text(dir, AS_META_NAME "/" AS_LOCK_NAME, garbage[i]);
        make_old(3600);
        expect_stale(true);
    }
    as_owner o = self();
    plant(&o);
    write_text(dir, AS_META_NAME "/" AS_LOCK_NAME, "{\"allshard_lock\":2,\"pid\":\"?\"}");
    make_old(3600);
    expect_stale(false);
    (void)snprintf(o.host, sizeof o.host, "%s", "node7");
    plant(&o);
    make_old(3600);
    expect_stale(false);
    /* From the future, by its clock. */
    plant(&o);
    write_text(dir, AS_META_NAME "/" AS_LOCK_NAME, "");
    make_old(-3600);
    expect_stale(false);
}

/* Something else under the name of the lock. */
static void test_no_lock_at_all(void **state)
{
    (void)state;
    char path[300];
    as_error e = AS_ERROR_INIT;
    as_lock *lock;
    as_owner o = self();
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/" AS_LOCK_NAME, dir);
    for (int i = 0; i < 3; i++) {
        plant(&o);
        must(unlink(path) == 0, path);
        must(i == 0   ? mkdir(path, 0755) == 0
             : i == 1 ? symlink("x", path) == 0
                      : mkfifo(path, 0644) == 0,
             path);
        assert_int_equal(take(&lock, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), path));
        assert_non_null(strstr(as_error_text(&e), "remove it"));
        as_error_clear(&e);
        must(remove(path) == 0, path);
    }
}

/* How long it takes until a far holder's lock is taken over. */
static int64_t watched(int64_t holders_lease_ms, int64_t lease_ms)
{
    as_owner o = self();
    (void)snprintf(o.host, sizeof o.host, "%s", "node-of-another-kind");
    o.lease_ms = holders_lease_ms;
    plant(&o);
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    int64_t begin = as_moment_ms();
    assert_int_equal(as_lock_take(&lock, folder, dir, lease_ms, NULL, &e), AS_OK);
    int64_t passed = as_moment_ms() - begin;
    assert_true(lock->broke_stale);
    assert_int_equal(lock->before.lease_ms, holders_lease_ms);
    assert_int_equal(as_lock_release(lock, folder, &e), AS_OK);
    return passed;
}

static void count_warning(int level, const char *text, void *user)
{
    *(int *)user += level == AS_LOG_WARNING && strstr(text, AS_LEASE_VARIABLE) != NULL;
}

/* Whoever is in a hurry must not take the lock of one who promised to come by less often. */
static void test_longer_lease_counts(void **state)
{
    (void)state;
    assert_true(watched(5 * (int64_t)LEASE_MS, LEASE_MS) >= 5 * (int64_t)LEASE_MS);
    assert_true(watched(1, LEASE_MS) >= LEASE_MS);
    /* The lock that is taken tells the lease that it is refreshed by. */
    must(setenv(AS_LEASE_VARIABLE, "1", 1) == 0, "setenv");
    assert_true(watched(1, 0) >= 1000);
    const struct {
        const char *text;
        int64_t lease_ms;
        int warnings;
    } rows[] = {{"7", 7000, 0},          {"99999999999999999999", 3600000, 0},
                {"", 30000, 0},          {"nonsense", 30000, 1},
                {"5 minutes", 30000, 1}, {"0", 30000, 1},
                {"-4", 30000, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        must(setenv(AS_LEASE_VARIABLE, rows[i].text, 1) == 0, "setenv");
        as_lock *lock;
        as_error e = AS_ERROR_INIT;
        int warnings = 0;
        const as_log log = {.call = count_warning, .user = &warnings};
        assert_int_equal(as_lock_take(&lock, folder, dir, 0, &log, &e), AS_OK);
        assert_int_equal(warnings, rows[i].warnings);
        as_holder holder;
        assert_int_equal(as_holder_look(&holder, lock->meta, lock->path, &e), AS_OK);
        assert_int_equal(holder.owner.lease_ms, rows[i].lease_ms);
        as_holder_close(&holder);
        assert_int_equal(as_lock_release(lock, folder, &e), AS_OK);
    }
    must(unsetenv(AS_LEASE_VARIABLE) == 0, "unsetenv");
    /* A lock that asks for years is of a broken or of a hostile mind. */
    as_owner o = self();
    o.lease_ms = INT64_MAX;
    as_buffer text = AS_BUFFER_INIT;
    assert_int_equal(as_owner_to_json(&o, &text, NULL), AS_OK);
    assert_int_equal(as_owner_from_json(text.data, text.size, "it", &o, NULL), AS_OK);
    as_buffer_free(&text);
    assert_int_equal(o.lease_ms, AS_LEASE_LARGEST_MS);
}

static void test_far_holder_alive(void **state)
{
    (void)state;
    as_owner o = self();
    (void)snprintf(o.host, sizeof o.host, "%s", "node7");
    plant(&o);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        char path[300];
        (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/" AS_LOCK_NAME, dir);
        for (;;) {
            as_sleep_ms(LEASE_MS / 4);
            (void)utimensat(AT_FDCWD, path, NULL, 0);
        }
    }
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(take(&lock, &e), AS_BUSY);
    assert_non_null(strstr(as_error_text(&e), "node7"));
    as_error_clear(&e);
    must(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, "kill");
    expect_stale(false);
}

/* A holder that stood still finds that the folder is another's. */
static void test_lost_lock(void **state)
{
    (void)state;
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    /* So long that its own thread does not look meanwhile. */
    assert_int_equal(as_lock_take(&lock, folder, dir, 60000, NULL, &e), AS_OK);
    char path[300];
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/" AS_LOCK_NAME, dir);
    must(unlink(path) == 0, path);
    assert_int_equal(as_lock_refresh(lock, false, &e), AS_OK);
    assert_int_equal(as_lock_refresh(lock, true, &e), AS_BUSY);
    as_error_clear(&e);
    as_owner o = self();
    plant(&o);
    assert_int_equal(as_lock_refresh(lock, true, &e), AS_BUSY);
    assert_non_null(strstr(as_error_text(&e), "save again"));
    as_error_clear(&e);
    /* And leaves the other's lock alone. */
    assert_int_equal(as_lock_release(lock, folder, &e), AS_OK);
    assert_true(exists(dir, AS_META_NAME "/" AS_LOCK_NAME));
    expect_stale(true);
}

/* ---- a link whose answer got lost, as on NFS ---- */

static as_sys real_table;

static int lost_answer(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    (void)real_table.linkat(from_folder, from, to_folder, to, flags);
    errno = EEXIST;
    return -1;
}

static void test_lost_answer(void **state)
{
    (void)state;
    real_table = as_sys_table;
    as_sys_table.linkat = lost_answer;
    as_lock *lock;
    assert_int_equal(take(&lock, NULL), AS_OK);
    as_sys_table = real_table;
    as_lock *other;
    assert_int_equal(take(&other, NULL), AS_BUSY);
    assert_int_equal(as_lock_release(lock, folder, NULL), AS_OK);
    assert_false(exists(dir, AS_META_NAME));
}

/* ---- without hard links, as on vfat and some mounts of user space ---- */

static int link_errno;
static int pwrite_errno;
static bool look_when_empty;

static int no_link(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    (void)from_folder;
    (void)from;
    (void)to_folder;
    (void)to;
    (void)flags;
    errno = link_errno;
    return -1;
}

/* Another process that looks while the lock has no content yet waits for it. */
static ssize_t late_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    struct stat status;
    must(fstat(fd, &status) == 0, "fstat");
    if (pwrite_errno && exists(dir, AS_META_NAME "/" AS_LOCK_NAME)) {
        errno = pwrite_errno;
        return -1;
    }
    if (look_when_empty && exists(dir, AS_META_NAME "/" AS_LOCK_NAME)) {
        look_when_empty = false;
        pid_t child = fork();
        must(child >= 0, "fork");
        if (child == 0) {
            as_lock *lock;
            _exit(take(&lock, NULL) == AS_BUSY ? 0 : 1);
        }
        as_sleep_ms(LEASE_MS / 4);
    }
    return real_table.pwrite(fd, bytes, count, offset);
}

static void test_without_links(void **state)
{
    (void)state;
    static const int reasons[] = {EPERM, EOPNOTSUPP, ENOSYS};
    real_table = as_sys_table;
    as_sys_table.linkat = no_link;
    as_sys_table.pwrite = late_pwrite;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        link_errno = reasons[i];
        as_lock *lock;
        as_lock *other;
        as_error e = AS_ERROR_INIT;
        int before = count_descriptors();
        look_when_empty = true;
        assert_int_equal(take(&lock, &e), AS_OK);
        assert_false(look_when_empty);
        int status;
        must(wait(&status) > 0, "wait");
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        as_names names = AS_NAMES_INIT;
        assert_int_equal(as_folder_list(lock->meta, dir, &names, &e), AS_OK);
        assert_int_equal(names.count, 1);
        as_names_free(&names);
        assert_int_equal(take(&other, &e), AS_BUSY);
        assert_non_null(strstr(as_error_text(&e), "has held this folder since"));
        as_error_clear(&e);
        assert_int_equal(as_lock_refresh(lock, true, &e), AS_OK);
        assert_int_equal(as_lock_release(lock, folder, &e), AS_OK);
        assert_false(exists(dir, AS_META_NAME));
        as_owner o = self();
        o.start += 1;
        plant(&o);
        expect_stale(true);
        pwrite_errno = ENOSPC;
        assert_int_equal(take(&lock, &e), AS_SYSTEM);
        assert_int_equal(e.sys_errno, ENOSPC);
        as_error_clear(&e);
        pwrite_errno = 0;
        assert_false(exists(dir, AS_META_NAME));
        assert_int_equal(count_descriptors(), before);
    }
    as_sys_table = real_table;
}

/* A lock that could not be removed by its living holder. */
static int no_unlink(int at, const char *path, int flags)
{
    if (strcmp(path, AS_LOCK_NAME) == 0) {
        errno = EIO;
        return -1;
    }
    return real_table.unlinkat(at, path, flags);
}

static void test_release_fails(void **state)
{
    (void)state;
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(take(&lock, &e), AS_OK);
    real_table = as_sys_table;
    as_sys_table.unlinkat = no_unlink;
    assert_int_equal(as_lock_release(lock, folder, &e), AS_SYSTEM);
    assert_non_null(strstr(as_error_text(&e), "by hand"));
    as_error_clear(&e);
    as_sys_table = real_table;
    /* It names nobody any more: stale after a lease, for everybody. */
    expect_stale(false);
}

/* DIR goes away under our feet: a code, no loop. */
static void test_folder_gone(void **state)
{
    (void)state;
    char path[300];
    (void)snprintf(path, sizeof path, "%s/gone", dir);
    must(mkdir(path, 0777) == 0, path);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    must(fd >= 0 && rmdir(path) == 0, path);
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_lock_take(&lock, fd, path, LEASE_MS, NULL, &e), AS_SYSTEM);
    assert_int_equal(e.sys_errno, ENOENT);
    as_error_clear(&e);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCK_TEST(test_take_and_release),    LOCK_TEST(test_live_and_killed_holder),
        LOCK_TEST(test_stale_on_this_host),  LOCK_TEST(test_far_holder),
        LOCK_TEST(test_longer_lease_counts), LOCK_TEST(test_far_holder_alive),
        LOCK_TEST(test_lost_lock),           LOCK_TEST(test_lost_answer),
        LOCK_TEST(test_release_fails),       LOCK_TEST(test_folder_gone),
        LOCK_TEST(test_old_garbage),         LOCK_TEST(test_no_lock_at_all),
        LOCK_TEST(test_without_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
