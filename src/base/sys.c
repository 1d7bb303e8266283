/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifdef ALLSHARD_HAVE_URING
#include <liburing.h>
#endif

enum { LARGEST_CALL = 1 << 30 };

static int call_openat(int folder, const char *path, int flags, mode_t mode)
{
    return openat(folder, path, flags, mode);
}

static int call_ioctl(int fd, unsigned long request, void *argument)
{
    return ioctl(fd, request, argument);
}

#ifdef ALLSHARD_HAVE_URING
static int call_uring_peek(struct io_uring *ring, struct io_uring_cqe **out)
{
    return io_uring_peek_cqe(ring, out);
}
#else
static int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    (void)entries;
    (void)ring;
    (void)flags;
    return -ENOSYS;
}

static int io_uring_register_buffers(struct io_uring *ring, const struct iovec *buffers,
                                     unsigned count)
{
    (void)ring;
    (void)buffers;
    (void)count;
    return -ENOSYS;
}

static int io_uring_submit(struct io_uring *ring)
{
    (void)ring;
    return -ENOSYS;
}

static int call_uring_peek(struct io_uring *ring, struct io_uring_cqe **out)
{
    (void)ring;
    (void)out;
    return -ENOSYS;
}
#endif

as_sys as_sys_table = {
    .openat = call_openat,
    .close = close,
    .pread = pread,
    .pwrite = pwrite,
    .fsync = fsync,
    .ftruncate = ftruncate,
    .fstat = fstat,
    .fstatat = fstatat,
    .mkdirat = mkdirat,
    .unlinkat = unlinkat,
    .renameat = renameat,
    .linkat = linkat,
    .symlinkat = symlinkat,
    .readlinkat = readlinkat,
    .faccessat = faccessat,
    .fdopendir = fdopendir,
    .readdir = readdir,
    .closedir = closedir,
    .fchmod = fchmod,
    .futimens = futimens,
    .flock = flock,
    .sync_file_range = sync_file_range,
    .fallocate = fallocate,
    .fadvise = posix_fadvise,
    .statx = statx,
    .fstatfs = fstatfs,
    .ioctl = call_ioctl,
    .preadv2 = preadv2,
    .pthread_create = pthread_create,
    .uring_init = io_uring_queue_init,
    .uring_register = io_uring_register_buffers,
    .uring_submit = io_uring_submit,
    .uring_peek = call_uring_peek,
};

int as_read_all(int fd, void *bytes, size_t count, int64_t offset, const char *what, as_error *e)
{
    char *at = bytes;
    while (count > 0) {
        size_t ask = count < LARGEST_CALL ? count : LARGEST_CALL;
        ssize_t got = as_sys_table.pread(fd, at, ask, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return as_fail(e, AS_SYSTEM, errno, "%s: cannot read %zu bytes at offset %lld", what,
                           ask, (long long)offset);
        }
        if (got == 0) {
            return as_fail(e, AS_FORMAT, 0,
                           "%s: the file ends at offset %lld, where %zu more bytes were expected",
                           what, (long long)offset, count);
        }
        at += got;
        offset += got;
        count -= (size_t)got;
    }
    return AS_OK;
}

int as_write_all(int fd, const void *bytes, size_t count, int64_t offset, const char *what,
                 as_error *e)
{
    const char *at = bytes;
    while (count > 0) {
        size_t ask = count < LARGEST_CALL ? count : LARGEST_CALL;
        ssize_t put = as_sys_table.pwrite(fd, at, ask, (off_t)offset);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            /* pwrite that takes nothing without an error would loop for ever: call it a full
             * disk. */
            return as_fail(e, AS_SYSTEM, put < 0 ? errno : ENOSPC,
                           "%s: cannot write %zu bytes at offset %lld", what, ask,
                           (long long)offset);
        }
        at += put;
        offset += put;
        count -= (size_t)put;
    }
    return AS_OK;
}

int as_open(int folder, const char *path, int flags, mode_t mode)
{
    int fd;
    do {
        fd = as_sys_table.openat(folder, path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

int as_sync(int fd, const char *what, as_error *e)
{
    int result;
    do {
        result = as_sys_table.fsync(fd);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? as_fail(e, AS_SYSTEM, errno, "%s: cannot fsync", what) : AS_OK;
}
