/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/fill.h"

#include <stdlib.h>

#include "base/checked.h"
#include "tensor/tiles.h"
#include "transfer/place.h"
#include "transfer/serve.h"

enum { LARGEST_REQUEST = 1 << 30 };

/* One box of a part, clipped to the block. */
typedef struct clip {
    as_part_box box;
    int64_t tensor_at; /* in the file */
    int64_t low;       /* in the tensor's line of bytes */
    int64_t high;
} clip;

static int64_t clip_bytes(const clip *c)
{
    return as_geometry_before(&c->box.geometry, c->high) -
           as_geometry_before(&c->box.geometry, c->low);
}

typedef int (*visit)(as_slot *slot, const as_transfer *t, const clip *c, void *user, as_error *e);

/* Calls `each` for all boxes of the block that have bytes in it. */
static int for_clips(as_slot *slot, const as_transfer *t, visit each, void *user, as_error *e)
{
    int code = AS_OK;
    for (size_t i = slot->block.first_part; i < slot->block.last_part && code == AS_OK; i++) {
        const as_part *part = as_plan_part(t->plan, i);
        as_words boxes = as_part_boxes(t->plan, part);
        clip c = {.tensor_at = part->tensor_at,
                  .low = as_max_i64(part->low, slot->block.low) - part->tensor_at,
                  .high = as_min_i64(part->high, slot->block.high) - part->tensor_at};
        for (int k = 0; k < part->box_count && code == AS_OK; k++) {
            code = as_part_box_take(&boxes, &c.box, e);
            if (code == AS_OK && clip_bytes(&c) > 0) {
                code = each(slot, t, &c, user, e);
            }
        }
    }
    return code;
}

static as_asked *asked_at(const as_slot *slot, size_t i)
{
    return (as_asked *)(void *)slot->asked.data + i;
}

static size_t asked_count(const as_slot *slot)
{
    return slot->asked.size / sizeof(as_asked);
}

/* The request to a rank; a new one begins with room for its head. */
static int request_to(as_slot *slot, int rank, as_asked **out, as_error *e)
{
    for (size_t i = 0; i < asked_count(slot); i++) {
        if (asked_at(slot, i)->rank == rank) {
            *out = asked_at(slot, i);
            return AS_OK;
        }
    }
    as_asked a = {.rank = rank};
    void *place;
    int code = as_buffer_extend(&a.request, sizeof(as_ask), &place, e);
    if (code == AS_OK) {
        code = as_buffer_append(&slot->asked, &a, sizeof a, e);
    }
    if (code != AS_OK) {
        as_buffer_free(&a.request);
        return code;
    }
    *out = asked_at(slot, asked_count(slot) - 1);
    return AS_OK;
}

/* What a block is made of. */
typedef struct tally {
    size_t own_boxes;
    int64_t bytes;
} tally;

/* Finds out, box by box, what must be asked for. */
static int collect(as_slot *slot, const as_transfer *t, const clip *c, void *user, as_error *e)
{
    tally *found = user;
    int rank = (int)c->box.holders[0];
    found->bytes += clip_bytes(c);
    if (rank == as_comm_rank(t->comm)) {
        found->own_boxes++;
        return AS_OK;
    }
    as_asked *a;
    int code = request_to(slot, rank, &a, e);
    if (code == AS_OK) {
        as_range range = {.piece = c->box.holders[1], .low = c->low, .high = c->high};
        a->bytes += clip_bytes(c);
        code = as_buffer_append(&a->request, &range, sizeof range, e);
    }
    return code;
}

static char *window_at(const as_slot *slot, const clip *c)
{
    return slot->window + (c->tensor_at + c->low - slot->block.low);
}

static int copy_own(as_slot *slot, const as_transfer *t, const clip *c, void *user, as_error *e)
{
    (void)user;
    if ((int)c->box.holders[0] != as_comm_rank(t->comm)) {
        return AS_OK;
    }
    as_place place;
    int code = as_place_find(t->state, t->plan, c->box.holders[1], &place, e);
    if (code != AS_OK) {
        return code;
    }
    return place.device->to_window(&place.geometry, place.memory, c->low, c->high,
                                   window_at(slot, c), e);
}

/* If the block is one run of this rank's memory it is written from there. */
static int find_direct(as_slot *slot, const as_transfer *t, const clip *c, void *user, as_error *e)
{
    char **direct = user;
    as_place place;
    int code = as_place_find(t->state, t->plan, c->box.holders[1], &place, e);
    if (code == AS_OK && clip_bytes(c) == slot->block.high - slot->block.low) {
        *direct = place.device->direct(&place.geometry, place.memory, c->low, c->high);
    }
    return code;
}

