/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_across.h"

#include "device/cuda_channel.h"
#include "device/cuda_rule.h"
#include "tensor/span.h"
#include "tensor/tiles.h"

enum across_way { NO_WAY, BY_COPIES, BY_KERNEL };

static bool by_copies(const as_channel *c, const as_across *a)
{
    as_tiles walk = as_tiles_begin(a->geometry, a->low, a->high);
    as_tile t;
    int calls = 0;
    if (a->geometry->memory_dtype) {
        return false;
    }
    while (as_tiles_next(&walk, &t)) {
        bool rows = t.length >= AS_NARROW_ROW && t.memory_step >= t.length &&
                    t.memory_step <= c->max_pitch && t.place_step <= c->max_pitch;
        if (++calls > AS_ACROSS_CALLS || (!as_tile_is_run(&t) && !rows)) {
            return false;
        }
    }
    return true;
}

static enum across_way way(as_channel *c, const as_across *a)
{
    const as_geometry *g = a->geometry;
    if (by_copies(c, a)) {
        return BY_COPIES;
    }
    bool all = as_geometry_before(g, a->high) - as_geometry_before(g, a->low) == a->high - a->low;
    /* Where elements share memory the last one counts, and threads have no order. */
    return all && !(a->to_piece && as_span_overlaps(g)) && as_channel_has_kernel(c) &&
                   as_kernel_can(&c->kernel, g, a->low, a->high)
               ? BY_KERNEL
               : NO_WAY;
}

bool as_cuda_can_cross(const as_device *d, const as_across *a)
{
    return way(as_channel_of(d), a) != NO_WAY;
}

static int copy_tile(const as_channel *c, const as_across *a, const as_tile *t, as_error *e)
{
    as_cu_pointer piece = (as_cu_pointer)(uintptr_t)a->memory + (as_cu_pointer)t->memory;
    as_cu_pointer window = a->window + (as_cu_pointer)(t->place - a->low);
    as_cu_pointer from = a->to_piece ? window : piece;
    as_cu_pointer to = a->to_piece ? piece : window;
    if (as_tile_is_run(t)) {
        size_t bytes = (size_t)(t->length * t->count);
        as_cu_result r = c->cuda->copy_on_device(to, from, bytes, c->stream);
        return r ? as_cuda_fail(e, c->cuda, "cuMemcpyDtoDAsync", r, "%zu bytes on %s", bytes,
                                c->name)
                 : AS_OK;
    }
    as_cu_copy_2d copy = {
        .from_type = AS_CU_MEMORY_DEVICE,
        .from_device = from,
        .from_pitch = (size_t)(a->to_piece ? t->place_step : t->memory_step),
        .to_type = AS_CU_MEMORY_DEVICE,
        .to_device = to,
        .to_pitch = (size_t)(a->to_piece ? t->memory_step : t->place_step),
        .width = (size_t)t->length,
        .height = (size_t)t->count,
    };
    as_cu_result r = c->cuda->copy_2d(&copy, c->stream);
    return r ? as_cuda_fail(e, c->cuda, "cuMemcpy2DAsync", r, "%lld rows of %lld bytes on %s",
                            (long long)t->count, (long long)t->length, c->name)
             : AS_OK;
}

static int copy_tiles(const as_channel *c, const as_across *a, as_error *e)
{
    as_tiles walk = as_tiles_begin(a->geometry, a->low, a->high);
    as_tile t;
    int code = AS_OK;
    while (code == AS_OK && as_tiles_next(&walk, &t)) {
        code = copy_tile(c, a, &t, e);
    }
    return code;
}

static int launch(const as_channel *c, const as_across *a, as_error *e)
{
    as_cu_pointer memory = (as_cu_pointer)(uintptr_t)a->memory;
    return a->to_piece ? as_kernel_unpack(&c->kernel, c->cuda, a->geometry, memory, a->low, a->high,
                                          a->window, c->stream, e)
                       : as_kernel_pack(&c->kernel, c->cuda, a->geometry, memory, a->low, a->high,
                                        a->window, c->stream, e);
}

int as_cuda_cross(const as_device *d, const as_across *a, as_copies *c, as_error *e)
{
    as_channel *channel = as_channel_of(d);
    as_job *job;
    enum across_way how = way(channel, a);
    if (how == NO_WAY) {
        return as_fail(e, AS_INTERNAL, 0, "a range of %s was to cross it, and cannot",
                       channel->name);
    }
    int code = as_channel_take(channel, false, false, &job, e);
    if (code != AS_OK) {
        return code;
    }
    job->bytes = as_geometry_before(a->geometry, a->high) - as_geometry_before(a->geometry, a->low);
    code = how == BY_COPIES ? copy_tiles(channel, a, e) : launch(channel, a, e);
    if (code != AS_OK) {
        as_channel_drop(channel, job);
        return code;
    }
    return as_channel_submit(channel, job, c, e);
}
