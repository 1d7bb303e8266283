/* SPDX-License-Identifier: Apache-2.0
 * Streams and events of the simulated driver.
 */
#include "sim_state.h"

#include <stdatomic.h>
#include <string.h>

static uint64_t this_thread(void)
{
    static atomic_uint_fast64_t threads;
    static _Thread_local uint64_t number;
    if (number == 0) {
        number = atomic_fetch_add(&threads, 1) + 1;
    }
    return number;
}

int sim_stream_new(sim_context *context, sim_stream **out)
{
    sim_stream *s = sim_new(SIM_STREAM, sizeof *s, context);
    if (!s) {
        return AS_CU_OUT_OF_MEMORY;
    }
    s->blocking = true;
    *out = s;
    return 0;
}

/* The calling thread's of the current context, or the legacy one. */
static int default_stream(bool legacy, sim_stream **out)
{
    uint64_t thread = legacy ? 0 : this_thread();
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        sim_stream *s = sim_object_at(SIM_STREAM, i);
        if (s->object.context == sim_current() && !s->object.dead && s->is_default &&
            s->thread == thread) {
            *out = s;
            return 0;
        }
    }
    int code = sim_stream_new(sim_current(), out);
    if (!code) {
        (*out)->is_default = true;
        (*out)->thread = thread;
    }
    return code;
}

static _Thread_local int capture_mode; /* 0: CU_STREAM_CAPTURE_MODE_GLOBAL */

/* One that is captured, and that the legacy stream waits for or not. */
static bool any_captured(bool blocking)
{
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        const sim_stream *s = sim_object_at(SIM_STREAM, i);
        if (s->captured && !s->object.dead && (s->blocking || !blocking)) {
            return true;
        }
    }
    return false;
}

int sim_unsafe(void)
{
    return capture_mode != AS_CU_CAPTURE_MODE_RELAXED && any_captured(false) ? AS_CU_CAPTURE_FIRST
                                                                             : 0;
}

void sim_capture(as_cu_stream stream, bool on)
{
    sim_lock();
    sim_stream *s = sim_object_of(SIM_STREAM, stream);
    if (s) {
        s->captured = on;
    }
    sim_unlock();
}

as_cu_result cu_stream_capture_mode(int *mode)
{
    int code = sim_enter("cuThreadExchangeStreamCaptureMode", SIM_INIT);
    if (!code) {
        int old = capture_mode;
        capture_mode = *mode;
        *mode = old;
    }
    return sim_leave(code);
}

as_cu_result cu_stream_capturing(as_cu_stream stream, int *status)
{
    int code = sim_enter("cuStreamIsCapturing", SIM_CURRENT);
    sim_stream *s = NULL;
    code = code ? code : sim_use_stream(stream, "cuStreamIsCapturing", &s);
    if (!code) {
        *status = s->captured;
    }
    return sim_leave(code);
}

int sim_use_stream(as_cu_stream stream, const char *call, sim_stream **out)
{
    if (!stream || stream == AS_CU_STREAM_LEGACY || stream == AS_CU_STREAM_PER_THREAD) {
        if (stream != AS_CU_STREAM_PER_THREAD && any_captured(true)) {
            return SIM_CAPTURE_IMPLICIT;
        }
        return default_stream(stream != AS_CU_STREAM_PER_THREAD, out);
    }
    void *found = NULL;
    int code = sim_use(SIM_STREAM, stream, call, &found);
    *out = found;
    if (!code && (*out)->captured && strcmp(call, "cuStreamIsCapturing") != 0) {
        sim_note_rule("%s: the stream is being captured", call);
    }
    return code;
}

static int create(as_cu_stream *out, unsigned flags, int priority)
{
    sim_stream *s = NULL;
    int code = flags > AS_CU_STREAM_NON_BLOCKING ? AS_CU_INVALID_VALUE : 0;
    code = code ? code : sim_stream_new(sim_current(), &s);
    if (!code) {
        s->flags = flags;
        s->blocking = !(flags & AS_CU_STREAM_NON_BLOCKING);
        s->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
        *out = s->object.handle;
    }
    return code;
}

