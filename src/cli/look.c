/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/look.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/path.h"
#include "base/sys.h"
#include "cli/look_join.h"
#include "cli/look_share.h"
#include "series/shards.h"
#include "comm/collect.h"
#include "commit/view.h"
#include "io/probe.h"
#include "plan/mail.h"
#include "transfer/buffers.h"
#include "transfer/scan.h"

enum { OVERHANG = 8 }; /* an element that begins in a piece may end so far behind it */

/* One rank at work. */
typedef struct looker {
    const as_look_order *order;
    as_look_share share;
    as_view *view;
    as_specials **specials; /* [parts]: of each tensor; heap */
    size_t *low;            /* [parts]: the first tensor that may still come */
    size_t part;            /* the next range is of this part … */
    int64_t at;             /* … and begins here; −1: at its begin */
    as_look_found found;
    as_checksum_stream *sum; /* of a block that is read in pieces */
    int spoiled;             /* a piece of it could not be read; its errno */
    bool is_spoiled;
    int64_t done;   /* for the progress */
    bool no_memory; /* for a run */
} looker;

/* ---- which bytes are next ---- */

/* Where the piece that begins at `at` ends: a part of a large block, or several small blocks. */
static int64_t piece_end(const as_look_part *p, int64_t at)
{
    if (p->block_bytes > AS_LOOK_PIECE) {
        int64_t block_end = p->block_bytes > p->end - at / p->block_bytes * p->block_bytes
                                ? p->end
                                : (at / p->block_bytes + 1) * p->block_bytes;
        return as_min_i64(block_end, at + AS_LOOK_PIECE);
    }
    int64_t end = as_min_i64(p->end, at + AS_LOOK_PIECE / p->block_bytes * p->block_bytes);
    /* Of a file that is too short, what lies in it. */
    return end > p->size ? p->size / p->block_bytes * p->block_bytes : end;
}

/* Is the block at `at` not all in the file? Its end is then in *end. */
static bool is_lost(const as_look_part *p, int64_t at, int64_t *end)
{
    int64_t begin = at / p->block_bytes * p->block_bytes;
    *end = p->block_bytes > p->end - begin ? p->end : begin + p->block_bytes;
    return *end > p->size;
}

/* The bytes behind `end` that belong to an element which begins before it. Pieces that begin within
 * an element skip what is left of it. */
static int64_t overhang(const looker *l, size_t part, int64_t end)
{
    const as_look_part *p = &l->share.parts[part];
    for (size_t i = l->low[part]; i < p->tensor_count && p->tensors[i].begin < end; i++) {
        const as_look_tensor *t = &p->tensors[i];
        if (t->end > end) {
            int64_t width = as_specials_bytes((int)t->dtype);
            int64_t rest = (end - t->begin) % width;
            return rest > 0 && end + width - rest <= p->size ? width - rest : 0;
        }
    }
    return 0;
}

static bool wants(const looker *l, size_t part, int64_t begin, int64_t end)
{
    const as_look_part *p = &l->share.parts[part];
    for (size_t i = l->low[part]; i < p->tensor_count && p->tensors[i].begin < end; i++) {
        if (p->tensors[i].end > begin) {
            return true;
        }
    }
    return p->sums != NULL;
}

/* Adds to the last run if it goes on. That memory is out is told after the scan. */
static void add_run(looker *l, const as_look_run *run)
{
    size_t count = l->found.runs.size / sizeof *run;
    as_look_run *last = count ? (as_look_run *)(void *)l->found.runs.data + count - 1 : NULL;
    if (last && last->file == run->file && last->first + last->count == run->first &&
        last->kind == run->kind && last->sys_errno == run->sys_errno) {
        last->count += run->count;
    } else if (as_buffer_append(&l->found.runs, run, sizeof *run, NULL) != AS_OK) {
        l->no_memory = true;
    }
}

