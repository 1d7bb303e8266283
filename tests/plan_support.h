/* SPDX-License-Identifier: Apache-2.0
 * Random models, spread over any number of ranks in many ways, for tests of plans.
 */
#ifndef ALLSHARD_TESTS_PLAN_SUPPORT_H
#define ALLSHARD_TESTS_PLAN_SUPPORT_H

#include <time.h>

#include "box_support.h"
#include "format_support.h"
#include "format/safetensors.h"
#include "plan/simulate.h"

/* -------------------------------------------------------------------------------- models */

enum { MOST_TENSORS = 24, MOST_RANKS = 40 };

typedef struct test_tensor {
    char name[48];
    int dtype;
    int ndim;
    int64_t shape[4];
    int64_t bytes;
} test_tensor;

typedef struct test_model {
    test_tensor tensors[MOST_TENSORS];
    size_t count;
} test_model;

static inline void random_model(uint64_t *seed, test_model *m)
{
    static const char *const stems[] = {"model.layers", "lm_head", "é\"\\", "experts", "x"};
    m->count = (size_t)between(seed, 1, MOST_TENSORS);
    for (size_t i = 0; i < m->count; i++) {
        test_tensor *t = &m->tensors[i];
        (void)snprintf(t->name, sizeof t->name, "%s.%u.w%zu", stems[chance(seed) % 5],
                       (unsigned)(chance(seed) % 100), i);
        t->dtype = (int)between(seed, 1, AS_DTYPE_END - 1);
        t->ndim = (int)between(seed, as_dtype_group(t->dtype) > 1, 4);
        for (int d = 0; d < t->ndim; d++) {
            t->shape[d] = between(seed, between(seed, 0, 20) > 0, t->ndim > 2 ? 7 : 40);
        }
        if (as_dtype_group(t->dtype) > 1) {
            t->shape[t->ndim - 1] = 4 * between(seed, 1, 5); /* rows of whole bytes */
        }
        assert_int_equal(as_box_tensor_bytes(t->dtype, t->ndim, t->shape, &t->bytes, NULL), AS_OK);
    }
}

/* ---------------------------------------------------------------------------- the ranks */

typedef struct test_world {
    int ranks;
    as_state states[MOST_RANKS];
    as_planner planners[MOST_RANKS];
} test_world;

static inline void open_world(test_world *w, int ranks)
{
    memset(w, 0, sizeof *w);
    w->ranks = ranks;
    for (int r = 0; r < ranks; r++) {
        assert_int_equal(as_state_init(&w->states[r], "model", NULL), AS_OK);
    }
}

static inline void close_world(test_world *w)
{
    for (int r = 0; r < w->ranks; r++) {
        as_planner_free(&w->planners[r]);
        as_state_free(&w->states[r]);
    }
}

static inline void declare(test_world *w, int rank, const as_declaration *d)
{
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_state_add(&w->states[rank], d, &e), &e);
}

/* Piece [from, to) of dimension `dim`, the other dimensions whole. */
static inline void declare_cut(test_world *w, int rank, const test_tensor *t, int64_t order,
                               int dim, int64_t from, int64_t to)
{
    int64_t offset[4] = {0};
    int64_t local[4] = {0};
    memcpy(local, t->shape, sizeof local);
    if (t->ndim) {
        offset[dim] = from;
        local[dim] = to - from;
    }
    as_declaration d = {.name = t->name,
                        .order = order,
                        .box = {.dtype = t->dtype,
                                .ndim = t->ndim,
                                .shape = t->shape,
                                .offset = offset,
                                .local = local}};
    declare(w, rank, &d);
}

static inline void declare_whole(test_world *w, int rank, const test_tensor *t, int64_t order)
{
    declare_cut(w, rank, t, order, 0, 0, t->ndim ? t->shape[0] : 0);
}

static inline void declare_flat(test_world *w, int rank, const test_tensor *t, int64_t order,
                                int64_t from, int64_t to)
{
    as_declaration d = {.name = t->name,
                        .order = order,
                        .box = {.dtype = t->dtype,
                                .ndim = t->ndim,
                                .shape = t->shape,
                                .flat = true,
                                .flat_offset = from,
                                .flat_count = to - from}};
    declare(w, rank, &d);
}

enum spread {
    SPREAD_WHOLE,    /* one rank has it */
    SPREAD_REPLICAS, /* all have it */
    SPREAD_SOME,     /* some have it */
    SPREAD_ROWS,     /* dimension 0, equal chunks; the last ones short, empty or not declared */
    SPREAD_COLUMNS,  /* last dimension */
    SPREAD_MIDDLE,   /* some dimension */
    SPREAD_FLAT,     /* elements */
    SPREAD_GROUPS,   /* rows over a few ranks, replicated over the others */
    SPREAD_SLICES,   /* every rank has several slices */
    SPREAD_EXPERTS,  /* tensor i belongs to rank i mod ranks, some replicate it */
    SPREAD_KINDS
};

static inline int64_t cut_at(int64_t extent, int64_t unit, int64_t parts, int64_t k)
{
    int64_t chunk = (extent / unit + parts - 1) / parts * unit;
    return chunk * k < extent ? chunk * k : extent;
}

/* Cuts dimension `dim` into `parts`; rank r has part r mod parts. */
static inline void spread_cut(uint64_t *seed, test_world *w, const test_tensor *t, int64_t order,
                              int dim, int64_t parts)
{
    int64_t extent = t->ndim ? t->shape[dim] : 0;
    int64_t unit = dim == t->ndim - 1 ? as_dtype_group(t->dtype) : 1;
    for (int r = 0; r < w->ranks; r++) {
        int64_t from = t->ndim ? cut_at(extent, unit, parts, r % parts) : 0;
        int64_t to = t->ndim ? cut_at(extent, unit, parts, r % parts + 1) : 0;
        bool empty = t->ndim && from == to && extent > 0;
        if (!empty || between(seed, 0, 1)) {
            declare_cut(w, r, t, order, dim, from, to);
        }
    }
}

