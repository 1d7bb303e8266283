/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_rows.h"

#include "device/cuda_rule.h"
#include "tensor/tiles.h"

int as_cuda_copy_out(const as_channel *c, char *host, as_cu_pointer memory, int64_t bytes,
                     as_error *e)
{
    as_cu_result r = c->cuda->copy_to_host(host, memory, (size_t)bytes, c->stream);
    return r ? as_cuda_fail(e, c->cuda, "cuMemcpyDtoHAsync", r, "%lld bytes from %s",
                            (long long)bytes, c->name)
             : AS_OK;
}

int as_cuda_copy_in(const as_channel *c, as_cu_pointer memory, const char *host, int64_t bytes,
                    as_error *e)
{
    as_cu_result r = c->cuda->copy_to_device(memory, host, (size_t)bytes, c->stream);
    return r ? as_cuda_fail(e, c->cuda, "cuMemcpyHtoDAsync", r, "%lld bytes to %s",
                            (long long)bytes, c->name)
             : AS_OK;
}

static int copy_run(const as_channel *c, as_cu_pointer memory, char *host, int64_t bytes,
                    bool to_device, as_error *e)
{
    return to_device ? as_cuda_copy_in(c, memory, host, bytes, e)
                     : as_cuda_copy_out(c, host, memory, bytes, e);
}

static int copy_2d(const as_channel *c, const as_tile *t, as_cu_pointer memory, char *host,
                   int64_t host_step, bool to_device, as_error *e)
{
    as_cu_copy_2d copy = {.width = (size_t)t->length, .height = (size_t)t->count};
    if (to_device) {
        copy.from_type = AS_CU_MEMORY_HOST;
        copy.from_host = host;
        copy.from_pitch = (size_t)host_step;
        copy.to_type = AS_CU_MEMORY_DEVICE;
        copy.to_device = memory;
        copy.to_pitch = (size_t)t->memory_step;
    } else {
        copy.from_type = AS_CU_MEMORY_DEVICE;
        copy.from_device = memory;
        copy.from_pitch = (size_t)t->memory_step;
        copy.to_type = AS_CU_MEMORY_HOST;
        copy.to_host = host;
        copy.to_pitch = (size_t)host_step;
    }
    as_cu_result r = c->cuda->copy_2d(&copy, c->stream);
    return r ? as_cuda_fail(e, c->cuda, "cuMemcpy2DAsync", r, "%lld rows of %lld bytes %s %s",
                            (long long)t->count, (long long)t->length, to_device ? "to" : "from",
                            c->name)
             : AS_OK;
}

int as_cuda_rows(const as_channel *c, const as_rows *r, as_error *e)
{
    bool use_2d = as_cuda_rows_2d(r->m, r->is_window, c->max_pitch);
    as_tiles walk = {.geometry = r->m, .at = r->from, .end = r->to};
    as_tile t;
    char *packed = r->host;
    int code = AS_OK;
    while (code == AS_OK && as_tiles_next(&walk, &t)) {
        as_cu_pointer memory = r->memory + (as_cu_pointer)t.memory;
        char *host = r->is_window ? r->host + (t.place - r->low) : packed;
        int64_t step = r->is_window ? t.place_step : t.length;
        if (t.count == 1 || (t.memory_step == t.length && step == t.length)) {
            code = copy_run(c, memory, host, t.length * t.count, r->to_device, e);
        } else if (use_2d) {
            code = copy_2d(c, &t, memory, host, step, r->to_device, e);
        } else {
            for (int64_t i = 0; i < t.count && code == AS_OK; i++) {
                code = copy_run(c, memory + (as_cu_pointer)(i * t.memory_step), host + i * step,
                                t.length, r->to_device, e);
            }
        }
        packed += t.length * t.count;
    }
    return code;
}
