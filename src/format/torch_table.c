/* SPDX-License-Identifier: Apache-2.0
 * What an unpickled file of torch holds → a table of its tensors.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "format/pickle_torch.h"
#include "format/repeats.h"
#include "format/torch.h"
#include "tensor/dtype.h"

enum {
    MOST_LEVELS = 64,
    /* A list can hold itself, and ten lists that each hold the one before ten times are 10^10
     * things: what is gone through is counted. */
    MOST_VISITS = 1 << 24,
    MOST_DIMS = 64,
};

#define MOST_NAMES (UINT64_C(256) << 20)
#define MOST_METADATA (UINT64_C(16) << 20)
#define MOST_BYTES (UINT64_C(1) << 61) /* of one tensor, as everywhere */

typedef struct walker {
    const as_pickle *p;
    const as_storage *ranges;
    as_table *table;
    as_buffer path; /* names so far, with dots */
    uint64_t visits;
    uint64_t metadata; /* bytes */
    size_t left_out;   /* values that are neither tensors nor metadata */
    int level;
} walker;

static const char *file_of(const walker *w)
{
    return w->p->source->name;
}

static int refuse(const walker *w, as_error *e, const char *reason)
{
    return as_fail(e, AS_FORMAT, 0, "%s: tensor %s: %s", file_of(w),
                   as_quote(w->path.data, w->path.size).text, reason);
}

static int too_large(const walker *w, as_error *e)
{
    return as_fail(e, AS_LIMIT, 0,
                   "%s: its dicts and lists hold more than allshard reads: more than 64 levels, 16 "
                   "million values, 256 MiB of names or 16 MiB of other values",
                   file_of(w));
}

/* A tuple of sizes, which the unpickler has checked. */
static void copy_sizes(const as_pickle *p, uint32_t node, uint64_t *out)
{
    for (uint32_t c = as_pickle_node_at(p, node)->first; c; c = as_pickle_cell_at(p, c)->next) {
        *out++ = as_pickle_cell_at(p, c)->value.number;
    }
}

/* Elements from the first one to the last that is reached; 0 if there are none. */
static bool reach(const uint64_t *shape, const uint64_t *strides, uint32_t ndim, uint64_t *out)
{
    uint64_t last = 0;
    for (uint32_t d = 0; d < ndim; d++) {
        if (shape[d] == 0) {
            *out = 0;
            return true;
        }
    }
    for (uint32_t d = 0; d < ndim; d++) {
        uint64_t step;
        if (!as_mul_u64(shape[d] - 1, strides[d], &step) || !as_add_u64(last, step, &last)) {
            return false;
        }
    }
    return as_add_u64(last, 1, out);
}

/* torch counts pairs of F4 as elements, allshard counts each of them. */
static int split_pairs(const walker *w, uint64_t *shape, uint64_t *strides, uint32_t ndim,
                       as_error *e)
{
    if (ndim == 0 || strides[ndim - 1] != 1 || shape[ndim - 1] > INT64_MAX) {
        return refuse(w, e,
                      "its dtype float4_e2m1fn_x2 is read only where its last dimension has "
                      "stride 1");
    }
    shape[ndim - 1] *= 2;
    for (uint32_t d = 0; d + 1 < ndim; d++) {
        strides[d] *= 2; /* below 2^63 */
    }
    return AS_OK;
}

