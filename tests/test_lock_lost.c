/* SPDX-License-Identifier: Apache-2.0
 * A save that stands still at the worst moments and finds its lock broken when it goes on: what
 * it does then harms nobody, and its code tells the truth. And what keeps a lock from being broken.
 */
#include <sys/file.h>

#include "commit/holder.h"
#include "commit/lock.h"
#include "save_scene.h"

enum { STEADY_LEASE_MS = 200, SLOW_LEASE_MS = 2000 /* a busy machine may be late */ };

/* The save that comes meanwhile has the same names and other contents. */
static const scene other = {"b",         true,      {"old", same_names}, {"other", same_names},
                            same_shards, same_small};

static as_sys real_table;

/* ---- standing still ---- */

enum { NOWHERE, BEFORE_DRAFT, BEFORE_RENAME, AFTER_RENAME, BEFORE_UNLINK };

static int still_at;

static void stand_still(void)
{
    still_at = NOWHERE;
    (void)kill(getpid(), SIGSTOP);
}

static int still_openat(int folder, const char *path, int flags, mode_t mode)
{
    if (still_at == BEFORE_DRAFT && strncmp(path, AS_DRAFT_PREFIX, strlen(AS_DRAFT_PREFIX)) == 0) {
        stand_still();
    }
    return real_table.openat(folder, path, flags, mode);
}

static pid_t late_child; /* 0: none; goes on as soon as its breaker has looked for a journal */
static int late_code;

static int go_on(pid_t child);

static int late_openat(int folder, const char *path, int flags, mode_t mode)
{
    int fd = real_table.openat(folder, path, flags, mode);
    int reason = errno;
    if (late_child && strcmp(path, AS_JOURNAL_NAME) == 0) {
        late_code = go_on(late_child);
        late_child = 0;
    }
    errno = reason;
    return fd;
}

static int still_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    bool counts = strcmp(to, AS_JOURNAL_NAME) == 0;
    if (counts && still_at == BEFORE_RENAME) {
        stand_still();
    }
    int result = real_table.renameat(from_folder, from, to_folder, to);
    if (counts && still_at == AFTER_RENAME) {
        stand_still();
    }
    return result;
}

static int still_unlinkat(int folder, const char *path, int flags)
{
    if (still_at == BEFORE_UNLINK && strcmp(path, AS_JOURNAL_NAME) == 0) {
        stand_still();
    }
    return real_table.unlinkat(folder, path, flags);
}

static int no_flock(int fd, int operation)
{
    (void)fd;
    (void)operation;
    errno = ENOLCK;
    return -1;
}

/* To the others the lock's holder is on another host: only its sign of life tells. */
static void send_far_away(void)
{
    as_owner o;
    as_buffer text = AS_BUFFER_INIT;
    assert_int_equal(as_owner_self(&o, NULL), AS_OK);
    (void)snprintf(o.host, sizeof o.host, "%s", "node7");
    assert_int_equal(as_owner_to_json(&o, &text, NULL), AS_OK);
    write_text(dir, AS_META_NAME "/" AS_LOCK_NAME, as_buffer_string(&text));
    as_buffer_free(&text);
}

/* Starts a save in a child that stands still at the given moment. */
static pid_t start_still(const scene *s, int where)
{
    (void)fflush(NULL);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        still_at = where;
        int finish;
        as_error e = AS_ERROR_INIT;
        int code = save(s, &finish, &e);
        /* A lost lock is told by its own name. */
        must(code != AS_BUSY || strstr(as_error_text(&e), "taken away"), as_error_text(&e));
        as_error_clear(&e);
        _exit(code == AS_OK && finish != AS_OK ? 99 : -code);
    }
    int status;
    must(waitpid(child, &status, WUNTRACED) == child, "waitpid");
    must(WIFSTOPPED(status), "stopped");
    send_far_away();
    return child;
}

