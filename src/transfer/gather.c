/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/gather.h"

#include <stdlib.h>

#include "base/checked.h"
#include "transfer/buffers.h"
#include "transfer/copying.h"
#include "transfer/serve.h"

enum {
    /* Longest sleeps between two looks, nanoseconds, while another rank may wait for this one's
     * answer. */
    REST_ASKED = 100000,
    FEWEST_AGAIN = 4
};

struct as_gather {
    const as_transfer *transfer;
    const as_sink *sink;
    as_filler filler;
    as_server *server;
    as_block_walk walk;
    as_block next; /* the block to begin, if `has_next` */
    bool has_next;
    bool more; /* blocks are left to begin */
    as_slot *slots;
    int slot_count;
    int buffers_of_slot; /* at the most */
    int busy;
    int asking; /* slots that wait for other ranks, or devices */
    as_copying copying;
    as_message barrier;
    bool at_barrier;
};

/* Shares out the arena: windows for this rank's blocks, and where not every rank is near, as many
 * buffers for packed answers of others, and some to answer from. */
static int open_buffers(as_gather *g, as_error *e)
{
    const as_transfer *t = g->transfer;
    bool far = !as_arena_reaches_all(t->arena);
    size_t unit = (size_t)g->sink->unit;
    size_t step = as_pool_step(unit);
    int buffers = as_transfer_buffers(t, g->sink->unit, 0);
    int answers = far ? (int)as_max_i64(1, buffers / 4) : 0;
    int each = far ? 2 : 1;
    int most = as_transfer_slots(g->sink->unit);
    int windows = (int)as_min_i64((buffers - answers) / each, most);
    if (g->sink->again) {
        int64_t kept = (int64_t)(as_arena_kept(t->arena) / step);
        windows = (int)as_min_i64(windows, as_max_i64(FEWEST_AGAIN, kept));
    }
    if (windows < 1) {
        return as_fail(e, AS_INTERNAL, 0, "the transfer buffers have no room for a block");
    }
    g->slot_count = t->ring ? most : windows; /* into a ring many parts come without a window */
    g->buffers_of_slot = each;
    windows *= each;
    int code = as_pool_init(&g->filler.pool, as_arena_base(t->arena), unit, windows, e);
    if (code == AS_OK) {
        code = as_server_open(&g->server, t, as_arena_base(t->arena) + (size_t)windows * step, unit,
                              answers, e);
    }
    return code;
}

static int open_gather(as_gather *g, const as_transfer *t, const as_sink *sink, as_error *e)
{
    *g = (as_gather){.transfer = t,
                     .sink = sink,
                     .filler = {.transfer = t, .unit = sink->unit},
                     .walk = as_block_walk_begin(t->plan, 0),
                     .more = true};
    int code = e->code == AS_OK ? open_buffers(g, e) : e->code;
    if (code == AS_OK && t->checksums) {
        code = as_checksum_open(&g->filler.sum, e);
    }
    if (code == AS_OK) {
        g->slots = calloc((size_t)as_max_i64(1, g->slot_count), sizeof *g->slots);
        code = g->slots ? AS_OK : as_fail_nomem(e);
    }
    for (int i = 0; g->slots && i < g->slot_count; i++) {
        g->slots[i].number = i;
    }
    return code;
}

static void close_gather(as_gather *g)
{
    for (int i = 0; g->slots && i < g->slot_count; i++) {
        as_slot_clear(&g->slots[i], &g->filler);
        as_buffer_free(&g->slots[i].asked);
        as_buffer_free(&g->slots[i].requests);
    }
    as_server_close(g->server);
    as_pool_free(&g->filler.pool);
    as_buffer_free(&g->filler.list);
    as_checksum_close(g->filler.sum);
    free(g->slots);
}

void as_gather_release(as_gather *g, as_slot *slot)
{
    as_slot_clear(slot, &g->filler);
    g->busy--;
}

static as_slot *free_slot(const as_gather *g)
{
    if (g->busy == g->slot_count) {
        return NULL;
    }
    as_slot *slot = g->slots;
    while (slot->busy) {
        slot++;
    }
    return slot;
}

/* Begins a block if there is room: one, so that who waits for an answer is not kept waiting for
 * all of them. After a failure no more are begun. */