static int add_tensor(walker *w, const as_pickle_tensor *t, as_error *e)
{
    const as_pickle *p = w->p;
    const as_pickle_view *v = as_pickle_view_at(p, t->view);
    const as_pickle_global *dtype = &as_pickle_globals[t->dtype];
    uint64_t unit = (uint64_t)as_pickle_globals[as_pickle_storage_at(p, v->storage)->class].bytes;
    uint64_t size = (uint64_t)dtype->bytes;
    uint32_t ndim = as_pickle_node_at(p, t->shape)->count;
    uint64_t shape[MOST_DIMS];
    uint64_t strides[MOST_DIMS];
    uint64_t numel;
    uint64_t bytes;
    uint64_t span;
    if (dtype->dtype == AS_DTYPE_NONE) {
        return as_fail(e, AS_LIMIT, 0,
                       "%s: tensor %s has the type %s.%s, which allshard has no "
                       "dtype for",
                       file_of(w), as_quote(w->path.data, w->path.size).text, dtype->module,
                       dtype->name);
    }
    copy_sizes(p, t->shape, shape);
    copy_sizes(p, t->strides, strides);
    /* Expanded tensors are larger than their storage, without end. */
    if (!as_shape_numel(shape, (int)ndim, &numel) || !as_mul_u64(numel, size, &bytes) ||
        bytes >= MOST_BYTES) {
        return refuse(w, e, "its shape is larger than 2^61 bytes");
    }
    /* The storage lies in the file, so that products of its sizes fit. */
    uint64_t room = v->numel * unit;
    uint64_t begin = w->ranges[v->storage].begin + v->offset * unit;
    uint64_t end = begin;
    if (!reach(shape, strides, ndim, &span)) {
        return refuse(w, e, "its strides reach past 2^64");
    }
    if (span > 0) {
        if (!as_add_u64(t->offset, span, &end) || !as_mul_u64(end, size, &end) || end > room) {
            return refuse(w, e, "its elements reach past the end of its storage");
        }
        end += begin;
        begin += t->offset * size;
    }
    int code = dtype->dtype == AS_F4 ? split_pairs(w, shape, strides, ndim, e) : AS_OK;
    if (code == AS_OK && w->table->names.size + w->path.size >= MOST_NAMES) {
        code = too_large(w, e);
    }
    if (code == AS_OK && !as_utf8_valid(w->path.data, w->path.size)) {
        code = refuse(w, e, "its name is not UTF-8");
    }
    return code == AS_OK ? as_table_add_view(w->table, w->path.data, w->path.size, dtype->dtype,
                                             (int)ndim, shape, strides, v->storage, begin, end, e)
                         : code;
}

/* A value that is no tensor: metadata as text, or left out. */
static int add_value(walker *w, const as_pickle_value *v, as_error *e)
{
    char number[40];
    const char *text = number;
    size_t length;
    double real;
    switch (v->kind) {
    case AS_PICKLE_STRING:
        text = as_pickle_text(w->p, v);
        length = v->length;
        break;
    case AS_PICKLE_BOOL:
        text = v->number ? "true" : "false";
        length = strlen(text);
        break;
    case AS_PICKLE_INT:
        length = (size_t)snprintf(number, sizeof number, "%lld", (long long)v->number);
        break;
    case AS_PICKLE_FLOAT:
        memcpy(&real, &v->number, sizeof real);
        length = (size_t)snprintf(number, sizeof number, "%.17g", real);
        break;
    default:
        w->left_out++;
        return AS_OK;
    }
    if (!as_utf8_valid(text, length) || !as_utf8_valid(w->path.data, w->path.size)) {
        w->left_out++;
        return AS_OK;
    }
    w->metadata += length + w->path.size;
    if (w->metadata > MOST_METADATA) {
        return too_large(w, e);
    }
    w->table->has_metadata = true;
    return as_pairs_append(&w->table->metadata, w->path.data, w->path.size, text, length, e);
}

/* Puts the name of a member, or the number of an item, at the path's end. */
static int go_down(walker *w, const as_pickle_value *key, uint64_t index, as_error *e)
{
    int code = w->path.size > 0 ? as_buffer_char(&w->path, '.', e) : AS_OK;
    if (code != AS_OK) {
        return code;
    }
    if (!key) {
        return as_buffer_format(&w->path, e, "%llu", (unsigned long long)index);
    }
    if (key->kind == AS_PICKLE_INT) {
        return as_buffer_format(&w->path, e, "%lld", (long long)key->number);
    }
    if (key->kind == AS_PICKLE_STRING && w->path.size + key->length < MOST_NAMES) {
        return as_buffer_append(&w->path, as_pickle_text(w->p, key), key->length, e);
    }
    if (key->kind == AS_PICKLE_STRING) {
        return too_large(w, e);
    }
    return as_fail(e, AS_FORMAT, 0,
                   "%s: a dict has %s for a key, where strings and numbers are "
                   "understood",
                   file_of(w), as_pickle_kind_name(key->kind));
}

