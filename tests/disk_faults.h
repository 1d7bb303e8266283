/* SPDX-License-Identifier: Apache-2.0
 * Trouble on purpose: counts the system calls that touch the disk and makes the n-th one
 * kill the process or fail; and small helpers for folders of files in tests. Calls are counted
 * from all threads; trouble is set and ended while no thread of an engine runs.
 */
#ifndef ALLSHARD_TESTS_DISK_FAULTS_H
#define ALLSHARD_TESTS_DISK_FAULTS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef ALLSHARD_HAVE_URING
#include <liburing.h>
#endif

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
    int at;           /* 1 is the first call */
    int error;        /* errno of failing calls */
    atomic_int calls; /* so far */
    FILE *trace;      /* one line per call, if not NULL */
} fault;

static _Thread_local int fault_call; /* the number of this thread's last call */
static as_sys fault_real;

enum fault_kind { KIND_READ = 0, KIND_CHANGE = 1, KIND_SPACE = 2 };

/* Counts a call. True: it has to fail, and errno is set. */
static bool fault_hits(int kind)
{
    fault_call = atomic_fetch_add(&fault.calls, 1) + 1;
    bool hit = false;
    switch (fault.mode) {
    case FAULT_NONE:
    case FAULT_LIE:
        break;
    case FAULT_KILL:
        if (fault_call == fault.at) {
            (void)kill(getpid(), SIGKILL);
        }
        break;
    case FAULT_FAIL:
        hit = fault_call == fault.at;
        break;
    case FAULT_DEAD_DISK:
        hit = fault_call >= fault.at && kind != KIND_READ;
        break;
    case FAULT_FULL_DISK:
        hit = fault_call >= fault.at && kind == KIND_SPACE;
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
    if (fault.mode == FAULT_LIE && fault_call == fault.at) {
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
        if (fault.mode == FAULT_FULL_DISK && count > 1 && fault_call == fault.at) {
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

static int fault_sync_file_range(int fd, off_t offset, off_t count, unsigned flags)
{
    return fault_hits(KIND_CHANGE)
               ? -1
               : fault_told(fault_real.sync_file_range(fd, offset, count, flags));
}

static int fault_fallocate(int fd, int mode, off_t offset, off_t count)
{
    return fault_hits(KIND_SPACE) ? -1 : fault_told(fault_real.fallocate(fd, mode, offset, count));
}

static int fault_statx(int folder, const char *path, int flags, unsigned mask, struct statx *out)
{
    return fault_hits(KIND_READ) ? -1 : fault_real.statx(folder, path, flags, mask, out);
}

static int fault_fstatfs(int fd, struct statfs *out)
{
    return fault_hits(KIND_READ) ? -1 : fault_real.fstatfs(fd, out);
}

static int fault_ioctl(int fd, unsigned long request, void *argument)
{
    return fault_hits(KIND_CHANGE) ? -1 : fault_told(fault_real.ioctl(fd, request, argument));
}

static ssize_t fault_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return fault_hits(KIND_READ) ? -1 : fault_real.preadv2(fd, parts, count, offset, flags);
}

static int fault_pthread_create(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *),
                                void *user)
{
    return fault_hits(KIND_READ) ? EAGAIN : fault_real.pthread_create(out, how, run, user);
}

static int fault_uring_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    return fault_hits(KIND_READ) ? -fault.error : fault_real.uring_init(entries, ring, flags);
}

static int fault_uring_register(struct io_uring *ring, const struct iovec *buffers, unsigned count)
{
    return fault_hits(KIND_READ) ? -fault.error : fault_real.uring_register(ring, buffers, count);
}

static int fault_uring_submit(struct io_uring *ring)
{
    return fault_hits(KIND_SPACE) ? -fault.error : fault_real.uring_submit(ring);
}

#ifdef ALLSHARD_HAVE_URING
/* Completions are counted, not looks for them; what the kernel did is done all the same. */
static int fault_uring_peek(struct io_uring *ring, struct io_uring_cqe **out)
{
    int result = fault_real.uring_peek(ring, out);
    if (result == 0 && (fault_hits(KIND_SPACE) || fault_told(0) < 0)) {
        (*out)->res = -fault.error;
    }
    return result;
}
#endif

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
    as_sys_table.sync_file_range = fault_sync_file_range;
    as_sys_table.fallocate = fault_fallocate;
    as_sys_table.statx = fault_statx;
    as_sys_table.fstatfs = fault_fstatfs;
    as_sys_table.ioctl = fault_ioctl;
    as_sys_table.preadv2 = fault_preadv2;
    as_sys_table.pthread_create = fault_pthread_create;
    as_sys_table.uring_init = fault_uring_init;
    as_sys_table.uring_register = fault_uring_register;
    as_sys_table.uring_submit = fault_uring_submit;
#ifdef ALLSHARD_HAVE_URING
    as_sys_table.uring_peek = fault_uring_peek;
#endif
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