static int begin_block(as_gather *g, bool *moved, as_error *e)
{
    if (g->more && !g->has_next) {
        g->has_next = as_block_walk_next(&g->walk, &g->next);
    }
    g->more = g->more && g->has_next && e->code == AS_OK;
    if (!g->more) {
        return AS_OK;
    }
    enum as_beginning what = AS_BEGIN_LATER;
    as_block part = g->next;
    as_slot *slot = free_slot(g);
    bool window = g->filler.pool.free >= g->buffers_of_slot;
    int code = g->sink->begin(g->sink->self, &g->next, slot, window, &part, &what, e);
    if (code != AS_OK) {
        return as_comm_is_lost(code) ? code : AS_OK;
    }
    if (what == AS_BEGIN_LATER) {
        return AS_OK;
    }
    *moved = true;
    g->has_next = what == AS_BEGIN_PART;
    if (what != AS_BEGIN_TAKEN) {
        g->busy++;
        g->asking++;
        code = as_slot_start(slot, &g->filler, &part, e);
    }
    return as_comm_is_lost(code) ? code : AS_OK;
}

/* Hands blocks that are complete on. */
static int finish_blocks(as_gather *g, bool *moved, as_error *e)
{
    for (int i = 0; i < g->slot_count && g->asking > 0; i++) {
        as_slot *slot = &g->slots[i];
        bool complete = false;
        if (!slot->busy || slot->taken) {
            continue;
        }
        int code = as_slot_test(slot, g->transfer, &complete, e);
        if (code != AS_OK) {
            return code;
        }
        if (!complete) {
            continue;
        }
        *moved = true;
        g->asking--;
        slot->taken = true;
        if (e->code == AS_OK) {
            (void)as_slot_finish(slot, &g->filler, e);
        }
        g->sink->take(g->sink->self, g, slot, e);
    }
    return AS_OK;
}

/* Own work done: says so, and goes on serving until all have said it. */
static int meet(as_gather *g, bool *all, bool *moved, as_error *e)
{
    *all = false;
    int code = AS_OK;
    if (!g->at_barrier && !g->more && g->busy == 0 && g->sink->end(g->sink->self, e)) {
        code = as_comm_barrier_begin(g->transfer->comm, &g->barrier, e);
        g->at_barrier = true;
        *moved = true;
    }
    if (code == AS_OK && g->at_barrier) {
        code = as_comm_test(g->transfer->comm, &g->barrier, all, e);
        *all = *all && as_server_idle(g->server);
    }
    return code;
}

static void tell_storage(const as_gather *g, bool all)
{
    if (as_comm_watches(g->transfer->comm)) {
        int64_t ended = 0;
        bool storing = g->sink->storing(g->sink->self, &ended);
        bool copying = as_copying_busy(g->transfer, &ended);
        as_comm_storage(g->transfer->comm, !all && (storing || copying), ended);
    }
}

static int run(as_gather *g, as_error *e)
{
    const as_transfer *t = g->transfer;
    as_wait wait = {0};
    bool all = false;
    as_comm_wait(t->comm);
    while (!all) {
        bool moved = false;
        int code = begin_block(g, &moved, e);
        as_copying_step(&g->copying, t, &moved, e);
        if (code == AS_OK) {
            code = finish_blocks(g, &moved, e);
        }
        if (code == AS_OK) {
            g->sink->step(g->sink->self, g, &moved, e);
            /* Its other failures are in `e`, and told when the ranks agree. */
            code = as_server_step(g->server, &moved, e);
            code = as_comm_is_lost(code) ? code : meet(g, &all, &moved, e);
        }
        if (code == AS_OK && t->tick && e->code == AS_OK) {
            (void)t->tick(t->user, e);
        }
        if (as_comm_is_lost(code) || as_comm_is_lost(e->code)) {
            return as_comm_is_lost(code) ? code : e->code; /* no agreement can be had any more */
        }
        tell_storage(g, all);
        if (moved || all) {
            as_wait_end(&wait, t->meter);
        } else {
            bool asked = g->asking > 0 || !as_server_idle(g->server);
            as_wait_rest(&wait, as_copying_rest(t, asked ? REST_ASKED : g->sink->rest));
        }
    }
    return AS_OK;
}

int as_gather_blocks(const as_transfer *t, const as_sink *sink, as_error *e)
{
    as_gather g;
    (void)open_gather(&g, t, sink, e);
    int code = as_comm_agree(t->comm, e); /* without buffers on some rank nobody begins */
    if (code == AS_OK) {
        code = run(&g, e);
        if (as_comm_is_lost(code)) {
            as_arena_abandon(t->arena);
            as_copying_drain(&g.copying, t, e); /* first: the sink may wait for some */
            sink->drain(sink->self, &g, e);
        }
    }
    close_gather(&g);
    return as_comm_is_lost(code) ? code : as_comm_agree(t->comm, e);
}
