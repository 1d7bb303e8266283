/* SPDX-License-Identifier: Apache-2.0 */
#include "support_twin.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support_isave.h"
#include "support_ranks.h"

#define DONE(call) CHECK((call) == AS_CU_SUCCESS)

void twin_open(twin_devices *d)
{
    *d = (twin_devices){.sim = simulated()};
    d->cuda = &d->sim->cuda;
    DONE(d->cuda->init(0));
    for (int i = 1; i >= 0; i--) {
        DONE(d->cuda->primary_retain(&d->context[i], i));
    }
    DONE(d->cuda->context_push(d->context[0]));
    DONE(d->cuda->stream_create(&d->own, AS_CU_STREAM_NON_BLOCKING, 0));
}

void twin_check(const twin_devices *d)
{
    as_cu_context current = NULL;
    CHECK_TEXT(*d->sim->faults() == '\0', "%s", d->sim->faults());
    DONE(d->cuda->context_current(&current));
    CHECK(current == d->context[0] && d->sim->live("depth") == 1);
}

void twin_close(twin_devices *d)
{
    static const char *const kinds[] = {"memory", "host", "events", "modules", "registered"};
    twin_check(d);
    DONE(d->sim->context_synchronize());
    DONE(d->cuda->stream_destroy(d->own));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        CHECK_TEXT(d->sim->live(kinds[i]) == 0, "%lld %s are left",
                   (long long)d->sim->live(kinds[i]), kinds[i]);
    }
    CHECK(d->sim->live("streams") == 0);
    DONE(d->cuda->context_pop(NULL));
    DONE(d->cuda->primary_release(0));
    DONE(d->cuda->primary_release(1));
    CHECK_TEXT(d->sim->live("contexts") == 0, "%lld contexts are left",
               (long long)d->sim->live("contexts"));
}

/* ---- memory ---- */

static bool is_host(enum twin_memory kind)
{
    return kind == TWIN_REGISTERED || kind == TWIN_ALLOCATED || kind == TWIN_HOST;
}

static int ordinal_of(enum twin_memory kind)
{
    return kind == TWIN_DEVICE_1;
}

static void enter(const twin_devices *d, int ordinal)
{
    DONE(d->cuda->context_push(d->context[ordinal]));
}

static void leave(const twin_devices *d)
{
    as_cu_context popped;
    DONE(d->cuda->context_pop(&popped));
}

static char *host_of(uint64_t at)
{
    return (char *)(uintptr_t)at;
}

static uint64_t allocate(const twin_devices *d, enum twin_memory kind, size_t bytes)
{
    as_cu_pointer at = 0;
    void *host = NULL;
    enter(d, ordinal_of(kind));
    switch (kind) {
    case TWIN_MANAGED:
        DONE(d->sim->managed_alloc(&at, bytes, 1));
        break;
    case TWIN_UNOWNED:
        at = d->sim->alloc_unowned(0, bytes);
        break;
    case TWIN_ALLOCATED:
        DONE(d->sim->host_alloc(&host, bytes, 0));
        break;
    case TWIN_REGISTERED:
    case TWIN_HOST:
        host = malloc(bytes);
        break;
    default:
        DONE(d->cuda->memory_alloc(&at, bytes));
        break;
    }
    CHECK(at || host);
    if (kind == TWIN_REGISTERED) {
        DONE(d->cuda->host_register(host, bytes, AS_CU_REGISTER_PORTABLE));
    }
    leave(d);
    return host ? (uint64_t)(uintptr_t)host : at;
}

static void release(const twin_devices *d, enum twin_memory kind, uint64_t at)
{
    enter(d, ordinal_of(kind));
    if (!is_host(kind)) {
        DONE(d->cuda->memory_free(at));
    } else if (kind == TWIN_ALLOCATED) {
        DONE(d->sim->host_free(host_of(at)));
    } else {
        if (kind == TWIN_REGISTERED) {
            DONE(d->cuda->host_unregister(host_of(at)));
        }
        free(host_of(at));
    }
    leave(d);
}

