/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/read_back.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/sys.h"
#include "transfer/gds.h"
#include "transfer/scan.h"

typedef struct opened_file {
    int64_t file;
    char *name; /* heap, owned */
} opened_file;

typedef struct reader {
    const as_transfer *transfer;
    as_block_sum *sums; /* sorted as the blocks come */
    size_t count;
    size_t begun;
    size_t taken;
    as_buffer names; /* opened_file[] */
} reader;

static int compare(const void *a, const void *b)
{
    const as_block_sum *x = a;
    const as_block_sum *y = b;
    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    return (x->block > y->block) - (x->block < y->block);
}

static as_scan_range range_of(const reader *r, const as_block_sum *b)
{
    const as_plan *plan = r->transfer->plan;
    int64_t low = b->block * plan->block_bytes;
    return (as_scan_range){.file = (int32_t)b->file,
                           .offset = low,
                           .bytes = as_min_i64(plan->block_bytes, plan->file_size[b->file] - low)};
}

static bool next(void *user, as_scan_range *out)
{
    reader *r = user;
    if (r->begun == r->count) {
        return false;
    }
    *out = range_of(r, &r->sums[r->begun++]);
    return true;
}

/* Keeps the name for the error of a block that differs. */
static int open_written(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    reader *r = user;
    int code = r->transfer->open_written(r->transfer->user, file, fd, name, e);
    if (code == AS_OK) {
        opened_file o = {.file = file, .name = strdup(*name)};
        code = o.name ? as_buffer_append(&r->names, &o, sizeof o, e) : as_fail_nomem(e);
        if (code != AS_OK) {
            free(o.name);
            (void)as_sys_table.close(*fd);
        }
    }
    return code;
}

static const char *name_of(const reader *r, int64_t file)
{
    const opened_file *o = (const opened_file *)(const void *)r->names.data;
    size_t i = 0;
    while (o[i].file != file) { /* its bytes are here: it was opened */
        i++;
    }
    return o[i].name;
}

static void free_names(reader *r)
{
    opened_file *o = (opened_file *)(void *)r->names.data;
    for (size_t i = 0; i < r->names.size / sizeof *o; i++) {
        free(o[i].name);
    }
    as_buffer_free(&r->names);
}

static int fail_differs(const char *what, int64_t low, int64_t bytes, uint64_t found,
                        uint64_t expected, as_error *e)
{
    return as_fail(
        e, AS_CORRUPT, 0,
        "%s: bytes %lld to %lld, read back from storage, are not those that were "
        "written: their checksum is %016llx, not %016llx. The storage, or the way to it, "
        "damages data; this save does not count",
        what, (long long)low, (long long)(low + bytes - 1), (unsigned long long)found,
        (unsigned long long)expected);
}

static int take(void *user, const as_scan_range *range, const char *bytes, const as_error *why,
                as_error *e)
{
    (void)why;
    reader *r = user;
    const as_transfer *t = r->transfer;
    const as_block_sum *expected = &r->sums[r->taken++];
    int64_t begin = as_clock();
    uint64_t found = as_checksum(bytes, (size_t)range->bytes);
    (void)as_meter_end(t->meter, "hash", begin, range->bytes, &t->meter->tally.checksum);
    t->meter->tally.bytes_checksum += range->bytes;
    if (found != expected->sum) {
        return fail_differs(name_of(r, range->file), range->offset, range->bytes, found,
                            expected->sum, e);
    }
    return t->tick ? t->tick(t->user, e) : AS_OK;
}

/* Where the bytes come to, and who waits for whom. */
typedef struct place {
    as_comm *comm; /* NULL: this rank is alone */
    char *memory;
    size_t bytes;
} place;

static int read_back(const as_transfer *t, size_t first, const place *where, as_error *e)
{
    reader r = {.transfer = t};
    size_t bytes = e->code == AS_OK ? t->checksums->size - first : 0;
    r.count = bytes / sizeof *r.sums;
    r.sums = malloc(bytes ? bytes : 1);
    if (!r.sums) {
        (void)as_fail_nomem(e);
    } else if (bytes) {
        memcpy(r.sums, t->checksums->data + first, bytes);
        qsort(r.sums, r.count, sizeof *r.sums, compare);
    }
    as_meter written = *t->meter; /* what did the work stays what wrote */
    as_scan scan = {
        .comm = where->comm,
        .engine = as_gds_host_engine(t),
        .engine_options = t->engine_options,
        .memory = where->memory,
        .memory_bytes = where->bytes,
        .longest = t->plan->block_bytes,
        .fresh = true,
        .meter = t->meter,
        .next = next,
        .open_file = open_written,
        .take = take,
        .user = &r,
    };
    int code = as_scan_run(&scan, e);
    memcpy(t->meter->engine, written.engine, sizeof written.engine);
    memcpy(t->meter->engine_reason, written.engine_reason, sizeof written.engine_reason);
    free_names(&r);
    free(r.sums);
    return code;
}

int as_read_back(const as_transfer *t, size_t first, as_error *e)
{
    place where = {
        .comm = t->comm, .memory = as_arena_base(t->arena), .bytes = as_arena_bytes(t->arena)};
    return read_back(t, first, &where, e);
}

int as_read_back_own(const as_transfer *t, size_t first, char *memory, size_t bytes, as_error *e)
{
    place where = {.bytes = bytes};
    where.memory = memory;
    return read_back(t, first, &where, e);
}

/* ---- small files ---- */

int as_read_back_small(int fd, const char *what, const as_small_sums *s, as_error *e)
{
    (void)as_sys_table.fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    char *bytes = malloc((size_t)as_max_i64(1, as_min_i64(s->block_bytes, s->size)));
    int code = bytes ? AS_OK : as_fail_nomem(e);
    for (int64_t at = 0; at < s->size && code == AS_OK; at += s->block_bytes) {
        int64_t n = as_min_i64(s->block_bytes, s->size - at);
        code = as_read_all(fd, bytes, (size_t)n, at, what, e);
        if (code == AS_OK) {
            uint64_t found = as_checksum(bytes, (size_t)n);
            uint64_t expected = s->sums[at / s->block_bytes];
            code = found == expected ? AS_OK : fail_differs(what, at, n, found, expected, e);
        }
    }
    free(bytes);
    return code;
}
