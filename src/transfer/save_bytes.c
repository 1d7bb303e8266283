/* SPDX-License-Identifier: Apache-2.0
 * The loop of a save: blocks are begun, answered, written and synced, and other
 * ranks are served, until every rank is through.
 */
#include <stdlib.h>

#include "transfer/fill.h"
#include "transfer/serve.h"

typedef struct saver {
    const as_transfer *transfer;
    as_engine *engine;
    as_pool pool;
    as_server *server;
    as_open_files files;
    as_block_walk walk;
    bool more; /* blocks are left to begin */
    as_slot *slots;
    int slot_count;
    int busy;
    int64_t done; /* bytes written */
    as_message barrier;
    bool at_barrier;
} saver;

static int open_saver(saver *s, const as_transfer *t, as_error *e)
{
    int buffers = as_transfer_buffers(t, 0);
    int answers = buffers / 4 > 0 ? buffers / 4 : 1;
    *s = (saver){.transfer = t,
                 .files = {.transfer = t, .sync = true},
                 .walk = as_block_walk_begin(t->plan, 0),
                 .more = true,
                 .slot_count = (buffers - answers) / 2};
    int code = t->engine->open(&s->engine, &t->engine_options, e);
    s->files.engine = s->engine;
    if (code == AS_OK) {
        code = as_pool_init(&s->pool, (size_t)t->plan->block_bytes, 2 * s->slot_count, e);
    }
    if (code == AS_OK) {
        code = as_server_open(&s->server, t, answers, e);
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
        as_slot_clear(&s->slots[i], &s->pool);
    }
    as_open_files_free(&s->files);
    as_server_close(s->server);
    if (s->engine) {
        s->transfer->engine->close(s->engine);
    }
    as_pool_free(&s->pool);
    free(s->slots);
}

static void release(saver *s, as_slot *slot)
{
    as_slot_clear(slot, &s->pool);
    s->busy--;
}

/* Begins blocks as long as there are slots. After a failure no more are begun. */
static int begin_blocks(saver *s, bool *moved, as_error *e)
{
    for (int i = 0; i < s->slot_count && s->more; i++) {
        as_slot *slot = &s->slots[i];
        as_block block;
        if (slot->busy) {
            continue;
        }
        s->more = e->code == AS_OK && as_block_walk_next(&s->walk, &block);
        if (!s->more) {
            break;
        }
        *moved = true;
        s->busy++;
        int code = as_slot_start(slot, s->transfer, &block, &s->pool, e);
        if (code == AS_MPI) {
            return code;
        }
    }
    return AS_OK;
}

/* The checksum of a block that is complete. */
static int sum_block(saver *s, const as_slot *slot, const char *bytes, as_error *e)
{
    const as_transfer *t = s->transfer;
    size_t count = (size_t)(slot->block.high - slot->block.low);
    int64_t begin = as_clock();
    as_block_sum sum = {.file = slot->block.file,
                        .block = slot->block.low / t->plan->block_bytes,
                        .sum = as_checksum(bytes, count)};
    t->meter->tally.bytes_checksum += (int64_t)count;
    (void)as_meter_end(t->meter, "hash", begin, (int64_t)count, &t->meter->tally.checksum);
    return as_buffer_append(t->checksums, &sum, sizeof sum, e);
}

static void submit(saver *s, as_slot *slot, char *bytes)
{
    slot->io = (as_io){.kind = AS_IO_WRITE,
                       .file = &slot->file->io,
                       .count = slot->block.high - slot->block.low,
                       .offset = slot->block.low,
                       .owner = slot};
    slot->io.bytes = bytes;
    slot->file->under_way++;
    s->transfer->engine->submit(s->engine, &slot->io);
}

/* Writes the blocks that are complete, and drops them after a failure. */
static int write_blocks(saver *s, bool *moved, as_error *e)
{
    for (int i = 0; i < s->slot_count; i++) {
        as_slot *slot = &s->slots[i];
        if (!slot->busy || slot->file) {
            continue;
        }
        bool complete;
        int code = as_slot_test(slot, s->transfer, &complete, e);
        if (code != AS_OK) {
            return code;
        }
        if (!complete) {
            continue;
        }
        *moved = true;
        char *bytes = NULL;
        if (e->code == AS_OK) {
            (void)as_slot_finish(slot, s->transfer, &bytes, e);
        }
        if (e->code == AS_OK && s->transfer->checksums) {
            (void)sum_block(s, slot, bytes, e);
        }
        if (e->code == AS_OK) {
            (void)as_open_files_get(&s->files, slot->block.file, &slot->file, e);
        }
        if (e->code == AS_OK) {
            submit(s, slot, bytes);
        } else {
            release(s, slot);
        }
    }
    return AS_OK;
}

static void reap_blocks(saver *s, bool *moved, as_error *e)
{
    as_io *io;
    while ((io = s->transfer->engine->reap(s->engine, e))) {
        as_slot *slot = io->owner;
        s->done += io->count;
        (void)as_open_files_done(&s->files, slot->file, e);
        release(s, slot);
        *moved = true;
        if (s->transfer->progress) {
            s->transfer->progress(s->done, s->transfer->plan->own_bytes,
                                  s->transfer->progress_user);
        }
    }
}

/* Own work done: says so, and goes on serving until all have said it. */
static int meet(saver *s, bool *all, bool *moved, as_error *e)
{
    *all = false;
    int code = AS_OK;
    if (!s->at_barrier && !s->more && s->busy == 0) {
        (void)as_open_files_end(&s->files, e);
        code = as_comm_barrier_begin(s->transfer->comm, &s->barrier, e);
        s->at_barrier = true;
        *moved = true;
    }
    if (code == AS_OK && s->at_barrier) {
        code = as_comm_test(s->transfer->comm, &s->barrier, all, e);
        *all = *all && as_server_idle(s->server);
    }
    return code;
}

static int run(saver *s, as_error *e)
{
    int idle = 0;
    bool all = false;
    while (!all) {
        bool moved = false;
        int code = begin_blocks(s, &moved, e);
        if (code == AS_OK) {
            code = write_blocks(s, &moved, e);
        }
        if (code == AS_OK) {
            reap_blocks(s, &moved, e);
            (void)as_server_step(s->server, &moved, e);
            code = meet(s, &all, &moved, e);
        }
        if (code == AS_OK && s->transfer->tick && e->code == AS_OK) {
            (void)s->transfer->tick(s->transfer->user, e);
        }
        if (code == AS_MPI || e->code == AS_MPI) {
            return AS_MPI; /* no agreement can be had any more */
        }
        if (moved) {
            idle = 0;
        } else if (!all) {
            as_comm_pause(&idle);
        }
    }
    return AS_OK;
}

int as_transfer_save(const as_transfer *t, as_error *e)
{
    saver s;
    (void)open_saver(&s, t, e);
    int code = as_comm_agree(t->comm, e); /* without buffers on some rank nobody begins */
    if (code == AS_OK) {
        code = run(&s, e);
    }
    close_saver(&s);
    return code == AS_MPI ? code : as_comm_agree(t->comm, e);
}
