/* SPDX-License-Identifier: Apache-2.0
 * The simulated cuFile's controls, and its way to the simulated devices.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cufile_state.h"
#include "sim_cufile.h"

enum { MOST_NAMES = 16, NVFS_MAJOR = 2, NVFS_MINOR = 17 };

sim_cufile sim_cufile_state = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .nvfs_major = NVFS_MAJOR, .nvfs_minor = NVFS_MINOR};

/* Of one call's name. */
typedef struct counter {
    char name[40];
    int64_t calls;
    int64_t fail_at; /* the call of that number fails; 0: none */
    bool and_on;     /* and those that follow */
    int code;
} counter;

static counter counters[MOST_NAMES];

static void lock(void)
{
    (void)pthread_mutex_lock(&sim_cufile_state.lock);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&sim_cufile_state.lock);
}

static counter *counter_of(const char *call)
{
    for (int i = 0; i < MOST_NAMES; i++) {
        if (counters[i].name[0] == '\0') {
            (void)snprintf(counters[i].name, sizeof counters[i].name, "%s", call);
        }
        if (strcmp(counters[i].name, call) == 0) {
            return &counters[i];
        }
    }
    abort(); /* there are fewer functions than that */
}

int sim_cufile_count(const char *call)
{
    counter *c = counter_of(call);
    c->calls++;
    bool hit = c->fail_at && (c->and_on ? c->calls >= c->fail_at : c->calls == c->fail_at);
    return hit ? c->code : 0;
}

void sim_cufile_fault(const char *format, ...)
{
    if (!sim_cufile_state.fault[0]) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(sim_cufile_state.fault, sizeof sim_cufile_state.fault, format, args);
        va_end(args);
    }
}

/* ---- the simulated devices ---- */

typedef struct driver {
    bool there;
    int (*context_current)(void **context);
    int (*attributes)(unsigned count, int *attributes, void **values, uint64_t pointer);
    void (*read)(void *to, uint64_t from, size_t bytes);
    void (*write)(uint64_t to, const void *from, size_t bytes);
} driver;

static void take(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    if (!address) {
        (void)fprintf(stderr, "libcuda.so.1 is not the simulated one: it has no %s\n", name);
        abort();
    }
    memcpy(function, &address, sizeof address);
}

static const driver *devices(void)
{
    static driver found;
    if (!found.there) {
        void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            (void)fprintf(stderr, "no simulated libcuda.so.1: %s\n", dlerror());
            abort();
        }
        take(library, "cuCtxGetCurrent", &found.context_current);
        take(library, "cuPointerGetAttributes", &found.attributes);
        take(library, "sim_read", &found.read);
        take(library, "sim_write", &found.write);
        found.there = true;
    }
    return &found;
}

uint64_t sim_cufile_allocation(uint64_t at, size_t bytes, int *cuda)
{
    uint64_t start = 0;
    size_t size = 0;
    unsigned type = 0;
    int what[] = {AS_CU_POINTER_MEMORY_TYPE, AS_CU_POINTER_RANGE_START, AS_CU_POINTER_RANGE_SIZE};
    void *values[] = {&type, &start, &size};
    *cuda = devices()->attributes(3, what, values, at);
    bool fits = *cuda == 0 && type == AS_CU_MEMORY_DEVICE && at >= start && at - start <= size &&
                bytes <= size - (at - start);
    return fits ? start : 0;
}

int sim_cufile_context(void)
{
    void *context = NULL;
    int code = devices()->context_current(&context);
    return code == 0 && !context ? AS_CU_INVALID_CONTEXT : code;
}

void sim_cufile_from(void *to, uint64_t from, size_t bytes)
{
    devices()->read(to, from, bytes);
}

void sim_cufile_to(uint64_t to, const void *from, size_t bytes)
{
    devices()->write(to, from, bytes);
}

/* ---- time ---- */

int sim_cufile_next_delay(void)
{
    sim_cufile_state.random = sim_cufile_state.random * UINT64_C(6364136223846793005) + 1;
    return sim_cufile_state.delay
               ? (int)((sim_cufile_state.random >> 33) % (uint64_t)(sim_cufile_state.delay + 1))
               : 0;
}

