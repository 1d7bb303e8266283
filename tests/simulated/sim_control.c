/* SPDX-License-Identifier: Apache-2.0
 * What every call of the simulated driver begins and ends with: lock, log, counts, failures; and the
 * controls of the tests.
 */
#include "sim_state.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim_inject.h"

enum { MOST_CALLS = 128, MOST_ATTRIBUTES = 16 };

pthread_mutex_t sim_mutex = PTHREAD_MUTEX_INITIALIZER;

static struct {
    bool begun; /* the environment was read */
    bool initialised;
    bool forked;
    bool held;
    bool stalled;
    bool strict_pointers;
    int devices;
    int log;
    int delay;
    uint64_t random;
    int64_t pageable;
    char fault[512];
    int counted;
    struct {
        const char *call;
        int64_t count;
    } calls[MOST_CALLS];
    int attributes;
    struct {
        int attribute;
        int value;
    } attribute[MOST_ATTRIBUTES];
} state = {.devices = 2, .log = -1, .random = 1};

void sim_lock(void)
{
    (void)pthread_mutex_lock(&sim_mutex);
}

void sim_unlock(void)
{
    (void)pthread_mutex_unlock(&sim_mutex);
}

static void after_fork(void)
{
    state.initialised = false;
    state.forked = true;
    sim_unlock();
}

