/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

void as_plan_free(as_plan *p)
{
    for (size_t i = 0; i < p->literals.size / sizeof(as_plan_literal); i++) {
        free(as_plan_literal_at(p, i)->bytes);
    }
    for (size_t i = 0; i < as_plan_built_count(p); i++) {
        as_buffer_free(&as_plan_built(p, i)->names);
    }
    for (size_t i = 0; i < as_plan_dropped_count(p); i++) {
        free(as_plan_dropped(p, i)->name);
        free(as_plan_dropped(p, i)->kept);
    }
    free(p->file_size);
    as_buffer_free(&p->parts);
    as_buffer_free(&p->words);
    as_buffer_free(&p->literals);
    as_buffer_free(&p->built);
    as_buffer_free(&p->dropped);
    *p = (as_plan){0};
}

as_words as_part_boxes(const as_plan *p, const as_part *part)
{
    as_words all = as_words_of(p->words.data, p->words.size);
    all.at += part->boxes_at;
    return all;
}

int as_part_box_take(as_words *w, as_part_box *out, as_error *e)
{
    const int64_t *ndim = as_words_take(w, 1);
    const int64_t *dims = NULL;
    if (ndim && *ndim >= 1 && *ndim <= AS_GEOMETRY_DIMS) {
        dims = as_words_take(w, 3 * (size_t)*ndim);
    }
    const int64_t *count = dims ? as_words_take(w, 1) : NULL;
    *out = (as_part_box){.holders = count ? as_words_take(w, 2 * (size_t)*count) : NULL};
    if (!out->holders) {
        return as_fail(e, AS_INTERNAL, 0, "a message of the plan is cut off");
    }
    out->holder_count = (size_t)*count;
    out->geometry.ndim = (int)*ndim;
    for (int d = 0; d < out->geometry.ndim; d++) {
        out->geometry.global[d] = dims[3 * d];
        out->geometry.offset[d] = dims[3 * d + 1];
        out->geometry.shape[d] = dims[3 * d + 2];
    }
    return AS_OK;
}

int as_plan_sum_up(as_plan *p, int rank, as_error *e)
{
    int code = AS_OK;
    p->own_bytes = 0;
    p->moved_bytes = 0;
    for (size_t i = 0; i < as_plan_part_count(p) && code == AS_OK; i++) {
        const as_part *part = as_plan_part(p, i);
        p->own_bytes += part->high - part->low;
        as_words boxes = as_part_boxes(p, part);
        for (int k = 0; k < part->box_count && code == AS_OK; k++) {
            as_part_box box;
            code = as_part_box_take(&boxes, &box, e);
            for (size_t h = 0; code == AS_OK && h < box.holder_count; h++) {
                if (box.holders[2 * h] != rank) {
                    p->moved_bytes +=
                        as_geometry_before(&box.geometry, part->high - part->tensor_at) -
                        as_geometry_before(&box.geometry, part->low - part->tensor_at);
                }
            }
        }
    }
    return code;
}

int as_plan_metadata(const as_plan *p, const as_save_request *request, as_pairs *out, as_error *e)
{
    int code = AS_OK;
    const as_pairs *given = request->metadata;
    for (size_t i = 0; given && i < given->count && code == AS_OK; i++) {
        const as_pair *m = &given->items[i];
        code = as_pairs_append(out, m->key, m->key_length, m->value, m->value_length, e);
    }
    for (size_t i = 0; i < as_plan_dropped_count(p) && code == AS_OK; i++) {
        const as_dropped *d = as_plan_dropped(p, i);
        size_t length = strlen(d->name);
        if (!given || !as_pairs_find(given, d->name, length)) {
            code = as_pairs_append(out, d->name, length, d->kept, strlen(d->kept), e);
        }
    }
    return code == AS_OK ? as_pairs_unique(out, e) : code;
}
