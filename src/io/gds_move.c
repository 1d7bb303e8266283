/* SPDX-License-Identifier: Apache-2.0 */
#include "io/gds_move.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/sys.h"
#include "io/direct.h"
#include "io/gds_area.h"

/* as_io_file.gds */
typedef struct gds_file {
    int fd; /* with O_DIRECT */
    as_cufile_handle handle;
} gds_file;

/* ---- what is shared ---- */

void as_gds_mover_init(as_gds_mover *m, const as_cuda *cuda, const as_cufile *cufile)
{
    m->cuda = cuda;
    m->cufile = cufile;
    atomic_init(&m->on, true);
    atomic_init(&m->bytes, 0);
    (void)pthread_mutex_init(&m->lock, NULL);
    m->reason[0] = '\0';
}

void as_gds_mover_free(as_gds_mover *m)
{
    (void)pthread_mutex_destroy(&m->lock);
}

bool as_gds_mover_on(const as_gds_mover *m)
{
    return atomic_load(&m->on);
}

int64_t as_gds_mover_bytes(const as_gds_mover *m)
{
    return atomic_load(&m->bytes);
}

static void keep_reason(as_gds_mover *m, const char *text, bool stopped)
{
    (void)pthread_mutex_lock(&m->lock);
    if (stopped || as_gds_mover_on(m)) {
        (void)snprintf(m->reason, sizeof m->reason, "%s", text);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

void as_gds_mover_note(as_gds_mover *m, const char *text)
{
    keep_reason(m, text, false);
}

void as_gds_mover_stop(as_gds_mover *m, const char *why)
{
    if (atomic_exchange(&m->on, false)) {
        keep_reason(m, why, true);
    }
}

void as_gds_mover_reason(as_gds_mover *m, char text[AS_GDS_REASON])
{
    (void)pthread_mutex_lock(&m->lock);
    memcpy(text, m->reason, AS_GDS_REASON);
    (void)pthread_mutex_unlock(&m->lock);
}

static void stop_errno(as_gds_mover *m, const char *call, int sys_errno)
{
    char text[64];
    char why[AS_GDS_REASON];
    (void)snprintf(why, sizeof why, "%s: %s", call, strerror_r(sys_errno, text, sizeof text));
    as_gds_mover_stop(m, why);
}

static void stop_code(as_gds_mover *m, const char *call, as_cufile_error r)
{
    char text[AS_CUFILE_TEXT];
    as_gds_mover_stop(m, as_cufile_explain(text, m->cuda, call, r));
}

/* ---- files ---- */

void as_gds_file_open(as_gds_mover *m, as_io_file *file)
{
    char path[64];
    gds_file *f = calloc(1, sizeof *f);
    if (!f) {
        as_gds_mover_stop(m, "out of memory");
        return;
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", file->fd);
    f->fd = as_open(AT_FDCWD, path, O_DIRECT | (file->write ? O_WRONLY : O_RDONLY), 0);
    if (f->fd < 0) {
        stop_errno(m, "O_DIRECT: open", errno);
        free(f);
        return;
    }
    as_cufile_descriptor d = {.type = AS_CUFILE_OPAQUE_FD, .file = {.fd = f->fd}};
    as_cufile_error r = m->cufile->handle_register(&f->handle, &d);
    if (r.code) {
        stop_code(m, "cuFileHandleRegister", r);
        (void)as_sys_table.close(f->fd);
        free(f);
        return;
    }
    file->gds = f;
}

void as_gds_file_close(as_gds_mover *m, as_io_file *file)
{
    gds_file *f = file->gds;
    m->cufile->handle_deregister(f->handle);
    /* What it wrote is durable or not by the fsync; closing tells nothing more. */
    (void)as_sys_table.close(f->fd);
    free(f);
    file->gds = NULL;
}

/* ---- an operation ---- */

typedef struct operation {
    as_gds_mover *mover;
    as_gds_lane *lane;
    as_io *io;
    int64_t done;
} operation;

static as_cu_pointer memory_of(const operation *o)
{
    return o->io->device->base + (as_cu_pointer)(o->io->device->at + o->done);
}

/* Did storage fail, and not the way to it? The other way would fail, too, or hide it. */
static bool is_storage(int sys_errno)
{
    static const int known[] = {EIO,    ENOSPC,    EDQUOT,  EFBIG,    EROFS,
                                ESTALE, ETIMEDOUT, ENOLINK, EREMOTEIO};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i] == sys_errno) {
            return true;
        }
    }
    return false;
}