/* Receives are posted before requests go out. */
static int send_requests(as_slot *slot, const as_transfer *t, as_error *e)
{
    int tag = AS_TAG_ANSWER + slot->number;
    int64_t at = 0;
    int code = AS_OK;
    for (size_t i = 0; i < asked_count(slot); i++) {
        if (asked_at(slot, i)->request.size > LARGEST_REQUEST) {
            return as_fail(e, AS_LIMIT, 0,
                           "the block at offset %lld is made of more than %d pieces of rank %d: "
                           "save with smaller blocks",
                           (long long)slot->block.low, (int)(LARGEST_REQUEST / sizeof(as_range)),
                           asked_at(slot, i)->rank);
        }
    }
    for (size_t i = 0; i < asked_count(slot) && code == AS_OK; i++) {
        as_asked *a = asked_at(slot, i);
        *(as_ask *)(void *)a->request.data = (as_ask){.tag = tag, .bytes = a->bytes};
        a->at = at;
        at += a->bytes;
        code = as_comm_receive(t->comm, a->rank, tag, slot->packed + a->at, (size_t)a->bytes,
                               &a->answer, e);
        if (code == AS_OK) {
            code = as_comm_send(t->comm, a->rank, AS_TAG_ASK, a->request.data, a->request.size,
                                &a->sent, e);
        }
    }
    return code;
}

int as_slot_start(as_slot *slot, const as_transfer *t, const as_block *block, as_pool *pool,
                  as_error *e)
{
    slot->busy = true;
    slot->block = *block;
    tally found = {0};
    int code = for_clips(slot, t, collect, &found, e);
    char *direct = NULL;
    if (code == AS_OK && found.bytes != block->high - block->low) {
        return as_fail(e, AS_INTERNAL, 0, "the pieces of the block at offset %lld do not fill it",
                       (long long)block->low);
    }
    if (code == AS_OK && found.own_boxes == 1 && asked_count(slot) == 0) {
        code = for_clips(slot, t, find_direct, &direct, e);
    }
    slot->io.bytes = direct;
    if (code == AS_OK && !direct) {
        code = as_pool_take(pool, &slot->window, e);
    }
    if (code == AS_OK && asked_count(slot)) {
        code = as_pool_take(pool, &slot->packed, e);
    }
    if (code == AS_OK && ((!direct && !slot->window) || (asked_count(slot) && !slot->packed))) {
        return as_fail(e, AS_INTERNAL, 0, "a block was begun without buffers for it");
    }
    if (code == AS_OK && asked_count(slot)) {
        code = send_requests(slot, t, e);
    }
    if (code == AS_OK && !direct) {
        code = for_clips(slot, t, copy_own, NULL, e);
    }
    return code;
}

int as_slot_test(as_slot *slot, const as_transfer *t, bool *complete, as_error *e)
{
    *complete = true;
    for (size_t i = 0; i < asked_count(slot); i++) {
        as_asked *a = asked_at(slot, i);
        bool sent;
        bool answered;
        int code = as_comm_test(t->comm, &a->sent, &sent, e);
        if (code == AS_OK) {
            code = as_comm_test(t->comm, &a->answer, &answered, e);
        }
        if (code != AS_OK) {
            return code;
        }
        *complete = *complete && sent && answered;
    }
    return AS_OK;
}

/* Answers hold the ranges of a rank in the order in which they were asked for. */
static int unpack(as_slot *slot, const as_transfer *t, const clip *c, void *user, as_error *e)
{
    (void)user;
    int rank = (int)c->box.holders[0];
    as_asked *a;
    if (rank == as_comm_rank(t->comm)) {
        return AS_OK;
    }
    int code = request_to(slot, rank, &a, e);
    if (code == AS_OK) {
        as_tiles_packed_to_window(&c->box.geometry, slot->packed + a->at, c->low, c->high,
                                  window_at(slot, c));
        a->at += clip_bytes(c);
    }
    return code;
}

int as_slot_finish(as_slot *slot, const as_transfer *t, char **bytes, as_error *e)
{
    int code = asked_count(slot) ? for_clips(slot, t, unpack, NULL, e) : AS_OK;
    *bytes = slot->window ? slot->window : slot->io.bytes;
    return code;
}

void as_slot_clear(as_slot *slot, as_pool *pool)
{
    bool answering = false;
    for (size_t i = 0; i < asked_count(slot); i++) {
        as_asked *a = asked_at(slot, i);
        answering = answering || a->answer.active;
        if (!a->sent.active) {
            as_buffer_free(&a->request);
        }
    }
    as_buffer_free(&slot->asked);
    as_pool_give(pool, slot->window);
    as_pool_give(pool, answering ? NULL : slot->packed);
    slot->window = NULL;
    slot->packed = NULL;
    slot->file = NULL;
    slot->busy = false;
}
