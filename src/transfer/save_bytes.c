/* SPDX-License-Identifier: Apache-2.0
 * The loop of a save: blocks are begun, answered, written and synced, and other
 * ranks are served, until every rank is through.
 */
#include <stdlib.h>

#include "base/checked.h"
#include "transfer/buffers.h"
#include "transfer/fill.h"
#include "transfer/read_back.h"
#include "transfer/serve.h"

/* Longest sleeps between two looks, nanoseconds: while another rank may wait for this one's
 * answer, and while there is only storage to wait for, which has more to do in the meantime. */
enum { REST_ASKED = 100000, REST_ALONE = 1000000 };

typedef struct saver {
    const as_transfer *transfer;
    as_engine_options options;
    as_engine *engine;
    as_filler filler;
    as_server *server;
    as_open_files files;
    as_block_walk walk;
    bool more; /* blocks are left to begin */
    as_slot *slots;
    int slot_count;
    int busy;
    int asking;   /* slots that wait for other ranks */
    int64_t done; /* bytes written */
    as_message barrier;
    bool at_barrier;
} saver;

/* Shares out the arena: windows for this rank's blocks, and where not every rank is near, as many
 * buffers for packed answers of others, and some to answer from. */
static int open_buffers(saver *s, as_error *e)
{
    const as_transfer *t = s->transfer;
    bool far = !as_arena_reaches_all(t->arena);
    size_t step = as_pool_step((size_t)t->plan->block_bytes);
    int buffers = as_transfer_buffers(t, t->plan->block_bytes, 0);
    int answers = far ? (int)as_max_i64(1, buffers / 4) : 0;
    int each = far ? 2 : 1;
    s->slot_count =
        (int)as_min_i64((buffers - answers) / each, as_transfer_slots(t->plan->block_bytes));
    if (s->slot_count < 1) {
        return as_fail(e, AS_INTERNAL, 0, "the transfer buffers have no room for a block");
    }
    int windows = each * s->slot_count;
    int code = as_pool_init(&s->filler.pool, as_arena_base(t->arena), (size_t)t->plan->block_bytes,
                            windows, e);
    if (code == AS_OK) {
        code = as_server_open(&s->server, t, as_arena_base(t->arena) + (size_t)windows * step,
                              answers, e);
    }
    return code;
}

static int open_saver(saver *s, const as_transfer *t, as_error *e)
{
    *s = (saver){.transfer = t,
                 .options = t->engine_options,
                 .filler = {.transfer = t},
                 .files = {.transfer = t, .sync = true},
                 .walk = as_block_walk_begin(t->plan, 0),
                 .more = true};
    s->options.arena = as_arena_base(t->arena);
    s->options.arena_bytes = as_arena_bytes(t->arena);
    s->options.trace = t->meter->trace;
    int code = t->engine->open(&s->engine, &s->options, e);
    s->files.engine = s->engine;
    if (code == AS_OK) {
        code = open_buffers(s, e);
    }
    if (code == AS_OK && t->checksums) {
        code = as_checksum_open(&s->filler.sum, e);
    }
    if (code == AS_OK) {
        s->slots = calloc((size_t)s->slot_count, sizeof *s->slots);
        code = s->slots ? AS_OK : as_fail_nomem(e);
    }
    for (int i = 0; s->slots && i < s->slot_count; i++) {
        s->slots[i].number = i;
    }
    return code;
}

static void close_saver(saver *s)
{
    for (int i = 0; s->slots && i < s->slot_count; i++) {
        as_slot_clear(&s->slots[i], &s->filler);
        as_buffer_free(&s->slots[i].asked);
        as_buffer_free(&s->slots[i].requests);
    }
    as_open_files_free(&s->files);
    as_server_close(s->server);
    if (s->engine) {
        as_meter_engine(s->transfer->meter, s->transfer->engine, s->engine);
        s->transfer->engine->close(s->engine);
    }
    as_pool_free(&s->filler.pool);
    as_buffer_free(&s->filler.list);
    as_checksum_close(s->filler.sum);
    free(s->slots);
}

static void release(saver *s, as_slot *slot)
{
    as_slot_clear(slot, &s->filler);
    s->busy--;
}

/* Begins a block if a slot is free: one, so that who waits for an answer is not kept waiting for
 * all of them. After a failure no more are begun. */
static int begin_block(saver *s, bool *moved, as_error *e)
{
    as_block block;
    if (!s->more || s->busy == s->slot_count) {
        return AS_OK;
    }
    s->more = e->code == AS_OK && as_block_walk_next(&s->walk, &block);
    if (!s->more) {
        return AS_OK;
    }
    as_slot *slot = s->slots;
    while (slot->busy) {
        slot++;
    }
    *moved = true;
    s->busy++;
    s->asking++;
    int code = as_slot_start(slot, &s->filler, &block, e);
    /* The file is had in the order of the blocks, so that it is opened and synced once. */
    if (code == AS_OK && as_open_files_get(&s->files, block.file, &slot->file, e) == AS_OK) {
        slot->file->under_way++;
    }
    return as_comm_is_lost(code) ? code : AS_OK;
}

static void submit(saver *s, as_slot *slot)
{
    slot->writing = true;
    slot->io = (as_io){.kind = AS_IO_WRITE,
                       .file = &slot->file->io,
                       .bytes = slot->bytes,
                       .count = slot->block.high - slot->block.low,
                       .offset = slot->block.low,
                       .owner = slot};
    s->transfer->engine->submit(s->engine, &slot->io);
}

