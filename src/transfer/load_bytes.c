/* SPDX-License-Identifier: Apache-2.0
 * The loop of a load: blocks are read once and handed on, parcels of other ranks
 * are taken, until every rank is through.
 */
#include <stdlib.h>

#include "base/checked.h"
#include "transfer/buffers.h"
#include "transfer/loader.h"

enum {
    LARGEST_GAP = 64 << 10, /* bytes that nobody wants, read along rather than skipped */
    REST = 100000           /* longest sleep between two looks, nanoseconds: parcels may wait */
};

/* Shares out the arena: windows, and parcels of each direction, which hold bytes where not every
 * rank is near. A parcel must be taken when it comes, or its sender waits for ever. */
static int open_buffers(as_loader *l, as_error *e)
{
    const as_transfer *t = l->transfer;
    bool far = !as_arena_reaches_all(t->arena);
    int64_t block = t->plan->block_bytes;
    int64_t parcel_bytes = AS_PARCEL_HEAD + (far ? block : 0);
    size_t each = as_pool_step((size_t)parcel_bytes);
    l->parcel_count = AS_PARCELS;
    if (far) {
        int buffers = as_transfer_buffers(t, parcel_bytes, 0);
        l->parcel_count = (int)as_max_i64(1, buffers / 4);
    }
    size_t parcels = 2 * (size_t)l->parcel_count * each;
    l->reading_count =
        (int)as_min_i64(as_transfer_buffers(t, block, parcels), as_transfer_slots(block));
    if (l->reading_count < 1) {
        return as_fail(e, AS_INTERNAL, 0, "the transfer buffers have no room for a block");
    }
    char *memory = as_arena_base(t->arena);
    int code = as_pool_init(&l->windows, memory, (size_t)block, l->reading_count, e);
    if (code == AS_OK) {
        memory += (size_t)l->reading_count * as_pool_step((size_t)block);
        code = as_pool_init(&l->parcels, memory, (size_t)parcel_bytes, 2 * l->parcel_count, e);
    }
    return code;
}

/* Blocks that are compared are read whole. */
static as_block_walk begin_walk(const as_transfer *t)
{
    return t->expected ? as_block_walk_begin_whole(t->plan)
                       : as_block_walk_begin(t->plan, LARGEST_GAP);
}

static int open_loader(as_loader *l, const as_transfer *t, as_error *e)
{
    *l = (as_loader){.transfer = t,
                     .options = t->engine_options,
                     .files = {.transfer = t},
                     .walk = begin_walk(t),
                     .more = true,
                     .total = t->progress ? as_block_walk_bytes(begin_walk(t)) : 0};
    l->options.arena = as_arena_base(t->arena);
    l->options.arena_bytes = as_arena_bytes(t->arena);
    l->options.trace = t->meter->trace;
    int code = t->engine->open(&l->engine, &l->options, e);
    l->files.engine = l->engine;
    l->gds = as_gds_blocks_begin(t, l->engine);
    if (code == AS_OK) {
        code = open_buffers(l, e);
    }
    if (code == AS_OK) {
        l->readings = calloc((size_t)l->reading_count, sizeof *l->readings);
        l->out = calloc((size_t)l->parcel_count, sizeof *l->out);
        l->in = calloc((size_t)l->parcel_count, sizeof *l->in);
        code = l->readings && l->out && l->in ? AS_OK : as_fail_nomem(e);
    }
    return code;
}

static void release(as_loader *l, as_reading *r)
{
    as_delivery_close(r->delivery);
    as_pool_give(&l->windows, r->window);
    as_gds_buffer_give(&r->gds);
    if (r->counts) {
        as_gds_blocks_ended(&l->gds);
    }
    *r = (as_reading){0};
    l->busy--;
}

void as_loader_settle(as_loader *l, as_reading *r, as_error *e)
{
    if (r->read && !r->delivery && r->lent == 0 && r->copies.under_way == 0) {
        (void)as_copying_check(l->transfer, &r->copies, e);
        release(l, r);
    }
}