static bool next(void *user, as_scan_range *out)
{
    looker *l = user;
    while (l->part < l->share.count) {
        const as_look_part *p = &l->share.parts[l->part];
        int64_t at = l->at < 0 ? p->begin : l->at;
        int64_t end = 0;
        if (at >= p->end) {
            l->part++;
            l->at = -1;
            continue;
        }
        if (is_lost(p, at, &end)) {
            add_run(l, &(as_look_run){.file = p->file,
                                      .first = at / p->block_bytes,
                                      .count = 1,
                                      .kind = AS_LOOK_LOST});
            l->at = end;
            continue;
        }
        l->at = end = piece_end(p, at);
        if (wants(l, l->part, at, end)) {
            *out = (as_scan_range){.file = (int32_t)l->part,
                                   .offset = at,
                                   .bytes = end - at + overhang(l, l->part, end)};
            return true;
        }
    }
    return false;
}

/* ---- what the bytes say ---- */

static void compare(looker *l, const as_look_part *p, int64_t at, uint64_t found)
{
    l->found.blocks++;
    if (found != p->sums[(at - p->begin) / p->block_bytes]) {
        add_run(l, &(as_look_run){.file = p->file,
                                  .first = at / p->block_bytes,
                                  .count = 1,
                                  .kind = AS_LOOK_DIFFERS,
                                  .found = found});
    }
}

/* A piece of a block that is larger than pieces are: its sum is made piece by piece. */
static void compare_piece(looker *l, const as_look_part *p, int64_t at, int64_t end,
                          const char *bytes, int sys_errno)
{
    int64_t begin = at / p->block_bytes * p->block_bytes;
    if (at == begin) {
        as_checksum_begin(l->sum);
        l->is_spoiled = false;
    }
    if (bytes) {
        as_checksum_add(l->sum, bytes, (size_t)(end - at));
    } else if (!l->is_spoiled) {
        l->is_spoiled = true;
        l->spoiled = sys_errno;
    }
    if (end == p->end || end - begin == p->block_bytes) {
        if (l->is_spoiled) {
            add_run(l, &(as_look_run){.file = p->file,
                                      .first = begin / p->block_bytes,
                                      .count = 1,
                                      .kind = AS_LOOK_UNREAD,
                                      .sys_errno = l->spoiled});
        } else {
            compare(l, p, begin, as_checksum_end(l->sum));
        }
    }
}

static void compare_blocks(looker *l, const as_look_part *p, int64_t at, int64_t end,
                           const char *bytes)
{
    for (int64_t b = at; b < end; b += p->block_bytes) {
        size_t count = (size_t)as_min_i64(p->block_bytes, end - b);
        compare(l, p, b, as_checksum(bytes + (b - at), count));
    }
}

/* The elements that begin in the piece. */
static void count_specials(looker *l, size_t part, int64_t at, int64_t end, const char *bytes)
{
    const as_look_part *p = &l->share.parts[part];
    size_t *low = &l->low[part];
    while (*low < p->tensor_count && p->tensors[*low].end <= at) {
        (*low)++;
    }
    for (size_t i = *low; i < p->tensor_count && p->tensors[i].begin < end; i++) {
        const as_look_tensor *t = &p->tensors[i];
        int64_t width = as_specials_bytes((int)t->dtype);
        int64_t first = as_ceil_div(as_max_i64(at - t->begin, 0), width);
        int64_t last = as_ceil_div(as_min_i64(end, t->end) - t->begin, width);
        if (first < last) {
            as_specials_count((int)t->dtype, bytes + (t->begin + first * width - at),
                              (size_t)(last - first), first, &l->specials[part][i]);
        }
    }
}

