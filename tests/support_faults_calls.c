/* SPDX-License-Identifier: Apache-2.0
 * The wrappers that stand in as_sys_table.
 */
#include "support_faults_calls.h"

#include <errno.h>
#include <fcntl.h>

#include "base/sys.h"

#ifdef ALLSHARD_HAVE_URING
#include <liburing.h>
#endif

enum { PAGE = 4096 };

static as_sys real;

/* Is the call to be made? */
static bool begin(fault_making *m)
{
    fault_judge(m);
    return m->verdict != VERDICT_REFUSE;
}

/* What the caller is told, with errno: -1 if the call was not made, or has to lie. */
static int64_t end(fault_making *m, int64_t result)
{
    int error = errno;
    bool fails = m->verdict == VERDICT_REFUSE || (m->verdict == VERDICT_LIE && result >= 0);
    if (fails) {
        error = m->error;
        result = -1;
    }
    fault_told(m, result, error);
    errno = error;
    return result;
}

/* Those that give an error as their result, and leave errno alone; `sign` says how. */
static int end_code(fault_making *m, int result, int sign)
{
    int saved = errno;
    bool fails = m->verdict == VERDICT_REFUSE || (m->verdict == VERDICT_LIE && result >= 0);
    result = fails ? sign * m->error : result;
    fault_told(m, result, m->error);
    errno = saved;
    return result;
}

/* A part of the bytes: half, and of O_DIRECT whole pages. */
static size_t part_of(const fault_making *m, int fd)
{
    size_t count = (size_t)m->count;
    if (m->verdict != VERDICT_SHORT || count < 2) {
        return count;
    }
    size_t part = count / 2;
    if (fcntl(fd, F_GETFL) & O_DIRECT) {
        part = part / PAGE * PAGE;
    }
    return part ? part : count;
}

static int fault_openat(int folder, const char *path, int flags, mode_t mode)
{
    fault_making m = {.call = (flags & O_CREAT) ? ON_CREATE : ON_OPEN, .fd = folder, .path = path};
    int fd = begin(&m) ? real.openat(folder, path, flags, mode) : -1;
    int told = (int)end(&m, fd);
    if (fd >= 0 && told < 0) {
        int error = errno;
        (void)real.close(fd);
        errno = error;
    }
    return told;
}

/* The descriptor is gone in any case, as on Linux. */
static int fault_close(int fd)
{
    fault_making m = {.call = ON_CLOSE, .fd = fd};
    (void)begin(&m);
    return (int)end(&m, real.close(fd));
}

static ssize_t fault_pread(int fd, void *bytes, size_t count, off_t offset)
{
    fault_making m = {.call = ON_PREAD, .fd = fd, .offset = offset, .count = (int64_t)count};
    return end(&m, begin(&m) ? real.pread(fd, bytes, part_of(&m, fd), offset) : -1);
}

static ssize_t fault_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    fault_making m = {.call = ON_PWRITE, .fd = fd, .offset = offset, .count = (int64_t)count};
    return end(&m, begin(&m) ? real.pwrite(fd, bytes, part_of(&m, fd), offset) : -1);
}

static int fault_fsync(int fd)
{
    fault_making m = {.call = ON_FSYNC, .fd = fd};
    return (int)end(&m, begin(&m) ? real.fsync(fd) : -1);
}

static int fault_ftruncate(int fd, off_t size)
{
    fault_making m = {.call = ON_FTRUNCATE, .fd = fd, .count = size};
    return (int)end(&m, begin(&m) ? real.ftruncate(fd, size) : -1);
}

static int fault_fstat(int fd, struct stat *out)
{
    fault_making m = {.call = ON_FSTAT, .fd = fd};
    return (int)end(&m, begin(&m) ? real.fstat(fd, out) : -1);
}

static int fault_fstatat(int folder, const char *path, struct stat *out, int flags)
{
    fault_making m = {.call = ON_FSTATAT, .fd = folder, .path = path};
    return (int)end(&m, begin(&m) ? real.fstatat(folder, path, out, flags) : -1);
}

static int fault_mkdirat(int folder, const char *path, mode_t mode)
{
    fault_making m = {.call = ON_MKDIRAT, .fd = folder, .path = path};
    return (int)end(&m, begin(&m) ? real.mkdirat(folder, path, mode) : -1);
}

