/* SPDX-License-Identifier: Apache-2.0 */
#include "io/uring.h"

#ifdef ALLSHARD_HAVE_URING

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/clock.h"
#include "base/sys.h"
#include "io/cpus.h"
#include "io/posix.h"
#include "io/queue.h"
#include "io/workers.h"

enum {
    /* As fast as 8 on a local disk, for writes and reads, with half the memory under way. */
    DEFAULT_DEPTH = 4,
    DEPTH_MOST = 1024,
    /* The kernel takes at most 1 GiB as one registered buffer. */
    ARENA_PART = 1 << 30,
    ARENA_PARTS = 64,
    /* Times that the kernel may turn away submissions while nothing of ours is under way, or put
     * off one operation. */
    PATIENCE = 1000,
    /* A copy into the page cache of fewer bytes may as well be made at once. */
    ASYNC_LEAST = 64 << 10
};

/* An operation on its way, one piece at a time: only a file's ragged ends have several. */
typedef struct slot {
    as_io *io; /* NULL: free */
    int64_t done;
    int64_t buffered; /* bytes of them that went through the page cache */
    as_direct_piece piece;
    bool fixed;        /* from the registered arena */
    bool writing_back; /* all bytes are done; the early write-back is being started */
    int delays;        /* times that the kernel put it off */
    int64_t begin;
} slot;

struct as_uring {
    as_direct *direct;
    struct io_uring ring;
    bool alive; /* else everything new goes to `instead` */
    int depth;
    slot *slots;
    int *unsent; /* [depth]: slots whose entries the kernel has not taken yet, in order */
    int unsent_count;
    int flying; /* entries that the kernel has taken */
    int refusals;
    const char *arena; /* registered; NULL: not */
    size_t arena_bytes;
    bool no_write_back;
    as_io_queue waiting; /* for a slot */
    as_io_queue done;
    as_error error;
    as_engine_options options;
    as_posix *instead; /* what works when the ring does not; NULL: not needed so far */
};

/* ---- making and ending ---- */

static void told_why(char why[AS_URING_WHY], int result)
{
    char text[64];
    (void)snprintf(why, AS_URING_WHY, "io_uring: %s", strerror_r(-result, text, sizeof text));
}

bool as_uring_works(char why[AS_URING_WHY])
{
    struct io_uring ring;
    int result = as_sys_table.uring_init(2, &ring, 0);
    why[0] = '\0';
    if (result != 0) {
        told_why(why, result);
        return false;
    }
    io_uring_queue_exit(&ring);
    return true;
}

/* Registered memory is pinned once and not for every operation. Kernels refuse some kinds of
 * memory, and limits may be low: then it works without. */
static void register_arena(as_uring *u)
{
    struct iovec parts[ARENA_PARTS];
    unsigned count = 0;
    size_t bytes = u->options.arena ? u->options.arena_bytes : 0;
    if (bytes == 0 || bytes > (size_t)ARENA_PART * ARENA_PARTS) {
        return;
    }
    for (size_t at = 0; at < bytes; at += ARENA_PART) {
        size_t left = bytes - at;
        parts[count++] = (struct iovec){.iov_base = u->options.arena + at,
                                        .iov_len = left < ARENA_PART ? left : ARENA_PART};
    }
    if (as_sys_table.uring_register(&u->ring, parts, count) == 0) {
        u->arena = u->options.arena;
        u->arena_bytes = bytes;
    }
}

/* What the kernel cannot do without waiting is done by workers, which it makes as they are needed:
 * since 6.2 they begin with their maker's processors, before they run on any that the control group
 * has unless told otherwise. Workers that are there already are not moved by either: a thread whose
 * processors change keeps those of its workers that have not ended. Workers share the I/O context
 * of the thread, and have its priority with it. Refused, it works as ever. */
