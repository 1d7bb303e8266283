/* SPDX-License-Identifier: Apache-2.0
 * The lock of a checkpoint folder: one holder at a time, whoever dies and wherever.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "commit/holder.h"
#include "commit/lock.h"

enum { LEASE_MS = 200 };

static char dir[256];
static int folder;

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s", scratch_folder());
    folder = open(dir, O_RDONLY | O_DIRECTORY);
    must(folder >= 0, dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)close(folder);
    remove_tree(dir);
    return 0;
}

static int take(as_lock **out, as_error *e)
{
    return as_lock_take(out, folder, dir, LEASE_MS, NULL, e);
}

/* Puts a lock there as if somebody had left it. */
static void plant(const as_owner *owner)
{
    as_buffer text = AS_BUFFER_INIT;
    char meta[300];
    (void)snprintf(meta, sizeof meta, "%s/" AS_META_NAME, dir);
    must(mkdir(meta, 0777) == 0 || errno == EEXIST, meta);
    assert_int_equal(as_owner_to_json(owner, &text, NULL), AS_OK);
    write_text(meta, AS_LOCK_NAME, as_buffer_string(&text));
    as_buffer_free(&text);
}

static as_owner self(void)
{
    as_owner o;
    assert_int_equal(as_owner_self(&o, NULL), AS_OK);
    return o;
}

/* Taking it must work, within a lease or so, or at once. */
static void expect_stale(bool at_once)
{
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    int64_t begin = as_moment_ms();
    int code = take(&lock, &e);
    int64_t passed = as_moment_ms() - begin;
    if (code != AS_OK) {
        print_message("%s\n", as_error_text(&e));
    }
    assert_int_equal(code, AS_OK);
    assert_true(lock->broke_stale);
    assert_true(at_once ? passed < LEASE_MS : passed >= LEASE_MS);
    assert_int_equal(as_lock_release(lock, folder, &e), AS_OK);
    assert_false(exists(dir, AS_META_NAME));
}

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
    /* Before the machine was started anew. */
    o = self();
    (void)snprintf(o.machine, sizeof o.machine, "%s", "0123456789abcdef");
    as_owner me = o;
    (void)snprintf(o.boot, sizeof o.boot, "%s", "another boot");
    assert_int_equal(as_owner_life(&o, &me), AS_LIFE_GONE);
    /* A machine that cannot be told from another of that name is watched. */
    o.machine[0] = '\0';
    assert_int_equal(as_owner_life(&o, &me), AS_LIFE_FAR);
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
    assert_int_equal(take(&lock, &e), AS_OK);
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

/* ---- a crowd ---- */

enum { CROWD = 8, TURNS = 12 };

typedef struct shared {
    atomic_int inside;
    atomic_int together; /* more than one at a time: must stay 0 */
    atomic_int turns;
    atomic_int died; /* with the lock in their hands */
} shared;

static shared *make_shared(void)
{
    shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(s != MAP_FAILED, "mmap");
    return s;
}

/* Takes the lock once, and at random dies with it or gives it back. */
static void one_turn(shared *s, unsigned seed)
{
    as_lock *lock;
    for (;;) {
        as_error e = AS_ERROR_INIT;
        int code = take(&lock, &e);
        as_error_clear(&e);
        if (code == AS_OK) {
            break;
        }
        must(code == AS_BUSY, "take");
        as_sleep_ms(1);
    }
    if (atomic_fetch_add(&s->inside, 1) != 0) {
        atomic_fetch_add(&s->together, 1);
    }
    as_sleep_ms(1);
    /* Nobody may have taken it away. */
    must(as_lock_refresh(lock, true, NULL) == AS_OK, "refresh");
    atomic_fetch_add(&s->turns, 1);
    atomic_fetch_sub(&s->inside, 1);
    if (seed % 3 == 0) {
        atomic_fetch_add(&s->died, 1);
        (void)kill(getpid(), SIGKILL);
    }
    must(as_lock_release(lock, folder, NULL) == AS_OK, "release");
    _exit(0);
}

static void test_crowd(void **state)
{
    (void)state;
    shared *s = make_shared();
    as_owner o = self();
    o.start += 1;
    plant(&o);
    pid_t children[CROWD] = {0};
    unsigned started = 0;
    for (unsigned done = 0; done < CROWD * TURNS;) {
        for (int i = 0; i < CROWD; i++) {
            if (children[i] == 0 && started < CROWD * TURNS) {
                started++;
                children[i] = fork();
                must(children[i] >= 0, "fork");
                if (children[i] == 0) {
                    one_turn(s, started);
                }
            }
        }
        int status;
        pid_t ended = waitpid(-1, &status, 0);
        must(ended > 0, "waitpid");
        assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
        for (int i = 0; i < CROWD; i++) {
            if (children[i] == ended) {
                children[i] = 0;
                done++;
            }
        }
    }
    assert_int_equal(atomic_load(&s->together), 0);
    assert_int_equal(atomic_load(&s->turns), CROWD * TURNS);
    assert_int_equal(atomic_load(&s->died), CROWD * TURNS / 3);
    (void)munmap(s, sizeof *s);
    as_lock *lock;
    assert_int_equal(take(&lock, NULL), AS_OK);
    assert_int_equal(as_lock_release(lock, folder, NULL), AS_OK);
}

/* ---- without flock ---- */

static int no_flock(int fd, int operation)
{
    (void)fd;
    (void)operation;
    errno = ENOLCK;
    return -1;
}

static as_sys real_table;
static bool swap_in;

/* Another breaker was faster: between the look and the rename the stale lock made place for
 * a new one. */
static int late_rename(int from_folder, const char *from, int to_folder, const char *to)
{
    if (swap_in && strcmp(from, AS_LOCK_NAME) == 0) {
        swap_in = false;
        must(unlinkat(from_folder, AS_LOCK_NAME, 0) == 0, "unlink");
        as_owner o = self();
        o.pid = getppid();
        o.start = 0;
        plant(&o);
    }
    return real_table.renameat(from_folder, from, to_folder, to);
}

static void test_without_flock(void **state)
{
    (void)state;
    real_table = as_sys_table;
    as_sys_table.flock = no_flock;
    as_sys_table.renameat = late_rename;
    as_owner o = self();
    o.start += 1;
    plant(&o);
    expect_stale(true);
    plant(&o);
    swap_in = true;
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(take(&lock, &e), AS_BUSY);
    assert_false(swap_in);
    char text[64];
    (void)snprintf(text, sizeof text, "process %d ", (int)getppid());
    assert_non_null(strstr(as_error_text(&e), text));
    as_error_clear(&e);
    /* The new lock is back in its place. */
    assert_true(exists(dir, AS_META_NAME "/" AS_LOCK_NAME));
    as_sys_table = real_table;
}

/* ---- a link whose answer got lost, as on NFS ---- */

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
#define LOCK_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LOCK_TEST(test_take_and_release),
        LOCK_TEST(test_live_and_killed_holder),
        LOCK_TEST(test_stale_on_this_host),
        LOCK_TEST(test_far_holder),
        LOCK_TEST(test_far_holder_alive),
        LOCK_TEST(test_lost_lock),
        LOCK_TEST(test_crowd),
        LOCK_TEST(test_without_flock),
        LOCK_TEST(test_lost_answer),
        LOCK_TEST(test_release_fails),
        LOCK_TEST(test_folder_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
