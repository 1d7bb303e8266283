/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_channel.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "device/cuda_pointer.h"

enum {
    BOUNCES = AS_BOUNCE_COUNT * AS_BOUNCE_BYTES,
    TOKEN_BYTES = 512,
    YIELDS = 16,
    REST = 20000 /* nanoseconds: a buffer of 4 MiB crosses in 80 µs, and others are under way */
};

/* ---- the current context ---- */

int as_channel_push(const as_channel *c, as_error *e)
{
    as_cu_result r = c->cuda->context_push(c->context);
    return r ? as_cuda_fail(e, c->cuda, "cuCtxPushCurrent", r, "the context of %s", c->name)
             : AS_OK;
}

int as_channel_pop(const as_channel *c, as_error *e)
{
    as_cu_context old;
    as_cu_result r = c->cuda->context_pop(&old);
    return r ? as_cuda_fail(e, c->cuda, "cuCtxPopCurrent", r, "the context of %s", c->name) : AS_OK;
}

int as_channel_pause(const as_channel *c, int *idle, as_error *e)
{
    if ((*idle)++ < YIELDS) {
        (void)sched_yield();
    } else {
        (void)nanosleep(&(struct timespec){.tv_nsec = REST}, NULL);
    }
    return c->meanwhile && c->meanwhile->look ? c->meanwhile->look(c->meanwhile->user, c->moved, e)
                                              : AS_OK;
}

void as_channel_wait(const as_channel *c)
{
    int idle = 0;
    as_cu_result r = c->stream ? AS_CU_NOT_READY : AS_CU_SUCCESS;
    while (r == AS_CU_NOT_READY) {
        (void)as_channel_pause(c, &idle, NULL); /* the memory is not free before */
        r = c->cuda->stream_query(c->stream);
    }
    /* A context that has failed still has to come to rest, and will. While the program captures streams
     * in this thread, or all, it may only be asked like this. */
    int mode = AS_CU_CAPTURE_MODE_RELAXED;
    bool relaxed = as_cuda_says_captured(r) && c->cuda->stream_capture_mode(&mode) == AS_CU_SUCCESS;
    if (r && c->cuda->stream_synchronize(c->stream)) {
        (void)c->cuda->stream_synchronize(c->stream);
    }
    if (relaxed) {
        (void)c->cuda->stream_capture_mode(&mode);
    }
}

/* ---- buffers ---- */

void as_channel_make_bounces(as_channel *c)
{
    void *map = mmap(NULL, BOUNCES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        return;
    }
    c->bounces = map;
    as_pins_keep(c->bounces, BOUNCES);
    as_cu_result r = c->cuda->host_register(c->bounces, BOUNCES, AS_CU_REGISTER_PORTABLE);
    c->registered = r == AS_CU_SUCCESS;
    if (r) {
        as_error e = AS_ERROR_INIT;
        (void)as_cuda_fail(&e, c->cuda, "cuMemHostRegister", r, "%d bytes", BOUNCES);
        (void)snprintf(c->unpinned, sizeof c->unpinned,
                       "copies of %s wait for the driver, since its buffers are not pinned: %s",
                       c->name, as_error_text(&e));
        as_error_clear(&e);
        c->reason = c->unpinned;
    }
    for (int i = 0; i < AS_BOUNCE_COUNT; i++) {
        c->spare[i] = c->bounces + (size_t)i * AS_BOUNCE_BYTES;
    }
    c->spare_count = AS_BOUNCE_COUNT;
}

/* Where memory is short, fewer of them. */
static void make_stagings(as_channel *c)
{
    as_cu_result first = AS_CU_SUCCESS;
    for (int count = AS_BOUNCE_COUNT; count > 0; count /= 2) {
        as_cu_result r = c->cuda->memory_alloc(&c->stagings, (size_t)count * AS_BOUNCE_BYTES);
        if (r == AS_CU_SUCCESS) {
            for (int i = 0; i < count; i++) {
                c->spare_staging[i] = c->stagings + (as_cu_pointer)i * AS_BOUNCE_BYTES;
            }
            c->spare_staging_count = count;
            return;
        }
        c->stagings = 0;
        first = first ? first : r;
    }
    as_error e = AS_ERROR_INIT;
    (void)as_cuda_fail(&e, c->cuda, "cuMemAlloc", first, "%d bytes on %s", AS_BOUNCE_BYTES,
                       c->name);
    (void)snprintf(c->unstaged, sizeof c->unstaged,
                   "strided pieces on %s are copied without the kernel: %s", c->name,
                   as_error_text(&e));
    as_error_clear(&e);
    c->no_stagings = true;
    c->reason = c->reason ? c->reason : c->unstaged;
}

