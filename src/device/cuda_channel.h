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

typedef struct as_channel as_channel;
typedef struct as_job as_job;

/* A copy, or several that end together: a place in the channel's ring. */
struct as_job {
    as_cu_event event;     /* after them; the place's own, made once */
    as_copies *copies;     /* who waits */
    char *bounce;          /* pinned, AS_BOUNCE_BYTES; NULL: not needed */
    as_cu_pointer staging; /* on the device, AS_BOUNCE_BYTES; 0: not needed */
    int64_t bytes;         /* of the piece */

    /* The host's part when the event has come; NULL: none. It may put more into the stream, and set
     * `again`: then it is called once more when that has come, unless it has set itself to NULL. */
    int (*finish)(as_channel *c, as_job *job, as_error *e);
    bool again;
    /* What is to be put into the stream by `finish` changes memory that was copied out by this job:
     * until then nothing else may be begun. */
    bool changes;

    /* For `finish`. */
    as_geometry geometry; /* of the piece's elements in the buffer: its memory is bounce − base */
    int64_t base;
    int64_t low;
    int64_t high;
    char *host;           /* packed or window; only read from by loads */
    bool is_window;       /* else packed */
    as_cu_pointer memory; /* where the block is to go back to */
    int64_t length;       /* bytes of it; or of what is to go to `host` as it is */
};

struct as_channel {
    as_device device; /* first: what as_homes point to */
    const as_cuda *cuda;
    as_cu_context context;
    as_cu_stream stream;
    as_cu_event before; /* for as_channel_follow */
    /* A little memory of the context's: it is there as long as the context is. 0: there was none. */
    as_cu_pointer token;
    unsigned long long token_id;
    int64_t max_pitch;
    int64_t part; /* bytes that go through a buffer at once: AS_BOUNCE_BYTES; less in tests, ≥ 8 */
    const as_pins *pins;
    const as_meanwhile *meanwhile; /* NULL: nothing is done while the device is waited for */
    char *bounces;                 /* one mapping, registered if it can be; NULL: not had yet */
    char *spare[AS_BOUNCE_COUNT];
    as_cu_pointer stagings; /* one allocation, or 0 */
    as_cu_pointer spare_staging[AS_BOUNCE_COUNT];
    as_job *jobs;  /* [AS_JOBS]: a ring */
    int64_t moved; /* bytes, so far */
    /* What goes a slower way since as_channel_follow, and why; NULL: nothing. */
    const char *reason;
    as_kernel kernel;
    int first; /* job: the oldest under way */
    int under_way;
    int spare_count;
    int spare_staging_count;
    int ordinal;
    as_cu_device handle; /* of the ordinal */
    bool gone;           /* it was given up: nothing is left but its name and its figures */
    bool retained;       /* the context is the primary one, and was retained */
    bool kernel_loaded;  /* or it was tried */
    bool registered;     /* the bounce buffers are */
    bool no_stagings;    /* there was no memory for them */
    bool changing;       /* a job that changes a block has copied it out, and not yet back */
    bool ended;          /* jobs did in as_channel_take */
    char name[24];       /* "cuda:0" */
    char unpinned[192];  /* texts of reasons */
    char unstaged[192];
};

/* AS_NOMEM, AS_CUDA. `context` is one of the device; `pins` outlives the channel. Where `retained`
 * is set the primary context is the channel's to release, if it could be opened. */
int as_channel_open(as_channel **out, const as_cuda *cuda, as_cu_context context, int ordinal,
                    bool retained, const as_pins *pins, as_error *e);

/* Waits for what is under way. NULL is allowed. */
void as_channel_close(as_channel *c);

/* Was the context destroyed, or its device reset, so that the channel is of no use any more? Handles
 * are not used for it where that can be: the driver may have given them to others. AS_CUDA. */
int as_channel_check(const as_channel *c, bool *gone, as_error *e);

/* Such a channel lets go of what is not gone with its context; no function but as_channel_close takes
 * it any more. Nothing is under way. */
void as_channel_give_up(as_channel *c);

/* The channel of a device that is not the host. */
static inline as_channel *as_channel_of(const as_device *d)
{
    return (as_channel *)(uintptr_t)d;
}

/* What is begun from now on comes after what is in the stream (NULL: the legacy default stream of
 * the channel's context). The begin of a save or load: what was short of memory is tried again.
 * AS_CUDA. */
int as_channel_follow(as_channel *c, as_cu_stream stream, as_error *e);

/* The channel's context becomes the current one, and the caller's again: also where the driver tells
 * an error then, which may be that of something begun earlier. AS_CUDA. */
int as_channel_push(const as_channel *c, as_error *e);
int as_channel_pop(const as_channel *c, as_error *e);

/* A moment of a wait for the device, the *idle-th of it: lets the time go by, and looks after what is
 * to be done meanwhile, whose error it returns. */
int as_channel_pause(const as_channel *c, int *idle, as_error *e);

/* Waits for the stream, before memory is used for something else after an error. The first answer
 * may be the error of something that was begun earlier; a second one says that the context is lost,
 * and then nothing is under way in it any more. With the context current. */
void as_channel_wait(const as_channel *c);

/* Has the bounce buffers; c->bounces stays NULL if there is no memory. With the context current. */
void as_channel_make_bounces(as_channel *c);

/* Can the kernel be used, with staging buffers? Both are had when this is first asked. */
bool as_channel_has_kernel(as_channel *c);

/* The next job, empty but for what was asked for; waits for older ones, and sees to their end, where
 * there is none free: an error of those is this one's, too. `staging`: as_channel_has_kernel has said
 * so. Then the channel's context is the current one, and nothing else may be begun, until it is
 * submitted or dropped: only copies and launches of this job. AS_NOMEM, AS_CUDA, and what
 * c->meanwhile says while older ones are waited for. */
int as_channel_take(as_channel *c, bool bounce, bool staging, as_job **out, as_error *e);

/* What was put into the stream since as_channel_take is the job. `copies` counts it from now on;
 * after an error only if it does count it. AS_CUDA. */
int as_channel_submit(as_channel *c, as_job *job, as_copies *copies, as_error *e);

/* It is not needed after all: waits for what is in the stream. */
void as_channel_drop(as_channel *c, as_job *job);

/* Sees to the end of jobs whose event has come, and sets *moved if there are any. `wait`: waits for
 * the oldest one. An error of a job is in *e and in the code of its as_copies. */
void as_channel_step(as_channel *c, bool wait, bool *moved, as_error *e);

/* Device ↔ host, the functions of as_device. What was begun before an error goes on. */
int as_cuda_pack(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                 int64_t high, char *packed, as_copies *c, as_error *e);
int as_cuda_to_window(const as_device *d, const as_geometry *g, const char *memory, int64_t low,
                      int64_t high, char *window, as_copies *c, as_error *e);
int as_cuda_unpack(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                   int64_t high, const char *packed, as_copies *c, as_error *e);
int as_cuda_from_window(const as_device *d, const as_geometry *g, char *memory, int64_t low,
                        int64_t high, const char *window, as_copies *c, as_error *e);

#endif
