/* SPDX-License-Identifier: Apache-2.0
 * Contexts of the simulated driver: primary ones, those that programs make, and the stack of each
 * thread.
 */
#include "sim_state.h"

enum { DEEPEST = 64 };

static sim_context *primary[SIM_MAX_DEVICES];
static _Thread_local sim_context *stack[DEEPEST];
static _Thread_local int depth;

sim_context *sim_current(void)
{
    return depth ? stack[depth - 1] : NULL;
}

int64_t sim_depth(void)
{
    return depth;
}

int64_t sim_retained(void)
{
    int64_t n = 0;
    for (size_t i = 0; i < sim_object_count(SIM_CONTEXT); i++) {
        const sim_context *c = sim_object_at(SIM_CONTEXT, i);
        n += c->object.dead ? 0 : c->retains;
    }
    return n;
}

void sim_heal_contexts(void)
{
    for (size_t i = 0; i < sim_object_count(SIM_CONTEXT); i++) {
        ((sim_context *)sim_object_at(SIM_CONTEXT, i))->lost = 0;
    }
}

static int make(as_cu_device device, sim_context **out)
{
    if (device < 0 || device >= sim_device_count()) {
        return SIM_INVALID_DEVICE;
    }
    sim_context *c = sim_new(SIM_CONTEXT, sizeof *c, NULL);
    sim_stream *legacy = NULL;
    if (!c || sim_stream_new(c, &legacy) != 0) {
        return AS_CU_OUT_OF_MEMORY;
    }
    legacy->is_default = true;
    legacy->legacy = true;
    c->device = device;
    c->retains = 1;
    *out = c;
    return 0;
}

static void kill_all(enum sim_kind kind, const sim_context *context)
{
    for (size_t i = 0; i < sim_object_count(kind); i++) {
        sim_object *o = sim_object_at(kind, i);
        o->dead = o->dead || o->context == context;
    }
}

/* With all that it has; what is under way ends first. */
static void destroy(sim_context *c)
{
    sim_wait_context(c);
    c->object.dead = true;
    for (int kind = SIM_STREAM; kind < SIM_KINDS; kind++) {
        kill_all((enum sim_kind)kind, c);
    }
    sim_memory_drop_of(c);
}

/* A primary context whose device was reset. */
static int revive(sim_context *c)
{
    sim_stream *legacy = NULL;
    int code = sim_stream_new(c, &legacy);
    if (!code) {
        legacy->is_default = true;
        legacy->legacy = true;
        c->object.dead = false;
        c->lost = 0;
    }
    return code;
}

static int retain(as_cu_device device, as_cu_context *out)
{
    if (device < 0 || device >= sim_device_count()) {
        return SIM_INVALID_DEVICE;
    }
    int code = 0;
    if (primary[device] && primary[device]->object.dead) {
        code = revive(primary[device]);
    }
    if (primary[device] && !code) {
        primary[device]->retains++;
    } else if (!code) {
        code = make(device, &primary[device]);
    }
    if (!code) {
        *out = primary[device]->object.handle;
    }
    return code;
}

as_cu_result cu_primary_retain(as_cu_context *context, as_cu_device device)
{
    int code = sim_enter("cuDevicePrimaryCtxRetain", SIM_INIT);
    return sim_leave(code ? code : retain(device, context));
}

static int release(as_cu_device device)
{
    if (device < 0 || device >= sim_device_count()) {
        return SIM_INVALID_DEVICE;
    }
    sim_context *c = primary[device];
    if (!c) {
        return SIM_NOTE(AS_CU_INVALID_CONTEXT,
                        "cuDevicePrimaryCtxRelease: device %d's context is not retained", device);
    }
    if (--c->retains == 0) {
        primary[device] = NULL;
        if (!c->object.dead) {
            destroy(c);
        }
    }
    return 0;
}

as_cu_result cu_primary_release(as_cu_device device)
{
    int told = sim_enter("cuDevicePrimaryCtxRelease", SIM_INIT);
    int code = sim_is_initialised() ? release(device) : told;
    return sim_leave(told ? told : code);
}

as_cu_result cu_primary_state(as_cu_device device, unsigned *flags, int *active)
{
    int code = sim_enter("cuDevicePrimaryCtxGetState", SIM_INIT);
    if (!code && (device < 0 || device >= sim_device_count())) {
        code = SIM_INVALID_DEVICE;
    }
    if (!code) {
        *flags = 0;
        *active = primary[device] && !primary[device]->object.dead;
    }
    return sim_leave(code);
}

