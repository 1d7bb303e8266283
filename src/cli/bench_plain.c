/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_plain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "base/sys.h"
#include "cli/bench_usage.h"
#include "cli/output.h"
#include "cli/random.h"

int as_plain_open(as_plain *p, int rank, as_error *e)
{
    *p = (as_plain){0};
    if (posix_memalign(&p->buffer, AS_PLAIN_ALIGN, AS_PLAIN_STEP) != 0) {
        p->buffer = NULL;
        return as_fail_nomem(e);
    }
    as_random_words(p->buffer, AS_PLAIN_STEP, (uint64_t)rank + 1);
    return AS_OK;
}

void as_plain_close(as_plain *p)
{
    free(p->buffer);
    *p = (as_plain){0};
}

/* What one rank did in a loop, and when. */
struct lap {
    double begin, end;
    double processor;
    int64_t bytes;
    int failed;   /* an errno; 0 */
    bool refused; /* O_DIRECT was */
};

/* The ranks begin together: each further agreement shortens the time between the first and the last
 * one that leaves it. */
static int begin_lap(struct lap *lap, as_world *w, as_error *e)
{
    enum { AGREEMENTS = 4 };
    int code = AS_OK;
    for (int i = 0; i < AGREEMENTS && code == AS_OK; i++) {
        code = as_world_agree(w, e);
    }
    *lap = (struct lap){.begin = as_seconds(), .processor = as_process_seconds()};
    return code;
}

static void end_lap(struct lap *lap, int failed, bool direct)
{
    lap->end = as_seconds();
    lap->processor = as_process_seconds() - lap->processor;
    lap->refused = direct && failed == EINVAL;
    lap->failed = lap->refused ? 0 : failed;
}

/* All ranks learn the slowest one's time, the sum of bytes, and whether O_DIRECT was refused. */
static int settle_lap(const struct lap *lap, as_world *w, const char *what, as_plain_result *out,
                      as_error *e)
{
    int64_t most[2] = {(int64_t)((lap->end - lap->begin) * 1e9), lap->refused};
    int64_t sums[2] = {lap->bytes, (int64_t)(lap->processor * 1e9)};
    if (lap->failed) {
        (void)as_fail(e, AS_SYSTEM, lap->failed, "%s", what);
    }
    int code = as_world_agree(w, e);
    code = code == AS_OK ? as_world_max(w, most, 2, e) : code;
    code = code == AS_OK ? as_world_sum(w, sums, 2, e) : code;
    *out = (as_plain_result){.bytes = sums[0],
                             .seconds = (double)most[0] * 1e-9,
                             .processor = (double)sums[1] * 1e-9,
                             .refused = most[1] != 0};
    return code;
}

/* ------------------------------------------------------------------- writing */

/* 0, or the errno of what failed. */
static int write_file(const as_plain *p, int folder, const char *name, int64_t bytes, bool direct,
                      int64_t *written)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | (direct ? O_DIRECT : 0);
    int fd = as_open(folder, name, flags, 0666);
    if (fd < 0) {
        return errno;
    }
    int failed = 0;
    while (*written < bytes && !failed) {
        size_t step = (size_t)as_min_i64(bytes - *written, AS_PLAIN_STEP);
        ssize_t put = as_sys_table.pwrite(fd, p->buffer, step, (off_t)*written);
        if (put > 0) {
            *written += put;
        } else if (put == 0 || errno != EINTR) {
            failed = put == 0 ? ENOSPC : errno;
        }
    }
    if (!failed && as_sys_table.fsync(fd) < 0) {
        failed = errno;
    }
    if (as_sys_table.close(fd) < 0 && !failed) {
        failed = errno;
    }
    return failed;
}

int as_plain_write(const as_plain *p, as_bench_folder *f, as_world *w, int64_t bytes, bool direct,
                   as_plain_result *out, as_error *e)
{
    char name[64];
    (void)snprintf(name, sizeof name, "plain.%d", w->rank);
    int64_t pages = as_ceil_div(as_ceil_div(bytes, w->size), AS_PLAIN_ALIGN);
    int64_t share = pages * AS_PLAIN_ALIGN;
    struct lap lap;
    if (begin_lap(&lap, w, e) != AS_OK) {
        return e->code;
    }
    end_lap(&lap, write_file(p, f->fd, name, share, direct, &lap.bytes), direct);
    (void)settle_lap(&lap, w, "a plain file cannot be written", out, e);
    if (as_sys_table.unlinkat(f->fd, name, 0) < 0 && errno != ENOENT) {
        (void)as_fail(e, AS_SYSTEM, errno, "%s/%s: cannot be removed", f->path, name);
    }
    return as_world_agree(w, e);
}

/* ------------------------------------------------------------------- reading */