as_cu_result cu_stream_create(as_cu_stream *out, unsigned flags, int priority)
{
    int code = sim_enter("cuStreamCreateWithPriority", SIM_CURRENT);
    return sim_leave(code ? code : create(out, flags, priority));
}

as_cu_result cu_stream_create_plain(as_cu_stream *out, unsigned flags)
{
    int code = sim_enter("cuStreamCreate", SIM_CURRENT);
    return sim_leave(code ? code : create(out, flags, 0));
}

static int destroy(enum sim_kind kind, const void *handle, const char *call)
{
    void *found = NULL;
    int code = sim_use(kind, handle, call, &found);
    if (!code) {
        ((sim_object *)found)->dead = true; /* what is under way in a stream goes on */
    }
    return code;
}

as_cu_result cu_stream_destroy(as_cu_stream stream)
{
    int told = sim_enter("cuStreamDestroy", SIM_CURRENT);
    int code = sim_current() ? destroy(SIM_STREAM, stream, "cuStreamDestroy") : 0;
    return sim_leave(told ? told : code);
}

static int context_of(as_cu_stream stream, as_cu_context *context)
{
    const sim_context *c = sim_current();
    if (stream && stream != AS_CU_STREAM_LEGACY && stream != AS_CU_STREAM_PER_THREAD) {
        const sim_stream *s = sim_object_of(SIM_STREAM, stream);
        if (s && s->object.dead && s->object.forgiven) {
            return SIM_INVALID_HANDLE;
        }
        if (!s || s->object.dead) {
            return SIM_NOTE(SIM_INVALID_HANDLE, "cuStreamGetCtx: %p is no stream", (void *)stream);
        }
        c = s->object.context;
    }
    *context = c->object.handle;
    return 0;
}

as_cu_result cu_stream_context(as_cu_stream stream, as_cu_context *context)
{
    int code = sim_enter("cuStreamGetCtx", SIM_CURRENT);
    return sim_leave(code ? code : context_of(stream, context));
}

as_cu_result cu_stream_priority(as_cu_stream stream, int *priority)
{
    int code = sim_enter("cuStreamGetPriority", SIM_CURRENT);
    sim_stream *s = NULL;
    code = code ? code : sim_use_stream(stream, "cuStreamGetPriority", &s);
    if (!code) {
        *priority = s->priority;
    }
    return sim_leave(code);
}

as_cu_result cu_stream_flags(as_cu_stream stream, unsigned *flags)
{
    int code = sim_enter("cuStreamGetFlags", SIM_CURRENT);
    sim_stream *s = NULL;
    code = code ? code : sim_use_stream(stream, "cuStreamGetFlags", &s);
    if (!code) {
        *flags = s->flags;
    }
    return sim_leave(code);
}

/* The legacy stream's end is that of the streams that wait for it, too. */
static uint64_t end_of(sim_stream *s, const char *call)
{
    return s->legacy ? sim_ask(&(sim_op){.call = call}, s) : s->asked;
}

static int synchronize(as_cu_stream stream)
{
    sim_stream *s = NULL;
    int code = sim_unsafe();
    code = code ? code : sim_use_stream(stream, "cuStreamSynchronize", &s);
    return code ? code : sim_wait(s, end_of(s, "cuStreamSynchronize"));
}

as_cu_result cu_stream_synchronize(as_cu_stream stream)
{
    int told = sim_enter("cuStreamSynchronize", SIM_CURRENT);
    int code = sim_current() ? synchronize(stream) : 0;
    return sim_leave(told ? told : code);
}

as_cu_result cu_stream_query(as_cu_stream stream)
{
    int code = sim_enter("cuStreamQuery", SIM_CURRENT);
    sim_stream *s = NULL;
    code = code ? code : sim_unsafe();
    code = code ? code : sim_use_stream(stream, "cuStreamQuery", &s);
    if (!code && s->first) {
        code = AS_CU_NOT_READY;
    }
    return sim_leave(code);
}

/* ---- events ---- */