bool as_channel_has_kernel(as_channel *c)
{
    bool load = !c->kernel_loaded;
    bool stage = (load || c->kernel.module) && !c->stagings && !c->no_stagings;
    if ((load || stage) && as_channel_push(c, NULL) == AS_OK) {
        if (load) {
            as_kernel_load(&c->kernel, c->cuda);
            c->kernel_loaded = true;
        }
        if (c->kernel.module && stage) {
            make_stagings(c);
        }
        (void)as_channel_pop(c, NULL);
    }
    if (c->kernel_loaded && !c->kernel.module && !c->reason) {
        c->reason = c->kernel.reason;
    }
    return c->kernel.module && c->stagings;
}

/* ---- the caller's stream ---- */

static int fail_to_follow(const as_channel *c, const char *call, as_cu_result r, as_error *e)
{
    return r ? as_cuda_fail(e, c->cuda, call, r, "%s, to come after the caller's stream", c->name)
             : AS_OK;
}

/* With the channel's context current. */
static int wait_for(const as_channel *c, as_cu_event event, as_error *e)
{
    return fail_to_follow(c, "cuStreamWaitEvent", c->cuda->stream_wait(c->stream, event, 0), e);
}

/* What is captured has not run: there is nothing to come after, and our own stream would be drawn into
 * the capture. With the stream's context current. */
static int refuse_capture(const as_channel *c, as_cu_stream stream, as_error *e)
{
    int status = 0;
    as_cu_result r = c->cuda->stream_capturing(stream, &status);
    if (r == AS_CU_SUCCESS && status) {
        return as_fail(e, AS_INVALID, 0,
                       "the stream that the copies of %s are to come after (cuda_stream, %p) is "
                       "being captured into a graph, and its work has not run: end the capture "
                       "(cudaStreamEndCapture) and launch the graph before you save or load",
                       c->name, (void *)stream);
    }
    return fail_to_follow(c, "cuStreamIsCapturing", r, e);
}

static int follow_own(const as_channel *c, as_cu_stream stream, as_error *e)
{
    int code = refuse_capture(c, stream, e);
    if (code != AS_OK) {
        return code;
    }
    code = fail_to_follow(c, "cuEventRecord", c->cuda->event_record(c->before, stream), e);
    return code == AS_OK ? wait_for(c, c->before, e) : code;
}

/* With the other context current: an event of its own, which our stream waits for in its own
 * context. */
static int record_and_wait(const as_channel *c, as_cu_stream stream, as_error *e)
{
    as_cu_event event = NULL;
    int refused = refuse_capture(c, stream, e);
    if (refused != AS_OK) {
        return refused;
    }
    as_cu_result r = c->cuda->event_create(&event, AS_CU_EVENT_DISABLE_TIMING);
    if (r) {
        return fail_to_follow(c, "cuEventCreate", r, e);
    }
    int code = fail_to_follow(c, "cuEventRecord", c->cuda->event_record(event, stream), e);
    if (code == AS_OK && (code = as_channel_push(c, e)) == AS_OK) {
        code = wait_for(c, event, e);
        int popped = as_channel_pop(c, e);
        code = code != AS_OK ? code : popped;
    }
    (void)c->cuda->event_destroy(event); /* what waits for it goes on to do so */
    return code;
}

static int follow_other(const as_channel *c, as_cu_stream stream, as_cu_context other, as_error *e)
{
    int code = fail_to_follow(c, "cuCtxPushCurrent", c->cuda->context_push(other), e);
    if (code != AS_OK) {
        return code;
    }
    as_cu_context old;
    code = record_and_wait(c, stream, e);
    int popped = fail_to_follow(c, "cuCtxPopCurrent", c->cuda->context_pop(&old), e);
    return code != AS_OK ? code : popped;
}

