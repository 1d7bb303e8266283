/* SPDX-License-Identifier: Apache-2.0
 * The way to and from the memory of one device: a stream of its own, of the lowest priority, on
 * which copies run one after the other, and the host's part of them, in the same order, when they
 * have ended. Of devices.c and the cuda_*.c files alone; by one thread.
 */
#ifndef ALLSHARD_DEVICE_CUDA_CHANNEL_H
#define ALLSHARD_DEVICE_CUDA_CHANNEL_H

#include "device/cuda_kernel.h"
#include "device/cuda_library.h"
#include "device/cuda_pins.h"
#include "device/device.h"

enum {
    AS_BOUNCE_BYTES = 4 << 20, /* of one buffer */
    AS_BOUNCE_COUNT = 8,       /* had when the first is needed */
    AS_JOBS = 256              /* under way at the most */
};

typedef struct as_job as_job;

/* A copy, or several that end together. */
struct as_job {
    as_cu_event event;     /* after them */
    as_copies *copies;     /* who waits */
    char *bounce;          /* pinned, AS_BOUNCE_BYTES; NULL: not needed */
    as_cu_pointer staging; /* on the device, AS_BOUNCE_BYTES; 0: not needed */
    int64_t bytes;         /* of the piece */
    /* The host's part when the event has come; NULL: none. */
    int (*finish)(as_job *job, as_error *e);
    as_geometry geometry;
    int64_t low;
    int64_t high;
    char *host;     /* packed or window */
    bool is_window; /* else packed */
    int64_t base;   /* for `finish`: what bounce's first byte is in the piece's memory */
};

typedef struct as_channel {
    as_device device; /* first: what as_homes point to */
    const as_cuda *cuda;
    as_cu_context context;
    int ordinal;
    bool retained; /* the context is the primary one, and was retained */
    char name[24]; /* "cuda:0" */
    as_cu_stream stream;
    int64_t max_pitch;
    const as_pins *pins;
    as_kernel kernel;
    char *bounces; /* one registered mapping, or NULL */
    char *spare[AS_BOUNCE_COUNT];
    int spare_count;
    as_cu_pointer stagings; /* one allocation, or 0 */
    as_cu_pointer spare_staging[AS_BOUNCE_COUNT];
    int spare_staging_count;
    as_job *jobs; /* [AS_JOBS]: a ring */
    int first;    /* the oldest under way */
    int under_way;
    int64_t moved;      /* bytes, so far */
    const char *reason; /* what goes a slower way, and why; NULL: nothing */
} as_channel;

/* AS_NOMEM, AS_CUDA. `context` is one of the device; `pins` outlives the channel. */
int as_channel_open(as_channel **out, const as_cuda *cuda, as_cu_context context, int ordinal,
                    bool retained, const as_pins *pins, as_error *e);
void as_channel_close(as_channel *c);

/* The channel of a device that is not the host. */
static inline as_channel *as_channel_of(const as_device *d)
{
    return (as_channel *)(uintptr_t)d;
}

/* What is begun from now on comes after what is in the stream. */
int as_channel_follow(as_channel *c, as_cu_stream stream, as_error *e);

/* The next job, empty but for what was asked for; waits for older ones, and sees to their end, where
 * there is none free. Then nothing else may be begun before it is submitted or dropped. */
int as_channel_take(as_channel *c, bool bounce, bool staging, as_job **out, as_error *e);

/* What was put into the stream since as_channel_take is the job. `copies` counts it from now on. */
int as_channel_submit(as_channel *c, as_job *job, as_copies *copies, as_error *e);

/* It is not needed after all: waits for what is in the stream. */
void as_channel_drop(as_channel *c, as_job *job);

/* Sees to the end of jobs whose event has come. `wait`: of the oldest one it waits for it. */
void as_channel_step(as_channel *c, bool wait, bool *moved, as_error *e);

/* Device ↔ host, the functions of as_device. */
int as_cuda_pack(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                 int64_t high, char *packed, as_copies *c, as_error *e);
int as_cuda_to_window(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                      int64_t high, char *window, as_copies *c, as_error *e);
int as_cuda_unpack(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                   int64_t high, const char *packed, as_copies *c, as_error *e);
int as_cuda_from_window(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                        int64_t high, const char *window, as_copies *c, as_error *e);

#endif