static int visit(walker *w, const as_pickle_value *v, as_error *e);

/* No deeper than MOST_LEVELS. */
/* NOLINTNEXTLINE(misc-no-recursion) */
static int visit_items(walker *w, const as_pickle_value *v, as_error *e)
{
    bool is_dict = v->kind == AS_PICKLE_DICT;
    size_t here = w->path.size;
    int code = AS_OK;
    if (++w->level > MOST_LEVELS) {
        return too_large(w, e);
    }
    uint64_t index = 0;
    for (uint32_t c = as_pickle_node_at(w->p, v->number)->first; c && code == AS_OK; index++) {
        const as_pickle_value *key = NULL;
        if (is_dict) {
            key = &as_pickle_cell_at(w->p, c)->value;
            c = as_pickle_cell_at(w->p, c)->next;
        }
        const as_pickle_cell *cell = as_pickle_cell_at(w->p, c);
        code = go_down(w, key, index, e);
        code = code == AS_OK ? visit(w, &cell->value, e) : code;
        w->path.size = here;
        c = cell->next;
    }
    w->level--;
    return code;
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int visit(walker *w, const as_pickle_value *v, as_error *e)
{
    if (++w->visits > MOST_VISITS) {
        return too_large(w, e);
    }
    switch (v->kind) {
    case AS_PICKLE_TENSOR:
        return add_tensor(w, as_pickle_tensor_at(w->p, v->number), e);
    case AS_PICKLE_TUPLE:
    case AS_PICKLE_LIST:
    case AS_PICKLE_DICT:
        return visit_items(w, v, e);
    default:
        return add_value(w, v, e);
    }
}

static void name_text(const void *list, size_t i, const char **text, size_t *length)
{
    const as_table *t = list;
    *text = as_table_name(t, i);
    *length = as_table_entry(t, i)->name_length;
}

/* Two tensors of one name: one of them would be lost. */
static int check_names(const walker *w, as_error *e)
{
    uint32_t *first;
    int code = as_repeats_find(w->table, as_table_count(w->table), name_text, &first, e);
    if (code != AS_OK || !first) {
        return code;
    }
    size_t i = 0;
    while (first[i] == i) {
        i++;
    }
    free(first);
    const as_entry *x = as_table_entry(w->table, i);
    return as_fail(e, AS_FORMAT, 0, "%s: two tensors have the name %s", file_of(w),
                   as_quote(as_table_name(w->table, i), x->name_length).text);
}

int as_torch_table(const as_pickle *p, const as_pickle_value *root, const as_storage *ranges,
                   as_table *out, const as_log *log, as_error *e)
{
    walker w = {.p = p, .ranges = ranges, .table = out};
    if (root->kind != AS_PICKLE_DICT && root->kind != AS_PICKLE_LIST &&
        root->kind != AS_PICKLE_TUPLE) {
        return as_fail(e, AS_FORMAT, 0, "%s: it holds %s, not a dict of tensors", p->source->name,
                       as_pickle_kind_name(root->kind));
    }
    int code =
        as_buffer_append(&out->storages, ranges, as_pickle_storage_count(p) * sizeof *ranges, e);
    code = code == AS_OK ? as_buffer_reserve(&w.path, 1, e) : code; /* never NULL */
    code = code == AS_OK ? visit(&w, root, e) : code;
    code = code == AS_OK ? check_names(&w, e) : code;
    code = code == AS_OK ? as_pairs_unique(&out->metadata, e) : code;
    code = code == AS_OK ? as_table_sort_views(out, e) : code;
    if (code == AS_OK && as_table_count(out) > 0) {
        out->data_begin = as_table_entry(out, 0)->begin;
    }
    if (code == AS_OK && w.left_out > 0) {
        as_log_say(
            log, AS_LOG_WARNING,
            "%s: %zu values that are neither tensors nor text nor plain numbers are left out",
            p->source->name, w.left_out);
    }
    as_buffer_free(&w.path);
    return code;
}