/* Bytes [at, end) of a file, both on pages; less if it ends earlier. */
static int read_file(const as_plain *p, int folder, const char *path, int64_t at, int64_t end,
                     bool direct, int64_t *bytes)
{
    int fd = as_open(folder, path, O_RDONLY | (direct ? O_DIRECT : 0), 0);
    if (fd < 0) {
        return errno;
    }
    int failed = 0;
    while (at < end && !failed) {
        size_t step = (size_t)as_min_i64(end - at, AS_PLAIN_STEP);
        ssize_t got = as_sys_table.pread(fd, p->buffer, step, (off_t)at);
        if (got > 0) {
            at += got;
            *bytes += got;
        } else if (got < 0 && errno != EINTR) {
            failed = errno;
        }
        /* A page that the file fills in part is its last one. */
        if (got == 0 || (got > 0 && got % AS_PLAIN_ALIGN != 0)) {
            break;
        }
    }
    (void)as_sys_table.close(fd);
    return failed;
}

static int64_t pages_of(const as_bench_file *file)
{
    return file->tensors ? as_ceil_div(file->bytes, AS_PLAIN_ALIGN) : 0;
}

/* Pages [first, last) of the files, counted through. */
static int read_share(const as_plain *p, const as_bench_folder *f, const char *name,
                      const as_buffer *files, int64_t first, int64_t last, bool direct,
                      int64_t *bytes)
{
    const as_bench_file *file = (const void *)files->data;
    int64_t begin = 0;
    int failed = 0;
    for (size_t i = 0; i < files->size / sizeof *file && !failed; i++) {
        int64_t from = as_max_i64(first, begin);
        int64_t to = as_min_i64(last, begin + pages_of(&file[i]));
        if (from < to) {
            char path[320];
            (void)snprintf(path, sizeof path, "%s/%s", name, file[i].name);
            failed = read_file(p, f->fd, path, (from - begin) * AS_PLAIN_ALIGN,
                               (to - begin) * AS_PLAIN_ALIGN, direct, bytes);
        }
        begin += pages_of(&file[i]);
    }
    return failed;
}

int as_plain_read(const as_plain *p, as_bench_folder *f, as_world *w, const char *name,
                  const as_buffer *files, bool direct, as_plain_result *out, as_error *e)
{
    const as_bench_file *file = (const void *)files->data;
    int64_t pages = 0;
    int64_t expected = 0;
    for (size_t i = 0; i < files->size / sizeof *file; i++) {
        pages += pages_of(&file[i]);
        expected += file[i].tensors ? file[i].bytes : 0;
    }
    int64_t share = as_ceil_div(pages, w->size);
    int64_t first = as_min_i64(share * w->rank, pages);
    int64_t last = as_min_i64(first + share, pages);
    struct lap lap;
    int code = begin_lap(&lap, w, e);
    if (code != AS_OK) {
        return code;
    }
    end_lap(&lap, read_share(p, f, name, files, first, last, direct, &lap.bytes), direct);
    code = settle_lap(&lap, w, "a checkpoint cannot be read by a plain loop", out, e);
    if (code == AS_OK && !out->refused && out->bytes != expected) {
        code = as_fail(e, AS_INTERNAL, 0, "the plain loop read %lld bytes in place of %lld",
                       (long long)out->bytes, (long long)expected);
    }
    return code;
}

/* ------------------------------------------------------------------- copying */

int as_plain_target_open(as_plain_target *t, const as_bench_memory *where, int64_t bytes,
                         as_error *e)
{
    enum { HUGE_PAGE = 2 << 20 };
    *t = (as_plain_target){.bytes = bytes};
    void *memory = NULL;
    if (bytes > 0 && posix_memalign(&memory, HUGE_PAGE, (size_t)bytes) != 0) {
        return as_fail_nomem(e);
    }
    t->memory = memory;
    if (memory) {
        (void)madvise(memory, (size_t)bytes, MADV_HUGEPAGE);
        memset(memory, 1, (size_t)bytes);
    }
    return as_bench_memory_pin(where, memory, bytes, e);
}

void as_plain_target_close(as_plain_target *t, const as_bench_memory *where)
{
    as_bench_memory_unpin(where, t->memory);
    free(t->memory);
    *t = (as_plain_target){0};
}

/* Once through the pieces, or until the target is full. */
static int64_t copy_pieces(const as_bench_state *s, const as_plain_target *t, int64_t at,
                           as_error *e)
{
    for (size_t i = 0; i < as_tensors_count(s->tensors) && at < t->bytes; i++) {
        as_layout_piece piece;
        if (s->memory[i] && as_layout_get(s->layout, s->tensors, i, s->rank, &piece)) {
            int64_t bytes = as_min_i64(piece.bytes, t->bytes - at);
            if (as_bench_memory_fetch(s->where, t->memory + at, s->memory[i], bytes, e) != AS_OK) {
                return at;
            }
            at += bytes;
        }
    }
    return at;
}

int as_plain_copy(as_world *w, const as_bench_state *s, const as_plain_target *t,
                  as_plain_result *out, as_error *e)
{
    struct lap lap;
    int code = begin_lap(&lap, w, e);
    if (code != AS_OK) {
        return code;
    }
    int64_t before = -1;
    while (lap.bytes > before && lap.bytes < t->bytes) {
        before = lap.bytes;
        lap.bytes = copy_pieces(s, t, lap.bytes, e);
    }
    (void)as_bench_memory_wait(s->where, e);
    end_lap(&lap, 0, false);
    return settle_lap(&lap, w, "", out, e);
}
