/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/buffers.h"

#include "base/checked.h"
#include "io/pool.h"
#include "transfer/deliver.h"

enum {
    FEWEST_BUFFERS = 4,
    FEWEST_SLOTS = 4,
    MOST_SLOTS = 64,
    FLIGHT = 24 << 20,  /* bytes that keep any storage busy from one rank */
    BUFFERS_OF_SLOT = 4 /* window, packed answers, and as much for those that ask */
};

static size_t parcels_bytes(void)
{
    return 2 * AS_PARCELS * as_pool_step(AS_PARCEL_HEAD);
}

size_t as_transfer_arena_bytes(int64_t memory, int64_t block_bytes, bool far)
{
    int64_t unit = (int64_t)as_pool_step((size_t)block_bytes + AS_PARCEL_HEAD);
    int64_t each = far ? BUFFERS_OF_SLOT : 1;
    int64_t most = each * as_transfer_slots(block_bytes) * unit + (int64_t)parcels_bytes();
    int64_t bytes = as_min_i64(memory / 4 * 3, most);
    return (size_t)as_max_i64(bytes, FEWEST_BUFFERS * unit + (int64_t)parcels_bytes());
}

/* Does some rank not reach all others? Collective. */
static int look_far(const as_arena *arena, as_comm *c, bool *far, as_error *e)
{
    int64_t value = !as_arena_reaches_all(arena);
    int code = as_comm_max(c, &value, 1, e);
    *far = value != 0;
    return code;
}

int as_transfer_arena(as_arena **arena, int64_t *largest, as_comm *c, int64_t memory,
                      int64_t block_bytes, as_error *e)
{
    if (*arena && *largest >= block_bytes) {
        return AS_OK;
    }
    as_arena_close(*arena);
    *arena = NULL;
    *largest = 0;
    /* Windows alone first, since every page of an arena is had when it is made: only where packed
     * messages go between ranks more is needed. */
    bool far = false;
    int code = as_arena_open(arena, c, as_transfer_arena_bytes(memory, block_bytes, false), e);
    if (code == AS_OK) {
        code = look_far(*arena, c, &far, e);
    }
    if (far || code != AS_OK) {
        as_arena_close(*arena);
        *arena = NULL;
    }
    if (far && code == AS_OK) {
        code = as_arena_open(arena, c, as_transfer_arena_bytes(memory, block_bytes, true), e);
    }
    if (code == AS_OK) {
        *largest = block_bytes;
    }
    return code;
}

int as_transfer_with_arena(const as_transfer *t,
                           int (*run)(const as_transfer *t, void *user, as_error *e), void *user,
                           as_error *e)
{
    as_transfer with = *t;
    int64_t largest = 0;
    int code = AS_OK;
    if (!t->arena) {
        code =
            as_transfer_arena(&with.arena, &largest, t->comm, t->memory, t->plan->block_bytes, e);
    } else if (as_arena_abandoned(t->arena)) {
        /* On all ranks or on some: MPI is of no more use either way. */
        return as_fail(e, AS_MPI, 0,
                       "MPI failed in an earlier call: this context can only be closed");
    }
    if (code == AS_OK) {
        code = run(&with, user, e);
    }
    if (!t->arena) {
        as_arena_close(with.arena);
    }
    return code;
}

int as_transfer_slots(int64_t block_bytes)
{
    return (int)as_max_i64(FEWEST_SLOTS, as_min_i64(MOST_SLOTS, FLIGHT / block_bytes));
}

int as_transfer_buffers(const as_transfer *t, int64_t bytes, size_t other)
{
    size_t room = as_arena_bytes(t->arena);
    size_t count = room > other ? (room - other) / as_pool_step((size_t)bytes) : 0;
    return (int)as_min_i64((int64_t)count, (int64_t)BUFFERS_OF_SLOT * MOST_SLOTS);
}

bool as_transfer_congruent(const as_transfer *t, const char *bytes, int64_t offset)
{
    const as_engine_options *o = &t->engine_options;
    uint64_t align = o->memory_align > 0 ? (uint64_t)o->memory_align : AS_POOL_PAGE;
    return !o->direct || ((uint64_t)(uintptr_t)bytes - (uint64_t)offset) % align == 0;
}
