/* SPDX-License-Identifier: Apache-2.0 */
#include "support_gate.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"
#include "support_ranks.h"

static struct {
    atomic_int call;   /* CALL_NONE: none */
    atomic_int at;     /* 1 is the first of the kind */
    atomic_bool relay; /* wakes the stalled rank and waits until it is through */
    atomic_int calls;
    atomic_int renames;
} gate;

static as_sys real;
static pthread_t caller;
void (*gate_idle)(void);
int gate_round;
int gate_slow_us;

const char *gate_path(const char *what)
{
    static _Thread_local char texts[4][320];
    static _Thread_local int next;
    char *text = texts[next++ % 4];
    (void)snprintf(text, sizeof texts[0], "%s-%d", scratch_path(what), gate_round);
    return text;
}

void gate_mark(const char *what)
{
    int fd = open(gate_path(what), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    (void)close(fd);
}

void gate_wait(const char *what)
{
    char path[320];
    (void)snprintf(path, sizeof path, "%s", gate_path(what));
    while (access(path, F_OK) != 0) {
        if (gate_idle && pthread_equal(pthread_self(), caller)) {
            gate_idle();
        }
        (void)usleep(1000);
    }
}

double gate_age(const char *what)
{
    struct stat status;
    struct timespec now;
    if (stat(gate_path(what), &status) != 0) {
        return -1;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)(now.tv_sec - status.st_mtim.tv_sec) +
           (double)(now.tv_nsec - status.st_mtim.tv_nsec) / 1e9;
}

void gate_pass(enum call call)
{
    if ((int)call != gate.call || atomic_fetch_add(&gate.calls, 1) + 1 != gate.at) {
        return;
    }
    if (gate.relay) {
        gate_mark("wake");
        gate_wait("back");
    } else {
        gate_mark("there");
        gate_wait("wake");
    }
}

static int gate_openat(int folder, const char *path, int flags, mode_t mode)
{
    bool creates = (flags & O_CREAT) != 0;
    if (creates && strcmp(path, "allshard.manifest.json") == 0) {
        gate_pass(CALL_MANIFEST);
    } else if (creates && strstr(path, ".safetensors")) {
        gate_pass(CALL_CREATE);
    } else if (!creates && strstr(path, ".safetensors")) {
        gate_pass((flags & O_ACCMODE) == O_RDONLY ? CALL_OPEN : CALL_WRITER);
    }
    return real.openat(folder, path, flags, mode);
}

static ssize_t gate_pread(int fd, void *bytes, size_t count, off_t offset)
{
    gate_pass(CALL_PREAD);
    return real.pread(fd, bytes, count, offset);
}

static ssize_t gate_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    (void)usleep((useconds_t)gate_slow_us);
    gate_pass(CALL_PWRITE);
    return real.pwrite(fd, bytes, count, offset);
}

static int gate_fsync(int fd)
{
    (void)usleep((useconds_t)gate_slow_us);
    gate_pass(CALL_FSYNC);
    return real.fsync(fd);
}

static int gate_renameat(int from, const char *old, int to, const char *name)
{
    (void)usleep((useconds_t)gate_slow_us);
    if (strcmp(name, "journal") == 0) {
        gate_pass(CALL_JOURNAL);
        atomic_store(&gate.renames, 1);
    } else {
        gate_pass(CALL_MOVE);
    }
    return real.renameat(from, old, to, name);
}

static int gate_unlinkat(int folder, const char *path, int flags)
{
    if (atomic_load(&gate.renames)) {
        gate_pass(CALL_CLEAN);
    }
    return real.unlinkat(folder, path, flags);
}

void gate_install(void)
{
    real = as_sys_table;
    caller = pthread_self();
    as_sys_table.openat = gate_openat;
    as_sys_table.pread = gate_pread;
    as_sys_table.pwrite = gate_pwrite;
    as_sys_table.fsync = gate_fsync;
    as_sys_table.renameat = gate_renameat;
    as_sys_table.unlinkat = gate_unlinkat;
}

void gate_set(enum call call, int at, bool relay)
{
    gate.call = call;
    gate.at = at;
    gate.relay = relay;
    gate.calls = 0;
    gate.renames = 0;
}