static int take(void *user, const as_scan_range *range, const char *bytes, const as_error *why,
                as_error *e)
{
    looker *l = user;
    size_t part = (size_t)range->file;
    const as_look_part *p = &l->share.parts[part];
    int64_t at = range->offset;
    int64_t end = piece_end(p, at);
    int sys_errno = why ? why->sys_errno : 0;
    if (why && (why->code == AS_NOMEM || why->code == AS_BUSY)) {
        return as_fail(e, why->code, 0, "%s", as_error_text(why));
    }
    if (p->sums && p->block_bytes > AS_LOOK_PIECE) {
        compare_piece(l, p, at, end, bytes, sys_errno);
    } else if (p->sums && bytes) {
        compare_blocks(l, p, at, end, bytes);
    } else if (!bytes) {
        add_run(l, &(as_look_run){.file = p->file,
                                  .first = at / p->block_bytes,
                                  .count = as_ceil_div(end - at, p->block_bytes),
                                  .kind = AS_LOOK_UNREAD,
                                  .sys_errno = sys_errno});
    }
    if (bytes) {
        l->found.bytes += end - at;
        count_specials(l, part, at, end, bytes);
    }
    l->done += end - at;
    if (l->order->progress) {
        as_progress_update(l->done, l->share.bytes, l->order->progress);
    }
    return l->no_memory ? as_fail_nomem(e) : AS_OK;
}

static int open_file(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    looker *l = user;
    *name = l->share.parts[file].name;
    return as_shard_open(l->view, *name, fd, e);
}

/* ---- one rank ---- */

static int prepare(looker *l, bool in_place, as_error *e)
{
    int code = in_place ? as_view_open_in_place(&l->view, l->order->path, e)
                        : as_view_open(&l->view, l->order->path, e);
    if (code == AS_OK) {
        code = as_checksum_open(&l->sum, e);
    }
    l->specials = calloc(l->share.count + 1, sizeof *l->specials);
    l->low = calloc(l->share.count + 1, sizeof *l->low);
    if (!l->specials || !l->low) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < l->share.count; i++) {
        size_t count = l->share.parts[i].tensor_count;
        l->specials[i] = calloc(count + 1, sizeof **l->specials);
        if (!l->specials[i]) {
            return as_fail_nomem(e);
        }
        for (size_t k = 0; k < count; k++) {
            l->specials[i][k] = AS_SPECIALS_NONE;
        }
    }
    return code;
}

static void close_looker(looker *l)
{
    for (size_t i = 0; l->specials && i < l->share.count; i++) {
        free(l->specials[i]);
    }
    free(l->specials);
    free(l->low);
    as_checksum_close(l->sum);
    as_look_found_free(&l->found);
    if (l->view) {
        as_view_close(l->view);
    }
    as_look_share_free(&l->share);
}

/* Reads this rank's share. */
static int look(looker *l, as_world *w, const as_engine_choice *choice, as_meter *meter,
                as_error *e)
{
    as_scan scan = {.comm = w->comm,
                    .engine = as_engine_by_name(choice->engine),
                    .longest = AS_LOOK_PIECE + OVERHANG,
                    .fresh = true,
                    .go_on = true,
                    .meter = meter,
                    .next = next,
                    .open_file = open_file,
                    .take = take,
                    .user = l};
    as_probe_options(choice, &scan.engine_options);
    /* Few bytes need no buffers of many. */
    int64_t most = as_ceil_div(l->share.bytes, AS_LOOK_PIECE) + (int64_t)l->share.count;
    scan.slots = (int)as_min_i64(most, as_transfer_slots(AS_LOOK_PIECE));
    if (l->share.bytes < AS_LOOK_PIECE) {
        scan.longest = as_max_i64(1, l->share.bytes) + OVERHANG;
    }
    int code = as_scan_run(&scan, e);
    if (code == AS_OK) {
        code = as_view_check(l->view, e);
    }
    for (size_t i = 0; i < l->share.count && code == AS_OK; i++) {
        const as_look_part *p = &l->share.parts[i];
        for (size_t k = 0; k < p->tensor_count && code == AS_OK; k++) {
            as_look_special one = {
                .file = p->file, .entry = p->tensors[k].entry, .specials = l->specials[i][k]};
            if (as_specials_any(&one.specials)) {
                code = as_buffer_append(&l->found.specials, &one, sizeof one, e);
            }
        }
    }
    return code == AS_OK && l->no_memory ? as_fail_nomem(e) : code;
}

