/* SPDX-License-Identifier: Apache-2.0 */
#include "series/run_command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
#define CAN_CLOSE_FROM 1
#endif
#endif

enum {
    TICK_MS = 20,       /* between looks at *cancel and at the process */
    LAST_WAIT_MS = 2000 /* for a process that was killed: in an uninterruptible call it stays */
};

/* ---------------------------------------------------------------- environment */

int as_environment_copy(as_environment *out, as_error *e)
{
    size_t count = 0;
    while (environ && environ[count]) {
        count++;
    }
    out->items = calloc(count + 1, sizeof *out->items);
    if (!out->items) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        out->items[i] = strdup(environ[i]);
        if (!out->items[i]) {
            as_environment_free(out);
            return as_fail_nomem(e);
        }
    }
    return AS_OK;
}

const char *as_environment_get(const as_environment *env, const char *name)
{
    size_t length = strlen(name);
    for (char **at = env->items; at && *at; at++) {
        if (strncmp(*at, name, length) == 0 && (*at)[length] == '=') {
            return *at + length + 1;
        }
    }
    return NULL;
}

void as_environment_free(as_environment *env)
{
    for (char **at = env->items; at && *at; at++) {
        free(*at);
    }
    free(env->items);
    env->items = NULL;
}

/* ---------------------------------------------------------------------- start */

/* posix_spawnp would look on the PATH that the program has now. */
static int find(const char *name, const char *path, char *out, size_t size)
{
    while (path && *path) {
        size_t length = strcspn(path, ":");
        int n = snprintf(out, size, "%.*s/%s", (int)length, length ? path : ".", name);
        if (length == 0) {
            n = snprintf(out, size, "./%s", name);
        }
        if (n > 0 && (size_t)n < size && access(out, X_OK) == 0) {
            return 0;
        }
        path += length + (path[length] == ':');
    }
    return ENOENT;
}

/* Nothing that the program has open goes along; no signal is blocked, ignored or caught. */
static int prepare(posix_spawn_file_actions_t *files, posix_spawnattr_t *how, int output)
{
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int result = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);
    result = result ? result : posix_spawn_file_actions_adddup2(files, output, 1);
    result = result ? result : posix_spawn_file_actions_addopen(files, 2, "/dev/null", O_WRONLY, 0);
#ifdef CAN_CLOSE_FROM
    result = result ? result : posix_spawn_file_actions_addclosefrom_np(files, 3);
#endif
    result = result ? result : posix_spawnattr_setpgroup(how, 0);
    result = result ? result : posix_spawnattr_setsigmask(how, &none);
    result = result ? result : posix_spawnattr_setsigdefault(how, &all);
    return result ? result
                  : posix_spawnattr_setflags(how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                      POSIX_SPAWN_SETSIGDEF);
}

