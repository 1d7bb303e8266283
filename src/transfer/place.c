/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/place.h"

#include "base/copy_away.h"

int as_place_find(const as_transfer *t, int64_t piece, as_place *out, as_error *e)
{
    const as_state *s = t->state;
    const as_plan *p = t->plan;
    out->device = &as_device_host;
    if (piece < 0) {
        size_t index = (size_t)(-1 - piece);
        if (index >= p->literals.size / sizeof(as_plan_literal)) {
            return as_fail(e, AS_INTERNAL, 0, "there is no literal %zu", index);
        }
        const as_plan_literal *l = as_plan_literal_at(p, index);
        out->geometry =
            (as_geometry){.ndim = 1, .global = {l->size}, .shape = {l->size}, .stride = {1}};
        out->memory = l->bytes;
        return AS_OK;
    }
    if ((size_t)piece >= as_state_count(s)) {
        return as_fail(e, AS_INTERNAL, 0, "there is no piece %lld", (long long)piece);
    }
    const as_piece *own = as_state_piece(s, (size_t)piece);
    as_box box = as_state_memory_box(s, (size_t)piece);
    out->device = as_home(t->homes, (size_t)piece);
    out->memory = own->data;
    return own->memory == own->dtype
               ? as_geometry_memory(&box, &out->geometry, e)
               : as_geometry_cast(&box, own->dtype, s->seams, &out->geometry, e);
}

bool as_place_on_device(const as_transfer *t, int64_t piece)
{
    const as_homes *h = t->homes;
    return h && h->of && piece >= 0 && (size_t)piece < h->count && !h->of[piece]->is_host;
}

int as_place_keep(const as_place *p, int64_t low, int64_t high, char *to, as_copies *copies,
                  as_error *e)
{
    const char *run = p->device->direct(&p->geometry, p->memory, low, high);
    if (!run) {
        return p->device->to_window(p->device, &p->geometry, p->memory, low, high, to, copies, e);
    }
    as_copy_away(to, run, (size_t)(high - low));
    return AS_OK;
}