void sim_cufile_wait(int microseconds)
{
    if (microseconds > 0) {
        struct timespec t = {.tv_sec = microseconds / 1000000,
                             .tv_nsec = microseconds % 1000000 * 1000L};
        (void)nanosleep(&t, NULL);
    }
}

/* ---- the tests' ---- */

#pragma GCC visibility push(default)

void sim_file_refuse(const char *call, int nth, int code)
{
    lock();
    counter *c = counter_of(call);
    c->fail_at = nth ? c->calls + abs(nth) : 0;
    c->and_on = nth < 0;
    c->code = code;
    unlock();
}

int64_t sim_file_calls(const char *call)
{
    int64_t calls = 0;
    lock();
    for (int i = 0; i < MOST_NAMES; i++) {
        calls += !call || strcmp(counters[i].name, call) == 0 ? counters[i].calls : 0;
    }
    unlock();
    return calls;
}

void sim_file_shorten(int64_t most)
{
    lock();
    sim_cufile_state.most = most;
    unlock();
}

void sim_file_delay(unsigned seed, int microseconds)
{
    lock();
    sim_cufile_state.random = seed;
    sim_cufile_state.delay = microseconds;
    unlock();
}

void sim_file_nvfs(unsigned major, unsigned minor)
{
    lock();
    sim_cufile_state.nvfs_major = major;
    sim_cufile_state.nvfs_minor = minor;
    unlock();
}

void sim_file_played(bool played)
{
    lock();
    sim_cufile_state.played = played;
    unlock();
}

/* Has its memory gone? */
static bool is_freed(const sim_buffer *b)
{
    int cuda = 0;
    return b->used && sim_cufile_allocation(b->base, b->bytes, &cuda) != b->allocation && !cuda;
}

void sim_file_forget(void)
{
    lock();
    for (int i = 0; i < MOST_BUFFERS; i++) {
        sim_buffer *b = &sim_cufile_state.buffers[i];
        b->used = b->used && !is_freed(b);
    }
    unlock();
}

const char *sim_file_faults(void)
{
    static _Thread_local char text[sizeof sim_cufile_state.fault];
    lock();
    for (int i = 0; i < MOST_BUFFERS; i++) {
        if (is_freed(&sim_cufile_state.buffers[i])) {
            sim_cufile_fault("memory that is registered was freed");
        }
    }
    memcpy(text, sim_cufile_state.fault, sizeof text);
    unlock();
    return text;
}

void sim_file_reset(void)
{
    lock();
    for (int i = 0; i < MOST_NAMES; i++) {
        counters[i].fail_at = 0;
    }
    sim_cufile_state.nvfs_major = NVFS_MAJOR;
    sim_cufile_state.nvfs_minor = NVFS_MINOR;
    sim_cufile_state.most = 0;
    sim_cufile_state.delay = 0;
    sim_cufile_state.played = false;
    sim_cufile_state.fault[0] = '\0';
    unlock();
}

int64_t sim_file_live(const char *what)
{
    int64_t n = -1;
    lock();
    if (strcmp(what, "drivers") == 0) {
        n = sim_cufile_state.open;
    } else if (strcmp(what, "read") == 0) {
        n = sim_cufile_state.read;
    } else if (strcmp(what, "written") == 0) {
        n = sim_cufile_state.written;
    } else if (strcmp(what, "handles") == 0) {
        n = 0;
        for (int i = 0; i < MOST_HANDLES; i++) {
            n += sim_cufile_state.handles[i].used;
        }
    } else if (strcmp(what, "buffers") == 0) {
        n = 0;
        for (int i = 0; i < MOST_BUFFERS; i++) {
            n += sim_cufile_state.buffers[i].used;
        }
    }
    unlock();
    return n;
}

#pragma GCC visibility pop

__attribute__((constructor)) static void read_environment(void)
{
    const char *nvfs = getenv("SIM_CUFILE_NVFS");
    if (nvfs && strcmp(nvfs, "0") == 0) {
        sim_cufile_state.nvfs_major = 0;
        sim_cufile_state.nvfs_minor = 0;
    }
}