int as_channel_follow(as_channel *c, as_cu_stream stream, as_error *e)
{
    c->no_stagings = false;
    c->reason = *c->unpinned ? c->unpinned : NULL;
    int code = as_channel_push(c, e);
    if (code != AS_OK) {
        return code;
    }
    /* The default streams are those of the context that is current. */
    as_cu_context of = c->context;
    bool is_default = !stream || stream == AS_CU_STREAM_LEGACY || stream == AS_CU_STREAM_PER_THREAD;
    as_cu_result r = is_default ? AS_CU_SUCCESS : c->cuda->stream_context(stream, &of);
    if (r) {
        code = as_cuda_fail(e, c->cuda, "cuStreamGetCtx", r, "the caller's stream");
    } else {
        code = of == c->context ? follow_own(c, stream, e) : follow_other(c, stream, of, e);
    }
    int popped = as_channel_pop(c, code == AS_OK ? e : NULL);
    return code != AS_OK ? code : popped;
}

/* ---- open and close ---- */

static int set_up(as_channel *c, as_error *e)
{
    const as_cuda *cuda = c->cuda;
    int least = 0;
    int greatest = 0;
    int pitch = 0;
    const char *call = "cuDeviceGet";
    as_cu_result r = cuda->device_get(&c->handle, c->ordinal);
    if (r == AS_CU_SUCCESS) {
        call = "cuDeviceGetAttribute";
        r = cuda->device_attribute(&pitch, AS_CU_DEVICE_MAX_PITCH, c->handle);
    }
    if (r == AS_CU_SUCCESS) {
        call = "cuCtxGetStreamPriorityRange";
        r = cuda->context_priorities(&least, &greatest);
    }
    if (r == AS_CU_SUCCESS) {
        call = "cuStreamCreateWithPriority";
        r = cuda->stream_create(&c->stream, AS_CU_STREAM_NON_BLOCKING, least);
        c->stream = r ? NULL : c->stream;
    }
    if (r == AS_CU_SUCCESS) {
        call = "cuEventCreate";
        r = cuda->event_create(&c->before, AS_CU_EVENT_DISABLE_TIMING);
        c->before = r ? NULL : c->before;
    }
    c->max_pitch = pitch;
    if (r == AS_CU_SUCCESS && cuda->memory_alloc(&c->token, TOKEN_BYTES) == AS_CU_SUCCESS) {
        int attributes[] = {AS_CU_POINTER_BUFFER_ID};
        void *values[] = {&c->token_id};
        call = "cuPointerGetAttributes";
        r = cuda->pointer_attributes(1, attributes, values, c->token);
    } else {
        c->token = 0;
    }
    return r ? as_cuda_fail(e, cuda, call, r, "on %s", c->name) : AS_OK;
}

/* With the context current. */
static void tear_down(as_channel *c)
{
    as_channel_wait(c);
    if (c->kernel.module) {
        as_kernel_unload(&c->kernel, c->cuda);
    }
    for (int i = 0; c->jobs && i < AS_JOBS; i++) {
        if (c->jobs[i].event) {
            (void)c->cuda->event_destroy(c->jobs[i].event);
        }
    }
    if (c->before) {
        (void)c->cuda->event_destroy(c->before);
    }
    if (c->stagings) {
        (void)c->cuda->memory_free(c->stagings);
    }
    if (c->token) {
        (void)c->cuda->memory_free(c->token);
    }
    if (c->registered) {
        (void)c->cuda->host_unregister(c->bounces);
    }
    if (c->stream) {
        (void)c->cuda->stream_destroy(c->stream);
    }
}

static void release(as_channel *c)
{
    if (c->bounces) {
        (void)munmap(c->bounces, BOUNCES);
    }
    free(c->jobs);
    free(c);
}

/* ---- contexts that the program ends ---- */

/* Does a call that has used the context, or its stream, say that there is no such thing? */
static bool says_gone(const as_channel *c, as_cu_result r)
{
    as_cu_context current;
    if (r == AS_CU_DEINITIALIZED) { /* all of CUDA is: others have to say so, too */
        return c->cuda->context_current(&current) == r;
    }
    return !c->token && (r == AS_CU_INVALID_CONTEXT || r == AS_CU_CONTEXT_DESTROYED ||
                         r == AS_CU_INVALID_HANDLE);
}