static void begin(void)
{
    state.begun = true;
    const char *log = getenv("SIM_CUDA_LOG");
    if (log) {
        state.log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    const char *devices = getenv("SIM_CUDA_DEVICES");
    if (devices) {
        long wanted = strtol(devices, NULL, 10);
        state.devices = wanted < 0 || wanted > SIM_MAX_DEVICES ? 0 : (int)wanted;
    }
    const char *fail = getenv("SIM_CUDA_FAIL");
    size_t name = fail ? strcspn(fail, ":") : 0;
    char call[48];
    if (fail && fail[name] && name < sizeof call) {
        char *end = NULL;
        (void)snprintf(call, sizeof call, "%.*s", (int)name, fail);
        long nth = strtol(fail + name + 1, &end, 10);
        long code = *end == ':' ? strtol(end + 1, NULL, 10) : AS_CU_INVALID_VALUE;
        sim_inject_ask(call, (int)nth, (int)code, false);
    }
    (void)pthread_atfork(sim_lock, sim_unlock, after_fork);
}

static void count(const char *call)
{
    if (state.log >= 0) {
        char line[64];
        int n = snprintf(line, sizeof line, "%s\n", call);
        if (write(state.log, line, (size_t)n) != n) {
            (void)fprintf(stderr, "simulated CUDA: SIM_CUDA_LOG cannot be written\n");
        }
    }
    for (int i = 0; i < state.counted; i++) {
        if (strcmp(state.calls[i].call, call) == 0) {
            state.calls[i].count++;
            return;
        }
    }
    if (state.counted < MOST_CALLS) {
        state.calls[state.counted].call = call;
        state.calls[state.counted++].count = 1;
    }
}

static int refused(const char *call, enum sim_need need)
{
    if (state.forked) {
        return SIM_NOTE(AS_CU_NOT_INITIALIZED, "%s: called in a child of fork()", call);
    }
    if (need >= SIM_INIT && !state.initialised) {
        return AS_CU_NOT_INITIALIZED;
    }
    const sim_context *context = sim_current();
    if (need < SIM_CURRENT) {
        return 0;
    }
    if (!context) {
        return AS_CU_INVALID_CONTEXT;
    }
    if (context->object.dead && context->object.forgiven) {
        return SIM_CONTEXT_DESTROYED;
    }
    if (context->object.dead) {
        return SIM_NOTE(SIM_CONTEXT_DESTROYED, "%s: the current context was destroyed", call);
    }
    return context->lost;
}

int sim_enter(const char *call, enum sim_need need)
{
    sim_lock();
    if (!state.begun) {
        begin();
    }
    count(call);
    if (need == SIM_NOTHING) {
        return 0;
    }
    int injected = sim_inject(call, false);
    int code = refused(call, need);
    if (injected && !code) {
        code = injected;
        sim_context *context = sim_current();
        if (need == SIM_CURRENT && sim_loses(injected)) {
            context->lost = injected;
            sim_wake();
        }
    }
    return code;
}

int sim_leave(int code)
{
    sim_unlock();
    return code;
}

void sim_note_rule(const char *format, ...)
{
    if (!state.fault[0]) {
        va_list list;
        va_start(list, format);
        (void)vsnprintf(state.fault, sizeof state.fault, format, list);
        va_end(list);
    }
}

int sim_device_count(void)
{
    return state.devices;
}

int sim_device_attribute(int attribute, int *value)
{
    for (int i = 0; i < state.attributes; i++) {
        if (state.attribute[i].attribute == attribute) {
            *value = state.attribute[i].value;
            return 0;
        }
    }
    return -1;
}

bool sim_is_initialised(void)
{
    return state.initialised;
}

void sim_set_initialised(void)
{
    state.initialised = true;
}

int sim_late(const char *call)
{
    return sim_inject(call, true);
}

int64_t sim_next_delay(void)
{
    if (state.delay == 0) {
        return 0;
    }
    state.random ^= state.random << 13;
    state.random ^= state.random >> 7;
    state.random ^= state.random << 17;
    return (int64_t)(state.random % (uint64_t)(state.delay + 1));
}

bool sim_is_held(void)
{
    return state.held;
}

bool sim_is_stalled(void)
{
    return state.stalled;
}

bool sim_pointers_are_strict(void)
{
    return state.strict_pointers;
}

void sim_count_pageable(void)
{
    state.pageable++;
}

/* ---- controls ---- */

int sim_devices(int wanted)
{
    sim_lock();
    bool can = !state.initialised && wanted >= 0 && wanted <= SIM_MAX_DEVICES;
    if (!state.begun) {
        begin();
    }
    if (can) {
        state.devices = wanted;
    }
    sim_unlock();
    return can ? 0 : AS_CU_INVALID_VALUE;
}

void sim_attribute(int attribute, int value)
{
    sim_lock();
    int i = 0;
    while (i < state.attributes && state.attribute[i].attribute != attribute) {
        i++;
    }
    if (i < MOST_ATTRIBUTES) {
        state.attribute[i].attribute = attribute;
        state.attribute[i].value = value;
        state.attributes += i == state.attributes;
    }
    sim_unlock();
}

void sim_fail(const char *call, int nth, int code)
{
    sim_lock();
    sim_inject_ask(call, nth, code, false);
    sim_unlock();
}

void sim_fail_late(const char *call, int nth, int code)
{
    sim_lock();
    sim_inject_ask(call, nth, code, true);
    sim_unlock();
}

int64_t sim_failed(void)
{
    sim_lock();
    int64_t n = sim_injected();
    sim_unlock();
    return n;
}

int64_t sim_calls(const char *call)
{
    sim_lock();
    int64_t n = 0;
    for (int i = 0; i < state.counted; i++) {
        if (!call || sim_same_call(call, state.calls[i].call)) {
            n += state.calls[i].count;
        }
    }
    sim_unlock();
    return n;
}

int64_t sim_pageable(void)
{
    sim_lock();
    int64_t n = state.pageable;
    sim_unlock();
    return n;
}

void sim_delay(unsigned seed, int microseconds)
{
    sim_lock();
    state.delay = microseconds;
    state.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    sim_unlock();
}

void sim_hold(bool on)
{
    sim_lock();
    state.held = on;
    sim_wake();
    sim_unlock();
}

void sim_stall(bool on)
{
    sim_lock();
    state.stalled = on;
    sim_wake();
    sim_unlock();
}

void sim_strict_pointers(bool on)
{
    sim_lock();
    state.strict_pointers = on;
    sim_unlock();
}

const char *sim_faults(void)
{
    static _Thread_local char fault[sizeof state.fault];
    sim_lock();
    memcpy(fault, state.fault, sizeof fault);
    sim_unlock();
    return fault;
}

void sim_reset(void)
{
    sim_lock();
    state.held = false;
    state.stalled = false;
    state.strict_pointers = false;
    state.delay = 0;
    state.attributes = 0;
    memset(state.fault, 0, sizeof state.fault);
    sim_inject_reset();
    sim_heal_contexts();
    sim_wake();
    sim_unlock();
}

int64_t sim_live(const char *what)
{
    sim_lock();
    int64_t n = -1;
    if (strcmp(what, "memory") == 0) {
        n = sim_memory_live(SIM_DEVICE, true) + sim_memory_live(SIM_MANAGED, true);
    } else if (strcmp(what, "host") == 0) {
        n = sim_memory_live(SIM_HOST, true);
    } else if (strcmp(what, "registered") == 0) {
        n = sim_memory_live(SIM_REGISTERED, false);
    } else if (strcmp(what, "events") == 0) {
        n = sim_alive(SIM_EVENT);
    } else if (strcmp(what, "streams") == 0) {
        n = sim_alive(SIM_STREAM);
    } else if (strcmp(what, "modules") == 0) {
        n = sim_alive(SIM_MODULE);
    } else if (strcmp(what, "contexts") == 0) {
        n = sim_retained();
    } else if (strcmp(what, "depth") == 0) {
        n = sim_depth();
    }
    sim_unlock();
    return n;
}
