/* SPDX-License-Identifier: Apache-2.0 */
#include "io/posix.h"

#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/clock.h"
#include "base/sys.h"
#include "io/workers.h"

/* A copy into the page cache keeps one thread busy, and more would only take cores from the
 * ranks. O_DIRECT waits instead: with two, the disk has the next block when one is done. */
enum { BUFFERED_THREADS = 1, DIRECT_THREADS = 2 };

/* Bytes that a processor still has in its own cache when it has copied them. Fewer would make the
 * copies slower, which the kernel makes past the caches where they are long. */
enum { TILE = 256 << 10 };

struct as_posix {
    as_direct *direct;
    as_workers *workers;
};

static ssize_t call(const as_io *io, int64_t done, const as_direct_piece *piece)
{
    char *at = io->bytes + done;
    off_t offset = (off_t)(io->offset + done);
    if (io->kind == AS_IO_WRITE) {
        return as_sys_table.pwrite(piece->fd, at, (size_t)piece->count, offset);
    }
    return as_sys_table.pread(piece->fd, at, (size_t)piece->count, offset);
}

/* Hashes bytes that have just been read. */
static void hash(as_io *io, as_checksum_stream *sum, int64_t done, ssize_t n)
{
    int64_t begin = as_clock();
    as_checksum_add(sum, io->bytes + done, (size_t)n);
    io->hashing += as_clock() - begin;
}

/* `sum` NULL: nothing is hashed. */
static int move(as_posix *p, as_io *io, as_checksum_stream *sum, as_error *e)
{
    int64_t done = 0;
    int64_t buffered = 0;
    while (done < io->count) {
        as_direct_piece piece = as_direct_next(p->direct, io, done);
        if (sum && !piece.direct) {
            piece.count = as_min_i64(piece.count, TILE);
        }
        ssize_t n = call(io, done, &piece);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && piece.direct && (errno == EINVAL || errno == EOPNOTSUPP)) {
            as_direct_give_up(p->direct, io->file, io->kind == AS_IO_WRITE ? "write" : "read",
                              errno);
            continue;
        }
        if (n <= 0) {
            return as_direct_fail(io, done, piece.count, n < 0 ? errno : 0, e);
        }
        as_direct_count(p->direct, piece.direct, n);
        if (sum) {
            hash(io, sum, done, n);
        }
        buffered += piece.direct ? 0 : n;
        done += n;
    }
    return io->kind == AS_IO_WRITE ? as_direct_write_back(p->direct, io, buffered, e) : AS_OK;
}

static int read_hashed(as_posix *p, as_io *io, as_error *e)
{
    as_checksum_stream *sum = NULL;
    int code = as_checksum_open(&sum, e);
    io->hashing = 0;
    if (code == AS_OK) {
        code = move(p, io, sum, e);
        io->sum = as_checksum_end(sum);
        as_checksum_close(sum);
    }
    return code;
}

static int work(void *user, as_io *io, as_error *e)
{
    as_posix *p = user;
    if (io->kind == AS_IO_SYNC) {
        return as_sync(io->file->fd, io->file->name, e);
    }
    return io->kind == AS_IO_READ && io->hash ? read_hashed(p, io, e) : move(p, io, NULL, e);
}

int as_posix_open(as_posix **out, const as_engine_options *options, as_direct *direct, as_error *e)
{
    as_posix *p = calloc(1, sizeof *p);
    if (!p) {
        return as_fail_nomem(e);
    }
    p->direct = direct;
    int threads = atomic_load(&direct->on) ? DIRECT_THREADS : BUFFERED_THREADS;
    threads = options->threads > 0 ? options->threads : threads;
    int code = as_workers_open(&p->workers, threads, work, p, options->trace, e);
    if (code != AS_OK) {
        free(p);
        return code;
    }
    if (as_workers_count(p->workers) == 0) {
        as_direct_note(direct, "no thread could be made: calls are not in the background");
    }
    *out = p;
    return AS_OK;
}

void as_posix_close(as_posix *p)
{
    if (p) {
        as_workers_close(p->workers);
    }
    free(p);
}

void as_posix_submit(as_posix *p, as_io *io)
{
    as_workers_submit(p->workers, io);
}

as_io *as_posix_reap(as_posix *p, as_error *e)
{
    return as_workers_reap(p->workers, e);
}