static void bind_workers(as_uring *u)
{
    as_cpus cpus;
    if (u->options.bind_workers && as_cpus_of_thread(&cpus)) {
        (void)io_uring_register_iowq_aff(&u->ring, sizeof cpus.words,
                                         (const cpu_set_t *)cpus.words);
    }
}

int as_uring_open(as_uring **out, const as_engine_options *options, as_direct *direct, as_error *e)
{
    *out = NULL;
    as_uring *u = calloc(1, sizeof *u);
    int depth = options->depth > 0 ? options->depth : DEFAULT_DEPTH;
    depth = depth < DEPTH_MOST ? depth : DEPTH_MOST;
    slot *slots = calloc((size_t)depth, sizeof *slots);
    int *unsent = calloc((size_t)depth, sizeof *unsent);
    int result = 0;
    if (!u || !slots || !unsent) {
        goto nomem;
    }
    *u = (as_uring){.direct = direct,
                    .alive = true,
                    .depth = depth,
                    .slots = slots,
                    .unsent = unsent,
                    .error = AS_ERROR_INIT,
                    .options = *options};
    result = as_sys_table.uring_init((unsigned)depth, &u->ring, 0);
    if (result != 0) {
        char why[AS_URING_WHY];
        told_why(why, result);
        as_direct_note(direct, "%s", why);
        free(u);
        free(slots);
        free(unsent);
        return AS_OK;
    }
    register_arena(u);
    bind_workers(u);
    *out = u;
    return AS_OK;
nomem:
    free(u);
    free(slots);
    free(unsent);
    return as_fail_nomem(e);
}

void as_uring_close(as_uring *u)
{
    if (!u) {
        return;
    }
    as_posix_close(u->instead);
    io_uring_queue_exit(&u->ring);
    as_error_clear(&u->error);
    free(u->slots);
    free(u->unsent);
    free(u);
}

bool as_uring_alive(const as_uring *u)
{
    return u->alive;
}

/* ---- ends of operations ---- */

static void finish(as_uring *u, slot *s, int code)
{
    as_io *io = s->io;
    io->code = code;
    as_workers_trace(u->options.trace, (int)(s - u->slots) + 1, io, s->begin);
    io->nanoseconds = as_clock() - io->nanoseconds;
    s->io = NULL;
    as_io_put(&u->done, io);
}

/* Does an operation without the ring, from its beginning: what was written already is written
 * again with the same bytes. */
static void divert(as_uring *u, as_io *io)
{
    int code = AS_OK;
    if (!u->instead) {
        code = as_posix_open(&u->instead, &u->options, u->direct, &u->error);
    }
    if (code == AS_OK) {
        as_posix_submit(u->instead, io);
    } else {
        io->code = code;
        io->nanoseconds = as_clock() - io->nanoseconds;
        as_io_put(&u->done, io);
    }
}

/* The ring is of no use any more. What the kernel has taken still comes back from it. */
static void give_up_ring(as_uring *u, const char *call, int sys_errno)
{
    if (!u->alive) {
        return;
    }
    char text[64];
    as_direct_note(u->direct, "io_uring: %s: %s", call, strerror_r(sys_errno, text, sizeof text));
    u->alive = false;
    /* Without another submission the kernel never looks at these entries. */
    for (int i = 0; i < u->unsent_count; i++) {
        slot *s = &u->slots[u->unsent[i]];
        as_io *io = s->io;
        s->io = NULL;
        divert(u, io);
    }
    u->unsent_count = 0;
    as_io *io;
    while ((io = as_io_take(&u->waiting))) {
        divert(u, io);
    }
}

/* ---- entries ---- */

static int arena_part(const as_uring *u, const char *at, int64_t count)
{
    if (!u->arena || at < u->arena) {
        return -1;
    }
    size_t begin = (size_t)(at - u->arena);
    if (begin >= u->arena_bytes || (size_t)count > u->arena_bytes - begin) {
        return -1;
    }
    size_t last = begin + (size_t)count - 1;
    return begin / ARENA_PART == last / ARENA_PART ? (int)(begin / ARENA_PART) : -1;
}

