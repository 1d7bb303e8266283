/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_trip.h"

#include "base/checked.h"
#include "tensor/dtype.h"
#include "tensor/span.h"

as_trip as_trip_begin(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                      int64_t high, char *host, bool is_window, bool writes)
{
    as_trip t = {.channel = as_channel_of(d),
                 .g = g,
                 .m = as_span_uncast(g),
                 .memory = (as_cu_pointer)(uintptr_t)memory,
                 .low = low,
                 .high = high,
                 .before = as_geometry_before(g, low),
                 .until = as_geometry_before(g, high),
                 .host = host,
                 .writes = writes,
                 .file_size = g->memory_dtype ? as_dtype_bits(g->file_dtype) / 8 : 1,
                 .unit = g->memory_dtype ? as_dtype_bits(g->memory_dtype) / 8 : 1};
    int64_t bytes = t.until - t.before;
    t.is_window = is_window && bytes != high - low;
    t.is_pinned = as_pins_cover(t.channel->pins, host, (size_t)(t.is_window ? high - low : bytes));
    if (writes) {
        t.at = as_ceil_div(t.before, t.file_size) * t.unit;
        t.end = t.until / t.file_size * t.unit;
    } else {
        t.at = t.before / t.file_size * t.unit;
        t.end = as_ceil_div(t.until, t.file_size) * t.unit;
    }
    return t;
}

/* Places of the part, once its way is known. */
static void place_part(const as_trip *t, as_part *p)
{
    int64_t from = p->from / t->unit * t->file_size;
    int64_t to = p->way.to / t->unit * t->file_size;
    p->low = from < t->before ? t->low : as_span_place(t->g, from);
    p->high = to > t->until ? t->high : as_span_place(t->g, to - 1) + 1;
    p->host = t->host + (t->is_window ? p->low - t->low : as_max_i64(from, t->before) - t->before);
}

/* The kernel moves whole elements: what the range has of others goes by itself. */
static int64_t end_for_kernel(const as_trip *t, bool *kernel)
{
    if (t->at / t->unit * t->file_size < t->before) {
        *kernel = false;
        return as_min_i64(t->at + t->unit, t->end);
    }
    if (t->end / t->unit * t->file_size > t->until) {
        *kernel = t->end - t->at > t->unit;
        return *kernel ? t->end - t->unit : t->end;
    }
    return t->end;
}

bool as_trip_next(as_trip *t, as_part *out)
{
    if (t->at >= t->end) {
        return false;
    }
    as_channel *c = t->channel;
    bool is_cast = t->g->memory_dtype != AS_DTYPE_NONE;
    bool direct = t->is_pinned && !is_cast;
    as_way_limits limits = {.max_pitch = c->max_pitch,
                            .window = t->is_window && direct,
                            .is_cast = is_cast,
                            .writes = t->writes,
                            .rows = direct ? INT64_MAX : c->part,
                            .block = c->part,
                            .kernel = c->part / t->file_size * t->unit};
    bool kernel = true;
    int64_t end = is_cast ? end_for_kernel(t, &kernel) : t->end;
    limits.kernel = kernel ? limits.kernel : 0;
    *out = (as_part){.from = t->at};
    out->way = as_cuda_way(&t->m, t->unit, t->at, end, &limits);
    place_part(t, out);
    /* Asked for is it only where the rule wants it. */
    if (out->way.kind == AS_WAY_KERNEL &&
        !(as_channel_has_kernel(c) && as_kernel_can(&c->kernel, t->g, out->low, out->high))) {
        limits.kernel = 0;
        out->way = as_cuda_way(&t->m, t->unit, t->at, t->end, &limits);
        place_part(t, out);
    }
    out->is_direct = out->way.kind == AS_WAY_ROWS     ? direct
                     : out->way.kind == AS_WAY_KERNEL ? t->is_pinned && !t->is_window
                                                      : false;
    t->at = out->way.to;
    return true;
}
