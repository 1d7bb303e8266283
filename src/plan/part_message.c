/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/part_message.h"

#include <limits.h>
#include <stdlib.h>

#include "plan/schedule.h"

/* A box: ndim (8 bits), whether it has replicas that are not in the list (1), how many holders are
 * (32, from bit 16 on); three words per dimension; then a word per holder: rank (32), piece
 * (32). */
enum { BOX_REPLICAS = 1 << 8, BOX_COUNT_AT = 16 };

static int64_t first_byte(const as_schedule *s, const as_region *r)
{
    return r->tensor == AS_REGION_LITERAL ? r->low
                                          : as_catalog_tensor(s->catalog, r->tensor)->offset;
}

/* The geometry of a box in the file; a literal fills its region. */
static int box_geometry(const as_schedule *s, const as_region *region, const as_region_box *box,
                        as_geometry *g, as_error *e)
{
    if (region->tensor == AS_REGION_LITERAL) {
        int64_t bytes = region->high - region->low;
        *g = (as_geometry){.ndim = 1, .global = {bytes}, .shape = {bytes}};
        return AS_OK;
    }
    as_dims room;
    uint32_t first = *as_region_holders(&s->regions, box);
    as_box b = as_descriptor_box(as_catalog_descriptor(s->catalog, first), &room);
    return as_geometry_file(&b, g, e);
}

static int holder_rank(const as_schedule *s, const as_region *r, uint32_t holder)
{
    return r->tensor == AS_REGION_LITERAL ? s->rank
                                          : as_catalog_descriptor(s->catalog, holder)->rank;
}

static int64_t holder_word(const as_schedule *s, const as_region *r, uint32_t holder)
{
    int64_t piece = -1 - (int64_t)holder;
    if (r->tensor != AS_REGION_LITERAL) {
        piece = as_descriptor_piece(as_catalog_descriptor(s->catalog, holder));
    }
    return (int64_t)((uint64_t)holder_rank(s, r, holder) << 32 | (uint32_t)(int32_t)piece);
}

/* To save, one replica sends: the writer itself, or the one nearest by rank, which most
 * likely shares its node; writers far apart thus draw on different replicas. */
static const uint32_t *choose_sender(const as_schedule *s, const as_region *r,
                                     const uint32_t *holders, size_t count, int writer)
{
    size_t best = 0;
    int nearest = INT_MAX;
    for (size_t i = 0; i < count; i++) {
        int far = abs(holder_rank(s, r, holders[i]) - writer);
        if (far < nearest) {
            nearest = far;
            best = i;
        }
    }
    return &holders[best];
}

static int put_box(as_buffer *out, const as_schedule *s, const as_region *region,
                   const as_region_box *box, const as_geometry *g, int writer, as_error *e)
{
    const uint32_t *holders = as_region_holders(&s->regions, box);
    size_t count = box->holder_count;
    int64_t replicas = !s->load && count > 1 ? BOX_REPLICAS : 0;
    if (!s->load) {
        holders = choose_sender(s, region, holders, count, writer);
        count = 1;
    }
    int64_t words[1 + 3 * AS_GEOMETRY_DIMS];
    size_t n = 0;
    words[n++] = g->ndim | replicas | (int64_t)count << BOX_COUNT_AT;
    for (int d = 0; d < g->ndim; d++) {
        words[n++] = g->global[d];
        words[n++] = g->offset[d];
        words[n++] = g->shape[d];
    }
    int code = as_words_put(out, words, n, e);
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        int64_t word = holder_word(s, region, holders[i]);
        code = as_words_put(out, &word, 1, e);
    }
    return code;
}

/* Has the box bytes of [low, high) of the tensor's line of bytes? */
static bool has_bytes(const as_geometry *g, int64_t low, int64_t high)
{
    if (g->ndim == 1) {
        return g->offset[0] < high && low < g->offset[0] + g->shape[0];
    }
    return as_geometry_before(g, high) > as_geometry_before(g, low);
}

bool as_part_message_has_boxes(const as_schedule *s, const as_region *region, int64_t low,
                               int64_t high)
{
    const as_region_box *box = as_region_boxes(&s->regions, region);
    int64_t tensor = first_byte(s, region);
    bool found = false;
    for (size_t i = 0; i < region->box_count && !found; i++) {
        as_geometry g;
        found = box_geometry(s, region, &box[i], &g, NULL) == AS_OK &&
                has_bytes(&g, low - tensor, high - tensor);
    }
    return found;
}

