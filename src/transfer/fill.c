/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/fill.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/copy_away.h"
#include "tensor/tiles.h"
#include "transfer/buffers.h"
#include "transfer/clips.h"
#include "transfer/copying.h"
#include "transfer/place.h"
#include "transfer/serve.h"

enum { LARGEST_REQUEST = 1 << 30 };

/* A range that another rank holds. */
typedef struct wanted {
    int rank;
    size_t order; /* as found: a rank's ranges keep the file's order */
    int64_t bytes;
    as_range range;
} wanted;

static as_asked *asked_at(const as_slot *slot, size_t i)
{
    return (as_asked *)(void *)slot->asked.data + i;
}

static size_t asked_count(const as_slot *slot)
{
    return slot->asked.size / sizeof(as_asked);
}

/* ---- what a block is made of ---- */

typedef struct make {
    as_slot *slot;
    as_filler *filler;
    size_t own_boxes;
    int64_t own_bytes;
    int64_t bytes;
    bool in_order;  /* own bytes come one after the other, as in the file */
    bool in_runs;   /* what each rank gives of a part is one run */
    bool on_device; /* some own bytes are */
} make;

/* Finds out, box by box, what must be asked for. */
static int collect(void *user, const as_clip *c, as_error *e)
{
    make *found = user;
    as_filler *f = found->filler;
    int64_t bytes = as_clip_bytes(c);
    found->bytes += bytes;
    found->in_order = found->in_order && c->alone;
    found->in_runs = found->in_runs && bytes == c->high - c->low;
    if ((int)c->box.holders[0] == as_comm_rank(f->transfer->comm)) {
        found->own_boxes++;
        found->own_bytes += bytes;
        found->on_device = found->on_device || as_place_on_device(f->transfer, c->box.holders[1]);
        return AS_OK;
    }
    wanted w = {
        .rank = (int)c->box.holders[0],
        .order = f->list.size / sizeof w,
        .bytes = bytes,
        .range = {.piece = c->box.holders[1],
                  .low = c->low,
                  .high = c->high,
                  .at = as_clip_place(c, &found->slot->block)},
    };
    return as_buffer_append(&f->list, &w, sizeof w, e);
}

static int compare_wanted(const void *a, const void *b)
{
    const wanted *x = a;
    const wanted *y = b;
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return (x->order > y->order) - (x->order < y->order);
}

/* Makes a request for each rank of the list. */
static int make_requests(as_slot *slot, as_filler *f, as_error *e)
{
    const as_transfer *t = f->transfer;
    size_t count = f->list.size / sizeof(wanted);
    wanted *all = (wanted *)(void *)f->list.data;
    if (count > 1) {
        qsort(all, count, sizeof *all, compare_wanted);
    }
    int64_t packed = 0;
    int code = AS_OK;
    for (size_t i = 0, end; i < count && code == AS_OK; i = end) {
        as_asked a = {.rank = all[i].rank,
                      .near = slot->direct || as_arena_of(t->arena, all[i].rank) != NULL,
                      .request_at = slot->requests.size,
                      .at = packed};
        void *head;
        code = as_buffer_extend(&slot->requests, sizeof(as_ask), &head, e);
        for (end = i; end < count && all[end].rank == a.rank && code == AS_OK; end++) {
            a.bytes += all[end].bytes;
            code = as_buffer_append(&slot->requests, &all[end].range, sizeof all[end].range, e);
        }
        a.request_size = slot->requests.size - a.request_at;
        packed += a.near ? 0 : a.bytes;
        if (code == AS_OK && a.request_size > LARGEST_REQUEST) {
            code = as_fail(e, AS_LIMIT, 0,
                           "the block at offset %lld is made of more than %d pieces of rank %d: "
                           "save with smaller blocks",
                           (long long)slot->block.low, (int)(LARGEST_REQUEST / sizeof(as_range)),
                           a.rank);
        }
        if (code == AS_OK) {
            code = as_buffer_append(&slot->asked, &a, sizeof a, e);
        }
    }
    if (code == AS_OK && packed > 0) {
        slot->packed = as_pool_take(&f->pool);
        code =
            slot->packed ? AS_OK : as_fail(e, AS_INTERNAL, 0, "a block was begun without a buffer");
    }
    if (code != AS_OK) {
        slot->asked.size = 0; /* nothing was sent */
    }
    return code;
}

