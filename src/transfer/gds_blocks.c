/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/gds_blocks.h"

#include <stdio.h>

#include "base/checked.h"
#include "base/clock.h"
#include "device/cuda_across.h"
#include "io/gds_move.h"
#include "transfer/clips.h"
#include "transfer/place.h"

/* Whole pages that a block must have: less is not worth a call of its own. */
enum { LEAST = 16 << 10 };

as_gds_blocks as_gds_blocks_begin(const as_transfer *t, as_engine *engine)
{
    as_gds_blocks g = {.transfer = t};
    if (t->gds) {
        g.engine = engine;
        if (t->gds->wish == AS_GDS_ASKED) {
            g.trial = as_gds_trial_won(AS_GDS_STRAIGHT);
        }
    }
    return g;
}

void as_gds_buffer_give(as_gds_buffer *b)
{
    if (b->device) {
        as_gds_give(b->device, b->number);
    }
    *b = (as_gds_buffer){0};
}

/* ---- which blocks ---- */

typedef struct looking {
    const as_transfer *transfer;
    const as_device *device; /* of all that were looked at */
    bool load;
    bool fits;
    int64_t bytes;
} looking;

static as_across across_of(const as_place *place, const as_clip *c)
{
    return (as_across){
        .geometry = &place->geometry, .memory = place->memory, .low = c->low, .high = c->high};
}

/* All of a box that this rank alone wants; saves have one holder in any case. */
static int look(void *user, const as_clip *c, as_error *e)
{
    looking *l = user;
    as_place place;
    l->bytes += as_clip_bytes(c);
    l->fits = l->fits && c->box.holders[0] == as_comm_rank(l->transfer->comm) &&
              (!l->load || c->box.holder_count == 1);
    if (!l->fits) {
        return AS_OK;
    }
    int code = as_place_find(l->transfer, c->box.holders[1], &place, e);
    if (code != AS_OK) {
        return code;
    }
    as_across across = across_of(&place, c);
    l->fits = !place.device->is_host && (!l->device || l->device == place.device) &&
              as_cuda_can_cross(place.device, &across);
    l->device = place.device;
    return AS_OK;
}

static bool long_enough(const as_block *block)
{
    int64_t low = as_ceil_div(block->low, AS_GDS_ALIGN) * AS_GDS_ALIGN;
    return block->high / AS_GDS_ALIGN * AS_GDS_ALIGN - low >= LEAST;
}

static as_gds_device *working(const as_gds *g, const as_device *device)
{
    for (int i = 0; device && i < g->count; i++) {
        if (g->devices[i].device == device && g->devices[i].works) {
            return &g->devices[i];
        }
    }
    return NULL;
}

/* *device: NULL if the block goes another way. */
static int choose(const as_gds_blocks *g, const as_block *block, as_gds_device **device,
                  as_error *e)
{
    const as_transfer *t = g->transfer;
    looking l = {.transfer = t, .load = t->filled != NULL, .fits = true};
    *device = NULL;
    if (!long_enough(block)) {
        return AS_OK;
    }
    int code = as_clips_each(t->plan, block, look, &l, e);
    /* A load's block may have bytes that nobody wants, and some that come into several pieces. */
    bool whole = l.load || l.bytes == block->high - block->low;
    if (code == AS_OK && l.fits && whole) {
        *device = working(t->gds, l.device);
    }
    return code;
}

static bool take_buffer(as_gds_device *device, const as_block *block, as_gds_buffer *out)
{
    as_cu_pointer first = as_gds_take(device, &out->number);
    if (!first) {
        return false;
    }
    out->device = device;
    out->where =
        (as_io_device){.context = device->context,
                       .base = device->area.base,
                       .at = (int64_t)(first - device->area.base) + block->low % AS_GDS_ALIGN};
    return true;
}

int as_gds_blocks_way(as_gds_blocks *g, const as_block *block, bool wait, enum as_gds_way *way,
                      bool *counts, as_gds_buffer *out, as_error *e)
{
    as_gds_device *device = NULL;
    *way = AS_GDS_BY_HOST;
    *counts = false;
    bool over = g->trial.decided && g->trial.winner == AS_GDS_BY_HOST;
    if (!g->engine || over || !as_gds_engine_on(g->engine)) {
        return AS_OK;
    }
    int code = choose(g, block, &device, e);
    if (code != AS_OK || !device) {
        return code;
    }
    enum as_gds_way chosen = as_gds_trial_way(&g->trial);
    if (chosen == AS_GDS_STRAIGHT && !take_buffer(device, block, out)) {
        chosen = wait ? AS_GDS_LATER : AS_GDS_BY_HOST;
        *way = chosen;
        return AS_OK; /* of the trial it is none: its time would be another's */
    }
    *way = chosen;
    if (chosen != AS_GDS_LATER && !g->trial.decided) {
        *counts = true;
        as_gds_trial_begin(&g->trial, block->high - block->low, as_clock());
    }
    return AS_OK;
}

void as_gds_blocks_ended(as_gds_blocks *g)
{
    if (!as_gds_trial_end(&g->trial, as_clock())) {
        return;
    }
    char text[AS_GDS_REASON];
    double straight = as_gds_trial_rate(&g->trial, AS_GDS_STRAIGHT);
    double host = as_gds_trial_rate(&g->trial, AS_GDS_BY_HOST);
    (void)snprintf(text, sizeof text, "in a trial it moved %.2f GB/s, the engine %s %.2f GB/s",
                   straight, as_gds_host_engine(g->transfer)->name, host);
    if (g->trial.winner == AS_GDS_STRAIGHT) {
        as_gds_engine_note(g->engine, text);
    } else {
        as_gds_engine_stop(g->engine, text);
    }
}

/* ---- their bytes ---- */

typedef struct crossing {
    const as_transfer *transfer;
    const as_block *block;
    as_cu_pointer first; /* place of the block's first byte */
    bool scatter;
    as_copies *copies;
} crossing;

static int cross(void *user, const as_clip *c, as_error *e)
{
    const crossing *x = user;
    as_place place;
    int code = as_place_find(x->transfer, c->box.holders[1], &place, e);
    if (code != AS_OK) {
        return code;
    }
    as_across across = across_of(&place, c);
    across.window = x->first + (as_cu_pointer)as_clip_place(c, x->block);
    across.to_piece = x->scatter;
    if (x->scatter) {
        x->transfer->filled[c->box.holders[1]] += as_clip_bytes(c);
    }
    return as_cuda_cross(place.device, &across, x->copies, e);
}

int as_gds_gather(const as_transfer *t, const as_block *block, const as_gds_buffer *b,
                  as_copies *copies, as_error *e)
{
    crossing x = {.transfer = t,
                  .block = block,
                  .first = b->where.base + (as_cu_pointer)b->where.at,
                  .copies = copies};
    return as_clips_each(t->plan, block, cross, &x, e);
}

int as_gds_scatter(const as_transfer *t, const as_block *block, const as_gds_buffer *b,
                   as_copies *copies, as_error *e)
{
    crossing x = {.transfer = t,
                  .block = block,
                  .first = b->where.base + (as_cu_pointer)b->where.at,
                  .scatter = true,
                  .copies = copies};
    return as_clips_each(t->plan, block, cross, &x, e);
}