/* ---- all ranks ---- */

/* What the ranks have to know besides their shares. Plain data. */
typedef struct common {
    as_engine_choice choice;
    bool in_place;
} common;

static int choose_engine(const as_look_order *order, as_engine_choice *out, as_error *e)
{
    struct stat status;
    bool folder =
        as_sys_table.fstatat(AT_FDCWD, order->path, &status, 0) == 0 && S_ISDIR(status.st_mode);
    char *path = folder ? strdup(order->path) : as_path_folder(order->path);
    int code = path ? as_probe_folder(path, order->engine, false, out, e) : as_fail_nomem(e);
    free(path);
    return code;
}

/* Rank 0 tells each rank its share. Collective. */
static int deal(as_look_share *out, common *c, as_world *w, const as_look_order *order, as_error *e)
{
    as_mail mail = {0};
    as_buffer told = AS_BUFFER_INIT;
    memset(c, 0, sizeof *c);
    int code = as_mail_init(&mail, w->size, e);
    if (w->rank == 0 && code == AS_OK) {
        code = choose_engine(order, &c->choice, e);
        c->in_place = order->in_place;
        for (int r = 0; r < w->size && code == AS_OK; r++) {
            code = as_look_share_write(order, r, w->size, &mail.out[r], e);
        }
        if (code == AS_OK) {
            (void)as_buffer_append(&told, c, sizeof *c, e);
        }
    }
    code = as_world_agree(w, e);
    if (code == AS_OK) {
        code = as_world_bcast(w, 0, &told, e);
    }
    if (code == AS_OK && w->comm) {
        code = as_comm_exchange(w->comm, &mail, e);
    }
    if (code == AS_OK) {
        memcpy(c, told.data, sizeof *c);
        code = as_look_share_read(out, w->comm ? &mail.in : &mail.out[0], e);
    }
    as_mail_free(&mail);
    as_buffer_free(&told);
    return code;
}

static int gather(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    (void)from;
    return as_buffer_append(user, bytes, count, e);
}

int as_look(as_looked *out, as_world *w, const as_look_order *order, as_error *e)
{
    *out = AS_LOOKED_INIT;
    looker l = {.order = order, .at = -1};
    common c;
    as_meter meter = {0};
    as_buffer result = AS_BUFFER_INIT;
    as_buffer told = AS_BUFFER_INIT;
    double began = as_seconds();
    if (deal(&l.share, &c, w, order, e) == AS_OK) {
        (void)prepare(&l, c.in_place, e);
    }
    int code = as_world_agree(w, e);
    if (code == AS_OK) {
        if (look(&l, w, &c.choice, &meter, e) == AS_OK) {
            (void)as_look_found_write(&l.found, &result, e);
        }
        code = as_world_agree(w, e);
    }
    out->seconds = as_seconds() - began;
    if (code == AS_OK && w->comm) {
        code = as_comm_collect(w->comm, &result, gather, &told, e);
    }
    if (code == AS_OK && w->rank == 0) {
        (void)as_look_join(out, w->comm ? &told : &result, e);
        (void)snprintf(out->engine, sizeof out->engine, "%s", meter.engine);
    }
    as_buffer_free(&result);
    as_buffer_free(&told);
    close_looker(&l);
    code = code == AS_OK ? as_world_agree(w, e) : code;
    if (code != AS_OK) {
        as_looked_free(out);
    }
    return code;
}

void as_looked_free(as_looked *l)
{
    as_buffer_free(&l->runs);
    as_buffer_free(&l->specials);
    *l = AS_LOOKED_INIT;
}
