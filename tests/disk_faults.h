/* SPDX-License-Identifier: Apache-2.0
 * Trouble on purpose: counts the system calls that touch the disk and makes the n-th one
 * kill the process or fail; and small helpers for folders of files in tests.
 */
#ifndef ALLSHARD_TESTS_DISK_FAULTS_H
#define ALLSHARD_TESTS_DISK_FAULTS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

enum fault_mode {
    FAULT_NONE,      /* only count */
    FAULT_KILL,      /* SIGKILL instead of call number `at` */
    FAULT_FAIL,      /* call number `at` is not made and fails */
    FAULT_LIE,       /* call number `at` is made and says that it failed */
    FAULT_DEAD_DISK, /* from call number `at` on all that change something fail */
    FAULT_FULL_DISK  /* from call number `at` on all that need space fail */
};

static struct {
    enum fault_mode mode;
    int at;      /* 1 is the first call */
    int error;   /* errno of failing calls */
    int calls;   /* so far */
    FILE *trace; /* one line per call, if not NULL */
} fault;

static as_sys fault_real;

enum fault_kind { KIND_READ = 0, KIND_CHANGE = 1, KIND_SPACE = 2 };

/* Counts a call. True: it has to fail, and errno is set. */
static bool fault_hits(int kind)
{
    fault.calls++;
    bool hit = false;
    switch (fault.mode) {
    case FAULT_NONE:
    case FAULT_LIE:
        break;
    case FAULT_KILL:
        if (fault.calls == fault.at) {
            (void)kill(getpid(), SIGKILL);
        }
        break;
    case FAULT_FAIL:
        hit = fault.calls == fault.at;
        break;
    case FAULT_DEAD_DISK:
        hit = fault.calls >= fault.at && kind != KIND_READ;
        break;
    case FAULT_FULL_DISK:
        hit = fault.calls >= fault.at && kind == KIND_SPACE;
        break;
    }
    if (hit) {
        errno = fault.error;
    }
    return hit;
}

/* The result of a call that was made, or -1 if it has to lie. */
static int fault_told(int result)
{
    if (fault.mode == FAULT_LIE && fault.calls == fault.at) {
        errno = fault.error;
        return -1;
    }
    return result;
}

static void fault_trace(const char *call, int folder, const char *from, const char *to)
{
    if (!fault.trace) {
        return;
    }
    char link[64];
    char path[512] = "";
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    if (folder >= 0) {
        ssize_t n = readlink(link, path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
    }
    const char *tail = strrchr(path, '/');
    (void)fprintf(fault.trace, "%s %s%s%s%s%s\n", call, tail ? tail + 1 : path, from ? "/" : "",
                  from ? from : "", to ? " " : "", to ? to : "");
}

static int fault_openat(int folder, const char *path, int flags, mode_t mode)
{
    if (fault_hits((flags & O_CREAT) ? KIND_SPACE : KIND_READ)) {
        return -1;
    }
    int fd = fault_real.openat(folder, path, flags, mode);
    if (fd >= 0 && fault_told(0) < 0) {
        (void)close(fd);
        errno = fault.error;
        return -1;
    }
    return fd;
}

static int fault_close(int fd)
{
    bool hit = fault_hits(KIND_CHANGE);
    int result = fault_real.close(fd);
    if (hit) {
        errno = fault.error;
        return -1;
    }
    return fault_told(result);
}

static ssize_t fault_pread(int fd, void *bytes, size_t count, off_t offset)
{
    return fault_hits(KIND_READ) ? -1 : fault_real.pread(fd, bytes, count, offset);
}

static ssize_t fault_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    if (fault_hits(KIND_SPACE)) {
        /* A full disk takes a part before it refuses. */
        if (fault.mode == FAULT_FULL_DISK && count > 1 && fault.calls == fault.at) {
            return fault_real.pwrite(fd, bytes, count / 2, offset);
        }
        return -1;
    }
    return fault_real.pwrite(fd, bytes, count, offset);
}

