/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/deliver.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "tensor/tiles.h"
#include "transfer/buffers.h"
#include "transfer/place.h"

/* A range of another rank's piece that lies in the block. */
typedef struct wanted {
    int rank;
    size_t order; /* as found, so that a receiver's ranges keep the file's order */
    as_range range;
    int64_t bytes;
    const int64_t *words; /* of the box, in the plan */
} wanted;

struct as_delivery {
    const as_transfer *transfer;
    as_block block;
    const char *window;
    as_copies *copies;
    as_buffer list; /* wanted[], sorted by receiver */
    size_t next;
    int64_t own_bytes;
};

void as_delivery_direct(const as_transfer *t, const as_block *block, char **bytes, int64_t *piece)
{
    const as_part *part = as_plan_part(t->plan, block->first_part);
    as_words boxes = as_part_boxes(t->plan, part);
    as_part_box box;
    as_place place;
    if (block->last_part - block->first_part != 1 || part->box_count != 1 ||
        part->low > block->low || part->high < block->high ||
        as_part_box_take(&boxes, &box, NULL) != AS_OK || box.holder_count != 1 ||
        box.holders[0] != as_comm_rank(t->comm) ||
        as_place_find(t, box.holders[1], &place, NULL) != AS_OK) {
        return;
    }
    char *direct = place.device->direct(&place.geometry, place.memory, block->low - part->tensor_at,
                                        block->high - part->tensor_at);
    if (direct && as_transfer_congruent(t, direct, block->low)) {
        *piece = box.holders[1];
        *bytes = direct;
    }
}

static int own(as_delivery *d, const as_range *range, int64_t bytes, as_error *e)
{
    as_place place;
    int code = as_place_find(d->transfer, range->piece, &place, e);
    if (code != AS_OK) {
        return code;
    }
    const char *window = d->window + range->at;
    d->own_bytes += bytes;
    d->transfer->filled[range->piece] += bytes;
    return place.device->from_window(place.device, &place.geometry, place.memory, range->low,
                                     range->high, window, d->copies, e);
}

