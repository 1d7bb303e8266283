/* SPDX-License-Identifier: Apache-2.0 */
#include "io/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/sys.h"

enum {
    DEFAULT_ALIGN = 4096,
    DIRTY_MOST = 32 << 20, /* bytes of a file being written back before a writer waits */
    RANGES = 32            /* being written back */
};

typedef struct range {
    int64_t offset;
    int64_t count;
} range;

/* as_io_file.engine */
typedef struct file_state {
    int fd; /* with O_DIRECT; -1: none */
    pthread_mutex_t lock;
    bool no_ranges;       /* the file system has no sync_file_range */
    range ranges[RANGES]; /* a ring: being written back, oldest first */
    int first;
    int count;
    int64_t dirty; /* bytes in them */
} file_state;

/* ---- the engine's ---- */

int as_direct_open(as_direct **out, const as_engine_options *options, bool wanted, as_error *e)
{
    as_direct *d = calloc(1, sizeof *d);
    if (!d) {
        return as_fail_nomem(e);
    }
    long page = sysconf(_SC_PAGESIZE);
    d->offset_align = options->offset_align > 0 ? options->offset_align : DEFAULT_ALIGN;
    d->offset_align = as_max_i64(d->offset_align, page > 0 ? page : DEFAULT_ALIGN);
    d->memory_align = options->memory_align > 0 ? options->memory_align : DEFAULT_ALIGN;
    atomic_init(&d->on, wanted);
    atomic_init(&d->direct_bytes, 0);
    atomic_init(&d->buffered_bytes, 0);
    (void)pthread_mutex_init(&d->lock, NULL);
    *out = d;
    return AS_OK;
}

void as_direct_close(as_direct *d)
{
    if (d) {
        (void)pthread_mutex_destroy(&d->lock);
    }
    free(d);
}

void as_direct_note(as_direct *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)pthread_mutex_lock(&d->lock);
    size_t n = strlen(d->reason);
    if (n > 0 && n + 2 < sizeof d->reason) {
        n += (size_t)snprintf(d->reason + n, sizeof d->reason - n, "; ");
    }
    (void)vsnprintf(d->reason + n, sizeof d->reason - n, format, args);
    (void)pthread_mutex_unlock(&d->lock);
    va_end(args);
}

void as_direct_give_up(as_direct *d, const as_io_file *file, const char *call, int sys_errno)
{
    if (atomic_exchange(&d->on, false)) {
        char text[64];
        as_direct_note(d, "O_DIRECT: %s of %s: %s", call, file->name,
                       strerror_r(sys_errno, text, sizeof text));
    }
}

bool as_direct_used(as_direct *d, const char **reason)
{
    (void)pthread_mutex_lock(&d->lock);
    memcpy(d->told, d->reason, sizeof d->told);
    (void)pthread_mutex_unlock(&d->lock);
    bool on = atomic_load(&d->on);
    if (on && atomic_load(&d->direct_bytes) == 0 && atomic_load(&d->buffered_bytes) > 0) {
        /* Nothing was refused, and still O_DIRECT had no part in it. */
        size_t n = strlen(d->told);
        (void)snprintf(d->told + n, sizeof d->told - n, "%snothing was aligned to %lld bytes",
                       n > 0 ? "; " : "", (long long)d->offset_align);
        on = false;
    }
    *reason = d->told[0] ? d->told : NULL;
    return on;
}

void as_direct_count(as_direct *d, bool direct, int64_t bytes)
{
    atomic_fetch_add(direct ? &d->direct_bytes : &d->buffered_bytes, bytes);
}

/* ---- a file's ---- */

static int open_direct(as_direct *d, const as_io_file *file)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", file->fd);
    int fd = as_open(AT_FDCWD, path, O_DIRECT | (file->write ? O_WRONLY : O_RDONLY), 0);
    if (fd < 0) {
        as_direct_give_up(d, file, "open", errno);
    }
    return fd;
}

int as_direct_attach(as_direct *d, as_io_file *file, as_error *e)
{
    file_state *s = calloc(1, sizeof *s);
    if (!s) {
        return as_fail_nomem(e);
    }
    (void)pthread_mutex_init(&s->lock, NULL);
    s->fd = atomic_load(&d->on) ? open_direct(d, file) : -1;
    file->engine = s;
    return AS_OK;
}

void as_direct_detach(as_io_file *file)
{
    file_state *s = file->engine;
    if (!s) {
        return;
    }
    if (s->fd >= 0) {
        /* What it wrote is durable or not by the fsync; closing tells nothing more. */
        (void)as_sys_table.close(s->fd);
    }
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
    file->engine = NULL;
}