static int fault_fsync(int fd)
{
    fault_trace("fsync", fd, NULL, NULL);
    return fault_hits(KIND_CHANGE) ? -1 : fault_told(fault_real.fsync(fd));
}

static int fault_ftruncate(int fd, off_t size)
{
    return fault_hits(KIND_CHANGE) ? -1 : fault_told(fault_real.ftruncate(fd, size));
}

static int fault_fstat(int fd, struct stat *out)
{
    return fault_hits(KIND_READ) ? -1 : fault_real.fstat(fd, out);
}

static int fault_fstatat(int folder, const char *path, struct stat *out, int flags)
{
    return fault_hits(KIND_READ) ? -1 : fault_real.fstatat(folder, path, out, flags);
}

static int fault_mkdirat(int folder, const char *path, mode_t mode)
{
    fault_trace("mkdir", folder, path, NULL);
    return fault_hits(KIND_SPACE) ? -1 : fault_told(fault_real.mkdirat(folder, path, mode));
}

static int fault_unlinkat(int folder, const char *path, int flags)
{
    fault_trace("unlink", folder, path, NULL);
    return fault_hits(KIND_CHANGE) ? -1 : fault_told(fault_real.unlinkat(folder, path, flags));
}

static int fault_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    fault_trace("rename", from_folder, from, to);
    return fault_hits(KIND_CHANGE)
               ? -1
               : fault_told(fault_real.renameat(from_folder, from, to_folder, to));
}

static int fault_linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    return fault_hits(KIND_SPACE)
               ? -1
               : fault_told(fault_real.linkat(from_folder, from, to_folder, to, flags));
}

static DIR *fault_fdopendir(int fd)
{
    return fault_hits(KIND_READ) ? NULL : fault_real.fdopendir(fd);
}

static struct dirent *fault_readdir(DIR *dir)
{
    return fault_hits(KIND_READ) ? NULL : fault_real.readdir(dir);
}

static int fault_closedir(DIR *dir)
{
    bool hit = fault_hits(KIND_READ);
    int result = fault_real.closedir(dir);
    if (hit) {
        errno = fault.error;
        return -1;
    }
    return result;
}

static int fault_fchmod(int fd, mode_t mode)
{
    return fault_hits(KIND_CHANGE) ? -1 : fault_told(fault_real.fchmod(fd, mode));
}

static int fault_futimens(int fd, const struct timespec times[2])
{
    return fault_hits(KIND_CHANGE) ? -1 : fault_told(fault_real.futimens(fd, times));
}

static int fault_flock(int fd, int operation)
{
    return fault_hits(KIND_READ) ? -1 : fault_told(fault_real.flock(fd, operation));
}

/* Puts the wrappers in place; once per process. */
static inline void fault_install(void)
{
    fault_real = as_sys_table;
    as_sys_table.openat = fault_openat;
    as_sys_table.close = fault_close;
    as_sys_table.pread = fault_pread;
    as_sys_table.pwrite = fault_pwrite;
    as_sys_table.fsync = fault_fsync;
    as_sys_table.ftruncate = fault_ftruncate;
    as_sys_table.fstat = fault_fstat;
    as_sys_table.fstatat = fault_fstatat;
    as_sys_table.mkdirat = fault_mkdirat;
    as_sys_table.unlinkat = fault_unlinkat;
    as_sys_table.renameat = fault_renameat;
    as_sys_table.linkat = fault_linkat;
    as_sys_table.fdopendir = fault_fdopendir;
    as_sys_table.readdir = fault_readdir;
    as_sys_table.closedir = fault_closedir;
    as_sys_table.fchmod = fault_fchmod;
    as_sys_table.futimens = fault_futimens;
    as_sys_table.flock = fault_flock;
}

static inline void fault_set(enum fault_mode mode, int at, int error)
{
    fault.mode = mode;
    fault.at = at;
    fault.error = error;
    fault.calls = 0;
}

/* Ends the trouble; the number of calls since fault_set. */
static inline int fault_end(void)
{
    fault.mode = FAULT_NONE;
    return fault.calls;
}

#endif