int as_part_message_put(as_buffer *out, const as_schedule *s, const as_region *region, int64_t low,
                        int64_t high, int writer, bool seam, as_error *e)
{
    size_t start = out->size;
    int64_t tensor = first_byte(s, region);
    as_hash name = {0};
    if (region->tensor != AS_REGION_LITERAL) {
        name = as_catalog_tensor(s->catalog, region->tensor)->name;
    }
    int64_t head[AS_P_HEAD] = {
        [AS_P_SIZE] = (int64_t)((uint64_t)region->file << 32 | (uint64_t)seam << 63),
        [AS_P_TO] = writer,
        [AS_P_LOW] = low,
        [AS_P_HIGH] = high,
        [AS_P_TENSOR] = tensor,
        [AS_P_NAME] = (int64_t)name.high,
        [AS_P_NAME + 1] = (int64_t)name.low,
    };
    int code = as_words_put(out, head, AS_P_HEAD, e);
    int64_t boxes = 0;
    const as_region_box *box = as_region_boxes(&s->regions, region);
    for (size_t i = 0; i < region->box_count && code == AS_OK; i++) {
        as_geometry g;
        code = box_geometry(s, region, &box[i], &g, e);
        if (code == AS_OK && has_bytes(&g, low - tensor, high - tensor)) {
            code = put_box(out, s, region, &box[i], &g, writer, e);
            boxes++;
        }
    }
    size_t words = (out->size - start) / sizeof(int64_t);
    if (code == AS_OK && words > UINT32_MAX) {
        code = as_fail(e, AS_LIMIT, 0, "a part of a file has more than 2^32 words of boxes");
    }
    if (code == AS_OK && boxes == 0) {
        out->size = start;
    } else if (code == AS_OK) {
        int64_t *message = (int64_t *)(void *)(out->data + start);
        message[AS_P_SIZE] |= (int64_t)words;
        message[AS_P_TO] |= boxes << 32;
    }
    return code;
}

const int64_t *as_part_message_take(as_words *w)
{
    as_words look = *w;
    const int64_t *size = as_words_take(&look, 1);
    if (!size || as_part_message_size(size) < AS_P_HEAD) {
        return NULL;
    }
    return as_words_take(w, as_part_message_size(size));
}

/* Takes a box into the plan's words, in the form of as_part_box_take. */
static int keep_box(as_words *w, as_plan *plan, bool *choice, as_error *e)
{
    const int64_t *head = as_words_take(w, 1);
    size_t ndim = head ? (size_t)(*head & 0xff) : 0;
    size_t count = head ? (size_t)(*head >> BOX_COUNT_AT) : 0;
    const int64_t *dims = as_words_take(w, 3 * ndim);
    const int64_t *holders = as_words_take(w, count);
    if (!head || !dims || !holders) {
        return as_fail(e, AS_INTERNAL, 0, "a message of the plan is cut off");
    }
    *choice = *choice || *head & BOX_REPLICAS;
    int64_t words[2] = {(int64_t)ndim, (int64_t)count};
    int code = as_words_put(&plan->words, words, 1, e);
    if (code == AS_OK) {
        code = as_words_put(&plan->words, dims, 3 * ndim, e);
    }
    if (code == AS_OK) {
        code = as_words_put(&plan->words, words + 1, 1, e);
    }
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        int64_t pair[2] = {(int64_t)((uint64_t)holders[i] >> 32), (int32_t)(uint32_t)holders[i]};
        code = as_words_put(&plan->words, pair, 2, e);
    }
    return code;
}

int as_part_message_keep(const int64_t *message, as_plan *plan, bool *choice, as_error *e)
{
    as_part part = {
        .file = as_part_message_file(message),
        .box_count = (int32_t)(message[AS_P_TO] >> 32),
        .low = message[AS_P_LOW],
        .high = message[AS_P_HIGH],
        .tensor_at = message[AS_P_TENSOR],
        .name = as_words_hash(message + AS_P_NAME),
        .boxes_at = plan->words.size / sizeof(int64_t),
    };
    as_words w = {.at = message + AS_P_HEAD, .end = message + as_part_message_size(message)};
    int code = AS_OK;
    for (int32_t k = 0; k < part.box_count && code == AS_OK; k++) {
        code = keep_box(&w, plan, choice, e);
    }
    return code == AS_OK ? as_buffer_append(&plan->parts, &part, sizeof part, e) : code;
}