as_cu_result cu_context_create(as_cu_context *context, unsigned flags, as_cu_device device)
{
    int code = sim_enter("cuCtxCreate", SIM_INIT);
    sim_context *c = NULL;
    if (!code && (flags || depth == DEEPEST)) {
        code = AS_CU_INVALID_VALUE;
    }
    code = code ? code : make(device, &c);
    if (!code) {
        stack[depth++] = c;
        *context = c->object.handle;
    }
    return sim_leave(code);
}

static int find(as_cu_context context, const char *call, sim_context **out)
{
    void *found = NULL;
    if (sim_use(SIM_CONTEXT, context, call, &found) != 0 || !found) {
        return AS_CU_INVALID_CONTEXT;
    }
    *out = found;
    return 0;
}

as_cu_result cu_context_destroy(as_cu_context context)
{
    int told = sim_enter("cuCtxDestroy", SIM_INIT);
    sim_context *c = NULL;
    int code = sim_is_initialised() ? find(context, "cuCtxDestroy", &c) : told;
    if (c && c == primary[c->device]) {
        code = SIM_NOTE(AS_CU_INVALID_CONTEXT, "cuCtxDestroy: of a primary context");
    } else if (c) {
        destroy(c);
        depth -= sim_current() == c;
    }
    return sim_leave(told ? told : code);
}

static void forgive(const sim_context *c)
{
    for (int kind = SIM_CONTEXT; kind < SIM_KINDS; kind++) {
        for (size_t i = 0; i < sim_object_count((enum sim_kind)kind); i++) {
            sim_object *o = sim_object_at((enum sim_kind)kind, i);
            o->forgiven = o->forgiven || o->context == c || o == &c->object;
        }
    }
}

int sim_end_context(as_cu_context context)
{
    sim_lock();
    sim_context *c = sim_object_of(SIM_CONTEXT, context);
    int code = c && !c->object.dead ? 0 : AS_CU_INVALID_CONTEXT;
    if (!code) {
        destroy(c);
        forgive(c);
    }
    sim_unlock();
    return code;
}

as_cu_result cu_context_current(as_cu_context *context)
{
    int code = sim_enter("cuCtxGetCurrent", SIM_INIT);
    if (!code) {
        const sim_context *c = sim_current();
        *context = c ? c->object.handle : NULL;
    }
    return sim_leave(code);
}

as_cu_result cu_context_push(as_cu_context context)
{
    int code = sim_enter("cuCtxPushCurrent", SIM_INIT);
    sim_context *c = NULL;
    code = code ? code : find(context, "cuCtxPushCurrent", &c);
    if (!code && depth == DEEPEST) {
        code = SIM_NOTE(AS_CU_INVALID_VALUE, "cuCtxPushCurrent: %d contexts deep", depth);
    }
    if (!code) {
        stack[depth++] = c;
    }
    return sim_leave(code);
}

as_cu_result cu_context_pop(as_cu_context *context)
{
    int code = sim_enter("cuCtxPopCurrent", SIM_INIT);
    if (depth > 0) {
        const sim_context *c = stack[--depth];
        if (context) {
            *context = c->object.handle;
        }
    } else {
        code = code ? code : SIM_NOTE(AS_CU_INVALID_CONTEXT, "cuCtxPopCurrent: there is none");
    }
    return sim_leave(code);
}

as_cu_result cu_context_set(as_cu_context context)
{
    int code = sim_enter("cuCtxSetCurrent", SIM_INIT);
    sim_context *c = NULL;
    if (!code && context) {
        code = find(context, "cuCtxSetCurrent", &c);
    }
    if (!code) {
        depth -= depth > 0;
        if (c) {
            stack[depth++] = c;
        }
    }
    return sim_leave(code);
}

as_cu_result cu_context_device(as_cu_device *device)
{
    int code = sim_enter("cuCtxGetDevice", SIM_CURRENT);
    if (!code) {
        *device = sim_current()->device;
    }
    return sim_leave(code);
}

as_cu_result cu_context_priorities(int *least, int *greatest)
{
    int code = sim_enter("cuCtxGetStreamPriorityRange", SIM_CURRENT);
    if (!code) {
        *least = 0;
        *greatest = -5;
    }
    return sim_leave(code);
}

as_cu_result cu_context_synchronize(void)
{
    int code = sim_enter("cuCtxSynchronize", SIM_CURRENT);
    const sim_context *c = sim_current();
    if (c && !c->object.dead) {
        sim_wait_context(c);
        code = code ? code : c->lost;
    }
    return sim_leave(code);
}