/* ---- cutting ---- */

static bool memory_fits(const as_direct *d, const as_io *io, int64_t offset)
{
    uintptr_t address = (uintptr_t)io->bytes + (uintptr_t)(offset - io->offset);
    return address % (uintptr_t)d->memory_align == 0;
}

as_direct_piece as_direct_next(as_direct *d, const as_io *io, int64_t done)
{
    const file_state *s = io->file->engine;
    as_direct_piece piece = {.fd = io->file->fd, .count = io->count - done};
    if (s->fd < 0 || !atomic_load(&d->on)) {
        return piece;
    }
    int64_t at = io->offset + done;
    int64_t end = io->offset + io->count;
    int64_t begin = as_ceil_div(at, d->offset_align) * d->offset_align;
    int64_t whole = end / d->offset_align * d->offset_align;
    if (begin >= whole || !memory_fits(d, io, begin)) {
        return piece;
    }
    if (begin > at) {
        piece.count = begin - at;
        return piece;
    }
    return (as_direct_piece){.fd = s->fd, .direct = true, .count = whole - at};
}

int as_direct_fail(const as_io *io, int64_t done, int64_t count, int sys_errno, as_error *e)
{
    long long offset = (long long)(io->offset + done);
    if (io->kind == AS_IO_SYNC) {
        return as_fail(e, AS_SYSTEM, sys_errno, "%s: cannot fsync", io->file->name);
    }
    if (io->kind == AS_IO_WRITE) {
        /* A write that takes nothing without an error would loop for ever: call it a full disk. */
        return as_fail(e, AS_SYSTEM, sys_errno ? sys_errno : ENOSPC,
                       "%s: cannot write %lld bytes at offset %lld", io->file->name,
                       (long long)count, offset);
    }
    if (sys_errno != 0) {
        return as_fail(e, AS_SYSTEM, sys_errno, "%s: cannot read %lld bytes at offset %lld",
                       io->file->name, (long long)count, offset);
    }
    return as_fail(e, AS_FORMAT, 0,
                   "%s: the file ends at offset %lld, where %lld more bytes were expected",
                   io->file->name, offset, (long long)(io->count - done));
}

/* ---- writing back early ---- */

/* Takes the oldest range out if too many bytes, or ranges, are being written back. */
static bool too_much(file_state *s, range *oldest)
{
    if (s->count == 0 || (s->dirty <= DIRTY_MOST && s->count < RANGES)) {
        return false;
    }
    *oldest = s->ranges[s->first];
    s->first = (s->first + 1) % RANGES;
    s->count--;
    s->dirty -= oldest->count;
    return true;
}

/* An error that the wait reports is taken away from the fsync, so it has to count here. */
static int sync_range(file_state *s, const as_io *io, range r, unsigned flags, as_error *e)
{
    if (as_sys_table.sync_file_range(io->file->fd, r.offset, r.count, flags) == 0 ||
        errno == EINTR) {
        return AS_OK;
    }
    if (errno == EINVAL || errno == ENOSYS || errno == ESPIPE || errno == EOPNOTSUPP ||
        errno == EPERM) {
        (void)pthread_mutex_lock(&s->lock);
        s->no_ranges = true;
        (void)pthread_mutex_unlock(&s->lock);
        return AS_OK;
    }
    return as_fail(e, AS_SYSTEM, errno, "%s: cannot write back %lld bytes at offset %lld",
                   io->file->name, (long long)r.count, (long long)r.offset);
}

int as_direct_write_back(as_direct *d, const as_io *io, int64_t buffered, as_error *e)
{
    (void)d;
    file_state *s = io->file->engine;
    (void)pthread_mutex_lock(&s->lock);
    bool none = s->no_ranges || buffered < AS_WRITE_BACK_LEAST;
    (void)pthread_mutex_unlock(&s->lock);
    if (none) {
        return AS_OK;
    }
    range r = {.offset = io->offset, .count = io->count};
    int code = sync_range(s, io, r, SYNC_FILE_RANGE_WRITE, e);
    range oldest;
    (void)pthread_mutex_lock(&s->lock);
    while (code == AS_OK && !s->no_ranges && too_much(s, &oldest)) {
        (void)pthread_mutex_unlock(&s->lock);
        code = sync_range(
            s, io, oldest,
            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER, e);
        (void)pthread_mutex_lock(&s->lock);
    }
    if (s->count < RANGES) {
        s->ranges[(s->first + s->count) % RANGES] = r;
        s->count++;
        s->dirty += r.count;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return code;
}