/* By cuFile: `count` bytes, as many as it takes. If it takes none without that storage is to blame
 * it is stopped, and the caller goes on without. */
static int move_direct(operation *o, int64_t count, as_error *e)
{
    as_io *io = o->io;
    const gds_file *f = io->file->gds;
    as_gds_mover *m = o->mover;
    bool write = io->kind == AS_IO_WRITE;
    const char *call = write ? "cuFileWrite" : "cuFileRead";
    void *base = as_gds_pointer(io->device->base);
    off_t offset = (off_t)(io->offset + o->done);
    off_t at = (off_t)(io->device->at + o->done);
    ssize_t n = write ? m->cufile->write(f->handle, base, (size_t)count, offset, at)
                      : m->cufile->read(f->handle, base, (size_t)count, offset, at);
    if (n > 0 && n <= count) {
        atomic_fetch_add(&m->bytes, n);
        o->done += n;
        return AS_OK;
    }
    if (n == -1 && errno == EINTR) {
        return AS_OK;
    }
    int sys_errno = n == -1 ? errno : 0;
    if (n == 0 || n == -AS_CUFILE_IO_ERROR || is_storage(sys_errno)) {
        sys_errno = n == -AS_CUFILE_IO_ERROR ? EIO : sys_errno;
        int code = as_direct_fail(io, o->done, count, sys_errno, e);
        as_error_prefix(e, "%s", call);
        return code;
    }
    if (n == -1) {
        stop_errno(m, call, sys_errno);
    } else if (n < 0) {
        stop_code(m, call, (as_cufile_error){.code = (int)-n});
    } else {
        as_gds_mover_stop(m, "cuFile says that it moved more bytes than it was to");
    }
    return AS_OK;
}

static ssize_t call_host(const operation *o, int64_t count)
{
    const as_io *io = o->io;
    off_t offset = (off_t)(io->offset + o->done);
    ssize_t n;
    do {
        n = io->kind == AS_IO_WRITE
                ? as_sys_table.pwrite(io->file->fd, o->lane->tiles, (size_t)count, offset)
                : as_sys_table.pread(io->file->fd, o->lane->tiles, (size_t)count, offset);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* By a tile of the host's and the page cache: `count` bytes, as many as the call takes. */
static int move_by_host(operation *o, int64_t count, as_error *e)
{
    bool write = o->io->kind == AS_IO_WRITE;
    count = as_min_i64(count, AS_GDS_TILE);
    int code = write ? as_gds_lane_out(o->lane, memory_of(o), count, e) : AS_OK;
    if (code != AS_OK) {
        return code;
    }
    ssize_t n = call_host(o, count);
    if (n <= 0) {
        return as_direct_fail(o->io, o->done, count, n < 0 ? errno : 0, e);
    }
    code = write ? AS_OK : as_gds_lane_in(o->lane, memory_of(o), n, e);
    o->done += n;
    return code;
}

/* The next share: whole pages, the ragged bytes before them, or those after them. */
static int move_next(operation *o, as_error *e)
{
    const as_io *io = o->io;
    int64_t at = io->offset + o->done;
    int64_t end = io->offset + io->count;
    int64_t begin = as_ceil_div(at, AS_GDS_ALIGN) * AS_GDS_ALIGN;
    int64_t whole = end / AS_GDS_ALIGN * AS_GDS_ALIGN;
    if (!io->file->gds || !as_gds_mover_on(o->mover) || begin >= whole) {
        return move_by_host(o, end - at, e);
    }
    return begin > at ? move_by_host(o, begin - at, e) : move_direct(o, whole - at, e);
}

int as_gds_move(as_gds_mover *m, as_gds_lane *lane, as_io *io, as_error *e)
{
    operation o = {.mover = m, .lane = lane, .io = io};
    int code = AS_OK;
    while (o.done < io->count && code == AS_OK) {
        code = move_next(&o, e);
    }
    if (code == AS_OK && io->hash) {
        as_cu_pointer memory = io->device->base + (as_cu_pointer)io->device->at;
        io->hashing = 0;
        code = as_gds_lane_hash(lane, memory, io->count, &io->sum, &io->hashing, e);
    }
    return code;
}
