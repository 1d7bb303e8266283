/* SPDX-License-Identifier: Apache-2.0 */
#include "io/memory_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

enum { NAME_BYTES = 64 };

/* As it shows under /proc/PID/fd, behind "/memfd:". */
static void name_of(const as_memory_file *f, char name[NAME_BYTES])
{
    (void)snprintf(name, NAME_BYTES, "allshard-%016llx%016llx", (unsigned long long)f->token[0],
                   (unsigned long long)f->token[1]);
}

static bool may_have(size_t bytes)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes <= limit.rlim_cur;
}

void as_memory_file_make(as_memory_file *f, size_t bytes)
{
    *f = (as_memory_file){.pid = getpid(), .fd = -1, .bytes = (int64_t)bytes};
    if (!may_have(bytes)) {
        return;
    }
    if (getrandom(f->token, sizeof f->token, GRND_NONBLOCK) != (ssize_t)sizeof f->token) {
        f->token[0] = (uint64_t)as_clock();
        f->token[1] = (uint64_t)(uintptr_t)f;
    }
    char name[NAME_BYTES];
    name_of(f, name);
    f->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (f->fd >= 0 && ftruncate((int)f->fd, (off_t)bytes) != 0) {
        as_memory_file_close(f);
    }
}

bool as_memory_file_fill(const as_memory_file *f)
{
    int fd = (int)f->fd;
    return fallocate(fd, 0, 0, (off_t)f->bytes) == 0 &&
           fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
}

int as_memory_file_open(const as_memory_file *f)
{
    char path[NAME_BYTES];
    char target[2 * NAME_BYTES];
    char name[NAME_BYTES];
    char expected[2 * NAME_BYTES];
    if (f->fd < 0) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)f->pid, (long long)f->fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    name_of(f, name);
    int prefix = snprintf(expected, sizeof expected, "/memfd:%s", name);
    if (strncmp(target, expected, (size_t)prefix) != 0) {
        return -1;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    int seals = fd >= 0 ? fcntl(fd, F_GET_SEALS) : -1;
    if (fd >= 0 && (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &status) != 0 ||
                    status.st_size != (off_t)f->bytes)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

void as_memory_file_close(as_memory_file *f)
{
    if (f->fd >= 0) {
        (void)close((int)f->fd);
    }
    f->fd = -1;
}
