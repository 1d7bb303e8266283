/* SPDX-License-Identifier: Apache-2.0
 * Out of device memory.
 */
#include <string.h>

#include "device/cuda_channel.h"
#include "device/cuda_rows.h"
#include "device/cuda_trip.h"
#include "tensor/dtype.h"
#include "tensor/span.h"

/* The buffer has the bytes of the file, one after the other. */
static int finish_plain(as_channel *c, as_job *job, as_error *e)
{
    (void)c, (void)e;
    memcpy(job->host, job->bounce, (size_t)job->length);
    return AS_OK;
}

static int finish_gather(as_channel *c, as_job *job, as_error *e)
{
    (void)c;
    const as_device *host = &as_device_host;
    const char *memory = as_trip_image(job->bounce, job->base);
    return (job->is_window ? host->to_window : host->pack)(host, &job->geometry, memory, job->low,
                                                           job->high, job->host, NULL, e);
}

static void gather_from(as_job *job, const as_trip *t, const as_part *p, const as_geometry *image,
                        int64_t base)
{
    job->finish = finish_gather;
    job->geometry = *image;
    job->base = base;
    job->low = p->low;
    job->high = p->high;
    job->host = p->host;
    job->is_window = t->is_window;
}

static void copy_from(as_job *job, const as_part *p, int64_t bytes)
{
    job->finish = finish_plain;
    job->length = bytes;
    job->host = p->host;
}

static int out_by_rows(const as_trip *t, const as_part *p, as_job *job, as_error *e)
{
    as_rows rows = {.m = &t->m,
                    .memory = t->memory,
                    .from = p->from,
                    .to = p->way.to,
                    .host = p->is_direct ? p->host : job->bounce,
                    .is_window = p->is_direct && t->is_window,
                    .low = p->low};
    if (!p->is_direct && !t->is_window && !t->g->memory_dtype) {
        copy_from(job, p, p->way.to - p->from);
    } else if (!p->is_direct) {
        as_geometry image = as_span_packed(t->g);
        gather_from(job, t, p, &image, p->from);
    }
    return as_cuda_rows(t->channel, &rows, e);
}

static int out_by_block(const as_trip *t, const as_part *p, as_job *job, as_error *e)
{
    gather_from(job, t, p, t->g, p->way.low);
    return as_cuda_copy_out(t->channel, job->bounce, t->memory + (as_cu_pointer)p->way.low,
                            p->way.high - p->way.low, e);
}

static int out_by_kernel(const as_trip *t, const as_part *p, as_job *job, as_error *e)
{
    const as_channel *c = t->channel;
    int64_t from = p->from / t->unit * t->file_size;
    int64_t bytes = (p->way.to - p->from) / t->unit * t->file_size;
    if (!p->is_direct && !t->is_window) {
        copy_from(job, p, bytes);
    } else if (!p->is_direct) {
        as_geometry image = *t->g;
        image.memory_dtype = image.file_dtype = AS_DTYPE_NONE;
        image = as_span_packed(&image);
        gather_from(job, t, p, &image, from);
    }
    int code = as_kernel_pack(&c->kernel, c->cuda, t->g, t->memory, p->low, p->high, job->staging,
                              c->stream, e);
    return code != AS_OK
               ? code
               : as_cuda_copy_out(c, p->is_direct ? p->host : job->bounce, job->staging, bytes, e);
}

static int out(as_trip *t, as_copies *copies, as_error *e)
{
    int code = AS_OK;
    as_part p;
    while (code == AS_OK && as_trip_next(t, &p)) {
        as_job *job;
        code = as_channel_take(t->channel, !p.is_direct, p.way.kind == AS_WAY_KERNEL, &job, e);
        if (code != AS_OK) {
            break;
        }
        job->bytes = p.way.to - p.from;
        code = p.way.kind == AS_WAY_ROWS    ? out_by_rows(t, &p, job, e)
               : p.way.kind == AS_WAY_BLOCK ? out_by_block(t, &p, job, e)
                                            : out_by_kernel(t, &p, job, e);
        if (code == AS_OK) {
            code = as_channel_submit(t->channel, job, copies, e);
        } else {
            as_channel_drop(t->channel, job);
        }
    }
    return code;
}

int as_cuda_pack(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                 int64_t high, char *packed, as_copies *c, as_error *e)
{
    as_trip t = as_trip_begin(d, g, memory, low, high, packed, false, false);
    return out(&t, c, e);
}

int as_cuda_to_window(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                      int64_t high, char *window, as_copies *c, as_error *e)
{
    as_trip t = as_trip_begin(d, g, memory, low, high, window, true, false);
    return out(&t, c, e);
}
