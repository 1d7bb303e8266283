/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/deliver.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "tensor/tiles.h"
#include "transfer/place.h"

/* A range of another rank's piece that lies in the block. */
typedef struct wanted {
    int rank;
    size_t order; /* as found, so that a receiver's ranges keep the file's order */
    as_range range;
    int64_t tensor_at; /* in the file */
    int64_t bytes;
    const int64_t *words; /* of the box, in the plan */
} wanted;

struct as_delivery {
    const as_transfer *transfer;
    as_block block;
    const char *window;
    as_buffer list; /* wanted[], sorted by receiver */
    size_t next;
};

static int own(as_delivery *d, const as_part *part, const as_range *range, int64_t bytes,
               as_error *e)
{
    as_place place;
    int code = as_place_find(d->transfer->state, d->transfer->plan, range->piece, &place, e);
    if (code != AS_OK) {
        return code;
    }
    const char *window = d->window + (part->tensor_at + range->low - d->block.low);
    d->transfer->filled[range->piece] += bytes;
    return place.device->from_window(&place.geometry, place.memory, range->low, range->high, window,
                                     e);
}

/* One box: into own memory, or onto the list. */
static int sort_box(as_delivery *d, const as_part *part, const int64_t *words,
                    const as_part_box *box, int64_t low, int64_t high, as_error *e)
{
    int64_t bytes =
        as_geometry_before(&box->geometry, high) - as_geometry_before(&box->geometry, low);
    int code = AS_OK;
    for (size_t h = 0; bytes > 0 && h < box->holder_count && code == AS_OK; h++) {
        as_range range = {.piece = box->holders[2 * h + 1], .low = low, .high = high};
        int rank = (int)box->holders[2 * h];
        if (rank == as_comm_rank(d->transfer->comm)) {
            code = own(d, part, &range, bytes, e);
            continue;
        }
        wanted w = {.rank = rank,
                    .order = d->list.size / sizeof w,
                    .range = range,
                    .tensor_at = part->tensor_at,
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
                     const char *window, as_error *e)
{
    as_delivery *d = calloc(1, sizeof *d);
    if (!d) {
        return as_fail_nomem(e);
    }
    *d = (as_delivery){.transfer = t, .block = *block, .window = window};
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
static size_t parcel_end(const as_delivery *d, int64_t *bytes)
{
    const wanted *all = (const wanted *)(const void *)d->list.data;
    size_t count = d->list.size / sizeof *all;
    size_t end = d->next;
    *bytes = 0;
    /* Replicas on one rank can want the bytes of a block several times over. */
    while (end < count && all[end].rank == all[d->next].rank && end - d->next < AS_PARCEL_RANGES &&
           *bytes + all[end].bytes <= d->transfer->plan->block_bytes) {
        *bytes += all[end++].bytes;
    }
    return end;
}

int as_delivery_next(as_delivery *d, char *buffer, int *to, size_t *size, as_error *e)
{
    const wanted *all = (const wanted *)(const void *)d->list.data;
    *to = -1;
    if (d->next == d->list.size / sizeof *all) {
        return AS_OK;
    }
    as_parcel head;
    size_t end = parcel_end(d, &head.bytes);
    head.ranges = (int64_t)(end - d->next);
    memcpy(buffer, &head, sizeof head);
    as_range *ranges = (as_range *)(void *)(buffer + sizeof head);
    char *packed = (char *)(ranges + head.ranges);
    *to = all[d->next].rank;
    *size = (size_t)(packed - buffer) + (size_t)head.bytes;
    for (; d->next < end; d->next++) {
        const wanted *w = &all[d->next];
        as_part_box box;
        as_words words = as_words_of(d->transfer->plan->words.data, d->transfer->plan->words.size);
        words.at = w->words;
        int code = as_part_box_take(&words, &box, e);
        if (code != AS_OK) {
            return code;
        }
        *ranges++ = w->range;
        as_tiles_window_to_packed(&box.geometry, packed, w->range.low, w->range.high,
                                  d->window + (w->tensor_at + w->range.low - d->block.low));
        packed += w->bytes;
    }
    return AS_OK;
}

void as_delivery_close(as_delivery *d)
{
    if (d) {
        as_buffer_free(&d->list);
        free(d);
    }
}

int as_parcel_take(const as_transfer *t, const char *parcel, size_t size, as_error *e)
{
    as_parcel head;
    memcpy(&head, parcel, sizeof head);
    const as_range *ranges = (const as_range *)(const void *)(parcel + sizeof head);
    const char *packed = (const char *)(ranges + head.ranges);
    int64_t left = head.bytes;
    if (sizeof head + (size_t)head.ranges * sizeof *ranges + (size_t)head.bytes != size) {
        return as_fail(e, AS_INTERNAL, 0, "a message of the load has the wrong size");
    }
    for (int64_t i = 0; i < head.ranges; i++) {
        as_place place;
        int code = as_place_find(t->state, t->plan, ranges[i].piece, &place, e);
        if (code != AS_OK) {
            return code;
        }
        int64_t bytes = as_geometry_before(&place.geometry, ranges[i].high) -
                        as_geometry_before(&place.geometry, ranges[i].low);
        if (bytes > left) {
            return as_fail(e, AS_INTERNAL, 0, "a message of the load holds too little");
        }
        code = place.device->unpack(&place.geometry, place.memory, ranges[i].low, ranges[i].high,
                                    packed, e);
        if (code != AS_OK) {
            return code;
        }
        t->filled[ranges[i].piece] += bytes;
        packed += bytes;
        left -= bytes;
    }
    return left == 0 ? AS_OK : as_fail(e, AS_INTERNAL, 0, "a message of the load holds too much");
}
