/* SPDX-License-Identifier: Apache-2.0
 * Into device memory.
 */
#include <string.h>

#include "device/cuda_channel.h"
#include "device/cuda_rows.h"
#include "device/cuda_trip.h"
#include "tensor/cast_tiles.h"
#include "tensor/dtype.h"
#include "tensor/span.h"

/* The range's bytes of the piece into an image of its memory, by the host. */
static int scatter(const as_geometry *g, char *image, int64_t low, int64_t high, const char *from,
                   bool is_window, as_error *e)
{
    const as_device *host = &as_device_host;
    return (is_window ? host->from_window : host->unpack)(host, g, image, low, high, from, NULL, e);
}

static int in_by_rows(const as_trip *t, const as_part *p, const as_job *job, as_error *e)
{
    as_rows rows = {.m = &t->m,
                    .memory = t->memory,
                    .from = p->from,
                    .to = p->way.to,
                    .host = p->is_direct ? p->host : job->bounce,
                    .is_window = p->is_direct && t->is_window,
                    .low = p->low,
                    .to_device = true};
    int code = AS_OK;
    if (!p->is_direct && !t->is_window && !t->g->memory_dtype) {
        memcpy(job->bounce, p->host, (size_t)(p->way.to - p->from));
    } else if (!p->is_direct) {
        as_geometry packed = as_span_packed(t->g);
        code = scatter(&packed, as_trip_image(job->bounce, p->from), p->low, p->high, p->host,
                       t->is_window, e);
    }
    return code == AS_OK ? as_cuda_rows(t->channel, &rows, e) : code;
}

/* The block has come: changed, it goes back. */
static int put_back(as_channel *c, as_job *job, as_error *e)
{
    job->finish = NULL;
    job->again = true;
    int code = scatter(&job->geometry, as_trip_image(job->bounce, job->base), job->low, job->high,
                       job->host, job->is_window, e);
    return code == AS_OK ? as_cuda_copy_in(c, job->memory, job->bounce, job->length, e) : code;
}

static int in_by_block(const as_trip *t, const as_part *p, as_job *job, as_error *e)
{
    const as_channel *c = t->channel;
    as_cu_pointer memory = t->memory + (as_cu_pointer)p->way.low;
    int64_t bytes = p->way.high - p->way.low;
    if (p->way.whole) {
        int code = scatter(t->g, as_trip_image(job->bounce, p->way.low), p->low, p->high, p->host,
                           t->is_window, e);
        return code == AS_OK ? as_cuda_copy_in(c, memory, job->bounce, bytes, e) : code;
    }
    job->finish = put_back;
    job->changes = true;
    job->geometry = *t->g;
    job->base = p->way.low;
    job->low = p->low;
    job->high = p->high;
    job->host = p->host;
    job->is_window = t->is_window;
    job->memory = memory;
    job->length = bytes;
    return as_cuda_copy_out(c, job->bounce, memory, bytes, e);
}

static int in_by_kernel(const as_trip *t, const as_part *p, const as_job *job, as_error *e)
{
    const as_channel *c = t->channel;
    int64_t from = p->from / t->unit * t->file_size;
    int64_t bytes = (p->way.to - p->from) / t->unit * t->file_size;
    int code = AS_OK;
    if (!p->is_direct && !t->is_window) {
        memcpy(job->bounce, p->host, (size_t)bytes);
    } else if (!p->is_direct) {
        as_geometry packed = *t->g;
        packed.memory_dtype = packed.file_dtype = AS_DTYPE_NONE;
        packed = as_span_packed(&packed);
        code =
            scatter(&packed, as_trip_image(job->bounce, from), p->low, p->high, p->host, true, e);
    }
    if (code == AS_OK) {
        code = as_cuda_copy_in(c, job->staging, p->is_direct ? p->host : job->bounce, bytes, e);
    }
    return code == AS_OK ? as_kernel_unpack(&c->kernel, c->cuda, t->g, t->memory, p->low, p->high,
                                            job->staging, c->stream, e)
                         : code;
}

static int end_job(as_channel *c, as_job *job, as_copies *copies, int code, as_error *e)
{
    if (code != AS_OK) {
        as_channel_drop(c, job);
        return code;
    }
    return as_channel_submit(c, job, copies, e);
}

/* Elements that the range cuts: halves wait for each other on the host. */
static int seams_in(const as_trip *t, const char *from, bool is_window, as_copies *copies,
                    as_error *e)
{
    as_cast_element elements[2];
    int count;
    const char *memory = (const char *)(uintptr_t)t->memory; /* a name here; it is not read */
    int code = as_cast_seams(t->g, memory, t->low, t->high, from, !is_window, elements, &count, e);
    for (int i = 0; i < count && code == AS_OK; i++) {
        const as_cast_element *x = &elements[i];
        as_job *job;
        code = as_channel_take(t->channel, true, false, &job, e);
        if (code == AS_OK) {
            memcpy(job->bounce, x->bytes, (size_t)x->size);
            job->bytes = x->size;
            code = as_cuda_copy_in(t->channel, t->memory + (as_cu_pointer)x->memory, job->bounce,
                                   x->size, e);
            code = end_job(t->channel, job, copies, code, e);
        }
    }
    return code;
}

static int in(const as_device *d, const as_geometry *g, char *memory, int64_t low, int64_t high,
              const char *from, bool is_window, as_copies *copies, as_error *e)
{
    /* Written to is it by trips of the other direction alone. */
    char *host = (char *)(uintptr_t)from;
    as_trip t = as_trip_begin(d, g, memory, low, high, host, is_window, true);
    int code = AS_OK;
    as_part p;
    while (code == AS_OK && as_trip_next(&t, &p)) {
        as_job *job;
        code = as_channel_take(t.channel, !p.is_direct, p.way.kind == AS_WAY_KERNEL, &job, e);
        if (code != AS_OK) {
            break;
        }
        job->bytes = p.way.to - p.from;
        code = p.way.kind == AS_WAY_ROWS    ? in_by_rows(&t, &p, job, e)
               : p.way.kind == AS_WAY_BLOCK ? in_by_block(&t, &p, job, e)
                                            : in_by_kernel(&t, &p, job, e);
        code = end_job(t.channel, job, copies, code, e);
    }
    if (code == AS_OK && g->memory_dtype && t.before < t.until) {
        code = seams_in(&t, from, is_window, copies, e);
    }
    return code;
}

int as_cuda_unpack(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                   int64_t high, const char *packed, as_copies *c, as_error *e)
{
    return in(d, g, memory, low, high, packed, false, c, e);
}

int as_cuda_from_window(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                        int64_t high, const char *window, as_copies *c, as_error *e)
{
    return in(d, g, memory, low, high, window, true, c, e);
}