static void prepare_move(as_uring *u, slot *s, struct io_uring_sqe *entry)
{
    as_io *io = s->io;
    char *at = io->bytes + s->done;
    s->piece = as_direct_next(u->direct, io, s->done);
    unsigned count = (unsigned)s->piece.count;
    uint64_t offset = (uint64_t)(io->offset + s->done);
    int part = arena_part(u, at, s->piece.count);
    s->fixed = part >= 0;
    if (io->kind == AS_IO_WRITE && s->fixed) {
        io_uring_prep_write_fixed(entry, s->piece.fd, at, count, offset, part);
    } else if (io->kind == AS_IO_WRITE) {
        io_uring_prep_write(entry, s->piece.fd, at, count, offset);
    } else if (s->fixed) {
        io_uring_prep_read_fixed(entry, s->piece.fd, at, count, offset, part);
    } else {
        io_uring_prep_read(entry, s->piece.fd, at, count, offset);
    }
    if (!s->piece.direct && s->piece.count >= ASYNC_LEAST) {
        /* Otherwise the submission itself would copy to or from the page cache. */
        io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
    }
}

/* Puts the operation's next step into the ring; `flush` sends it. */
static void queue_step(as_uring *u, slot *s)
{
    /* There is one for every slot. */
    struct io_uring_sqe *entry = io_uring_get_sqe(&u->ring);
    if (!entry) {
        give_up_ring(u, "no entry", ENOSPC);
        as_io *io = s->io;
        s->io = NULL;
        divert(u, io);
        return;
    }
    const as_io *io = s->io;
    if (s->writing_back) {
        io_uring_prep_sync_file_range(entry, io->file->fd, (unsigned)io->count,
                                      (uint64_t)io->offset, SYNC_FILE_RANGE_WRITE);
    } else if (io->kind == AS_IO_SYNC) {
        io_uring_prep_fsync(entry, io->file->fd, 0);
    } else {
        prepare_move(u, s, entry);
    }
    io_uring_sqe_set_data64(entry, (uint64_t)(s - u->slots));
    u->unsent[u->unsent_count++] = (int)(s - u->slots);
}

static void flush(as_uring *u)
{
    while (u->alive && u->unsent_count > 0) {
        int n = as_sys_table.uring_submit(&u->ring);
        if (n == -EINTR) {
            continue;
        }
        if (n == 0 || n == -EAGAIN || n == -EBUSY) {
            /* The next reap tries again, after completions have made room. */
            u->refusals = u->flying > 0 ? 0 : u->refusals + 1;
            if (u->refusals > PATIENCE) {
                give_up_ring(u, "submit", EAGAIN);
            }
            return;
        }
        if (n < 0) {
            give_up_ring(u, "submit", -n);
            return;
        }
        u->refusals = 0;
        n = n < u->unsent_count ? n : u->unsent_count;
        u->flying += n;
        u->unsent_count -= n;
        memmove(u->unsent, u->unsent + n, (size_t)u->unsent_count * sizeof *u->unsent);
    }
}

/* ---- completions ---- */

static void next_step(as_uring *u, slot *s)
{
    if (u->alive) {
        queue_step(u, s);
        return;
    }
    as_io *io = s->io;
    s->io = NULL;
    divert(u, io);
}

static void moved(as_uring *u, slot *s, int64_t bytes)
{
    as_io *io = s->io;
    as_direct_count(u->direct, s->piece.direct, bytes);
    s->buffered += s->piece.direct ? 0 : bytes;
    s->done += bytes;
    if (s->done < io->count) {
        next_step(u, s);
    } else if (io->kind == AS_IO_WRITE && s->buffered >= AS_WRITE_BACK_LEAST && u->alive &&
               !u->no_write_back) {
        s->writing_back = true;
        next_step(u, s);
    } else {
        finish(u, s, AS_OK);
    }
}