static int spawn(const char *path, const char *const *argv, const as_environment *env, int output,
                 pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    int result = posix_spawn_file_actions_init(&files);
    if (result != 0) {
        return result;
    }
    result = posix_spawnattr_init(&how);
    if (result == 0) {
        result = prepare(&files, &how, output);
        if (result == 0) {
            /* It takes the strings as they are, though its type does not say so. */
            char *const *plain = (char *const *)(uintptr_t)argv;
            result = posix_spawn(pid, path, &files, &how, plain, env->items);
        }
        (void)posix_spawnattr_destroy(&how);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return result;
}

/* ------------------------------------------------------------------------ run */

typedef struct child {
    pid_t pid;
    bool gone;     /* it was waited for */
    int status;    /* as of waitpid; 0 if somebody else waited for it */
    int output;    /* end of the pipe to read from */
    int64_t until; /* as_clock */
    const atomic_bool *cancel;
} child;

static bool has_gone(child *c)
{
    if (!c->gone) {
        int status = 0;
        pid_t got = waitpid(c->pid, &status, WNOHANG);
        if (got == c->pid) {
            c->gone = true;
            c->status = status;
        } else if (got < 0 && errno == ECHILD) {
            c->gone = true; /* the program ignores SIGCHLD, or waits for every child */
        }
    }
    return c->gone;
}

/* Whatever the command started goes with it. The group is looked at before its leader is waited
 * for, or has only others of that command in it: the number cannot be another's yet. */
static void end(child *c)
{
    if (c->pid > 0) {
        (void)kill(-c->pid, SIGKILL);
    }
    const struct timespec tick = {.tv_nsec = 1000000};
    for (int i = 0; i < LAST_WAIT_MS && !has_gone(c); i++) {
        (void)nanosleep(&tick, NULL);
    }
    (void)close(c->output);
}

/* Takes what is there. *ended: there will be no more. */
static int take(child *c, as_buffer *out, size_t first, bool *ended, as_error *e)
{
    char bytes[4096];
    ssize_t got = read(c->output, bytes, sizeof bytes);
    if (got < 0) {
        *ended = errno != EAGAIN && errno != EINTR;
        return AS_OK;
    }
    *ended = got == 0;
    if (out->size - first + (size_t)got > AS_COMMAND_OUTPUT) {
        return as_fail(e, AS_LIMIT, 0, "it writes more than %d bytes", AS_COMMAND_OUTPUT);
    }
    return as_buffer_append(out, bytes, (size_t)got, e);
}

static int late(const child *c, as_error *e)
{
    if (c->cancel && atomic_load(c->cancel)) {
        return as_fail(e, AS_SYSTEM, ECANCELED, "it was not waited for any longer");
    }
    if (as_clock() >= c->until) {
        return as_fail(e, AS_SYSTEM, ETIMEDOUT, "it did not answer");
    }
    return AS_OK;
}

/* Until the command has ended and all it wrote was read. Others that it left behind may keep the
 * pipe open: they are not waited for. */
static int listen_to(child *c, as_buffer *out, as_error *e)
{
    size_t first = out->size;
    bool ended = false;
    int code = AS_OK;
    while (code == AS_OK) {
        bool gone = has_gone(c);
        struct pollfd look = {.fd = c->output, .events = POLLIN};
        int ready = ended ? 0 : poll(&look, 1, gone ? 0 : TICK_MS);
        if (ready > 0) {
            code = take(c, out, first, &ended, e);
        } else if (gone) {
            return AS_OK;
        } else if (ended) {
            const struct timespec tick = {.tv_nsec = TICK_MS * 1000000L / 4};
            (void)nanosleep(&tick, NULL);
        }
        code = code == AS_OK ? late(c, e) : code;
    }
    return code;
}

static int judge(const child *c, as_error *e)
{
    if (WIFSIGNALED(c->status)) {
        return as_fail(e, AS_SYSTEM, 0, "it was ended by signal %d", WTERMSIG(c->status));
    }
    if (WEXITSTATUS(c->status) != 0) {
        return as_fail(e, AS_SYSTEM, 0, "it ended with status %d", WEXITSTATUS(c->status));
    }
    return AS_OK;
}

static int run(const char *path, const char *const *argv, const as_environment *env, child *c,
               as_buffer *out, as_error *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return as_fail(e, AS_SYSTEM, errno, "no pipe can be made");
    }
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    int result = spawn(path, argv, env, ends[1], &c->pid);
    (void)close(ends[1]);
    c->output = ends[0];
    if (result != 0) {
        (void)close(ends[0]);
        return as_fail(e, AS_SYSTEM, result, "%s cannot be run", path);
    }
    int code = listen_to(c, out, e);
    code = code == AS_OK ? judge(c, e) : code;
    end(c);
    return code;
}

int as_run_command(const char *const *argv, const as_environment *env, double seconds,
                   const atomic_bool *cancel, as_buffer *out, as_error *e)
{
    char path[4096];
    if (find(argv[0], as_environment_get(env, "PATH"), path, sizeof path) != 0) {
        return as_fail(e, AS_NOT_FOUND, 0, "%s: there is no such command on PATH", argv[0]);
    }
    child c = {.cancel = cancel, .until = as_clock() + (int64_t)(seconds * 1e9)};
    as_error own = AS_ERROR_INIT;
    if (run(path, argv, env, &c, out, &own) != AS_OK) {
        as_error_prefix(&own, "%s", argv[0]);
    }
    return as_error_pass(e, &own);
}