static inline void spread_tensor(uint64_t *seed, test_world *w, const test_tensor *t, size_t i,
                                 int64_t order, enum spread kind)
{
    int64_t numel = test_numel(t->shape, t->ndim);
    int64_t group = as_dtype_group(t->dtype);
    int last = t->ndim ? t->ndim - 1 : 0;
    int only = (int)between(seed, 0, w->ranks - 1);
    switch (kind) {
    case SPREAD_ROWS:
        spread_cut(seed, w, t, order, 0, w->ranks);
        break;
    case SPREAD_COLUMNS:
        spread_cut(seed, w, t, order, last, w->ranks);
        break;
    case SPREAD_MIDDLE:
        spread_cut(seed, w, t, order, (int)between(seed, 0, last), w->ranks);
        break;
    case SPREAD_GROUPS:
        spread_cut(seed, w, t, order, (int)between(seed, 0, last), between(seed, 1, w->ranks));
        break;
    case SPREAD_FLAT:
        for (int r = 0; r < w->ranks; r++) {
            declare_flat(w, r, t, order, cut_at(numel, group, w->ranks, r),
                         cut_at(numel, group, w->ranks, r + 1));
        }
        break;
    case SPREAD_SLICES:
        for (int64_t k = 0; k < 3 * w->ranks; k++) {
            int64_t unit = last == 0 ? group : 1;
            if (t->ndim) {
                declare_cut(w, (int)(k % w->ranks), t, order, 0,
                            cut_at(t->shape[0], unit, 3 * w->ranks, k),
                            cut_at(t->shape[0], unit, 3 * w->ranks, k + 1));
            } else if (k < w->ranks) {
                declare_whole(w, (int)k, t, order);
            }
        }
        break;
    default:
        for (int r = 0; r < w->ranks; r++) {
            bool has = kind == SPREAD_REPLICAS || r == only ||
                       (kind == SPREAD_SOME && between(seed, 0, 1)) ||
                       (kind == SPREAD_EXPERTS && r == (int)(i % (size_t)w->ranks));
            if (kind == SPREAD_EXPERTS && r == only && between(seed, 0, 1) && w->ranks > 1) {
                has = r == (int)(i % (size_t)w->ranks);
            }
            if (has) {
                declare_whole(w, r, t, order);
            }
        }
        break;
    }
}

/* All tensors; each in another way if kind is SPREAD_KINDS. Ranks declare in an order of their
 * own, with the place in the model as order key. */
static inline void spread_model(uint64_t *seed, test_world *w, const test_model *m,
                                enum spread kind)
{
    size_t step = m->count % 7 ? 7 : 1;
    for (size_t k = 0; k < m->count; k++) {
        size_t i = k * step % m->count;
        enum spread how =
            kind == SPREAD_KINDS ? (enum spread)between(seed, 0, SPREAD_KINDS - 1) : kind;
        spread_tensor(seed, w, &m->tensors[i], i, 3 * (int64_t)i + 1, how);
    }
}

/* ----------------------------------------------------------------------------- planning */

static inline as_save_request save_request(int64_t limit, int64_t block_bytes)
{
    return (as_save_request){.limit = limit,
                             .pattern = "model{suffix}.safetensors",
                             .format = &as_format_safetensors,
                             .block_bytes = block_bytes};
}

static inline int plan_save(test_world *w, const as_save_request *request, as_error *e)
{
    for (int r = 0; r < w->ranks; r++) {
        assert_int_equal(as_planner_save(&w->planners[r], r, w->ranks, &w->states[r], request, e),
                         AS_OK);
    }
    return as_simulate_planners(w->planners, w->ranks, e);
}

/* The save must fail with that code, and the text must hold all parts (up to a NULL). */
static inline void expect_save_error(test_world *w, const as_save_request *request, int code,
                                     const char *const *parts)
{
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(code, plan_save(w, request, &e), &e);
    for (; *parts; parts++) {
        if (!strstr(as_error_text(&e), *parts)) {
            fail_msg("\"%s\" is not in: %s", *parts, as_error_text(&e));
        }
    }
    assert_null(strpbrk(as_error_text(&e), "\001\002"));
    as_error_clear(&e);
}

/* --------------------------------------------------------------------- headers in memory */

/* The header's bytes of a file, and nothing behind them. */
static inline int read_header(const struct as_source *source, uint64_t offset, void *bytes,
                              size_t count, as_error *e)
{
    (void)e;
    const as_plan_literal *l = source->self;
    assert_true(offset + count <= (uint64_t)l->size);
    memcpy(bytes, l->bytes + offset, count);
    return AS_OK;
}

/* The table of a planned file, read back from the header that some rank has built. */
static inline void read_table(const test_world *w, int32_t file, as_table *out)
{
    const as_plan *first = &w->planners[0].plan;
    const as_plan_literal *header = NULL;
    for (int r = 0; r < w->ranks; r++) {
        const as_plan *p = &w->planners[r].plan;
        for (size_t i = 0; i < p->literals.size / sizeof(as_plan_literal); i++) {
            const as_plan_literal *l = as_plan_literal_at(p, i);
            if (l->file == file) {
                assert_null(header);
                header = l;
            }
        }
    }
    assert_non_null(header);
    as_source source = {.read = read_header,
                        .self = header,
                        .name = "planned",
                        .size = (uint64_t)first->file_size[file]};
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_format_safetensors.read(&source, out, NULL, &e), &e);
}

#endif
