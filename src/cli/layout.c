/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "tensor/dtype.h"

/* What is found out once about each tensor. */
typedef struct as_layout_mark {
    int32_t group;   /* WHOLE: the rank; PARALLEL: the pipeline stage */
    int32_t expert;  /* PARALLEL: the expert rank, −1 if it is no expert's */
    bool by_columns; /* PARALLEL: a matrix that T cuts by columns */
} as_layout_mark;

/* ------------------------------------------------------------------ reading */

static int bad_layout(const char *text, as_error *e)
{
    return as_fail(
        e, AS_INVALID, 0,
        "--layout is %s; it must be whole, replicated, fsdp, columns, flat, or factors such "
        "as tp=2,pp=4 out of tp, pp, dp and ep",
        as_quote(text, strlen(text)).text);
}

static const struct {
    const char *name;
    enum as_layout_kind kind;
} simple[] = {
    {"whole", AS_LAYOUT_WHOLE}, {"replicated", AS_LAYOUT_REPLICATED},
    {"fsdp", AS_LAYOUT_FSDP},   {"columns", AS_LAYOUT_COLUMNS},
    {"flat", AS_LAYOUT_FLAT},
};

/* The factor that `text` begins with, "tp=4"; *end is what follows. */
static bool read_factor(as_layout *l, const char *text, const char **end)
{
    const struct {
        const char *name;
        int *factor;
    } factors[] = {{"tp=", &l->tp}, {"pp=", &l->pp}, {"dp=", &l->dp}, {"ep=", &l->ep}};
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        if (strncmp(text, factors[i].name, 3) != 0) {
            continue;
        }
        int64_t value = 0;
        const char *digit = text + 3;
        for (; *digit >= '0' && *digit <= '9' && value <= INT32_MAX; digit++) {
            value = value * 10 + (*digit - '0');
        }
        if (value < 1 || value > INT32_MAX || *factors[i].factor != 0) {
            return false;
        }
        *factors[i].factor = (int)value;
        *end = digit;
        return true;
    }
    return false;
}

static int read_factors(as_layout *l, const char *text, bool planned, as_error *e)
{
    const char *at = text;
    for (bool more = true; more;) {
        if (!read_factor(l, at, &at) || (*at != '\0' && *at != ',')) {
            return bad_layout(text, e);
        }
        more = *at == ',';
        at += more;
    }
    int *factors[] = {&l->tp, &l->pp, &l->dp, &l->ep};
    int64_t product = 1;
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        *factors[i] = *factors[i] ? *factors[i] : 1;
        product = as_min_i64(product, INT32_MAX) * *factors[i];
    }
    if (product != l->ranks) {
        return as_fail(
            e, AS_INVALID, 0,
            "--layout %s is for %lld rank%s, the product of its factors, but there %s %d; "
            "%s %lld%s, or other factors",
            text, (long long)product, product == 1 ? "" : "s", l->ranks == 1 ? "is" : "are",
            l->ranks, planned ? "give --ranks" : "start", (long long)product,
            planned        ? ""
            : product == 1 ? " rank"
                           : " ranks");
    }
    return AS_OK;
}

static int parse(as_layout *out, const char *text, int ranks, bool planned, as_error *e)
{
    *out = (as_layout){.ranks = ranks};
    for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++) {
        if (strcmp(text, simple[i].name) == 0) {
            out->kind = simple[i].kind;
            return AS_OK;
        }
    }
    out->kind = AS_LAYOUT_PARALLEL;
    return read_factors(out, text, planned, e);
}

int as_layout_parse(as_layout *out, const char *text, int ranks, as_error *e)
{
    return parse(out, text, ranks, false, e);
}

int as_layout_plan(as_layout *out, const char *text, int ranks, as_error *e)
{
    return parse(out, text, ranks, true, e);
}

/* ------------------------------------------------------------------ fitting */

/* n mod `ranks` for the first "experts.<n>." in a name, −1 if there is none. */
static int32_t expert_rank(const char *name, int ranks)
{
    static const char word[] = "experts.";
    for (const char *at = strstr(name, word); at; at = strstr(at + 1, word)) {
        const char *digit = at + sizeof word - 1;
        int64_t rest = 0;
        bool any = false;
        for (; *digit >= '0' && *digit <= '9'; digit++) {
            rest = (rest * 10 + (*digit - '0')) % ranks;
            any = true;
        }
        if (any && *digit == '.') {
            return (int32_t)rest;
        }
    }
    return -1;
}

/* The group, of `groups`, whose share of the `total` weight holds the middle of what lies from
 * `before` to `before + own`: grows with `before`, so that groups are contiguous. */
static int32_t group_of(int64_t before, int64_t own, int64_t total, int groups)
{
    if (total <= 0) {
        return 0;
    }
    /* 2·before + own can pass 63 bits, times groups 64 bits; a double is exact enough to
     * balance, the same on every machine, and grows with its arguments. */
    double middle = (double)before + (double)own / 2;
    int64_t group = (int64_t)(middle / (double)total * groups);
    return (int32_t)as_max_i64(0, as_min_i64(group, groups - 1));
}