static void close_loader(as_loader *l)
{
    for (int i = 0; l->readings && i < l->reading_count; i++) {
        as_delivery_close(l->readings[i].delivery);
        as_gds_buffer_give(&l->readings[i].gds);
    }
    as_open_files_free(&l->files);
    if (l->engine) {
        as_meter_engine(l->transfer->meter, l->transfer->engine, l->engine);
        l->transfer->engine->close(l->engine);
    }
    as_pool_free(&l->windows);
    as_pool_free(&l->parcels);
    free(l->readings);
    free(l->out);
    free(l->in);
}

/* Memory for the bytes, unless they go straight to a device. */
static void find_memory(as_loader *l, as_reading *r)
{
    as_delivery_direct(l->transfer, &r->block, &r->bytes, &r->direct);
    if (!r->bytes) {
        r->window = as_pool_take(&l->windows); /* there is one for each reading */
        r->bytes = r->window + r->block.low % l->transfer->plan->block_bytes;
    }
}

static int begin_reading(as_loader *l, as_reading *r, as_error *e)
{
    const as_block *block = &r->block;
    if (!r->gds.device) {
        find_memory(l, r);
    }
    int code = as_open_files_get(&l->files, block->file, &r->file, e);
    if (code != AS_OK) {
        release(l, r);
        return code;
    }
    r->io = (as_io){.kind = AS_IO_READ,
                    .file = &r->file->io,
                    .bytes = r->bytes,
                    .device = r->gds.device ? &r->gds.where : NULL,
                    .count = block->high - block->low,
                    .offset = block->low,
                    .hash = l->transfer->expected != NULL,
                    .owner = r};
    r->file->under_way++;
    l->transfer->engine->submit(l->engine, &r->io);
    return AS_OK;
}

/* Begins one, if there is room: parcels of others are not kept waiting for all. */
static void begin_next(as_loader *l, bool *moved, as_error *e)
{
    if (!l->more || l->busy == l->reading_count) {
        return;
    }
    l->more = e->code == AS_OK && (l->held || as_block_walk_next(&l->walk, &l->next));
    if (!l->more) {
        return;
    }
    enum as_gds_way way;
    as_gds_buffer buffer = {0};
    bool counts;
    int code = as_gds_blocks_way(&l->gds, &l->next, false, &way, &counts, &buffer, e);
    l->held = code == AS_OK && way == AS_GDS_LATER;
    if (!l->held) {
        as_reading *r = l->readings;
        while (r->busy) {
            r++;
        }
        *moved = true;
        *r = (as_reading){.busy = true,
                          .block = l->next,
                          .number = l->begun++,
                          .direct = -1,
                          .gds = buffer,
                          .counts = counts};
        l->busy++;
        (void)begin_reading(l, r, e);
    }
}

/* Are the block's bytes those that were saved? */
static int compare_sum(const as_loader *l, const as_reading *r, as_error *e)
{
    const as_transfer *t = l->transfer;
    t->meter->tally.checksum += r->io.hashing;
    t->meter->tally.bytes_checksum += r->io.count;
    if (r->io.sum == t->expected[r->number]) {
        return AS_OK;
    }
    if (t->bad->file < 0 && e->code == AS_OK) {
        *t->bad = (as_bad_block){.file = r->block.file,
                                 .low = r->block.low,
                                 .high = r->block.high,
                                 .expected = t->expected[r->number],
                                 .found = r->io.sum};
    }
    return as_fail(e, AS_CORRUPT, 0, "%s: bytes %lld to %lld are not those that were saved",
                   r->file->name, (long long)r->block.low, (long long)r->block.high - 1);
}

/* The bytes of a reading are there, or are not to be had. */
static void deliver(as_loader *l, as_reading *r, as_error *e)
{
    const as_transfer *t = l->transfer;
    r->read = true;
    if (r->io.code == AS_OK) {
        t->meter->tally.bytes_read += r->io.count;
    }
    if (r->io.code == AS_OK && (!t->expected || compare_sum(l, r, e) == AS_OK)) {
        if (r->gds.device) {
            (void)as_gds_scatter(t, &r->block, &r->gds, &r->copies, e);
        } else if (r->direct >= 0) {
            t->filled[r->direct] += r->io.count;
            t->meter->tally.bytes_direct += r->io.count;
        } else {
            (void)as_delivery_open(&r->delivery, t, &r->block, r->bytes, &r->copies, e);
        }
    }
    as_loader_settle(l, r, e);
}