/* Receives are posted before requests go out. */
static int send_requests(as_slot *slot, const as_transfer *t, as_error *e)
{
    int tag = AS_TAG_ANSWER + slot->number;
    int64_t window = slot->bytes - as_arena_base(slot->direct ? t->ring : t->arena);
    int code = AS_OK;
    for (size_t i = 0; i < asked_count(slot) && code == AS_OK; i++) {
        as_asked *a = asked_at(slot, i);
        char *request = slot->requests.data + a->request_at;
        as_ask head = {
            .tag = tag, .bytes = a->bytes, .window = a->near ? window : -1, .ring = slot->direct};
        memcpy(request, &head, sizeof head);
        code = as_comm_receive(t->comm, a->rank, tag, a->near ? NULL : slot->packed + a->at,
                               a->near ? 0 : (size_t)a->bytes, &a->answer, e);
        if (code == AS_OK) {
            code =
                as_comm_send(t->comm, a->rank, AS_TAG_ASK, request, a->request_size, &a->sent, e);
            t->meter->tally.messages++;
        }
    }
    return code;
}

/* ---- this rank's own bytes ---- */

static int copy_all_own(as_slot *slot, const make *found, as_error *e)
{
    as_filler *f = found->filler;
    const as_transfer *t = f->transfer;
    int64_t begin = as_clock();
    int64_t hashing = 0;
    bool hash = f->sum && found->in_order && asked_count(slot) == 0 && !found->on_device;
    int code;
    if (slot->direct || (slot->place && slot->in_runs)) {
        code = as_clips_keep_own(t, &slot->block, slot->place, &slot->copies, e);
    } else {
        if (hash) {
            as_checksum_begin(f->sum);
        }
        code = as_clips_copy_own(t, &slot->block, slot->bytes, &slot->copies, hash ? f->sum : NULL,
                                 &hashing, e);
        if (hash && code == AS_OK) {
            slot->sum = as_checksum_end(f->sum);
            slot->summed = true;
        }
    }
    (void)as_meter_end(t->meter, "copy", begin, found->own_bytes, &t->meter->tally.copy);
    t->meter->tally.checksum += hashing;
    t->meter->tally.copy -= hashing;
    return code;
}

/* If the block is one run of this rank's memory it is written from there. */
static int find_direct(void *user, const as_clip *c, as_error *e)
{
    make *found = user;
    as_slot *slot = found->slot;
    const as_transfer *t = found->filler->transfer;
    as_place place;
    int code = as_place_find(t, c->box.holders[1], &place, e);
    if (code == AS_OK && as_clip_bytes(c) == slot->block.high - slot->block.low) {
        char *bytes = place.device->direct(&place.geometry, place.memory, c->low, c->high);
        slot->bytes = bytes && as_transfer_congruent(t, bytes, slot->block.low) ? bytes : NULL;
    }
    return code;
}

/* ---- a slot's life ---- */

/* Where in its window a block of the file begins. */
static int64_t shift_of(const as_filler *f, int64_t low)
{
    return low % (f->unit % AS_POOL_PAGE == 0 ? AS_POOL_PAGE : f->unit);
}

int as_slot_start(as_slot *slot, as_filler *f, const as_block *block, as_error *e)
{
    slot->busy = true;
    slot->block = *block;
    f->list.size = 0;
    make found = {.slot = slot, .filler = f, .in_order = true, .in_runs = true};
    int code = as_clips_each(f->transfer->plan, block, collect, &found, e);
    if (code == AS_OK) {
        code = as_clips_check(block, found.bytes, e);
    }
    slot->in_runs = found.in_runs;
    if (code == AS_OK && !slot->place && found.own_boxes == 1 && f->list.size == 0) {
        code = as_clips_each(f->transfer->plan, block, find_direct, &found, e);
        if (code != AS_OK || slot->bytes) {
            f->transfer->meter->tally.bytes_direct += slot->bytes ? found.bytes : 0;
            return code;
        }
    }
    if (code == AS_OK && !slot->direct) {
        slot->window = as_pool_take(&f->pool);
        code =
            slot->window ? AS_OK : as_fail(e, AS_INTERNAL, 0, "a block was begun without a buffer");
    }
    if (code == AS_OK && f->list.size) {
        code = make_requests(slot, f, e);
    }
    if (code != AS_OK) {
        return code;
    }
    /* Addresses in windows are offsets in the file, modulo a page. */
    slot->bytes = slot->direct ? slot->place : slot->window + shift_of(f, block->low);
    code = send_requests(slot, f->transfer, e);
    return code == AS_OK && found.own_boxes ? copy_all_own(slot, &found, e) : code;
}

