/* SPDX-License-Identifier: Apache-2.0
 * Commands that are missing, fail, hang, write without end, or leave others behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "commit/folder.h"
#include "series/run_command.h"

static char dir[] = "/tmp/allshard-run-command.XXXXXX";
static as_environment env;

static void script(const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "#!/bin/sh\n%s\n", text) > 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

/* Runs one with an argument; the code, and what it wrote. */
static int run(const char *name, double seconds, const atomic_bool *cancel, as_buffer *out,
               as_error *e)
{
    const char *argv[] = {name, "an argument", NULL};
    out->size = 0;
    return as_run_command(argv, &env, seconds, cancel, out, e);
}

static void expect(const char *name, int code, int sys_errno, const char *text)
{
    as_buffer out = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    int got = run(name, 0.3, NULL, &out, &e);
    if (got != code || e.sys_errno != sys_errno || !strstr(as_error_text(&e), text)) {
        fail_msg("%s: %d, errno %d: %s", name, got, e.sys_errno, as_error_text(&e));
    }
    as_error_clear(&e);
    as_buffer_free(&out);
}

static void test_good(void **state)
{
    (void)state;
    script("good", "echo \"$1 $#\"; echo told >&2; read x; echo \"<$x>\"");
    as_buffer out = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(run("good", 60, NULL, &out, &e), AS_OK);
    assert_string_equal(as_buffer_string(&out), "an argument 1\n<>\n");
    script("silent", "exec >&-; sleep 0.2");
    assert_int_equal(run("silent", 60, NULL, &out, &e), AS_OK);
    assert_int_equal(out.size, 0);
    as_buffer_free(&out);
}