/* The child goes on; its code. */
static int go_on(pid_t child)
{
    int status = 0;
    must(kill(child, SIGCONT) == 0 && waitpid(child, &status, 0) == child, "waitpid");
    assert_true(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static void without_flock(bool off)
{
    as_sys_table.flock = off ? no_flock : real_table.flock;
}

static void set_still_scene(void)
{
    lease_ms = SHORT_LEASE_MS;
    set_scene(&scenes[1]);
}

/* Broken before the journal: the save fails, and the other's checkpoint stays. */
static void test_broken_before_the_journal(void **state)
{
    (void)state;
    for (int where = BEFORE_DRAFT; where <= BEFORE_RENAME; where++) {
        for (int flock_off = where == BEFORE_RENAME; flock_off < 2; flock_off++) {
            without_flock(flock_off);
            set_still_scene();
            pid_t child = start_still(&scenes[1], where);
            int finish;
            assert_int_equal(save(&other, &finish, NULL), AS_OK);
            assert_int_equal(finish, AS_OK);
            assert_int_equal(look_at_folder(&other), NEW);
            assert_int_equal(go_on(child), AS_BUSY);
            assert_int_equal(look_at_folder(&other), NEW);
            assert_false(has_leftovers());
        }
    }
    without_flock(false);
}

/* It goes on just when the breaker has seen that there is no journal. */
static void test_goes_on_while_it_is_broken(void **state)
{
    (void)state;
    without_flock(true);
    set_still_scene();
    late_child = start_still(&scenes[1], BEFORE_RENAME);
    as_sys_table.openat = late_openat;
    assert_int_equal(recover(NULL, NULL), AS_OK);
    as_sys_table.openat = still_openat;
    without_flock(false);
    assert_int_equal(late_child, 0);
    assert_int_equal(late_code, AS_BUSY);
    assert_int_equal(look_at_folder(&scenes[1]), OLD);
    assert_false(has_leftovers());
}

/* It goes on while the other save is at work: nothing of the other's is touched. */
static void test_broken_by_a_save_under_way(void **state)
{
    (void)state;
    for (int where = BEFORE_DRAFT; where <= BEFORE_RENAME; where++) {
        without_flock(true);
        set_still_scene();
        pid_t child = start_still(&scenes[1], where);
        const as_txn_options options = {.lease_ms = STEADY_LEASE_MS};
        as_txn *t;
        as_names incoming = AS_NAMES_INIT;
        assert_int_equal(as_txn_begin(&t, dir, &options, NULL, NULL), AS_OK);
        assert_int_equal(write_all_files(t, &other, &incoming, NULL), AS_OK);
        assert_int_equal(go_on(child), AS_BUSY);
        assert_int_equal(as_txn_commit(t, (const char *const *)incoming.items, incoming.count,
                                       same_names, COUNT(same_names) - 1, NULL),
                         AS_OK);
        assert_int_equal(as_txn_finish(t, NULL), AS_OK);
        assert_int_equal(look_at_folder(&other), NEW);
        assert_false(has_leftovers());
        as_names_free(&incoming);
    }
    without_flock(false);
}

/* Broken when the journal is there: the breaker carries it out, and the save says so. */
static void test_broken_after_the_journal(void **state)
{
    (void)state;
    without_flock(true);
    set_still_scene();
    pid_t child = start_still(&scenes[1], AFTER_RENAME);
    as_recover_report report = AS_RECOVER_REPORT_INIT;
    assert_int_equal(recover(&report, NULL), AS_OK);
    assert_int_equal(report.outcome, AS_RECOVER_FINISHED);
    as_recover_report_free(&report);
    assert_int_equal(look_at_folder(&scenes[1]), NEW);
    assert_int_equal(go_on(child), AS_PENDING);
    assert_int_equal(look_at_folder(&scenes[1]), NEW);
    assert_false(has_leftovers());

    set_still_scene();
    child = start_still(&scenes[1], BEFORE_UNLINK);
    int finish;
    assert_int_equal(save(&other, &finish, NULL), AS_OK);
    assert_int_equal(go_on(child), AS_OK);
    assert_int_equal(look_at_folder(&other), NEW);
    without_flock(false);
}

/* Where flock works nobody comes in between, however long it takes. */
static void test_guarded(void **state)
{
    (void)state;
    static const int moments[] = {BEFORE_RENAME, AFTER_RENAME, BEFORE_UNLINK};
    for (size_t i = 0; i < COUNT(moments); i++) {
        set_still_scene();
        pid_t child = start_still(&scenes[1], moments[i]);
        as_error e = AS_ERROR_INIT;
        int finish;
        assert_int_equal(save(&other, &finish, &e), AS_BUSY);
        assert_non_null(strstr(as_error_text(&e), "node7"));
        assert_non_null(strstr(as_error_text(&e), "file lock"));
        as_error_clear(&e);
        assert_int_equal(recover(NULL, NULL), AS_BUSY);
        assert_int_equal(go_on(child), AS_OK);
        assert_int_equal(look_at_folder(&scenes[1]), NEW);
        assert_false(has_leftovers());
    }
}

/* ---- the heartbeat ---- */

/* Through the main thread's long sleep the lock looks alive, from another host too. */
static void test_heartbeat(void **state)
{
    (void)state;
    lease_ms = SLOW_LEASE_MS;
    set_scene(&scenes[1]);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        const as_txn_options options = {.lease_ms = SLOW_LEASE_MS};
        as_txn *t;
        must(as_txn_begin(&t, dir, &options, NULL, NULL) == AS_OK, "begin");
        (void)raise(SIGSTOP);
        /* As in one long fsync: no call of ours runs. Signals come to this thread. */
        sigset_t pending;
        (void)sigemptyset(&pending);
        (void)sigaddset(&pending, SIGUSR1);
        (void)sigprocmask(SIG_BLOCK, &pending, NULL);
        int got;
        (void)sigwait(&pending, &got);
        as_txn_abort(t);
        _exit(0);
    }
    int status;
    must(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "stopped");
    send_far_away();
    must(kill(child, SIGCONT) == 0, "SIGCONT");
    for (int i = 0; i < 3; i++) {
        as_error e = AS_ERROR_INIT;
        int finish;
        assert_int_equal(save(&other, &finish, &e), AS_BUSY);
        assert_non_null(strstr(as_error_text(&e), "node7"));
        as_error_clear(&e);
        as_sleep_ms(SLOW_LEASE_MS / 4);
    }
    must(kill(child, SIGUSR1) == 0 && waitpid(child, &status, 0) == child, "waitpid");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(look_at_folder(&other), OLD);
    assert_false(has_leftovers());
}

static atomic_int beats;

static int count_futimens(int fd, const struct timespec times[2])
{
    atomic_fetch_add(&beats, 1);
    return real_table.futimens(fd, times);
}

/* No call before a quarter of the lease, some after it, none when the lock is given up; and the
 * holder need not look itself to learn that the lock was taken away. */
static void test_beats(void **state)
{
    (void)state;
    set_scene(&scenes[1]);
    as_sys_table.futimens = count_futimens;
    beats = 0;
    as_txn_options options = {.lease_ms = LONG_LEASE_MS};
    as_txn *t;
    assert_int_equal(as_txn_begin(&t, dir, &options, NULL, NULL), AS_OK);
    int begun = beats; /* what recovery at the start does itself */
    as_sleep_ms(STEADY_LEASE_MS);
    assert_int_equal(beats, begun);
    as_txn_abort(t);

    options.lease_ms = SHORT_LEASE_MS;
    assert_int_equal(as_txn_begin(&t, dir, &options, NULL, NULL), AS_OK);
    begun = beats;
    for (int i = 0; i < 1000 && beats < begun + 3; i++) {
        as_sleep_ms(SHORT_LEASE_MS);
    }
    assert_true(beats >= begun + 3);
    char path[400];
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/" AS_LOCK_NAME, dir);
    must(unlink(path) == 0, path);
    int code = AS_OK;
    as_error e = AS_ERROR_INIT;
    for (int i = 0; i < 1000 && code == AS_OK; i++) {
        as_sleep_ms(SHORT_LEASE_MS / 4);
        code = as_txn_refresh(t, &e);
    }
    assert_int_equal(code, AS_BUSY);
    as_error_clear(&e);
    as_txn_abort(t);
    begun = beats;
    as_sleep_ms(STEADY_LEASE_MS);
    assert_int_equal(beats, begun);
    as_sys_table.futimens = real_table.futimens;
}

static int no_thread(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *user)
{
    *out = pthread_self(); /* undefined, says POSIX */
    (void)how;
    (void)run;
    (void)user;
    return EAGAIN;
}

static int warnings;

static void count_warning(int level, const char *text, void *user)
{
    (void)user;
    warnings += level == AS_LOG_WARNING && strstr(text, "sign of life") != NULL;
}

/* A process at its limit of threads saves all the same, and is told. */
static void test_without_a_thread(void **state)
{
    (void)state;
    const as_log log = {.call = count_warning};
    set_scene(&scenes[1]);
    as_sys_table.pthread_create = no_thread;
    as_txn *t;
    assert_int_equal(as_txn_begin(&t, dir, NULL, &log, NULL), AS_OK);
    assert_int_equal(warnings, 1);
    as_txn_abort(t);
    as_sys_table.pthread_create = real_table.pthread_create;
    assert_false(has_leftovers());
}

static int set_up_still(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "%s", scratch_folder());
    real_table = as_sys_table;
    as_sys_table.openat = still_openat;
    as_sys_table.renameat = still_renameat;
    as_sys_table.unlinkat = still_unlinkat;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_before_the_journal),
        cmocka_unit_test(test_goes_on_while_it_is_broken),
        cmocka_unit_test(test_broken_by_a_save_under_way),
        cmocka_unit_test(test_broken_after_the_journal),
        cmocka_unit_test(test_guarded),
        cmocka_unit_test(test_heartbeat),
        cmocka_unit_test(test_beats),
        cmocka_unit_test(test_without_a_thread),
    };
    return cmocka_run_group_tests(tests, set_up_still, tear_down);
}
