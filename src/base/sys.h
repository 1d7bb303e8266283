/* SPDX-License-Identifier: Apache-2.0
 * The one table through which every system call that touches the disk goes, so
 * that a test can make the n-th call of a kind fail, stall or kill (DESIGN rule 8).
 * Entries have the meaning, results and errno of the call of the same name.
 */
#ifndef ALLSHARD_BASE_SYS_H
#define ALLSHARD_BASE_SYS_H

#include <dirent.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"

struct io_uring;
struct io_uring_cqe;
struct statfs;

typedef struct as_sys {
    int (*openat)(int folder, const char *path, int flags, mode_t mode);
    int (*close)(int fd);
    ssize_t (*pread)(int fd, void *bytes, size_t count, off_t offset);
    ssize_t (*pwrite)(int fd, const void *bytes, size_t count, off_t offset);
    int (*fsync)(int fd);
    int (*ftruncate)(int fd, off_t size);
    int (*fstat)(int fd, struct stat *out);
    int (*fstatat)(int folder, const char *path, struct stat *out, int flags);
    int (*mkdirat)(int folder, const char *path, mode_t mode);
    int (*unlinkat)(int folder, const char *path, int flags);
    int (*renameat)(int from_folder, const char *from, int to_folder, const char *to);
    int (*linkat)(int from_folder, const char *from, int to_folder, const char *to, int flags);
    int (*symlinkat)(const char *target, int folder, const char *path);
    ssize_t (*readlinkat)(int folder, const char *path, char *target, size_t size);
    int (*faccessat)(int folder, const char *path, int mode, int flags);
    DIR *(*fdopendir)(int fd);
    struct dirent *(*readdir)(DIR *dir); /* NULL with errno 0 at the end */
    int (*closedir)(DIR *dir);
    int (*fchmod)(int fd, mode_t mode);
    int (*futimens)(int fd, const struct timespec times[2]); /* NULL: now */
    int (*flock)(int fd, int operation);
    int (*sync_file_range)(int fd, off_t offset, off_t count, unsigned flags);
    int (*fallocate)(int fd, int mode, off_t offset, off_t count);
    int (*fadvise)(int fd, off_t offset, off_t count, int advice); /* 0 or the errno, not set */
    int (*statx)(int folder, const char *path, int flags, unsigned mask, struct statx *out);
    int (*fstatfs)(int fd, struct statfs *out);
    int (*ioctl)(int fd, unsigned long request, void *argument);
    ssize_t (*preadv2)(int fd, const struct iovec *parts, int count, off_t offset, int flags);
    /* 0 or the errno, which is not set. */
    int (*pthread_create)(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *),
                          void *user);
    /* liburing's functions without their prefix: what fails gives the negative errno, which is not
     * set. Without liburing in the build, or io_uring in the kernel: -ENOSYS. */
    int (*uring_init)(unsigned entries, struct io_uring *ring, unsigned flags);
    int (*uring_register)(struct io_uring *ring, const struct iovec *buffers, unsigned count);
    int (*uring_submit)(struct io_uring *ring); /* entries that the kernel took */
    /* The next completion, which the caller marks as seen; -EAGAIN: none yet. */
    int (*uring_peek)(struct io_uring *ring, struct io_uring_cqe **out);
} as_sys;

/* The table in use; a test may replace entries while no thread of an engine runs. Entries are
 * called from several threads. */
extern as_sys as_sys_table;

/* Read and write all of it: EINTR and short counts are taken up again, single
 * calls stay at or below 1 GiB. `what` names the file in errors.
 * as_read_all: a file that ends too early is AS_FORMAT. */
int as_read_all(int fd, void *bytes, size_t count, int64_t offset, const char *what, as_error *e);
int as_write_all(int fd, const void *bytes, size_t count, int64_t offset, const char *what,
                 as_error *e);

/* openat with O_CLOEXEC that takes up EINTR again. fd or -1 with errno. */
int as_open(int folder, const char *path, int flags, mode_t mode);

/* fsync that takes up EINTR again; `what` names the file. A failure is final (DESIGN rule 2). */
int as_sync(int fd, const char *what, as_error *e);

#endif
