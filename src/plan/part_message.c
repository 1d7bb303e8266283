/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/part_message.h"

#include <stdlib.h>

/* The geometry of a box in the file; a literal fills its region. */
static int box_geometry(const as_region *region, const as_region_box *box, as_geometry *g,
                        as_error *e)
{
    if (!box->descriptor.words) {
        int64_t bytes = region->high - region->low;
        *g = (as_geometry){.ndim = 1, .global = {bytes}, .shape = {bytes}};
        return AS_OK;
    }
    as_box b = as_descriptor_box(&box->descriptor);
    return as_geometry_file(&b, g, e);
}

/* To save, one replica sends: the writer itself, or the one nearest by rank, which most
 * likely shares its node; writers far apart thus draw on different replicas. */
static const as_holder *choose_sender(const as_holder *holders, size_t count, int writer)
{
    const as_holder *best = &holders[0];
    for (size_t i = 1; i < count; i++) {
        if (abs(holders[i].rank - writer) < abs(best->rank - writer)) {
            best = &holders[i];
        }
    }
    return best;
}

static int put_box(as_buffer *out, const as_schedule *s, const as_region_box *box,
                   const as_geometry *g, int writer, as_error *e)
{
    int64_t words[1 + 3 * AS_GEOMETRY_DIMS + 1];
    size_t n = 0;
    words[n++] = g->ndim;
    for (int d = 0; d < g->ndim; d++) {
        words[n++] = g->global[d];
        words[n++] = g->offset[d];
        words[n++] = g->shape[d];
    }
    const as_holder *holders = as_region_holders(&s->regions, box);
    size_t count = box->holder_count;
    if (!s->load) {
        holders = choose_sender(holders, count, writer);
        count = 1;
    }
    words[n++] = (int64_t)count;
    int code = as_words_put(out, words, n, e);
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = as_words_put(out, (int64_t[]){holders[i].rank, holders[i].piece}, 2, e);
    }
    return code;
}

static bool has_bytes(const as_region *region, const as_geometry *g, int64_t low, int64_t high)
{
    return as_geometry_before(g, high - region->tensor_at) >
           as_geometry_before(g, low - region->tensor_at);
}

bool as_part_message_has_boxes(const as_schedule *s, const as_region *region, int64_t low,
                               int64_t high)
{
    const as_region_box *box = as_region_boxes(&s->regions, region);
    bool found = false;
    for (size_t i = 0; i < region->box_count && !found; i++) {
        as_geometry g;
        found =
            box_geometry(region, &box[i], &g, NULL) == AS_OK && has_bytes(region, &g, low, high);
    }
    return found;
}

int as_part_message_put(as_buffer *out, const as_schedule *s, const as_region *region, int64_t low,
                        int64_t high, int writer, bool seam, as_error *e)
{
    size_t start = out->size;
    int64_t head[AS_P_HEAD] = {
        [AS_P_SEAM] = seam,
        [AS_P_FILE] = region->file,
        [AS_P_LOW] = low,
        [AS_P_HIGH] = high,
        [AS_P_TENSOR] = region->tensor_at,
        [AS_P_WRITER] = writer,
        [AS_P_NAME] = (int64_t)region->name.high,
        [AS_P_NAME + 1] = (int64_t)region->name.low,
    };
    int code = as_words_put(out, head, AS_P_HEAD, e);
    int64_t boxes = 0;
    const as_region_box *box = as_region_boxes(&s->regions, region);
    for (size_t i = 0; i < region->box_count && code == AS_OK; i++) {
        as_geometry g;
        code = box_geometry(region, &box[i], &g, e);
        if (code == AS_OK && has_bytes(region, &g, low, high)) {
            code = put_box(out, s, &box[i], &g, writer, e);
            boxes++;
        }
    }
    if (code == AS_OK && boxes == 0) {
        out->size = start;
    } else if (code == AS_OK) {
        int64_t *words = (int64_t *)(void *)(out->data + start);
        words[AS_P_LENGTH] = (int64_t)((out->size - start) / sizeof *words);
        words[AS_P_BOXES] = boxes;
    }
    return code;
}

const int64_t *as_part_message_take(as_words *w)
{
    as_words look = *w;
    const int64_t *length = as_words_take(&look, 1);
    if (!length || *length < AS_P_HEAD) {
        return NULL;
    }
    return as_words_take(w, (size_t)*length);
}

int as_part_message_keep(const int64_t *message, as_plan *plan, as_error *e)
{
    as_part part = {
        .file = (int32_t)message[AS_P_FILE],
        .box_count = (int32_t)message[AS_P_BOXES],
        .low = message[AS_P_LOW],
        .high = message[AS_P_HIGH],
        .tensor_at = message[AS_P_TENSOR],
        .name = as_words_hash(message + AS_P_NAME),
        .boxes_at = plan->words.size / sizeof(int64_t),
    };
    int code = as_words_put(&plan->words, message + AS_P_HEAD,
                            (size_t)message[AS_P_LENGTH] - AS_P_HEAD, e);
    return code == AS_OK ? as_buffer_append(&plan->parts, &part, sizeof part, e) : code;
}
