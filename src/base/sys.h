/* SPDX-License-Identifier: Apache-2.0
 * The one table through which every system call that touches the disk goes, so
 * that a test can make the n-th call of a kind fail, stall or kill (DESIGN rule 8).
 * Entries have the meaning, results and errno of the call of the same name.
 */
#ifndef ALLSHARD_BASE_SYS_H
#define ALLSHARD_BASE_SYS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"

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
    DIR *(*fdopendir)(int fd);
    struct dirent *(*readdir)(DIR *dir); /* NULL with errno 0 at the end */
    int (*closedir)(DIR *dir);
    int (*fchmod)(int fd, mode_t mode);
    int (*futimens)(int fd, const struct timespec times[2]); /* NULL: now */
    int (*flock)(int fd, int operation);
} as_sys;

/* The table in use; a test may replace entries. */
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
