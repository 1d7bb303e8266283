/* SPDX-License-Identifier: Apache-2.0
 * What a transfer of bytes needs, in either direction.
 */
#ifndef ALLSHARD_TRANSFER_CONTEXT_H
#define ALLSHARD_TRANSFER_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "comm/arena.h"
#include "comm/comm.h"
#include "device/devices.h"
#include "io/engine.h"
#include "plan/plan.h"
#include "plan/state.h"
#include "transfer/bad_block.h"
#include "transfer/block_sums.h"
#include "transfer/meter.h"

typedef struct as_transfer {
    as_comm *comm;
    const as_state *state;
    as_devices *devices;   /* NULL: no piece lies on a device */
    const as_homes *homes; /* of the pieces; NULL: the host */
    const as_plan *plan;
    const as_engine_type *engine;
    as_engine_options engine_options;
    struct as_gds *gds; /* whose devices' blocks go straight to files, by that engine; NULL: none */
    /* The transfer buffers, with room for blocks of the plan's size (transfer/buffers.h), and
     * for no other transfer at the same time. NULL: made from `memory` for this one. */
    as_arena *arena;
    int64_t memory; /* bytes of transfer buffers on this rank */
    /* Staging: the memory of the outboxes, where ranks of the node put their bytes themselves.
     * NULL: they have to go through the transfer buffers. */
    as_arena *ring;
    as_meter *meter;      /* what was done is added to it */
    as_buffer *checksums; /* save: as_block_sum[] of what this rank wrote; NULL: none are taken */
    int64_t *filled;      /* load: [pieces of the state], bytes that came into each; else NULL */
    /* Load: what the blocks that this rank reads must hash to, in the order of
     * as_block_walk_begin_whole; NULL: they are not compared, and only what is wanted is read. */
    const uint64_t *expected;
    as_bad_block *bad; /* the first that differs; its error is AS_CORRUPT, without its tensors */

    /* Opens a file of the plan. *name lives until the next call. */
    int (*open_file)(void *user, int32_t file, int *fd, const char **name, as_error *e);
    /* Save: opens it for reading. Then this rank reads the blocks that it wrote from storage when
     * they are synced, and compares them with `checksums`: AS_CORRUPT. NULL: it does not. */
    int (*open_written)(void *user, int32_t file, int *fd, const char **name, as_error *e);
    /* Called between steps: signs of life for the lock. May be NULL. */
    int (*tick)(void *user, as_error *e);
    void *user;

    void (*progress)(int64_t done, int64_t total, void *user); /* may be NULL */
    void *progress_user;
} as_transfer;

/* Writes all of the plan's bytes and fsyncs every file that this rank wrote to. Collective:
 * all ranks return together, with one code. `e` may hold an error already: then no rank
 * begins. */
int as_transfer_save(const as_transfer *t, as_error *e);

/* Reads all of the plan's bytes into the pieces. Collective, likewise. */
int as_transfer_load(const as_transfer *t, as_error *e);

#endif
