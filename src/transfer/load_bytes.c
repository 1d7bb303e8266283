/* SPDX-License-Identifier: Apache-2.0
 * The loop of a load: blocks are read once and handed on, parcels of other ranks
 * are taken, until every rank is through.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/checked.h"
#include "io/pool.h"
#include "transfer/buffers.h"
#include "transfer/deliver.h"
#include "transfer/files.h"

enum {
    LARGEST_GAP = 64 << 10, /* bytes that nobody wants, read along rather than skipped */
    REST = 100000           /* longest sleep between two looks, nanoseconds: parcels may wait */
};

/* A block from the read to the last parcel. */
typedef struct reading {
    bool busy;
    bool read;      /* the engine is through with it */
    int64_t direct; /* the piece that the bytes are read straight into; -1: none */
    as_block block;
    size_t number; /* of those that this rank reads */
    char *window;  /* the buffer */
    char *bytes;   /* the block's first byte */
    as_io io;
    as_open_file *file;
    as_delivery *delivery; /* NULL when all parcels are out */
    int lent;              /* parcels whose receivers still use the window */
} reading;

/* A parcel on its way out or in; free without a buffer. */
typedef struct parcel {
    char *buffer;
    size_t size;
    as_message message;
    int peer;
    as_message taken; /* out: the receiver's word that it is through with the window */
    reading *from;    /* out: the window's; NULL: the bytes are in the parcel */
    bool answering;   /* in: `message` is that word */
} parcel;

typedef struct loader {
    const as_transfer *transfer;
    as_engine_options options;
    as_engine *engine;
    as_pool windows;
    as_pool parcels;
    as_open_files files;
    as_block_walk walk;
    bool more;
    size_t begun;  /* blocks */
    int64_t total; /* bytes to read */
    reading *readings;
    int reading_count;
    int busy;
    parcel *out;
    parcel *in;
    int parcel_count; /* of each direction */
    int64_t done;     /* bytes read */
    as_message barrier;
    bool at_barrier;
} loader;

/* Shares out the arena: windows, and parcels of each direction, which hold bytes where not every
 * rank is near. A parcel must be taken when it comes, or its sender waits for ever. */
static int open_buffers(loader *l, as_error *e)
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

