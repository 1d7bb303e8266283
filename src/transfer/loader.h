/* SPDX-License-Identifier: Apache-2.0
 * One rank's load while it is under way: the blocks that it reads (load_bytes.c) and the parcels
 * that it sends and takes (load_parcels.c). Of as_transfer_load alone.
 */
#ifndef ALLSHARD_TRANSFER_LOADER_H
#define ALLSHARD_TRANSFER_LOADER_H

#include "io/pool.h"
#include "transfer/copying.h"
#include "transfer/deliver.h"
#include "transfer/files.h"
#include "transfer/gds_blocks.h"

/* A block from the read to the last parcel. */
typedef struct as_reading {
    bool busy;
    bool read;      /* the engine is through with it */
    int64_t direct; /* the piece that the bytes are read straight into; -1: none */
    as_block block;
    size_t number; /* of those that this rank reads */
    char *window;  /* the buffer */
    char *bytes;   /* the block's first byte */
    as_gds_buffer
        gds;     /* where it is read to if it goes straight to a device: then no window is had */
    bool counts; /* in the trial of gds_blocks.h */
    as_io io;
    as_open_file *file;
    as_delivery *delivery; /* NULL when all parcels are out */
    int lent;              /* parcels whose receivers still use the window */
    as_copies copies;      /* from the window, or the buffer, into devices */
} as_reading;

/* Place of a parcel on its way out or in; free without a buffer. */
typedef struct as_parcel_slot {
    char *buffer;
    size_t size;
    as_message message;
    int peer;
    as_message taken; /* out: the receiver's word that it is through with the window */
    as_reading *from; /* out: the window's; NULL: the bytes are in the as_parcel_slot */
    bool answering;   /* in: `message` is that word */
    bool copying;     /* in: from it, or the window, into devices */
    as_copies copies;
    int tag; /* in: of that word; -1: the sender waits for none */
} as_parcel_slot;

typedef struct as_loader {
    const as_transfer *transfer;
    as_engine_options options;
    as_engine *engine;
    as_pool windows;
    as_pool parcels;
    as_open_files files;
    as_block_walk walk;
    as_block next; /* if `held`: to be begun later */
    bool held;
    as_gds_blocks gds;
    bool more;
    size_t begun;  /* blocks */
    int64_t total; /* bytes to read */
    as_reading *readings;
    int reading_count;
    int busy;
    as_parcel_slot *out;
    as_parcel_slot *in;
    int parcel_count; /* of each direction */
    int64_t done;     /* bytes read */
    as_copying copying;
    as_message barrier;
    bool at_barrier;
} as_loader;

/* If the reading is through, its window is free, and so is its place. To be called whenever
 * something that it waited for has ended. */
void as_loader_settle(as_loader *l, as_reading *r, as_error *e);

/* The three steps of the loop that concern parcels. None waits; *moved becomes true where something
 * went on. An error of this rank's own goes to `e` and the loop goes on, since others wait; what
 * they return is an error of the communicator.
 *
 * Sends the parcels of the blocks that are read, as far as there are buffers. */
int as_loader_send(as_loader *l, bool *moved, as_error *e);

/* Parcels that were taken give their buffers back; *left tells whether some are under way. */
int as_loader_finish_sends(as_loader *l, bool *left, bool *moved, as_error *e);

/* Takes what has arrived, whatever failed here: the sender waits for it. *left: some are still to
 * come whole, or to be answered. */
int as_loader_receive(as_loader *l, bool *left, bool *moved, as_error *e);

#endif