int as_layout_fit(as_layout *l, const as_tensors *t, as_error *e)
{
    size_t count = as_tensors_count(t);
    l->marks.size = 0;
    void *room = NULL;
    int code = as_buffer_extend(&l->marks, count * sizeof(as_layout_mark), &room, e);
    if (code != AS_OK || count == 0) {
        return code;
    }
    as_layout_mark *marks = room;
    int groups = l->kind == AS_LAYOUT_PARALLEL ? l->pp : l->ranks;
    int64_t before = 0;
    bool by_columns = false;
    for (size_t i = 0; i < count; i++) {
        const as_tensor_row *row = as_tensors_row(t, i);
        /* Where no tensor has bytes, tensors are balanced by number. */
        int32_t group = t->bytes > 0 ? group_of(before, row->bytes, t->bytes, groups)
                                     : group_of((int64_t)i, 1, (int64_t)count, groups);
        before += row->bytes;
        marks[i] = (as_layout_mark){.group = group, .expert = -1};
        if (l->kind == AS_LAYOUT_PARALLEL) {
            marks[i].expert = expert_rank(as_tensors_name(t, i), l->ep);
            marks[i].by_columns = row->ndim >= 2 && by_columns;
            by_columns = by_columns != (row->ndim >= 2);
        }
    }
    return AS_OK;
}

static const as_layout_mark *mark_of(const as_layout *l, size_t i)
{
    return (const as_layout_mark *)(const void *)l->marks.data + i;
}

int as_layout_owner(const as_layout *l, size_t i)
{
    return mark_of(l, i)->group;
}

int64_t as_layout_piece_count(const as_layout *l, const as_tensors *t)
{
    int64_t count = (int64_t)as_tensors_count(t);
    int64_t pieces = 0;
    if (l->kind == AS_LAYOUT_WHOLE) {
        return count;
    }
    if (l->kind != AS_LAYOUT_PARALLEL) {
        return as_mul_i64(count, l->ranks, &pieces) ? pieces : INT64_MAX;
    }
    /* No factor, and no product of them, is more than the number of ranks. */
    for (int64_t i = 0; i < count; i++) {
        int64_t holders = (int64_t)l->tp * l->dp;
        holders *= mark_of(l, (size_t)i)->expert >= 0 ? 1 : l->ep;
        if (!as_add_i64(pieces, holders, &pieces)) {
            return INT64_MAX;
        }
    }
    return pieces;
}

int64_t as_layout_held_count(const as_layout *l, const as_tensors *t)
{
    bool cut = l->kind == AS_LAYOUT_FSDP || l->kind == AS_LAYOUT_COLUMNS;
    if (!cut && l->kind != AS_LAYOUT_FLAT) {
        return as_layout_piece_count(l, t);
    }
    int64_t pieces = 0;
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        const as_tensor_row *row = as_tensors_row(t, i);
        const int64_t *shape = as_tensors_shape(t, i);
        int64_t parts = row->numel; /* of which no rank has less than one */
        if (cut && row->ndim > 0) {
            parts = l->kind == AS_LAYOUT_FSDP ? shape[0] : shape[row->ndim - 1];
        }
        if (!as_add_i64(pieces, as_max_i64(1, as_min_i64(parts, l->ranks)), &pieces)) {
            return INT64_MAX;
        }
    }
    return pieces;
}

/* The first tensor of a group `group` or later: groups are contiguous. */
static size_t group_begin(const as_layout *l, size_t count, int group)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mark_of(l, middle)->group < group) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void as_layout_range(const as_layout *l, const as_tensors *t, int rank, size_t *first, size_t *last)
{
    *first = 0;
    *last = as_tensors_count(t);
    if (l->kind == AS_LAYOUT_WHOLE || l->kind == AS_LAYOUT_PARALLEL) {
        int group = l->kind == AS_LAYOUT_WHOLE ? rank : rank / (l->dp * l->ep * l->tp);
        *first = group_begin(l, *last, group);
        *last = group_begin(l, *last, group + 1);
    }
}

void as_layout_free(as_layout *l)
{
    as_buffer_free(&l->marks);
    *l = AS_LAYOUT_INIT;
}

/* ------------------------------------------------------------------- pieces */

typedef struct as_range {
    int64_t begin;
    int64_t end;
} as_range;

/* The element where unit number `units` begins, n if that is past the end (or past 63 bits). */
static int64_t place_of(int64_t units, int64_t unit, int64_t n)
{
    int64_t place = 0;
    return as_mul_i64(units, unit, &place) ? as_min_i64(place, n) : n;
}

