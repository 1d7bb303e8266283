/* SPDX-License-Identifier: Apache-2.0
 * Breaking stale locks: many at once, one of them faster, and without flock.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "lock_scene.h"

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

/* Another breaker was faster: the stale lock makes place for a new, live one (of the process
 * that started this one). */
static void swap_lock(int meta)
{
    swap_in = false;
    must(unlinkat(meta, AS_LOCK_NAME, 0) == 0, "unlink");
    as_owner o = self();
    o.pid = getppid();
    o.start = 0;
    plant(&o);
}

/* Looks at a stale lock that is swapped before it can be broken: the new one must stay. */
static void expect_swapped_lock_to_stay(void)
{
    as_owner o = self();
    o.start += 1;
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
    assert_true(exists(dir, AS_META_NAME "/" AS_LOCK_NAME));
}

static int late_flock(int fd, int operation)
{
    if (swap_in) {
        int meta = openat(folder, AS_META_NAME, O_RDONLY | O_DIRECTORY);
        must(meta >= 0, AS_META_NAME);
        swap_lock(meta);
        (void)close(meta);
    }
    return real_table.flock(fd, operation);
}

static void test_faster_breaker(void **state)
{
    (void)state;
    real_table = as_sys_table;
    as_sys_table.flock = late_flock;
    expect_swapped_lock_to_stay();
    as_sys_table = real_table;
}

/* Between the last look and the rename. */
static int late_rename(int from_folder, const char *from, int to_folder, const char *to)
{
    if (swap_in && strcmp(from, AS_LOCK_NAME) == 0) {
        swap_lock(from_folder);
    }
    return real_table.renameat(from_folder, from, to_folder, to);
}

static int no_links_either(int from_folder, const char *from, int to_folder, const char *to,
                           int flags)
{
    (void)from_folder;
    (void)from;
    (void)to_folder;
    (void)to;
    (void)flags;
    errno = EPERM;
    return -1;
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
    /* What was moved away by mistake is put back, somehow. */
    expect_swapped_lock_to_stay();
    as_sys_table.linkat = no_links_either;
    expect_swapped_lock_to_stay();
    as_sys_table = real_table;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCK_TEST(test_crowd),
        LOCK_TEST(test_faster_breaker),
        LOCK_TEST(test_without_flock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
