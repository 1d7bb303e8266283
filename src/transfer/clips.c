/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/clips.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/copy_away.h"
#include "transfer/place.h"

enum { TILE = 128 << 10 /* is still in the cache of any core when it is hashed */ };

int64_t as_clip_bytes(const as_clip *c)
{
    return as_geometry_before(&c->box.geometry, c->high) -
           as_geometry_before(&c->box.geometry, c->low);
}

int as_clips_each(const as_plan *plan, const as_block *block,
                  int (*each)(void *user, const as_clip *c, as_error *e), void *user, as_error *e)
{
    int code = AS_OK;
    for (size_t i = block->first_part; i < block->last_part && code == AS_OK; i++) {
        const as_part *part = as_plan_part(plan, i);
        as_words boxes = as_part_boxes(plan, part);
        as_clip c = {.tensor_at = part->tensor_at,
                     .low = as_max_i64(part->low, block->low) - part->tensor_at,
                     .high = as_min_i64(part->high, block->high) - part->tensor_at,
                     .alone = part->box_count == 1};
        for (int k = 0; k < part->box_count && code == AS_OK; k++) {
            code = as_part_box_take(&boxes, &c.box, e);
            if (code == AS_OK && c.low < c.high && as_clip_bytes(&c) > 0) {
                code = each(user, &c, e);
            }
        }
    }
    return code;
}

/* ---- whose ---- */

typedef struct ownership {
    const as_transfer *transfer;
    as_whose whose;
    int64_t bytes;
} ownership;

static int look(void *user, const as_clip *c, as_error *e)
{
    (void)e;
    ownership *o = user;
    const as_transfer *t = o->transfer;
    int rank = (int)c->box.holders[0];
    int64_t bytes = as_clip_bytes(c);
    bool own = rank == as_comm_rank(t->comm);
    o->whose.own = o->whose.own && own;
    o->whose.on_device = o->whose.on_device || (own && as_place_on_device(t, c->box.holders[1]));
    o->whose.direct =
        o->whose.direct && bytes == c->high - c->low && (own || as_arena_of(t->ring, rank) != NULL);
    o->bytes += bytes;
    return AS_OK;
}

int as_clips_check(const as_block *block, int64_t bytes, as_error *e)
{
    return bytes == block->high - block->low
               ? AS_OK
               : as_fail(e, AS_INTERNAL, 0, "the pieces of the block at offset %lld do not fill it",
                         (long long)block->low);
}

int as_clips_whose(const as_transfer *t, const as_block *block, as_whose *out, as_error *e)
{
    ownership o = {.transfer = t, .whose = {.own = true, .direct = t->ring != NULL}};
    int code = as_clips_each(t->plan, block, look, &o, e);
    *out = o.whose;
    return code == AS_OK ? as_clips_check(block, o.bytes, e) : code;
}

/* ---- copies ---- */

typedef struct copying {
    const as_transfer *transfer;
    const as_block *block;
    const char *window; /* of others' bytes */
    char *to;
    bool keep; /* nobody looks at them soon */
    as_copies *copies;
    as_checksum_stream *hash;
    int64_t *hashing;
} copying;

static int copy_own(void *user, const as_clip *c, as_error *e)
{
    const copying *own = user;
    const as_transfer *t = own->transfer;
    if ((int)c->box.holders[0] != as_comm_rank(t->comm)) {
        return AS_OK;
    }
    as_place place;
    int code = as_place_find(t, c->box.holders[1], &place, e);
    char *to = own->to + as_clip_place(c, own->block);
    if (own->keep && code == AS_OK) {
        return as_place_keep(&place, c->low, c->high, to, own->copies, e);
    }
    /* Without a checksum there is nothing to come back to a tile for. */
    int64_t step = own->hash ? TILE : c->high - c->low;
    for (int64_t low = c->low; low < c->high && code == AS_OK; low += step, to += step) {
        int64_t high = as_min_i64(low + step, c->high);
        code = place.device->to_window(place.device, &place.geometry, place.memory, low, high, to,
                                       own->copies, e);
        if (own->hash) {
            int64_t begin = as_clock();
            as_checksum_add(own->hash, to, (size_t)(high - low));
            *own->hashing += as_clock() - begin;
        }
    }
    return code;
}

int as_clips_copy_own(const as_transfer *t, const as_block *block, char *to, as_copies *copies,
                      as_checksum_stream *hash, int64_t *hashing, as_error *e)
{
    copying own = {.transfer = t, .block = block, .copies = copies, .hash = hash};
    own.to = to;
    own.hashing = hashing;
    return as_clips_each(t->plan, block, copy_own, &own, e);
}

int as_clips_keep_own(const as_transfer *t, const as_block *block, char *to, as_copies *copies,
                      as_error *e)
{
    copying own = {.transfer = t, .block = block, .keep = true, .copies = copies};
    own.to = to;
    return as_clips_each(t->plan, block, copy_own, &own, e);
}

static int keep_other(void *user, const as_clip *c, as_error *e)
{
    (void)e;
    const copying *others = user;
    if ((int)c->box.holders[0] != as_comm_rank(others->transfer->comm)) {
        int64_t at = as_clip_place(c, others->block);
        as_copy_away(others->to + at, others->window + at, (size_t)(c->high - c->low));
    }
    return AS_OK;
}

int as_clips_keep_others(const as_transfer *t, const as_block *block, const char *window, char *to,
                         as_error *e)
{
    copying others = {.transfer = t, .block = block, .window = window};
    others.to = to;
    return as_clips_each(t->plan, block, keep_other, &others, e);
}