static void test_bad(void **state)
{
    (void)state;
    script("fails", "echo x; exit 3");
    script("dies", "kill -9 $$");
    script("endless",
           "while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done");
    script("hangs", "sleep 1000");
    script("deaf", "trap '' TERM INT HUP; exec >&-; sleep 1000 & wait");
    expect("no-such-command", AS_NOT_FOUND, 0, "no-such-command: there is no such command on PATH");
    expect("fails", AS_SYSTEM, 0, "fails: it ended with status 3");
    expect("dies", AS_SYSTEM, 0, "dies: it was ended by signal 9");
    expect("hangs", AS_SYSTEM, ETIMEDOUT, "hangs: it did not answer");
    expect("deaf", AS_SYSTEM, ETIMEDOUT, "deaf: it did not answer");
    as_buffer out = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(run("endless", 60, NULL, &out, &e), AS_LIMIT);
    assert_true(out.size <= AS_COMMAND_OUTPUT);
    as_error_clear(&e);
    as_buffer_free(&out);
    /* A folder and a file that cannot be run are no commands. */
    char path[256];
    (void)snprintf(path, sizeof path, "%s/plain", dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    assert_true(fd >= 0);
    (void)close(fd);
    expect("plain", AS_NOT_FOUND, 0, "plain");
    script("no-program", "");
    (void)snprintf(path, sizeof path, "%s/no-program", dir);
    fd = open(path, O_TRUNC | O_WRONLY);
    assert_int_equal(write(fd,
                           "\x7f"
                           "ELF nonsense",
                           13),
                     13);
    (void)close(fd);
    expect("no-program", AS_SYSTEM, ENOEXEC, "cannot be run");
}

/* Grandchildren are init's to wait for, which may take a moment, or until the end of a container. */
static bool has_ended(long pid)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    char path[64];
    char line[512];
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    for (int tries = 0; tries < 500; tries++) {
        FILE *file = fopen(path, "r");
        if (!file) {
            return true;
        }
        const char *end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        (void)fclose(file);
        if (!end || end[2] == 'Z' || end[2] == 'X') {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* Not one process is left of what a command started, and no zombie of ours. */
static void test_nothing_stays(void **state)
{
    (void)state;
    char text[1024];
    char path[256];
    (void)snprintf(path, sizeof path, "%s/pids", dir);
    (void)snprintf(text, sizeof text, "sleep 1000 & echo $! >> %s; echo $$ >> %s; $LAST", path,
                   path);
    script("leaves", text);
    const char *lasts[] = {"LAST=wait", "LAST=true"};
    for (int i = 0; i < 2; i++) {
        char *strings[] = {env.items[0], (char *)(uintptr_t)lasts[i], NULL};
        const as_environment own = {.items = strings};
        const char *argv[] = {"leaves", NULL};
        as_buffer out = AS_BUFFER_INIT;
        as_error e = AS_ERROR_INIT;
        int code = as_run_command(argv, &own, 0.5, NULL, &out, &e);
        assert_int_equal(code,
                         i == 0 ? AS_SYSTEM : AS_OK); /* the pipe stays open, but it is gone */
        as_error_clear(&e);
        as_buffer_free(&out);
    }
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    int count = 0;
    for (char line[32]; fgets(line, sizeof line, file); count++) {
        assert_true(has_ended(strtol(line, NULL, 10)));
    }
    (void)fclose(file);
    assert_int_equal(count, 4);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* It begins with no signal blocked or ignored, and with none of our files. */
static void test_clean_start(void **state)
{
    (void)state;
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)signal(SIGTERM, SIG_IGN);
    int fd = open("/dev/null", O_RDONLY); /* to be passed on, for all that it says */
    script("looks",
           "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2; ls /proc/self/fd | wc -l");
    as_buffer out = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(run("looks", 60, NULL, &out, &e), AS_OK);
    (void)signal(SIGTERM, SIG_DFL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)close(fd);
    char *at = NULL;
    unsigned long long blocked = strtoull(as_buffer_string(&out), &at, 16);
    unsigned long long ignored = strtoull(at, &at, 16);
    long files = strtol(at, NULL, 10);
    assert_true(blocked == 0);
    assert_true((ignored & ~0x180000000ULL) == 0); /* 32 and 33 are the C library's own */
    assert_int_equal(files, 4);                    /* ls has its folder open beside the three */
    as_buffer_free(&out);
}

/* A program that ignores SIGCHLD leaves nothing to wait for. */
static void test_nothing_to_wait_for(void **state)
{
    (void)state;
    (void)signal(SIGCHLD, SIG_IGN);
    as_buffer out = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(run("good", 60, NULL, &out, &e), AS_OK);
    assert_string_equal(as_buffer_string(&out), "an argument 1\n<>\n");
    as_buffer_free(&out);
    expect("hangs", AS_SYSTEM, ETIMEDOUT, "hangs: it did not answer");
    (void)signal(SIGCHLD, SIG_DFL);
}

static void *cancel_it(void *user)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    (void)nanosleep(&pause, NULL);
    atomic_store((atomic_bool *)user, true);
    return NULL;
}

static void test_cancelled(void **state)
{
    (void)state;
    atomic_bool cancel = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_it, &cancel), 0);
    as_buffer out = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(run("hangs", 1000, &cancel, &out, &e), AS_SYSTEM);
    assert_int_equal(e.sys_errno, ECANCELED);
    (void)pthread_join(thread, NULL);
    as_error_clear(&e);
    as_buffer_free(&out);
}

static void test_environment(void **state)
{
    (void)state;
    as_environment own;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(setenv("ALLSHARD_TEST_VARIABLE", "a=b", 1), 0);
    assert_int_equal(setenv("ALLSHARD_TEST_VARIABLE_2", "", 1), 0);
    assert_int_equal(as_environment_copy(&own, &e), AS_OK);
    assert_int_equal(setenv("ALLSHARD_TEST_VARIABLE", "other", 1), 0);
    assert_string_equal(as_environment_get(&own, "ALLSHARD_TEST_VARIABLE"), "a=b");
    assert_string_equal(as_environment_get(&own, "ALLSHARD_TEST_VARIABLE_2"), "");
    assert_null(as_environment_get(&own, "ALLSHARD_TEST_VARIABL"));
    as_environment_free(&own);
    assert_null(as_environment_get(&own, "PATH"));
}

static int begin(void **state)
{
    (void)state;
    char path[512];
    if (!mkdtemp(dir)) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "PATH=/no/such/folder::%s:/usr/bin:/bin", dir);
    env.items = calloc(2, sizeof *env.items);
    env.items[0] = strdup(path);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    as_environment_free(&env);
    return as_tree_remove(AT_FDCWD, dir, dir, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nothing_stays),
        cmocka_unit_test(test_clean_start),
        cmocka_unit_test(test_nothing_to_wait_for),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