static int open_loader(loader *l, const as_transfer *t, as_error *e)
{
    *l = (loader){.transfer = t,
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

static void release(loader *l, reading *r)
{
    as_delivery_close(r->delivery);
    as_pool_give(&l->windows, r->window);
    *r = (reading){0};
    l->busy--;
}

static void close_loader(loader *l)
{
    for (int i = 0; l->readings && i < l->reading_count; i++) {
        as_delivery_close(l->readings[i].delivery);
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

static int begin_reading(loader *l, reading *r, const as_block *block, as_error *e)
{
    *r = (reading){.busy = true, .block = *block, .number = l->begun++, .direct = -1};
    l->busy++;
    as_delivery_direct(l->transfer, block, &r->bytes, &r->direct);
    if (!r->bytes) {
        r->window = as_pool_take(&l->windows); /* there is one for each reading */
        r->bytes = r->window + block->low % l->transfer->plan->block_bytes;
    }
    int code = as_open_files_get(&l->files, block->file, &r->file, e);
    if (code != AS_OK) {
        release(l, r);
        return code;
    }
    r->io = (as_io){.kind = AS_IO_READ,
                    .file = &r->file->io,
                    .bytes = r->bytes,
                    .count = block->high - block->low,
                    .offset = block->low,
                    .hash = l->transfer->expected != NULL,
                    .owner = r};
    r->file->under_way++;
    l->transfer->engine->submit(l->engine, &r->io);
    return AS_OK;
}

/* Begins one, if there is room: parcels of others are not kept waiting for all. */
static void begin_next(loader *l, bool *moved, as_error *e)
{
    as_block block;
    if (!l->more || l->busy == l->reading_count) {
        return;
    }
    l->more = e->code == AS_OK && as_block_walk_next(&l->walk, &block);
    if (l->more) {
        reading *r = l->readings;
        while (r->busy) {
            r++;
        }
        *moved = true;
        (void)begin_reading(l, r, &block, e);
    }
}

/* Are the block's bytes those that were saved? */
static int compare_sum(const loader *l, const reading *r, as_error *e)
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
static void deliver(loader *l, reading *r, as_error *e)
{
    const as_transfer *t = l->transfer;
    r->read = true;
    if (r->io.code == AS_OK) {
        t->meter->tally.bytes_read += r->io.count;
    }
    if (r->io.code == AS_OK && (!t->expected || compare_sum(l, r, e) == AS_OK)) {
        if (r->direct >= 0) {
            t->filled[r->direct] += r->io.count;
            t->meter->tally.bytes_direct += r->io.count;
        } else {
            (void)as_delivery_open(&r->delivery, t, &r->block, r->bytes, e);
        }
    }
    if (!r->delivery) {
        release(l, r);
    }
}

static void reap(loader *l, bool *moved, as_error *e)
{
    const as_transfer *t = l->transfer;
    as_io *io;
    while ((io = t->engine->reap(l->engine, e))) {
        reading *r = io->owner;
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

static int send_parcel(loader *l, reading *r, parcel *p, int to, bool near, as_error *e)
{
    const as_transfer *t = l->transfer;
    int code = AS_OK;
    p->peer = to;
    if (near) { /* the answer's receive first, so that it can leave */
        p->from = r;
        r->lent++;
        code =
            as_comm_receive(t->comm, to, AS_TAG_TAKEN + (int)(p - l->out), NULL, 0, &p->taken, e);
    }
    return code == AS_OK
               ? as_comm_send(t->comm, to, AS_TAG_PARCEL, p->buffer, p->size, &p->message, e)
               : code;
}

/* Sends the parcels of the blocks that are read, as far as there are buffers. */
static int send_parcels(loader *l, bool *moved, as_error *e)
{
    int k = 0;
    for (int i = 0; i < l->reading_count; i++) {
        reading *r = &l->readings[i];
        while (r->busy && r->delivery) {
            while (k < l->parcel_count && l->out[k].buffer) {
                k++;
            }
            if (k == l->parcel_count) {
                return AS_OK;
            }
            parcel *p = &l->out[k];
            bool near = false;
            int to = -1;
            *p = (parcel){.buffer = as_pool_take(&l->parcels)};
            if (e->code == AS_OK) {
                (void)as_delivery_next(r->delivery, p->buffer, AS_TAG_TAKEN + k, &to, &p->size,
                                       &near, e);
            }
            *moved = true;
            if (e->code != AS_OK || to < 0) {
                as_pool_give(&l->parcels, p->buffer);
                p->buffer = NULL;
                as_delivery_close(r->delivery);
                r->delivery = NULL;
                if (r->lent == 0) {
                    release(l, r);
                }
                break;
            }
            int code = send_parcel(l, r, p, to, near, e);
            if (code != AS_OK) {
                return code;
            }
        }
    }
    return AS_OK;
}

static void take_back(loader *l, parcel *p)
{
    reading *r = p->from;
    as_pool_give(&l->parcels, p->buffer);
    *p = (parcel){0};
    if (r) {
        /* The window may be filled anew only when its readers are through: this pairs with the
         * release fence of the receiver. */
        atomic_thread_fence(memory_order_acquire);
        r->lent--;
        if (r->lent == 0 && !r->delivery) {
            release(l, r);
        }
    }
}

/* Parcels that were taken give their buffers back; *left tells whether some are under way. */
static int finish_sends(loader *l, bool *left, bool *moved, as_error *e)
{
    *left = false;
    for (int i = 0; i < l->parcel_count; i++) {
        parcel *p = &l->out[i];
        bool done = false;
        if (!p->buffer) {
            continue;
        }
        int code = as_comm_test(l->transfer->comm, &p->message, &done, e);
        if (code == AS_OK && done) {
            code = as_comm_test(l->transfer->comm, &p->taken, &done, e);
        }
        if (code != AS_OK) {
            return code;
        }
        if (done) {
            take_back(l, p);
            *moved = true;
        }
        *left = *left || !done;
    }
    return AS_OK;
}

/* Begins to receive a parcel, if one is there. */
static int look_for_parcel(loader *l, parcel *p, bool *there, as_error *e)
{
    as_comm *c = l->transfer->comm;
    int code = as_comm_probe(c, AS_TAG_PARCEL, there, &p->peer, &p->size, e);
    if (code == AS_OK && *there) {
        p->buffer = as_pool_take(&l->parcels);
        code = as_comm_receive(c, p->peer, AS_TAG_PARCEL, p->buffer, p->size, &p->message, e);
    }
    return code;
}

/* A message of an incoming parcel is through: the parcel itself, or the answer to it. */
static int move_on(loader *l, parcel *p, as_error *e)
{
    int tag = -1;
    int code = AS_OK;
    if (!p->answering) {
        (void)as_parcel_take(l->transfer, p->peer, p->buffer, p->size, &tag, e);
    }
    if (tag >= 0) {
        p->answering = true;
        code = as_comm_send(l->transfer->comm, p->peer, tag, NULL, 0, &p->message, e);
    } else {
        as_pool_give(&l->parcels, p->buffer);
        *p = (parcel){0};
    }
    return code;
}

/* Takes what has arrived, whatever failed here: the sender waits for it. */
static int receive_parcels(loader *l, bool *left, bool *moved, as_error *e)
{
    bool there = true;
    *left = false;
    for (int i = 0; i < l->parcel_count; i++) {
        parcel *p = &l->in[i];
        bool done = false;
        int code = AS_OK;
        if (!p->buffer && there) {
            code = look_for_parcel(l, p, &there, e);
        }
        if (code == AS_OK && p->buffer) {
            code = as_comm_test(l->transfer->comm, &p->message, &done, e);
        }
        if (code == AS_OK && done) {
            code = move_on(l, p, e);
            *moved = true;
        }
        if (code != AS_OK) {
            return code;
        }
        *left = *left || p->buffer;
    }
    return AS_OK;
}

static int step(loader *l, bool *all, bool *moved, as_error *e)
{
    bool sending = false;
    bool receiving = false;
    begin_next(l, moved, e);
    reap(l, moved, e);
    int code = send_parcels(l, moved, e);
    if (code == AS_OK) {
        code = finish_sends(l, &sending, moved, e);
    }
    if (code == AS_OK) {
        code = receive_parcels(l, &receiving, moved, e);
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
static bool is_reading(const loader *l)
{
    for (int i = 0; i < l->reading_count; i++) {
        if (l->readings[i].busy && !l->readings[i].read) {
            return true;
        }
    }
    return false;
}

static int run(loader *l, as_error *e)
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
            as_comm_storage(l->transfer->comm, !all && is_reading(l),
                            l->transfer->meter->tally.operations);
        }
        if (moved || all) {
            as_wait_end(&wait, l->transfer->meter);
        } else {
            as_wait_rest(&wait, REST);
        }
    }
    return AS_OK;
}

/* When ranks can agree on nothing any more: the engine lets go of what it has, and what MPI or a peer may still use
 * stays for good. */
static void drain(loader *l, as_error *e)
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
}

static int load(const as_transfer *t, as_error *e)
{
    loader l;
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
    return as_transfer_with_arena(t, load, e);
}