/* Chunk k of `parts` of n elements, cut at whole units: ceil(units/parts) units each. */
static as_range equal_chunk(int64_t n, int64_t unit, int64_t k, int64_t parts)
{
    int64_t chunk = as_ceil_div(as_ceil_div(n, unit), parts) * unit;
    return (as_range){place_of(k, chunk, n), place_of(k + 1, chunk, n)};
}

/* The same in balanced chunks: they differ by one unit at most. */
static as_range balanced_chunk(int64_t n, int64_t unit, int64_t k, int64_t parts)
{
    int64_t units = as_ceil_div(n, unit);
    int64_t share = units / parts;
    int64_t rest = units % parts;
    int64_t begin = k * share + as_min_i64(k, rest);
    int64_t end = begin + share + (k < rest);
    return (as_range){place_of(begin, unit, n), place_of(end, unit, n)};
}

static void whole_piece(const as_tensors *t, size_t i, as_layout_piece *out)
{
    const as_tensor_row *row = as_tensors_row(t, i);
    const int64_t *shape = as_tensors_shape(t, i);
    for (int d = 0; d < row->ndim; d++) {
        out->offset[d] = 0;
        out->shape[d] = shape[d];
    }
    out->bytes = row->bytes;
}

/* Narrows a whole piece in one dimension. */
static void cut_piece(const as_tensor_row *row, int dimension, as_range range, as_layout_piece *out)
{
    out->offset[dimension] = range.begin;
    out->shape[dimension] = range.end - range.begin;
    int64_t numel = 1;
    for (int d = 0; d < row->ndim; d++) {
        /* A part of what fits 63 bits: only a 0 further on can hide a product that does not. */
        if (out->shape[d] == 0 || !as_mul_i64(numel, out->shape[d], &numel)) {
            numel = 0;
            break;
        }
    }
    out->bytes = numel / as_dtype_group(row->dtype) * as_dtype_group_bytes(row->dtype);
}

/* Do the rows of the last dimension end at whole bytes? */
static bool rows_fill_bytes(const as_tensors *t, size_t i)
{
    const as_tensor_row *row = as_tensors_row(t, i);
    int group = as_dtype_group(row->dtype);
    return group == 1 || (row->ndim > 0 && as_tensors_shape(t, i)[row->ndim - 1] % group == 0);
}

static int64_t unit_of(const as_tensor_row *row, int dimension)
{
    return dimension == row->ndim - 1 ? as_dtype_group(row->dtype) : 1;
}

/* fsdp and columns: one dimension in equal chunks. */
static bool chunk_piece(const as_layout *l, const as_tensors *t, size_t i, int rank,
                        as_layout_piece *out)
{
    const as_tensor_row *row = as_tensors_row(t, i);
    if (row->ndim == 0 || !rows_fill_bytes(t, i)) {
        return rank == 0;
    }
    int dimension = l->kind == AS_LAYOUT_FSDP ? 0 : row->ndim - 1;
    cut_piece(row, dimension,
              equal_chunk(out->shape[dimension], unit_of(row, dimension), rank, l->ranks), out);
    return true;
}

static void flat_piece(const as_layout *l, const as_tensor_row *row, int rank, as_layout_piece *out)
{
    int group = as_dtype_group(row->dtype);
    as_range range = equal_chunk(row->numel, group, rank, l->ranks);
    out->flat = true;
    out->flat_offset = range.begin;
    out->flat_count = range.end - range.begin;
    out->bytes = out->flat_count / group * as_dtype_group_bytes(row->dtype);
}

static bool parallel_piece(const as_layout *l, const as_tensors *t, size_t i, int rank,
                           as_layout_piece *out)
{
    const as_layout_mark *mark = mark_of(l, i);
    const as_tensor_row *row = as_tensors_row(t, i);
    int stage = rank / (l->dp * l->ep * l->tp);
    int expert = rank / l->tp % l->ep;
    if (stage != mark->group || (mark->expert >= 0 && mark->expert != expert)) {
        return false;
    }
    if (row->ndim >= 2 && rows_fill_bytes(t, i)) {
        int dimension = mark->by_columns ? row->ndim - 1 : 0;
        int64_t n = out->shape[dimension];
        cut_piece(row, dimension, balanced_chunk(n, unit_of(row, dimension), rank % l->tp, l->tp),
                  out);
    }
    return true;
}

bool as_layout_get(const as_layout *l, const as_tensors *t, size_t i, int rank,
                   as_layout_piece *out)
{
    out->flat = false;
    whole_piece(t, i, out);
    switch (l->kind) {
    case AS_LAYOUT_WHOLE:
        return as_layout_owner(l, i) == rank;
    case AS_LAYOUT_FSDP:
    case AS_LAYOUT_COLUMNS:
        return chunk_piece(l, t, i, rank, out);
    case AS_LAYOUT_FLAT:
        flat_piece(l, as_tensors_row(t, i), rank, out);
        return true;
    case AS_LAYOUT_PARALLEL:
        return parallel_piece(l, t, i, rank, out);
    case AS_LAYOUT_REPLICATED:
        break;
    }
    return true;
}