static int fault_unlinkat(int folder, const char *path, int flags)
{
    fault_making m = {.call = ON_UNLINKAT, .fd = folder, .path = path};
    return (int)end(&m, begin(&m) ? real.unlinkat(folder, path, flags) : -1);
}

static int fault_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    fault_making m = {
        .call = ON_RENAMEAT, .fd = from_folder, .path = from, .to_fd = to_folder, .to = to};
    return (int)end(&m, begin(&m) ? real.renameat(from_folder, from, to_folder, to) : -1);
}

static int fault_linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    fault_making m = {
        .call = ON_LINKAT, .fd = from_folder, .path = from, .to_fd = to_folder, .to = to};
    return (int)end(&m, begin(&m) ? real.linkat(from_folder, from, to_folder, to, flags) : -1);
}

static int fault_symlinkat(const char *target, int folder, const char *path)
{
    fault_making m = {.call = ON_SYMLINKAT, .fd = folder, .path = path};
    return (int)end(&m, begin(&m) ? real.symlinkat(target, folder, path) : -1);
}

static ssize_t fault_readlinkat(int folder, const char *path, char *target, size_t size)
{
    fault_making m = {.call = ON_READLINKAT, .fd = folder, .path = path};
    return (ssize_t)end(&m, begin(&m) ? real.readlinkat(folder, path, target, size) : -1);
}

static int fault_faccessat(int folder, const char *path, int mode, int flags)
{
    fault_making m = {.call = ON_FACCESSAT, .fd = folder, .path = path};
    return (int)end(&m, begin(&m) ? real.faccessat(folder, path, mode, flags) : -1);
}

static DIR *fault_fdopendir(int fd)
{
    fault_making m = {.call = ON_FDOPENDIR, .fd = fd};
    DIR *dir = NULL;
    if (begin(&m) && m.verdict != VERDICT_LIE) {
        dir = real.fdopendir(fd);
    } else {
        m.verdict = VERDICT_REFUSE; /* the stream of a lie would be lost */
    }
    return end(&m, dir ? 0 : -1) == 0 ? dir : NULL;
}

/* NULL with errno 0 is the end and no failure. */
static struct dirent *fault_readdir(DIR *dir)
{
    fault_making m = {.call = ON_READDIR, .fd = dirfd(dir)};
    bool made = begin(&m);
    struct dirent *entry = made ? real.readdir(dir) : NULL;
    bool failed = !made || (!entry && errno != 0);
    return end(&m, failed ? -1 : 0) == 0 ? entry : NULL;
}

static int fault_closedir(DIR *dir)
{
    fault_making m = {.call = ON_CLOSEDIR, .fd = dirfd(dir)};
    (void)begin(&m);
    m.fd = -1;
    return (int)end(&m, real.closedir(dir));
}

static int fault_fchmod(int fd, mode_t mode)
{
    fault_making m = {.call = ON_FCHMOD, .fd = fd};
    return (int)end(&m, begin(&m) ? real.fchmod(fd, mode) : -1);
}

static int fault_futimens(int fd, const struct timespec times[2])
{
    fault_making m = {.call = ON_FUTIMENS, .fd = fd};
    return (int)end(&m, begin(&m) ? real.futimens(fd, times) : -1);
}

static int fault_flock(int fd, int operation)
{
    fault_making m = {.call = ON_FLOCK, .fd = fd};
    return (int)end(&m, begin(&m) ? real.flock(fd, operation) : -1);
}

static int fault_sync_file_range(int fd, off_t offset, off_t count, unsigned flags)
{
    fault_making m = {.call = ON_SYNC_FILE_RANGE, .fd = fd, .offset = offset, .count = count};
    return (int)end(&m, begin(&m) ? real.sync_file_range(fd, offset, count, flags) : -1);
}

static int fault_fallocate(int fd, int mode, off_t offset, off_t count)
{
    fault_making m = {.call = ON_FALLOCATE, .fd = fd, .offset = offset, .count = count};
    return (int)end(&m, begin(&m) ? real.fallocate(fd, mode, offset, count) : -1);
}

static int fault_statx(int folder, const char *path, int flags, unsigned mask, struct statx *out)
{
    fault_making m = {.call = ON_STATX, .fd = folder, .path = path};
    return (int)end(&m, begin(&m) ? real.statx(folder, path, flags, mask, out) : -1);
}

static int fault_fstatfs(int fd, struct statfs *out)
{
    fault_making m = {.call = ON_FSTATFS, .fd = fd};
    return (int)end(&m, begin(&m) ? real.fstatfs(fd, out) : -1);
}

