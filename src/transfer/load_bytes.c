/* SPDX-License-Identifier: Apache-2.0
 * The loop of a load: blocks are read once and handed on, parcels of other ranks
 * are taken, until every rank is through.
 */
#include <stdlib.h>

#include "base/checked.h"
#include "tensor/tiles.h"
#include "transfer/deliver.h"
#include "transfer/files.h"
#include "transfer/place.h"

enum { LARGEST_GAP = 64 << 10 }; /* bytes that nobody wants, read along rather than skipped */

/* A block from the read to the last parcel. */
typedef struct reading {
    bool busy;
    bool read;      /* the bytes are there */
    int64_t direct; /* the piece that the bytes are read straight into; -1: none */
    as_block block;
    char *window;
    as_io io;
    as_open_file *file;
    as_delivery *delivery;
} reading;

/* A parcel on its way out or in. */
typedef struct parcel {
    char *buffer;
    size_t size;
    as_message message;
} parcel;

typedef struct loader {
    const as_transfer *transfer;
    as_engine *engine;
    as_pool windows;
    as_pool parcels;
    as_open_files files;
    as_block_walk walk;
    bool more;
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

static int open_loader(loader *l, const as_transfer *t, as_error *e)
{
    int buffers = as_transfer_buffers(t, AS_PARCEL_HEAD);
    int parcels = buffers / 4 > 0 ? buffers / 4 : 1;
    *l = (loader){.transfer = t,
                  .files = {.transfer = t},
                  .walk = as_block_walk_begin(t->plan, LARGEST_GAP),
                  .more = true,
                  .parcel_count = parcels,
                  .reading_count = buffers - 2 * parcels};
    size_t block = (size_t)t->plan->block_bytes;
    int code = t->engine->open(&l->engine, &t->engine_options, e);
    l->files.engine = l->engine;
    if (code == AS_OK) {
        code = as_pool_init(&l->windows, block, l->reading_count, e);
    }
    if (code == AS_OK) {
        code = as_pool_init(&l->parcels, block + AS_PARCEL_HEAD, 2 * parcels, e);
    }
    if (code == AS_OK) {
        /* A parcel must be taken when it comes, or its sender waits for ever. */
        code = as_pool_fill(&l->parcels, e);
    }
    if (code == AS_OK) {
        l->readings = calloc((size_t)l->reading_count, sizeof *l->readings);
        l->out = calloc((size_t)parcels, sizeof *l->out);
        l->in = calloc((size_t)parcels, sizeof *l->in);
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
        if (l->readings[i].busy) {
            release(l, &l->readings[i]);
        }
    }
    for (int i = 0; l->in && l->out && i < l->parcel_count; i++) {
        /* What MPI has not ended (after AS_MPI) is left to it for good. */
        as_pool_give(&l->parcels, l->out[i].message.active ? NULL : l->out[i].buffer);
        as_pool_give(&l->parcels, l->in[i].message.active ? NULL : l->in[i].buffer);
    }
    as_open_files_free(&l->files);
    if (l->engine) {
        l->transfer->engine->close(l->engine);
    }
    as_pool_free(&l->windows);
    as_pool_free(&l->parcels);
    free(l->readings);
    free(l->out);
    free(l->in);
}

/* Sets the memory of a block that only one run of this rank's memory wants, and its piece. */
static void find_direct(const loader *l, const as_block *block, char **bytes, int64_t *piece)
{
    const as_transfer *t = l->transfer;
    const as_part *part = as_plan_part(t->plan, block->first_part);
    as_words boxes = as_part_boxes(t->plan, part);
    as_part_box box;
    as_place place;
    if (block->last_part - block->first_part != 1 || part->box_count != 1 ||
        as_part_box_take(&boxes, &box, NULL) != AS_OK || box.holder_count != 1 ||
        box.holders[0] != as_comm_rank(t->comm) ||
        as_place_find(t->state, t->plan, box.holders[1], &place, NULL) != AS_OK) {
        return;
    }
    *piece = box.holders[1];
    *bytes = place.device->direct(&place.geometry, place.memory, block->low - part->tensor_at,
                                  block->high - part->tensor_at);
}

static int begin_reading(loader *l, reading *r, const as_block *block, as_error *e)
{
    *r = (reading){.busy = true, .block = *block};
    l->busy++;
    int64_t piece = -1;
    char *bytes = NULL;
    find_direct(l, block, &bytes, &piece);
    r->direct = bytes ? piece : -1;
    int code = AS_OK;
    if (!bytes) {
        code = as_pool_take(&l->windows, &r->window, e);
        bytes = r->window;
    }
    if (code == AS_OK) {
        code = as_open_files_get(&l->files, block->file, &r->file, e);
    }
    if (code != AS_OK) {
        release(l, r);
        return code;
    }
    r->io = (as_io){.kind = AS_IO_READ,
                    .file = &r->file->io,
                    .bytes = bytes,
                    .count = block->high - block->low,
                    .offset = block->low,
                    .owner = r};
    r->file->under_way++;
    l->transfer->engine->submit(l->engine, &r->io);
    return AS_OK;
}

static void begin_readings(loader *l, bool *moved, as_error *e)
{
    for (int i = 0; i < l->reading_count && l->more; i++) {
        as_block block;
        if (l->readings[i].busy) {
            continue;
        }
        l->more = e->code == AS_OK && as_block_walk_next(&l->walk, &block);
        if (l->more) {
            *moved = true;
            (void)begin_reading(l, &l->readings[i], &block, e);
        }
    }
}

static void reap(loader *l, bool *moved, as_error *e)
{
    as_io *io;
    while ((io = l->transfer->engine->reap(l->engine, e))) {
        reading *r = io->owner;
        *moved = true;
        (void)as_open_files_done(&l->files, r->file, e);
        l->done += io->count;
        r->read = true;
        if (io->code == AS_OK && r->direct >= 0) {
            l->transfer->filled[r->direct] += io->count;
        } else if (io->code == AS_OK) {
            (void)as_delivery_open(&r->delivery, l->transfer, &r->block, r->window, e);
        }
        if (!r->delivery) {
            release(l, r);
        }
        if (l->transfer->progress) {
            l->transfer->progress(l->done, l->transfer->plan->own_bytes,
                                  l->transfer->progress_user);
        }
    }
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
            int to = -1;
            if (as_pool_take(&l->parcels, &p->buffer, e) == AS_OK && p->buffer) {
                (void)as_delivery_next(r->delivery, p->buffer, &to, &p->size, e);
            }
            if (e->code != AS_OK || to < 0) {
                as_pool_give(&l->parcels, p->buffer);
                p->buffer = NULL;
                release(l, r);
                break;
            }
            *moved = true;
            int code = as_comm_send(l->transfer->comm, to, AS_TAG_PARCEL, p->buffer, p->size,
                                    &p->message, e);
            if (code != AS_OK) {
                return code;
            }
        }
    }
    return AS_OK;
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
        if (code != AS_OK) {
            return code;
        }
        if (done) {
            as_pool_give(&l->parcels, p->buffer);
            p->buffer = NULL;
            *moved = true;
        }
        *left = *left || !done;
    }
    return AS_OK;
}

