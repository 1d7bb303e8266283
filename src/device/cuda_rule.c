/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_rule.h"

#include "base/checked.h"
#include "tensor/span.h"
#include "tensor/tiles.h"

/* Nanoseconds, of PCIe 5 devices and their hosts: for what is compared, their ratios count. */
static const double call_takes = 3000;
static const double row_takes = 2.6; /* of a 2D copy */
static const double byte_takes = 0.02;
static const double gather_takes = 1;   /* of a row, on the host, less its bytes */
static const double wait_takes = 20000; /* until a block has come, before it can go back */

/* To change others' bytes in a copy, and put them back as they were, has to pay. */
static const double worth_changing = 4;

bool as_cuda_rows_2d(const as_geometry *m, bool window, int64_t max_pitch)
{
    if (m->ndim < 2) {
        return false;
    }
    int64_t row = m->shape[m->ndim - 1];
    int64_t pitch = m->stride[m->ndim - 2];
    int64_t host_pitch = window ? m->global[m->ndim - 1] : row;
    return pitch >= row && pitch <= max_pitch && host_pitch <= max_pitch;
}

/* The range as it is looked at. */
typedef struct view {
    const as_geometry *m;
    const as_way_limits *limits;
    int64_t unit;
    int64_t from;
    int64_t to;
    int64_t row; /* bytes of one */
} view;

/* Do bytes [from, to) lie one after the other, in memory and on the host? *first: as many as one call
 * can move. */
static bool is_run(const view *v, int64_t to, int64_t *first)
{
    as_tiles walk = {.geometry = v->m, .at = v->from, .end = to};
    as_tile t;
    (void)as_tiles_next(&walk, &t);
    *first = t.length * t.count;
    bool on_host = !v->limits->window || t.place_step == t.length;
    return *first == to - v->from && (t.count == 1 || (t.memory_step == t.length && on_host));
}

static bool in_2d(const view *v)
{
    return as_cuda_rows_2d(v->m, v->limits->window, v->limits->max_pitch);
}

/* Copies that rows take, up to one or two. */
static int64_t calls_of(const view *v, int64_t to)
{
    int64_t first;
    int64_t bytes = to - v->from;
    if (is_run(v, to, &first)) {
        return 1;
    }
    if (!in_2d(v)) {
        return as_ceil_div(bytes, v->row);
    }
    /* What is not one run has a second dimension. */
    return first == bytes ? 1 : as_ceil_div(bytes, v->row * v->m->shape[v->m->ndim - 2]) + 1;
}

static as_way by_rows(const view *v)
{
    as_way w = {.kind = AS_WAY_ROWS, .to = v->to};
    if (v->to - v->from > v->limits->rows) {
        int64_t most = v->from + v->limits->rows;
        int64_t whole = most - most % v->row; /* rows */
        w.to = whole > v->from ? whole : most - most % v->unit;
    }
    return w;
}

static as_way by_block(const view *v)
{
    as_way w = {.kind = AS_WAY_BLOCK, .to = as_span_cut(v->m, v->from, v->to, v->limits->block)};
    w.to -= w.to % v->unit;
    as_span(v->m, v->from, w.to, &w.low, &w.high);
    w.whole = w.high - w.low == w.to - v->from && !as_span_overlaps(v->m);
    return w;
}

static as_way by_kernel(const view *v)
{
    int64_t most = v->limits->kernel - v->limits->kernel % v->unit;
    return (as_way){.kind = AS_WAY_KERNEL, .to = v->from + as_min_i64(most, v->to - v->from)};
}

static double rows_take(const view *v, const as_way *w)
{
    double bytes = (double)(w->to - v->from);
    double per_row = in_2d(v) ? row_takes : 0;
    return ((double)calls_of(v, w->to) * call_takes + bytes / (double)v->row * per_row) / bytes +
           byte_takes;
}

static double block_takes(const view *v, const as_way *w)
{
    double bytes = (double)(w->to - v->from);
    double block = (double)(w->high - w->low) * byte_takes + call_takes;
    double gather = bytes / (double)v->row * gather_takes;
    if (v->limits->writes && !w->whole) {
        return worth_changing * (2 * block + gather + wait_takes) / bytes;
    }
    return (block + gather) / bytes;
}

as_way as_cuda_way(const as_geometry *m, int64_t unit, int64_t from, int64_t to,
                   const as_way_limits *limits)
{
    view v = {.m = m,
              .limits = limits,
              .unit = unit,
              .from = from,
              .to = to,
              .row = m->shape[m->ndim - 1]};
    /* Where bytes share memory the last one counts, which the kernel does not keep to. */
    bool kernel = limits->kernel > 0 && !(limits->writes && as_span_overlaps(m));
    if (kernel && limits->is_cast) {
        return by_kernel(&v);
    }
    as_way rows = by_rows(&v);
    int64_t first;
    if (is_run(&v, rows.to, &first)) {
        return rows;
    }
    as_way block = by_block(&v);
    int64_t useful = block.to - from;
    int64_t span = block.high - block.low;
    int64_t calls = calls_of(&v, rows.to);
    bool shared = !limits->writes && useful / 2 >= span;
    if (v.row >= AS_WIDE_ROW && !shared &&
        (calls <= AS_FEW_CALLS || (rows.to - from) / calls >= AS_CALL_BYTES)) {
        return rows;
    }
    bool dense = limits->writes ? block.whole : useful >= span / 2;
    bool worth = block.to == to || useful >= as_min_i64(AS_CALL_BYTES, limits->block / 4);
    if (dense && worth && (v.row >= AS_NARROW_ROW || shared || !kernel)) {
        return block;
    }
    if (kernel) {
        return by_kernel(&v);
    }
    return rows_take(&v, &rows) <= block_takes(&v, &block) ? rows : block;
}
