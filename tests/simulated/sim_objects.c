/* SPDX-License-Identifier: Apache-2.0
 * Handles of the simulated driver and what they stand for. Nothing is freed: who uses a handle after
 * its end is told so.
 */
#include "sim_state.h"

#include <stdlib.h>

static const char *const kinds[SIM_KINDS] = {"context", "stream", "event", "module", "function"};

static struct {
    sim_object **of;
    size_t count;
    size_t room;
} objects[SIM_KINDS];

/* No address that a program has, and none of another kind. */
static uintptr_t first_handle(enum sim_kind kind)
{
    return ((uintptr_t)0x51 << 48) + ((uintptr_t)kind << 40);
}

void *sim_new(enum sim_kind kind, size_t bytes, sim_context *context)
{
    if (objects[kind].count == objects[kind].room) {
        size_t room = objects[kind].room * 2 + 16;
        sim_object **of = realloc(objects[kind].of, room * sizeof *of);
        if (!of) {
            return NULL;
        }
        objects[kind].of = of;
        objects[kind].room = room;
    }
    sim_object *o = calloc(1, bytes);
    if (o) {
        o->handle = (void *)(first_handle(kind) + 16 * (objects[kind].count + 1));
        o->context = context;
        o->place = objects[kind].count;
        objects[kind].of[objects[kind].count++] = o;
    }
    return o;
}

void *sim_object_of(enum sim_kind kind, const void *handle)
{
    uintptr_t place = (uintptr_t)handle - first_handle(kind);
    size_t i = place / 16;
    return place % 16 == 0 && i >= 1 && i <= objects[kind].count ? objects[kind].of[i - 1] : NULL;
}

size_t sim_object_count(enum sim_kind kind)
{
    return objects[kind].count;
}

void *sim_object_at(enum sim_kind kind, size_t i)
{
    return objects[kind].of[i];
}

int64_t sim_alive(enum sim_kind kind)
{
    int64_t n = 0;
    for (size_t i = 0; i < objects[kind].count; i++) {
        bool counts = kind != SIM_STREAM || !((sim_stream *)objects[kind].of[i])->is_default;
        n += !objects[kind].of[i]->dead && counts;
    }
    return n;
}

int sim_use(enum sim_kind kind, const void *handle, const char *call, void **out)
{
    sim_object *o = sim_object_of(kind, handle);
    if (!o) {
        return SIM_NOTE(SIM_INVALID_HANDLE, "%s: %p is no %s", call, handle, kinds[kind]);
    }
    if (o->dead && o->forgiven) {
        return SIM_INVALID_HANDLE;
    }
    if (o->dead) {
        return SIM_NOTE(SIM_INVALID_HANDLE, "%s: the %s was destroyed", call, kinds[kind]);
    }
    if (kind != SIM_CONTEXT && o->context != sim_current()) {
        return SIM_NOTE(SIM_INVALID_HANDLE, "%s: the %s belongs to another context", call,
                        kinds[kind]);
    }
    *out = o;
    return 0;
}
