/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/sys.h"
#include "cli/layout.h"
#include "commit/view.h"

enum { CHUNK = 4 * 1024 * 1024 };

/* --------------------------------------------------------------------- names */

static int compare_names(const as_tensors *a, size_t i, const as_tensors *b, size_t k)
{
    size_t n = as_tensors_row(a, i)->name_length;
    size_t m = as_tensors_row(b, k)->name_length;
    int order = memcmp(as_tensors_name(a, i), as_tensors_name(b, k), n < m ? n : m);
    return order != 0 ? order : (n > m) - (n < m);
}

static int compare_in_one(const void *a, const void *b, void *user)
{
    const as_tensors *t = user;
    return compare_names(t, *(const size_t *)a, t, *(const size_t *)b);
}

static size_t *sort_by_name(const as_tensors *t, as_error *e)
{
    size_t count = as_tensors_count(t);
    size_t *sorted = calloc(count + 1, sizeof *sorted);
    if (!sorted) {
        (void)as_fail_nomem(e);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = i;
    }
    /* qsort_r wants a pointer that is not const, and leaves it alone. */
    qsort_r(sorted, count, sizeof *sorted, compare_in_one, (void *)(uintptr_t)t);
    return sorted;
}

static int compare_numbers(const void *a, const void *b)
{
    size_t i = *(const size_t *)a;
    size_t k = *(const size_t *)b;
    return (i > k) - (i < k);
}

/* Walks both lists side by side. match[i]: the tensor of side 1 that has the name of tensor i of
 * side 0; its count if there is none. */
static int match_names(as_comparison *c, const as_side sides[2], size_t *match, as_error *e)
{
    const as_tensors *a = &sides[0].contents.tensors;
    const as_tensors *b = &sides[1].contents.tensors;
    const size_t counts[2] = {as_tensors_count(a), as_tensors_count(b)};
    size_t *sorted[2] = {sort_by_name(a, e), sort_by_name(b, e)};
    size_t at[2] = {0, 0};
    while (sorted[0] && sorted[1] && (at[0] < counts[0] || at[1] < counts[1])) {
        int order = at[0] == counts[0]   ? 1
                    : at[1] == counts[1] ? -1
                                         : compare_names(a, sorted[0][at[0]], b, sorted[1][at[1]]);
        if (order == 0) {
            match[sorted[0][at[0]]] = sorted[1][at[1]];
            c->common_count++;
        } else {
            int side = order < 0 ? 0 : 1;
            size_t i = sorted[side][at[side]];
            c->only_in[side][c->only_count[side]++] = i;
            if (side == 0) {
                match[i] = counts[1];
            }
        }
        at[0] += order <= 0;
        at[1] += order >= 0;
    }
    int code = sorted[0] && sorted[1] ? AS_OK : as_fail_nomem(e);
    free(sorted[0]);
    free(sorted[1]);
    return code;
}

static int find_common(as_comparison *c, const as_side sides[2], as_error *e)
{
    size_t counts[2];
    for (int s = 0; s < 2; s++) {
        counts[s] = as_tensors_count(&sides[s].contents.tensors);
        c->only_in[s] = calloc(counts[s] + 1, sizeof *c->only_in[s]);
        c->common[s] = calloc(counts[0] + 1, sizeof *c->common[s]);
        if (!c->only_in[s] || !c->common[s]) {
            return as_fail_nomem(e);
        }
    }
    size_t *match = calloc(counts[0] + 1, sizeof *match);
    if (!match) {
        return as_fail_nomem(e);
    }
    int code = match_names(c, sides, match, e);
    size_t at = 0;
    for (size_t i = 0; i < counts[0] && code == AS_OK; i++) {
        if (match[i] < counts[1]) {
            c->common[0][at] = i;
            c->common[1][at++] = match[i];
        }
    }
    for (int s = 0; s < 2 && code == AS_OK; s++) {
        qsort(c->only_in[s], c->only_count[s], sizeof *c->only_in[s], compare_numbers);
    }
    free(match);
    return code;
}

/* --------------------------------------------------------------------- bytes */

/* The file of one side that was read last, and a buffer. */
typedef struct as_reader {
    const as_side *side;
    as_view *view;
    uint32_t file;
    int fd; /* -1: none is open */
    char *bytes;
} as_reader;

static int open_reader(as_reader *r, const as_side *side, as_error *e)
{
    *r = (as_reader){.side = side, .fd = -1, .bytes = malloc(CHUNK)};
    return r->bytes ? as_view_open(&r->view, side->path, e) : as_fail_nomem(e);
}

static void close_file(as_reader *r)
{
    if (r->fd >= 0) {
        (void)as_sys_table.close(r->fd);
        r->fd = -1;
    }
}

static void close_reader(as_reader *r)
{
    close_file(r);
    if (r->view) {
        as_view_close(r->view);
    }
    free(r->bytes);
}

static int go_to_file(as_reader *r, uint32_t file, as_error *e)
{
    if (r->fd >= 0 && r->file == file) {
        return AS_OK;
    }
    close_file(r);
    const char *name = r->side->contents.files.items[file];
    int code = as_view_open_file(r->view, name, &r->fd, e);
    struct stat status;
    if (code == AS_OK && as_sys_table.fstat(r->fd, &status) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot be looked at", name);
    }
    if (code == AS_OK && status.st_size != as_contents_size(&r->side->contents, file)) {
        code =
            as_fail(e, AS_BUSY, 0, "%s: %s was replaced while it was being compared; compare again",
                    r->side->path, name);
    }
    r->file = file;
    return code;
}

static int read_chunk(as_reader *r, const as_tensor_row *row, int64_t at, size_t count, as_error *e)
{
    int code = go_to_file(r, row->file, e);
    if (code == AS_OK) {
        code = as_read_all(r->fd, r->bytes, count, (int64_t)row->begin + at,
                           r->side->contents.files.items[row->file], e);
    }
    return code;
}

