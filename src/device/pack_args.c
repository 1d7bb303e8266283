/* SPDX-License-Identifier: Apache-2.0 */
#include "device/pack_args.h"

#include "base/checked.h"

_Static_assert((int)AS_PACK_DIMS == (int)AS_GEOMETRY_DIMS, "a geometry has room in the argument");

/* More than this, and a division is one comparison. */
#define WIDE (INT64_C(1) << 31)

bool as_pack_part_of(const as_geometry *g, int64_t low, int64_t high, as_pack_part *out)
{
    *out = (as_pack_part){.at = as_geometry_before(g, low), .end = as_geometry_before(g, high)};
    if (g->memory_dtype == AS_DTYPE_NONE) {
        return true;
    }
    /* Before a place that cuts none of its elements, a piece has whole elements. */
    int64_t bytes = as_dtype_bits(g->file_dtype) / 8;
    return out->at % bytes == 0 && out->end % bytes == 0;
}

/* The greatest power of two, 16 at the most, that divides what a run of bytes may begin and end
 * at. */
static int64_t unit_of(const as_geometry *g, as_pack_part part, uint64_t memory, uint64_t packed)
{
    int last = g->ndim - 1;
    uint64_t all = UINT64_C(16) | memory | packed | (uint64_t)part.at | (uint64_t)part.end;
    for (int d = 0; d < last; d++) {
        all |= (uint64_t)g->stride[d];
    }
    if (last > 0) { /* else there is one run, and its end is the part's */
        all |= (uint64_t)g->shape[last];
    }
    return (int64_t)(all & (0 - all));
}

/* T. Granlund, P. Montgomery: Division by invariant integers using multiplication, PLDI 1994. */
static void set_divisor(as_pack_dim *d)
{
    d->factor = 0;
    d->shift = 0;
    if (d->extent <= WIDE) {
        while (INT64_C(1) << d->shift < d->extent) {
            d->shift++;
        }
        uint64_t above = (UINT64_C(1) << d->shift) - (uint64_t)d->extent;
        d->factor = (uint32_t)((above << 32) / (uint64_t)d->extent + 1);
    }
}

int64_t as_pack_args_make(const as_geometry *g, as_pack_part part, uint64_t memory, uint64_t packed,
                          uint32_t most, as_pack_args *out)
{
    int64_t unit; /* of the file */
    *out = (as_pack_args){.memory = memory, .packed = packed, .ndim = g->ndim};
    if (g->memory_dtype == AS_DTYPE_NONE) {
        unit = unit_of(g, part, memory, packed);
        out->memory_bytes = (int32_t)unit;
    } else {
        unit = as_dtype_bits(g->file_dtype) / 8;
        out->memory_bytes = as_dtype_bits(g->memory_dtype) / 8;
        out->memory_access = (memory % (uint64_t)out->memory_bytes) != 0 ? 1 : out->memory_bytes;
        out->packed_access = (packed % (uint64_t)unit) != 0 ? 1 : (int32_t)unit;
        out->memory_dtype = g->memory_dtype;
        out->packed_dtype = g->file_dtype;
    }
    out->packed_bytes = (int32_t)unit;
    out->count = (uint32_t)as_min_i64((part.end - part.at) / unit, most);
    int64_t rest = part.at / unit;
    for (int d = g->ndim - 1; d >= 0; d--) {
        as_pack_dim *x = &out->dims[d];
        bool inner = d == g->ndim - 1;
        x->extent = inner && d > 0 ? g->shape[d] / unit : g->shape[d];
        x->stride = inner ? out->memory_bytes : g->stride[d];
        x->start = d > 0 ? rest % x->extent : rest;
        rest /= d > 0 ? x->extent : 1;
        set_divisor(x);
    }
    if (out->ndim > 1 && out->dims[out->ndim - 1].extent == 1) {
        out->ndim--; /* runs of one unit: nothing to divide */
    }
    return out->count * unit;
}