/* By the stream: for want of a token. */
static as_cu_result ask_stream(const as_channel *c, const char **call)
{
    as_cu_context old;
    *call = "cuCtxPushCurrent";
    as_cu_result r = c->cuda->context_push(c->context);
    if (r == AS_CU_SUCCESS) {
        *call = "cuStreamQuery";
        r = c->cuda->stream_query(c->stream);
        (void)c->cuda->context_pop(&old);
    }
    return r == AS_CU_NOT_READY ? AS_CU_SUCCESS : r;
}

int as_channel_check(const as_channel *c, bool *gone, as_error *e)
{
    *gone = c->gone;
    if (*gone) {
        return AS_OK;
    }
    unsigned type = 0;
    unsigned long long id = 0;
    int attributes[] = {AS_CU_POINTER_MEMORY_TYPE, AS_CU_POINTER_BUFFER_ID};
    void *values[] = {&type, &id};
    const char *call = NULL;
    as_cu_result r = c->token ? as_cuda_pointer(c->cuda, 2, attributes, values, c->token, &call)
                              : ask_stream(c, &call);
    bool other = c->token && r == AS_CU_SUCCESS && (!type || id != c->token_id);
    *gone = other || says_gone(c, r);
    return r && !*gone
               ? as_cuda_fail(e, c->cuda, call, r, "whether the context of %s is there", c->name)
               : AS_OK;
}

void as_channel_give_up(as_channel *c)
{
    if (c->registered) {
        (void)c->cuda->host_unregister(c->bounces); /* should that not be over, too */
    }
    if (c->bounces) {
        (void)munmap(c->bounces, BOUNCES);
    }
    if (c->retained) { /* which a reset does not undo */
        (void)c->cuda->primary_release(c->handle);
    }
    free(c->jobs);
    c->jobs = NULL;
    c->bounces = NULL;
    c->gone = true;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): it is a member of as_device */
static char *no_direct(const as_geometry *g, char *memory, int64_t low, int64_t high)
{
    (void)g, (void)memory, (void)low, (void)high;
    return NULL;
}

int as_channel_open(as_channel **out, const as_cuda *cuda, as_cu_context context, int ordinal,
                    bool retained, const as_pins *pins, as_error *e)
{
    *out = NULL;
    as_channel *c = calloc(1, sizeof *c);
    if (!c) {
        return as_fail_nomem(e);
    }
    c->cuda = cuda;
    c->context = context;
    c->ordinal = ordinal;
    c->pins = pins;
    c->part = AS_BOUNCE_BYTES;
    (void)snprintf(c->name, sizeof c->name, "cuda:%d", ordinal);
    c->device = (as_device){.name = c->name,
                            .pack = as_cuda_pack,
                            .unpack = as_cuda_unpack,
                            .to_window = as_cuda_to_window,
                            .from_window = as_cuda_from_window,
                            .direct = no_direct};
    c->jobs = calloc(AS_JOBS, sizeof *c->jobs);
    int code = c->jobs ? as_channel_push(c, e) : as_fail_nomem(e);
    if (code == AS_OK) {
        code = set_up(c, e);
        if (code != AS_OK) {
            tear_down(c);
        }
        int popped = as_channel_pop(c, code == AS_OK ? e : NULL);
        if (code == AS_OK && popped != AS_OK) {
            as_channel_close(c);
            return popped;
        }
    }
    if (code != AS_OK) {
        release(c);
        return code;
    }
    c->retained = retained;
    *out = c;
    return AS_OK;
}

void as_channel_close(as_channel *c)
{
    if (!c) {
        return;
    }
    bool moved = false;
    while (c->under_way > 0) {
        as_channel_step(c, true, &moved, NULL);
    }
    bool gone = false;
    if (as_channel_check(c, &gone, NULL) == AS_OK && gone) {
        if (!c->gone) {
            as_channel_give_up(c);
        }
        release(c);
        return;
    }
    if (as_channel_push(c, NULL) == AS_OK) {
        tear_down(c);
        (void)as_channel_pop(c, NULL);
    } else if (c->registered) {
        (void)c->cuda->host_unregister(c->bounces); /* its memory goes away */
    }
    if (c->retained) {
        (void)c->cuda->primary_release(c->handle);
    }
    release(c);
}