int as_slot_test(as_slot *slot, const as_transfer *t, bool *complete, as_error *e)
{
    *complete = true;
    int code = AS_OK;
    for (size_t i = 0; i < asked_count(slot) && *complete && code == AS_OK; i++) {
        as_asked *a = asked_at(slot, i);
        code = as_comm_test(t->comm, &a->answer, complete, e);
        if (code == AS_OK && *complete) {
            code = as_comm_test(t->comm, &a->sent, complete, e);
        }
    }
    *complete = *complete && slot->copies.under_way == 0;
    return code;
}

static int compare_asked(const void *key, const void *element)
{
    int rank = *(const int *)key;
    const as_asked *a = element;
    return (rank > a->rank) - (rank < a->rank);
}

/* Answers hold the ranges of a rank in the order in which they were asked for. */
static int unpack(void *user, const as_clip *c, as_error *e)
{
    (void)e;
    as_slot *slot = user;
    int rank = (int)c->box.holders[0];
    as_asked *a = bsearch(&rank, slot->asked.data, asked_count(slot), sizeof *a, compare_asked);
    if (a && !a->near) {
        as_tiles_packed_to_window(&c->box.geometry, slot->packed + a->at, c->low, c->high,
                                  slot->bytes + as_clip_place(c, &slot->block));
        a->at += as_clip_bytes(c);
    }
    return AS_OK;
}

/* From the window to where the block is to be. */
static int settle(as_slot *slot, const as_transfer *t, as_error *e)
{
    size_t size = (size_t)(slot->block.high - slot->block.low);
    int code = AS_OK;
    if (slot->in_runs) {
        code = as_clips_keep_others(t, &slot->block, slot->bytes, slot->place, e);
    } else {
        as_copy_away(slot->place, slot->bytes, size);
    }
    slot->bytes = slot->place;
    return code;
}

int as_slot_finish(as_slot *slot, as_filler *f, as_error *e)
{
    as_meter *m = f->transfer->meter;
    int64_t size = slot->block.high - slot->block.low;
    int64_t begin = as_clock();
    int code = as_copying_check(f->transfer, &slot->copies, e);
    /* What near ranks wrote into the window before their (empty) messages left is seen from here
     * on: this pairs with the release fence of the server. MPI passes data between processes, but
     * promises nothing about memory that it does not know of. */
    atomic_thread_fence(memory_order_acquire);
    if (slot->packed && code == AS_OK) {
        code = as_clips_each(f->transfer->plan, &slot->block, unpack, slot, e);
        begin = as_meter_end(m, "copy", begin, size, &m->tally.copy);
    }
    if (slot->place && !slot->direct && code == AS_OK) {
        code = settle(slot, f->transfer, e);
        begin = as_meter_end(m, "copy", begin, size, &m->tally.copy);
    }
    if (f->sum && !slot->summed && code == AS_OK) {
        slot->sum = as_checksum(slot->bytes, (size_t)size);
        slot->summed = true;
        (void)as_meter_end(m, "hash", begin, size, &m->tally.checksum);
    }
    if (f->sum && code == AS_OK) {
        as_block_sum sum = {.file = slot->block.file,
                            .block = slot->block.low / f->transfer->plan->block_bytes,
                            .sum = slot->sum};
        m->tally.bytes_checksum += size;
        code = as_buffer_append(f->transfer->checksums, &sum, sizeof sum, e);
    }
    return code;
}

void as_slot_clear(as_slot *slot, as_filler *f)
{
    bool asking = false;
    for (size_t i = 0; i < asked_count(slot); i++) {
        const as_asked *a = asked_at(slot, i);
        asking = asking || a->sent.active || a->answer.active;
    }
    if (!asking) {
        slot->requests.size = 0;
        slot->asked.size = 0;
        as_pool_give(&f->pool, slot->window);
        as_pool_give(&f->pool, slot->packed);
    } else {
        as_comm_leave(f->transfer->comm, slot->requests.data);
        slot->requests = AS_BUFFER_INIT;
        slot->asked.size = 0;
    }
    as_buffer requests = slot->requests;
    as_buffer asked = slot->asked;
    *slot = (as_slot){.number = slot->number, .requests = requests, .asked = asked};
}