void twin_make(twin *t, const twin_devices *d, const holding *host, unsigned kinds,
               uint64_t *random)
{
    *t = (twin){.devices = d,
                .host = host,
                .kind = calloc(host->count + 1, sizeof *t->kind),
                .at = calloc(host->count + 1, sizeof *t->at)};
    CHECK(t->kind && t->at && kinds);
    for (size_t i = 0; i < host->count; i++) {
        do {
            t->kind[i] = (enum twin_memory)pick(random, TWIN_KINDS);
        } while (!(kinds & 1U << t->kind[i]));
        if (host->pieces[i].bytes > 0) {
            t->at[i] = allocate(d, t->kind[i], host->pieces[i].bytes);
            t->on_device += !is_host(t->kind[i]) && piece_bytes(&host->pieces[i]) > 0;
        }
    }
}

void twin_free(twin *t)
{
    for (size_t i = 0; i < t->host->count; i++) {
        if (t->at[i]) {
            release(t->devices, t->kind[i], t->at[i]);
        }
    }
    free(t->kind);
    free(t->at);
    *t = (twin){0};
}

void twin_declare(const twin *t, const allshard *as, allshard_state *s,
                  int32_t (*stored)(int32_t dtype))
{
    holding other = {.count = t->host->count,
                     .pieces = calloc(t->host->count + 1, sizeof *other.pieces)};
    CHECK(other.pieces != NULL);
    for (size_t i = 0; i < other.count; i++) {
        other.pieces[i] = t->host->pieces[i];
        piece *p = &other.pieces[i];
        if (t->at[i]) {
            p->first = (unsigned char *)host_of(t->at[i]) + (p->first - p->memory);
        }
    }
    holding_declare_stored(&other, as, s, stored);
    free(other.pieces);
}

/* ---- bytes ---- */

size_t twin_bytes(const twin *t)
{
    size_t sum = 0;
    for (size_t i = 0; i < t->host->count; i++) {
        sum += t->host->pieces[i].bytes;
    }
    return sum;
}

void *twin_stream_of(const twin_devices *d, enum twin_stream which)
{
    return which == TWIN_LEGACY       ? AS_CU_STREAM_LEGACY
           : which == TWIN_PER_THREAD ? AS_CU_STREAM_PER_THREAD
           : which == TWIN_OWN        ? d->own
                                      : NULL;
}

void twin_put(const twin *t, enum twin_stream which, const unsigned char *from)
{
    const twin_devices *d = t->devices;
    for (size_t i = 0; i < t->host->count; i++) {
        const piece *p = &t->host->pieces[i];
        const unsigned char *bytes = from ? from : p->memory;
        from += from ? p->bytes : 0;
        if (!t->at[i]) {
            continue;
        }
        if (is_host(t->kind[i])) {
            memcpy(host_of(t->at[i]), bytes, p->bytes);
            continue;
        }
        int ordinal = ordinal_of(t->kind[i]);
        as_cu_stream stream = twin_stream_of(d, which);
        if (which == TWIN_OWN && ordinal != 0) {
            stream = AS_CU_STREAM_LEGACY;
        }
        enter(d, ordinal);
        DONE(d->cuda->copy_to_device(t->at[i], bytes, p->bytes, stream));
        leave(d);
    }
}

const char *twin_wrong(const twin *t)
{
    const char *wrong = NULL;
    for (size_t i = 0; i < t->host->count && !wrong; i++) {
        const piece *p = &t->host->pieces[i];
        if (!t->at[i]) {
            continue;
        }
        unsigned char *found = malloc(p->bytes);
        CHECK(found != NULL);
        if (is_host(t->kind[i])) {
            memcpy(found, host_of(t->at[i]), p->bytes);
        } else {
            t->devices->sim->read(found, t->at[i], p->bytes);
        }
        if (memcmp(found, p->memory, p->bytes) != 0) {
            wrong = *p->tensor->name ? p->tensor->name : "(the empty name)";
        }
        free(found);
    }
    return wrong;
}

/* ---- time ---- */

static void *wait_and_go_on(void *user)
{
    const twin_pause *p = user;
    struct timespec t = {.tv_sec = p->milliseconds / 1000,
                         .tv_nsec = p->milliseconds % 1000 * 1000000L};
    (void)nanosleep(&t, NULL);
    p->sim->hold(false);
    return NULL;
}

void twin_stop(twin_pause *p, const twin_devices *d, int milliseconds)
{
    *p = (twin_pause){.sim = d->sim, .milliseconds = milliseconds};
    p->sim->hold(true);
    CHECK(pthread_create(&p->thread, NULL, wait_and_go_on, p) == 0);
}

void twin_go_on(twin_pause *p)
{
    CHECK(pthread_join(p->thread, NULL) == 0);
}