/* Writes the blocks that are complete, and drops them after a failure. */
static int write_blocks(saver *s, bool *moved, as_error *e)
{
    for (int i = 0; i < s->slot_count && s->asking > 0; i++) {
        as_slot *slot = &s->slots[i];
        bool complete = false;
        if (!slot->busy || slot->writing) {
            continue;
        }
        int code = as_slot_test(slot, s->transfer, &complete, e);
        if (code != AS_OK) {
            return code;
        }
        if (!complete) {
            continue;
        }
        *moved = true;
        s->asking--;
        if (e->code == AS_OK) {
            (void)as_slot_finish(slot, &s->filler, e);
        }
        if (e->code == AS_OK) {
            submit(s, slot);
        } else {
            if (slot->file) {
                as_open_files_done(&s->files, slot->file, e);
            }
            release(s, slot);
        }
    }
    return AS_OK;
}

static void reap(saver *s, bool *moved, as_error *e)
{
    const as_transfer *t = s->transfer;
    as_tally *tally = &t->meter->tally;
    as_io *io;
    while ((io = t->engine->reap(s->engine, e))) {
        *moved = true;
        tally->operations++;
        if (io->kind == AS_IO_SYNC) {
            tally->sync += io->nanoseconds;
            as_open_files_done(&s->files, io->owner, e);
            continue;
        }
        as_slot *slot = io->owner;
        tally->io += io->nanoseconds;
        tally->bytes_written += io->code == AS_OK ? io->count : 0;
        s->done += io->count;
        as_open_files_done(&s->files, slot->file, e);
        release(s, slot);
        if (t->progress) {
            t->progress(s->done, t->plan->own_bytes, t->progress_user);
        }
    }
}

/* Own work done: says so, and goes on serving until all have said it. */
static int meet(saver *s, bool *all, bool *moved, as_error *e)
{
    *all = false;
    int code = AS_OK;
    if (!s->at_barrier && !s->more && s->busy == 0) {
        as_open_files_end(&s->files, e);
        if (as_open_files_closed(&s->files)) {
            code = as_comm_barrier_begin(s->transfer->comm, &s->barrier, e);
            s->at_barrier = true;
            *moved = true;
        }
    }
    if (code == AS_OK && s->at_barrier) {
        code = as_comm_test(s->transfer->comm, &s->barrier, all, e);
        *all = *all && as_server_idle(s->server);
    }
    return code;
}

/* Are operations under way? */
static bool is_storing(const saver *s)
{
    bool storing = as_open_files_syncing(&s->files);
    for (int i = 0; i < s->slot_count && !storing; i++) {
        storing = s->slots[i].writing;
    }
    return storing;
}

static int run(saver *s, as_error *e)
{
    as_wait wait = {0};
    bool all = false;
    as_comm_wait(s->transfer->comm);
    while (!all) {
        bool moved = false;
        int code = begin_block(s, &moved, e);
        if (code == AS_OK) {
            code = write_blocks(s, &moved, e);
        }
        if (code == AS_OK) {
            reap(s, &moved, e);
            /* Its other failures are in `e`, and told when the ranks agree. */
            code = as_server_step(s->server, &moved, e);
            code = as_comm_is_lost(code) ? code : meet(s, &all, &moved, e);
        }
        if (code == AS_OK && s->transfer->tick && e->code == AS_OK) {
            (void)s->transfer->tick(s->transfer->user, e);
        }
        if (as_comm_is_lost(code) || as_comm_is_lost(e->code)) {
            return as_comm_is_lost(code) ? code : e->code; /* no agreement can be had any more */
        }
        if (as_comm_watches(s->transfer->comm)) {
            as_comm_storage(s->transfer->comm, !all && is_storing(s),
                            s->transfer->meter->tally.operations);
        }
        if (moved || all) {
            as_wait_end(&wait, s->transfer->meter);
        } else {
            bool asked = s->asking > 0 || !as_server_idle(s->server);
            as_wait_rest(&wait, asked ? REST_ASKED : REST_ALONE);
        }
    }
    return AS_OK;
}

/* When ranks can agree on nothing any more: the engine lets go of what it has. */
static void drain(saver *s, as_error *e)
{
    int idle = 0;
    as_arena_abandon(s->transfer->arena);
    while (is_storing(s)) {
        bool moved = false;
        reap(s, &moved, e);
        if (!moved) {
            as_comm_rest(&idle, REST_ALONE);
        }
    }
}

static int save(const as_transfer *t, as_error *e)
{
    saver s;
    size_t before = t->checksums ? t->checksums->size : 0;
    (void)open_saver(&s, t, e);
    int code = as_comm_agree(t->comm, e); /* without buffers on some rank nobody begins */
    if (code == AS_OK) {
        code = run(&s, e);
        if (as_comm_is_lost(code)) {
            drain(&s, e);
        }
    }
    close_saver(&s);
    if (!as_comm_is_lost(code)) {
        code = as_comm_agree(t->comm, e);
    }
    /* Nobody asks this rank for bytes any more: it may look at its own. */
    return code == AS_OK && t->open_written ? as_read_back(t, before, e) : code;
}

int as_transfer_save(const as_transfer *t, as_error *e)
{
    return as_transfer_with_arena(t, save, e);
}