/* One box: into own memory, or onto the list. */
static int sort_box(as_delivery *d, const as_part *part, const int64_t *words,
                    const as_part_box *box, int64_t low, int64_t high, as_error *e)
{
    int64_t bytes =
        as_geometry_before(&box->geometry, high) - as_geometry_before(&box->geometry, low);
    int code = AS_OK;
    for (size_t h = 0; bytes > 0 && h < box->holder_count && code == AS_OK; h++) {
        as_range range = {.piece = box->holders[2 * h + 1],
                          .low = low,
                          .high = high,
                          .at = part->tensor_at + low - d->block.low};
        int rank = (int)box->holders[2 * h];
        if (rank == as_comm_rank(d->transfer->comm)) {
            code = own(d, &range, bytes, e);
            continue;
        }
        wanted w = {.rank = rank,
                    .order = d->list.size / sizeof w,
                    .range = range,
                    .bytes = bytes,
                    .words = words};
        code = as_buffer_append(&d->list, &w, sizeof w, e);
    }
    return code;
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

int as_delivery_open(as_delivery **out, const as_transfer *t, const as_block *block,
                     const char *window, as_copies *copies, as_error *e)
{
    as_delivery *d = calloc(1, sizeof *d);
    if (!d) {
        return as_fail_nomem(e);
    }
    *d = (as_delivery){.transfer = t, .block = *block, .window = window, .copies = copies};
    int64_t begin = as_clock();
    int code = AS_OK;
    for (size_t i = block->first_part; i < block->last_part && code == AS_OK; i++) {
        const as_part *part = as_plan_part(t->plan, i);
        int64_t low = as_max_i64(part->low, block->low) - part->tensor_at;
        int64_t high = as_min_i64(part->high, block->high) - part->tensor_at;
        as_words boxes = as_part_boxes(t->plan, part);
        for (int k = 0; k < part->box_count && code == AS_OK; k++) {
            const int64_t *words = boxes.at;
            as_part_box box;
            code = as_part_box_take(&boxes, &box, e);
            if (code == AS_OK) {
                code = sort_box(d, part, words, &box, low, high, e);
            }
        }
    }
    if (d->own_bytes) {
        (void)as_meter_end(t->meter, "copy", begin, d->own_bytes, &t->meter->tally.copy);
    }
    if (code != AS_OK) {
        as_delivery_close(d);
        return code;
    }
    if (d->list.size) {
        qsort(d->list.data, d->list.size / sizeof(wanted), sizeof(wanted), compare_wanted);
    }
    *out = d;
    return AS_OK;
}

/* How many ranges, from the next one on, fit into one parcel to one rank. */
static size_t parcel_end(const as_delivery *d, bool near, int64_t *bytes)
{
    const wanted *all = (const wanted *)(const void *)d->list.data;
    size_t count = d->list.size / sizeof *all;
    size_t end = d->next;
    *bytes = 0;
    /* Replicas on one rank can want the bytes of a block several times over. */
    while (end < count && all[end].rank == all[d->next].rank && end - d->next < AS_PARCEL_RANGES &&
           (near || *bytes + all[end].bytes <= d->transfer->plan->block_bytes)) {
        *bytes += all[end++].bytes;
    }
    return end;
}

/* Packs the next range, whose place in the message is `packed`. */
static int pack(const as_delivery *d, const wanted *w, char *packed, as_error *e)
{
    as_part_box box;
    as_words words = as_words_of(d->transfer->plan->words.data, d->transfer->plan->words.size);
    words.at = w->words;
    int code = as_part_box_take(&words, &box, e);
    if (code == AS_OK) {
        as_tiles_window_to_packed(&box.geometry, packed, w->range.low, w->range.high,
                                  d->window + w->range.at);
    }
    return code;
}

int as_delivery_next(as_delivery *d, char *buffer, int tag, int *to, size_t *size, bool *near,
                     as_error *e)
{
    const as_transfer *t = d->transfer;
    const wanted *all = (const wanted *)(const void *)d->list.data;
    *to = -1;
    if (d->next == d->list.size / sizeof *all) {
        return AS_OK;
    }
    int64_t begin = as_clock();
    int rank = all[d->next].rank;
    *near = as_arena_of(t->arena, rank) != NULL;
    as_parcel head = {.window = *near ? d->window - as_arena_base(t->arena) : -1, .tag = tag};
    size_t end = parcel_end(d, *near, &head.bytes);
    head.ranges = (int64_t)(end - d->next);
    memcpy(buffer, &head, sizeof head);
    as_range *ranges = (as_range *)(void *)(buffer + sizeof head);
    char *packed = (char *)(ranges + head.ranges);
    int code = AS_OK;
    for (; d->next < end && code == AS_OK; d->next++) {
        const wanted *w = &all[d->next];
        *ranges++ = w->range;
        if (!*near) {
            code = pack(d, w, packed, e);
            packed += w->bytes;
        }
    }
    *to = rank;
    *size = (size_t)(packed - buffer);
    t->meter->tally.messages++;
    if (*near) {
        t->meter->tally.bytes_shared += head.bytes;
        /* The window's bytes are there before the message that names them. */
        atomic_thread_fence(memory_order_release);
    } else {
        t->meter->tally.bytes_sent += head.bytes;
        (void)as_meter_end(t->meter, "copy", begin, head.bytes, &t->meter->tally.copy);
    }
    return code;
}

void as_delivery_close(as_delivery *d)
{
    if (d) {
        as_buffer_free(&d->list);
        free(d);
    }
}

/* The window that a parcel names, as seen from here; *room: its bytes, up to the arena's end. */
static int find_window(const as_transfer *t, int from, const as_parcel *head,
                       const as_range *ranges, const char **window, int64_t *room, as_error *e)
{
    char *theirs = as_arena_of(t->arena, from);
    *room = (int64_t)as_arena_bytes_of(t->arena, from) - head->window;
    if (!theirs || *room < 0) {
        return as_fail(e, AS_INTERNAL, 0, "a message names memory that this rank does not see");
    }
    *window = theirs + head->window;
    if (head->ranges > 0) {
        const as_range *last = &ranges[head->ranges - 1];
        int64_t low = ranges[0].at;
        int64_t high = last->at + last->high - last->low;
        if (low >= 0 && high > low && high <= *room) {
            as_arena_touch(t->arena, from, (size_t)(head->window + low), (size_t)(high - low),
                           false);
        }
    }
    return AS_OK;
}

/* Puts the ranges into the pieces: from `packed`, or (NULL) from `window`. */
static int take_ranges(const as_transfer *t, const as_parcel *head, const as_range *ranges,
                       const char *packed, const char *window, int64_t room, as_copies *copies,
                       as_error *e)
{
    int64_t left = head->bytes;
    for (int64_t i = 0; i < head->ranges; i++) {
        const as_range *r = &ranges[i];
        as_place place;
        int code = as_place_find(t, r->piece, &place, e);
        if (code != AS_OK) {
            return code;
        }
        int64_t bytes = as_geometry_before(&place.geometry, r->high) -
                        as_geometry_before(&place.geometry, r->low);
        if (bytes > left || (!packed && (r->at < 0 || r->high - r->low > room - r->at))) {
            return as_fail(e, AS_INTERNAL, 0, "a message of the load holds too little");
        }
        code = packed ? place.device->unpack(place.device, &place.geometry, place.memory, r->low,
                                             r->high, packed, copies, e)
                      : place.device->from_window(place.device, &place.geometry, place.memory,
                                                  r->low, r->high, window + r->at, copies, e);
        if (code != AS_OK) {
            return code;
        }
        t->filled[r->piece] += bytes;
        packed += packed ? bytes : 0;
        left -= bytes;
    }
    return left == 0 ? AS_OK : as_fail(e, AS_INTERNAL, 0, "a message of the load holds too much");
}

int as_parcel_take(const as_transfer *t, int from, const char *parcel, size_t size, int *tag,
                   as_copies *copies, as_error *e)
{
    as_parcel head;
    memcpy(&head, parcel, sizeof head);
    const as_range *ranges = (const as_range *)(const void *)(parcel + sizeof head);
    const char *packed = (const char *)(ranges + head.ranges);
    const char *window = NULL;
    int64_t room = 0;
    int64_t begin = as_clock();
    bool near = head.window >= 0;
    *tag = near ? (int)head.tag : -1;
    size_t follows = near ? 0 : (size_t)head.bytes;
    if (sizeof head + (size_t)head.ranges * sizeof *ranges + follows != size) {
        return as_fail(e, AS_INTERNAL, 0, "a message of the load has the wrong size");
    }
    /* From here on the bytes that were in the window when the message left are seen. */
    atomic_thread_fence(memory_order_acquire);
    int code = near ? find_window(t, from, &head, ranges, &window, &room, e) : AS_OK;
    if (code == AS_OK) {
        code = take_ranges(t, &head, ranges, near ? NULL : packed, window, room, copies, e);
    }
    (void)as_meter_end(t->meter, "copy", begin, head.bytes, &t->meter->tally.copy);
    return code;
}