static void reap(as_loader *l, bool *moved, as_error *e)
{
    const as_transfer *t = l->transfer;
    as_io *io;
    while ((io = t->engine->reap(l->engine, e))) {
        as_reading *r = io->owner;
        *moved = true;
        t->meter->tally.operations++;
        t->meter->tally.io += io->nanoseconds;
        l->done += io->count;
        as_open_file *file = r->file;
        deliver(l, r, e);
        as_open_files_done(&l->files, file, e);
        if (t->progress) {
            t->progress(l->done, l->total, t->progress_user);
        }
        begin_next(l, moved, e); /* storage has something to do while the next one is looked at */
    }
}

/* Copies into devices go on; windows that they were from are free. */
static void copy(as_loader *l, bool *moved, as_error *e)
{
    as_copying_step(&l->copying, l->transfer, moved, e);
    for (int i = 0; l->transfer->devices && i < l->reading_count; i++) {
        as_loader_settle(l, &l->readings[i], e);
    }
}

static int step(as_loader *l, bool *all, bool *moved, as_error *e)
{
    bool sending = false;
    bool receiving = false;
    begin_next(l, moved, e);
    reap(l, moved, e);
    copy(l, moved, e);
    int code = as_loader_send(l, moved, e);
    if (code == AS_OK) {
        code = as_loader_finish_sends(l, &sending, moved, e);
    }
    if (code == AS_OK) {
        code = as_loader_receive(l, &receiving, moved, e);
    }
    if (code == AS_OK && !l->at_barrier && !l->more && l->busy == 0 && !sending) {
        as_open_files_end(&l->files, e);
        code = as_comm_barrier_begin(l->transfer->comm, &l->barrier, e);
        l->at_barrier = true;
        *moved = true;
    }
    if (code == AS_OK && l->at_barrier) {
        /* All ranks' parcels have been matched once all are here; what was matched is taken. */
        code = as_comm_test(l->transfer->comm, &l->barrier, all, e);
        *all = *all && !receiving;
    }
    return code;
}

/* Are operations under way? */
static bool is_reading(const as_loader *l)
{
    for (int i = 0; i < l->reading_count; i++) {
        if (l->readings[i].busy && !l->readings[i].read) {
            return true;
        }
    }
    return false;
}

static int run(as_loader *l, as_error *e)
{
    as_wait wait = {0};
    bool all = false;
    as_comm_wait(l->transfer->comm);
    while (!all) {
        bool moved = false;
        int code = step(l, &all, &moved, e);
        if (as_comm_is_lost(code) || as_comm_is_lost(e->code)) {
            return as_comm_is_lost(code) ? code : e->code;
        }
        if (as_comm_watches(l->transfer->comm)) {
            int64_t ended = l->transfer->meter->tally.operations;
            bool copying = as_copying_busy(l->transfer, &ended);
            as_comm_storage(l->transfer->comm, !all && (is_reading(l) || copying), ended);
        }
        if (moved || all) {
            as_wait_end(&wait, l->transfer->meter);
        } else {
            as_wait_rest(&wait, as_copying_rest(l->transfer, REST));
        }
    }
    return AS_OK;
}

/* When ranks can agree on nothing any more: the engine lets go of what it has, and what MPI or a
 * peer may still use stays for good. */
static void drain(as_loader *l, as_error *e)
{
    int idle = 0;
    as_arena_abandon(l->transfer->arena);
    while (is_reading(l)) {
        bool moved = false;
        reap(l, &moved, e);
        if (!moved) {
            as_comm_rest(&idle, REST);
        }
    }
    as_copying_drain(&l->copying, l->transfer, e);
}

static int load(const as_transfer *t, void *user, as_error *e)
{
    (void)user;
    as_loader l;
    (void)open_loader(&l, t, e);
    int code = as_comm_agree(t->comm, e);
    if (code == AS_OK) {
        code = run(&l, e);
        if (as_comm_is_lost(code)) {
            drain(&l, e);
        }
    }
    close_loader(&l);
    return as_comm_is_lost(code) ? code : as_comm_agree(t->comm, e);
}

int as_transfer_load(const as_transfer *t, as_error *e)
{
    return as_transfer_with_arena(t, load, NULL, e);
}