/* Takes what has arrived, whatever failed here: the sender waits for it. */
static int receive_parcels(loader *l, bool *left, bool *moved, as_error *e)
{
    *left = false;
    for (int i = 0; i < l->parcel_count; i++) {
        parcel *p = &l->in[i];
        bool done = false;
        int code = AS_OK;
        if (!p->buffer) {
            bool there = false;
            int from = 0;
            code = as_comm_probe(l->transfer->comm, AS_TAG_PARCEL, &there, &from, &p->size, e);
            if (code == AS_OK && there && as_pool_take(&l->parcels, &p->buffer, e) == AS_OK &&
                p->buffer) {
                code = as_comm_receive(l->transfer->comm, from, AS_TAG_PARCEL, p->buffer, p->size,
                                       &p->message, e);
            }
        }
        if (code == AS_OK && p->buffer) {
            code = as_comm_test(l->transfer->comm, &p->message, &done, e);
        }
        if (code != AS_OK) {
            return code;
        }
        if (done) {
            (void)as_parcel_take(l->transfer, p->buffer, p->size, e);
            as_pool_give(&l->parcels, p->buffer);
            p->buffer = NULL;
            *moved = true;
        }
        *left = *left || p->buffer;
    }
    return AS_OK;
}

static int step(loader *l, bool *all, bool *moved, as_error *e)
{
    bool sending = false;
    bool receiving = false;
    begin_readings(l, moved, e);
    reap(l, moved, e);
    int code = send_parcels(l, moved, e);
    if (code == AS_OK) {
        code = finish_sends(l, &sending, moved, e);
    }
    if (code == AS_OK) {
        code = receive_parcels(l, &receiving, moved, e);
    }
    if (code == AS_OK && !l->at_barrier && !l->more && l->busy == 0 && !sending) {
        (void)as_open_files_end(&l->files, e);
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

static int run(loader *l, as_error *e)
{
    int idle = 0;
    bool all = false;
    while (!all) {
        bool moved = false;
        int code = step(l, &all, &moved, e);
        if (code == AS_MPI || e->code == AS_MPI) {
            return AS_MPI;
        }
        if (moved) {
            idle = 0;
        } else if (!all) {
            as_comm_pause(&idle);
        }
    }
    return AS_OK;
}

int as_transfer_load(const as_transfer *t, as_error *e)
{
    loader l;
    (void)open_loader(&l, t, e);
    int code = as_comm_agree(t->comm, e);
    if (code == AS_OK) {
        code = run(&l, e);
    }
    close_loader(&l);
    return code == AS_MPI ? code : as_comm_agree(t->comm, e);
}