static int fault_ioctl(int fd, unsigned long request, void *argument)
{
    fault_making m = {.call = ON_IOCTL, .fd = fd};
    return (int)end(&m, begin(&m) ? real.ioctl(fd, request, argument) : -1);
}

static ssize_t fault_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    fault_making m = {.call = ON_PREADV2, .fd = fd, .offset = offset};
    bool made = begin(&m);
    struct iovec cut;
    if (m.verdict == VERDICT_SHORT && count > 0 && parts[0].iov_len > 1) {
        cut = (struct iovec){.iov_base = parts[0].iov_base, .iov_len = parts[0].iov_len / 2};
        parts = &cut;
        count = 1;
    }
    return end(&m, made ? real.preadv2(fd, parts, count, offset, flags) : -1);
}

/* A lie would leave a thread that nobody knows: it fails then, too. */
static int fault_pthread_create(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *),
                                void *user)
{
    fault_making m = {.call = ON_PTHREAD_CREATE, .fd = -1};
    bool made = begin(&m) && m.verdict != VERDICT_LIE;
    return end_code(&m, made ? real.pthread_create(out, how, run, user) : 0, 1);
}

/* Likewise a ring. */
static int fault_uring_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    fault_making m = {.call = ON_URING_INIT, .fd = -1};
    bool made = begin(&m) && m.verdict != VERDICT_LIE;
    return end_code(&m, made ? real.uring_init(entries, ring, flags) : 0, -1);
}

static int fault_uring_register(struct io_uring *ring, const struct iovec *buffers, unsigned count)
{
    fault_making m = {.call = ON_URING_REGISTER, .fd = -1};
    return end_code(&m, begin(&m) ? real.uring_register(ring, buffers, count) : 0, -1);
}

/* A kernel that took entries says so: there is no lie. */
static int fault_uring_submit(struct io_uring *ring)
{
    fault_making m = {.call = ON_URING_SUBMIT, .fd = -1};
    bool made = begin(&m) && m.verdict != VERDICT_LIE;
    return end_code(&m, made ? real.uring_submit(ring) : 0, -1);
}

#ifdef ALLSHARD_HAVE_URING
/* Completions are counted, not looks for them; what the kernel did is done all the same. */
static int fault_uring_peek(struct io_uring *ring, struct io_uring_cqe **out)
{
    int result = real.uring_peek(ring, out);
    if (result != 0 || !*out) {
        return result;
    }
    fault_making m = {.call = ON_URING_PEEK, .fd = -1};
    (void)begin(&m);
    if (m.verdict == VERDICT_SHORT && (*out)->res > 1) {
        (*out)->res /= 2;
    }
    (*out)->res = end_code(&m, (*out)->res, -1);
    return 0;
}
#endif

void fault_install(void)
{
    real = as_sys_table;
    as_sys_table = (as_sys){
        .openat = fault_openat,
        .close = fault_close,
        .pread = fault_pread,
        .pwrite = fault_pwrite,
        .fsync = fault_fsync,
        .ftruncate = fault_ftruncate,
        .fstat = fault_fstat,
        .fstatat = fault_fstatat,
        .mkdirat = fault_mkdirat,
        .unlinkat = fault_unlinkat,
        .renameat = fault_renameat,
        .linkat = fault_linkat,
        .symlinkat = fault_symlinkat,
        .readlinkat = fault_readlinkat,
        .faccessat = fault_faccessat,
        .fdopendir = fault_fdopendir,
        .readdir = fault_readdir,
        .closedir = fault_closedir,
        .fchmod = fault_fchmod,
        .futimens = fault_futimens,
        .flock = fault_flock,
        .sync_file_range = fault_sync_file_range,
        .fallocate = fault_fallocate,
        .statx = fault_statx,
        .fstatfs = fault_fstatfs,
        .ioctl = fault_ioctl,
        .fadvise = real.fadvise, /* whatever it says, nothing fails by it */
        .preadv2 = fault_preadv2,
        .pthread_create = fault_pthread_create,
        .uring_init = fault_uring_init,
        .uring_register = fault_uring_register,
        .uring_submit = fault_uring_submit,
#ifdef ALLSHARD_HAVE_URING
        .uring_peek = fault_uring_peek,
#else
        .uring_peek = real.uring_peek,
#endif
    };
}