/* What a step that failed means: tried again in another way, or the end. */
static void failed(as_uring *u, slot *s, int sys_errno)
{
    as_io *io = s->io;
    bool unsupported = sys_errno == EINVAL || sys_errno == EOPNOTSUPP;
    if ((sys_errno == EINTR || sys_errno == EAGAIN) && s->delays < PATIENCE) {
        s->delays++;
        next_step(u, s);
    } else if (s->writing_back && (unsupported || sys_errno == ESPIPE)) {
        u->no_write_back = true;
        finish(u, s, AS_OK);
    } else if (io->kind != AS_IO_SYNC && s->piece.direct && unsupported) {
        as_direct_give_up(u->direct, io->file, io->kind == AS_IO_WRITE ? "write" : "read",
                          sys_errno);
        next_step(u, s);
    } else if (s->fixed && (sys_errno == EFAULT || unsupported)) {
        /* Registered memory that cannot be used after all. */
        u->arena = NULL;
        next_step(u, s);
    } else if (unsupported) {
        /* A kernel whose ring does not know the operation, or another fault: plain calls tell. */
        give_up_ring(u, io->kind == AS_IO_SYNC ? "fsync" : "operation", sys_errno);
        next_step(u, s);
    } else {
        int64_t count = s->writing_back ? io->count : s->piece.count;
        finish(u, s,
               as_direct_fail(io, s->writing_back ? 0 : s->done, count, sys_errno, &u->error));
    }
}

static void completed(as_uring *u, slot *s, int result)
{
    as_io *io = s->io;
    u->flying--;
    if (result < 0) {
        failed(u, s, -result);
    } else if (io->kind == AS_IO_SYNC || s->writing_back) {
        finish(u, s, AS_OK);
    } else if (result == 0) {
        finish(u, s, as_direct_fail(io, s->done, s->piece.count, 0, &u->error));
    } else {
        moved(u, s, as_min_i64(result, io->count - s->done));
    }
}

static void collect(as_uring *u)
{
    struct io_uring_cqe *entry = NULL;
    while (u->flying > 0) {
        int result = as_sys_table.uring_peek(&u->ring, &entry);
        if (result != 0 || !entry) {
            /* -EAGAIN: none yet. Anything else would come again, and be seen then. */
            return;
        }
        slot *s = &u->slots[io_uring_cqe_get_data64(entry)];
        int64_t moved_or_error = entry->res;
        io_uring_cqe_seen(&u->ring, entry);
        completed(u, s, (int)moved_or_error);
    }
}

/* ---- the table's functions ---- */

static void begin_waiting(as_uring *u)
{
    for (int i = 0; i < u->depth && u->alive && u->waiting.first; i++) {
        slot *s = &u->slots[i];
        if (!s->io) {
            *s = (slot){.io = as_io_take(&u->waiting), .begin = as_clock()};
            queue_step(u, s);
        }
    }
}

void as_uring_submit(as_uring *u, as_io *io)
{
    io->code = AS_OK;
    io->nanoseconds = as_clock();
    if (!u->alive) {
        divert(u, io);
        return;
    }
    if (io->kind != AS_IO_SYNC && io->count == 0) {
        io->nanoseconds = 0;
        as_io_put(&u->done, io);
        return;
    }
    as_io_put(&u->waiting, io);
    begin_waiting(u);
    flush(u);
}

as_io *as_uring_reap(as_uring *u, as_error *e)
{
    collect(u);
    begin_waiting(u);
    flush(u);
    as_io *io = as_io_take(&u->done);
    if (io && io->code != AS_OK) {
        (void)as_error_pass(e, &u->error);
    } else if (io && io->kind == AS_IO_READ && io->hash) {
        /* Here, and not when it completed: what waited has been submitted, and goes on meanwhile. */
        int64_t begin = as_clock();
        io->sum = as_checksum(io->bytes, (size_t)io->count);
        io->hashing = as_clock() - begin;
    }
    return io || !u->instead ? io : as_posix_reap(u->instead, e);
}

#endif