as_cu_result cu_event_create(as_cu_event *out, unsigned flags)
{
    int code = sim_enter("cuEventCreate", SIM_CURRENT);
    sim_event *e = NULL;
    if (!code && flags > 7) {
        code = AS_CU_INVALID_VALUE;
    }
    if (!code) {
        e = sim_new(SIM_EVENT, sizeof *e, sim_current());
        code = e ? 0 : AS_CU_OUT_OF_MEMORY;
    }
    if (!code) {
        *out = e->object.handle;
    }
    return sim_leave(code);
}

as_cu_result cu_event_destroy(as_cu_event event)
{
    int told = sim_enter("cuEventDestroy", SIM_CURRENT);
    int code = sim_current() ? destroy(SIM_EVENT, event, "cuEventDestroy") : 0;
    return sim_leave(told ? told : code);
}

static int record(as_cu_event event, as_cu_stream stream)
{
    void *found = NULL;
    sim_stream *s = NULL;
    int code = sim_use(SIM_EVENT, event, "cuEventRecord", &found);
    code = code ? code : sim_use_stream(stream, "cuEventRecord", &s);
    if (code) {
        return code;
    }
    sim_event *e = found;
    uint64_t number = sim_ask(&(sim_op){.act = SIM_ACT_RECORD, .call = "cuEventRecord"}, s);
    if (number == 0 || sim_remember(e, s) != 0) {
        return AS_CU_OUT_OF_MEMORY;
    }
    e->stream = s;
    e->number = number;
    return 0;
}

as_cu_result cu_event_record(as_cu_event event, as_cu_stream stream)
{
    int code = sim_enter("cuEventRecord", SIM_CURRENT);
    return sim_leave(code ? code : record(event, stream));
}

/* Events may be asked, and waited for, by other contexts than theirs. */
static int find_event(as_cu_event event, const char *call, sim_event **out)
{
    sim_event *e = sim_object_of(SIM_EVENT, event);
    if (e && e->object.dead && e->object.forgiven) {
        return SIM_INVALID_HANDLE;
    }
    if (!e || e->object.dead) {
        return SIM_NOTE(SIM_INVALID_HANDLE, "%s: %p is no event", call, (void *)event);
    }
    *out = e;
    return 0;
}

static int query(as_cu_event event)
{
    sim_event *e = NULL;
    int code = sim_unsafe();
    code = code ? code : find_event(event, "cuEventQuery", &e);
    if (code || !e->stream) {
        return code;
    }
    if (e->object.context->lost) {
        return e->object.context->lost;
    }
    return e->stream->finished >= e->number ? 0 : AS_CU_NOT_READY;
}

as_cu_result cu_event_query(as_cu_event event)
{
    int code = sim_enter("cuEventQuery", SIM_CURRENT);
    return sim_leave(code ? code : query(event));
}

static int wait_for(as_cu_event event)
{
    sim_event *e = NULL;
    int code = find_event(event, "cuEventSynchronize", &e);
    return code || !e->stream ? code : sim_wait(e->stream, e->number);
}

as_cu_result cu_event_synchronize(as_cu_event event)
{
    int told = sim_enter("cuEventSynchronize", SIM_CURRENT);
    int code = sim_current() ? wait_for(event) : 0;
    return sim_leave(told ? told : code);
}

static int stream_wait(as_cu_stream stream, as_cu_event event, unsigned flags)
{
    sim_event *e = NULL;
    sim_stream *s = NULL;
    int code = find_event(event, "cuStreamWaitEvent", &e);
    code = code ? code : sim_use_stream(stream, "cuStreamWaitEvent", &s);
    if (!code && flags > 1) {
        code = AS_CU_INVALID_VALUE;
    }
    if (code || !e->stream) {
        return code;
    }
    sim_op op = {.act = SIM_ACT_WAIT,
                 .call = "cuStreamWaitEvent",
                 .awaited = e->stream,
                 .awaited_number = e->number};
    sim_learn_event(s, e);
    return sim_ask(&op, s) ? 0 : AS_CU_OUT_OF_MEMORY;
}

as_cu_result cu_stream_wait(as_cu_stream stream, as_cu_event event, unsigned flags)
{
    int code = sim_enter("cuStreamWaitEvent", SIM_CURRENT);
    return sim_leave(code ? code : stream_wait(stream, event, flags));
}