/* *byte: the first byte in which two tensors of equal size differ; −1 if none does. */
static int compare_bytes(as_reader readers[2], size_t a, size_t b, int64_t *byte, as_error *e)
{
    const as_tensor_row *rows[2] = {as_tensors_row(&readers[0].side->contents.tensors, a),
                                    as_tensors_row(&readers[1].side->contents.tensors, b)};
    *byte = -1;
    int code = AS_OK;
    for (int64_t at = 0; at < rows[0]->bytes && code == AS_OK; at += CHUNK) {
        size_t count = (size_t)as_min_i64(CHUNK, rows[0]->bytes - at);
        for (int s = 0; s < 2 && code == AS_OK; s++) {
            code = read_chunk(&readers[s], rows[s], at, count, e);
        }
        if (code == AS_OK && memcmp(readers[0].bytes, readers[1].bytes, count) != 0) {
            size_t i = 0;
            while (readers[0].bytes[i] == readers[1].bytes[i]) {
                i++;
            }
            *byte = at + (int64_t)i;
            return AS_OK;
        }
    }
    return code;
}

/* ----------------------------------------------------------------- everything */

static enum as_difference_kind compare_heads(const as_side sides[2], size_t a, size_t b)
{
    const as_tensors *t[2] = {&sides[0].contents.tensors, &sides[1].contents.tensors};
    const as_tensor_row *x = as_tensors_row(t[0], a);
    const as_tensor_row *y = as_tensors_row(t[1], b);
    if (x->dtype != y->dtype) {
        return AS_DIFFERENT_DTYPE;
    }
    bool same = x->ndim == y->ndim && memcmp(as_tensors_shape(t[0], a), as_tensors_shape(t[1], b),
                                             (size_t)x->ndim * sizeof(int64_t)) == 0;
    return same ? AS_SAME : AS_DIFFERENT_SHAPE;
}

/* What one rank found. */
typedef struct as_share {
    int64_t different;
    int64_t first; /* index in common of the first difference; INT64_MAX: none */
    int64_t kind;
    int64_t byte;
} as_share;

/* Compares the common tensors of this rank's share. */
static int compare_share(const as_comparison *c, const as_side sides[2], const as_layout *layout,
                         int rank, as_progress *progress, as_share *out, as_error *e)
{
    as_reader readers[2] = {{.fd = -1}, {.fd = -1}};
    *out = (as_share){.first = INT64_MAX};
    int64_t done = 0;
    int64_t total = sides[0].contents.tensors.bytes / layout->ranks;
    int code = open_reader(&readers[0], &sides[0], e);
    code = code == AS_OK ? open_reader(&readers[1], &sides[1], e) : code;
    for (size_t i = 0; i < c->common_count && code == AS_OK; i++) {
        if (as_layout_owner(layout, c->common[0][i]) != rank) {
            continue;
        }
        enum as_difference_kind kind = compare_heads(sides, c->common[0][i], c->common[1][i]);
        int64_t byte = -1;
        if (kind == AS_SAME) {
            code = compare_bytes(readers, c->common[0][i], c->common[1][i], &byte, e);
            kind = byte >= 0 ? AS_DIFFERENT_BYTES : AS_SAME;
        }
        out->different += kind != AS_SAME;
        if (kind != AS_SAME && out->first == INT64_MAX) {
            out->first = (int64_t)i;
            out->kind = (int64_t)kind;
            out->byte = byte;
        }
        done += as_tensors_row(&sides[0].contents.tensors, c->common[0][i])->bytes;
        as_progress_update(done, total, progress);
    }
    for (int s = 0; s < 2; s++) {
        if (code == AS_OK) {
            code = as_view_check(readers[s].view, e);
        }
        close_reader(&readers[s]);
    }
    return code;
}

/* The first difference of any rank, on all ranks. */
static int join_shares(as_comparison *c, as_world *w, const as_share *own, as_error *e)
{
    c->different = own->different;
    int64_t first = -own->first; /* the largest of these is the least */
    int code = as_world_sum(w, &c->different, 1, e);
    code = code == AS_OK ? as_world_max(w, &first, 1, e) : code;
    if (code != AS_OK || first == -INT64_MAX) {
        return code;
    }
    /* Kind and byte: one rank has them, the others −1. */
    bool mine = own->first == -first;
    int64_t what[2] = {mine ? own->kind : -1, mine ? own->byte : -1};
    code = as_world_max(w, what, 2, e);
    c->kind = (enum as_difference_kind)what[0];
    c->byte = what[1];
    c->tensor[0] = c->common[0][-first];
    c->tensor[1] = c->common[1][-first];
    return code;
}

int as_compare(as_comparison *out, as_world *w, const as_side sides[2], as_progress *progress,
               as_error *e)
{
    *out = AS_COMPARISON_INIT;
    as_layout layout = {.kind = AS_LAYOUT_WHOLE, .ranks = w->size};
    as_share own = {0};
    int code = find_common(out, sides, e);
    code = code == AS_OK ? as_layout_fit(&layout, &sides[0].contents.tensors, e) : code;
    if (code == AS_OK) {
        (void)compare_share(out, sides, &layout, w->rank, progress, &own, e);
    }
    as_layout_free(&layout);
    code = as_world_agree(w, e);
    code = code == AS_OK ? join_shares(out, w, &own, e) : code;
    if (code != AS_OK) {
        as_comparison_free(out);
    }
    return code;
}

void as_comparison_free(as_comparison *c)
{
    for (int s = 0; s < 2; s++) {
        free(c->only_in[s]);
        free(c->common[s]);
    }
    *c = AS_COMPARISON_INIT;
}
