/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/gds_save.h"

#include <stdlib.h>

#include "transfer/copying.h"

struct as_gds_write {
    bool busy;
    bool writing; /* the store has it */
    bool counts;
    as_block block;
    as_gds_buffer buffer;
    as_copies copies;
    as_stored stored;
};

int as_gds_save_open(as_gds_save *g, const as_transfer *t, as_store *store, as_error *e)
{
    *g = (as_gds_save){.blocks = as_gds_blocks_begin(t, store->engine), .store = store};
    if (t->gds) {
        g->writes = calloc(AS_GDS_BUFFERS, sizeof *g->writes);
        return g->writes ? AS_OK : as_fail_nomem(e);
    }
    return AS_OK;
}

static void release(as_gds_save *g, as_gds_write *w)
{
    as_gds_buffer_give(&w->buffer);
    if (w->counts) {
        as_gds_blocks_ended(&g->blocks);
    }
    *w = (as_gds_write){0};
    g->busy--;
}

void as_gds_save_close(as_gds_save *g)
{
    for (int i = 0; g->writes && i < AS_GDS_BUFFERS; i++) {
        as_gds_buffer_give(&g->writes[i].buffer);
    }
    free(g->writes);
    g->writes = NULL;
    g->busy = 0;
}

/* An error on the way leaves a block that as_gds_save_step drops, when its copies have ended. */
int as_gds_save_begin(as_gds_save *g, const as_block *block, enum as_beginning *what, bool *taken,
                      bool *counts, as_error *e)
{
    enum as_gds_way way;
    as_gds_buffer buffer = {0};
    *taken = false;
    *counts = false;
    if (!g->writes) {
        return AS_OK;
    }
    if (g->busy == AS_GDS_BUFFERS) {
        *taken = true;
        *what = AS_BEGIN_LATER;
        return AS_OK;
    }
    int code = as_gds_blocks_way(&g->blocks, block, true, &way, counts, &buffer, e);
    if (code != AS_OK || way == AS_GDS_BY_HOST) {
        return code;
    }
    *taken = true;
    *what = way == AS_GDS_LATER ? AS_BEGIN_LATER : AS_BEGIN_TAKEN;
    if (way == AS_GDS_LATER) {
        return AS_OK;
    }
    as_gds_write *w = g->writes;
    while (w->busy) {
        w++;
    }
    *w = (as_gds_write){.busy = true, .counts = *counts, .block = *block, .buffer = buffer};
    g->busy++;
    w->stored.owner = w;
    code = as_store_begin(g->store, &w->stored, block->file, e);
    if (code == AS_OK) {
        code = as_gds_gather(g->blocks.transfer, block, &w->buffer, &w->copies, e);
    }
    return code;
}

void as_gds_save_step(as_gds_save *g, bool *moved, as_error *e)
{
    for (int i = 0; i < AS_GDS_BUFFERS && g->busy > 0; i++) {
        as_gds_write *w = &g->writes[i];
        if (!w->busy || w->writing || w->copies.under_way > 0) {
            continue;
        }
        *moved = true;
        (void)as_copying_check(g->blocks.transfer, &w->copies, e);
        if (e->code != AS_OK) {
            as_store_drop(g->store, &w->stored, e);
            release(g, w);
            continue;
        }
        w->writing = true;
        as_store_submit_device(g->store, &w->stored, &w->block, &w->buffer.where);
    }
}

static int keep_sum(const as_transfer *t, const as_gds_write *w, as_error *e)
{
    int64_t size = w->block.high - w->block.low;
    as_block_sum sum = {.file = w->block.file,
                        .block = w->block.low / t->plan->block_bytes,
                        .sum = w->stored.io.sum};
    t->meter->tally.checksum += w->stored.io.hashing;
    t->meter->tally.bytes_checksum += size;
    return as_buffer_append(t->checksums, &sum, sizeof sum, e);
}

bool as_gds_save_reaped(as_gds_save *g, const as_stored *stored, as_error *e)
{
    const as_transfer *t = g->blocks.transfer;
    if (!stored->io.device) {
        return false;
    }
    as_gds_write *w = stored->owner;
    if (stored->io.code == AS_OK && t->checksums) {
        (void)keep_sum(t, w, e);
    }
    release(g, w);
    return true;
}

void as_gds_save_ended(as_gds_save *g)
{
    as_gds_blocks_ended(&g->blocks);
}
