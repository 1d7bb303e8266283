/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/store.h"

int as_store_open(as_store *s, const as_transfer *t, char *memory, size_t bytes, as_error *e)
{
    *s = (as_store){
        .transfer = t, .options = t->engine_options, .files = {.transfer = t, .sync = true}};
    s->options.arena = memory;
    s->options.arena_bytes = bytes;
    s->options.trace = t->meter->trace;
    int code = t->engine->open(&s->engine, &s->options, e);
    s->files.engine = s->engine;
    return code;
}

void as_store_close(as_store *s)
{
    if (!s->transfer) {
        return;
    }
    as_open_files_free(&s->files);
    if (s->engine) {
        as_meter_engine(s->transfer->meter, s->transfer->engine, s->engine);
        s->transfer->engine->close(s->engine);
    }
}

int as_store_begin(as_store *s, as_stored *b, int32_t file, as_error *e)
{
    int code = as_open_files_get(&s->files, file, &b->file, e);
    if (code == AS_OK) {
        b->file->under_way++;
    }
    return code;
}

static void submit(as_store *s, as_stored *b, const as_block *block, char *bytes,
                   const as_io_device *device)
{
    b->io = (as_io){.kind = AS_IO_WRITE,
                    .file = &b->file->io,
                    .count = block->high - block->low,
                    .offset = block->low,
                    .device = device,
                    .hash = device && s->transfer->checksums,
                    .owner = b};
    b->io.bytes = bytes;
    s->writing++;
    s->transfer->engine->submit(s->engine, &b->io);
}

void as_store_submit(as_store *s, as_stored *b, const as_block *block, char *bytes)
{
    submit(s, b, block, bytes, NULL);
}

void as_store_submit_device(as_store *s, as_stored *b, const as_block *block,
                            const as_io_device *where)
{
    submit(s, b, block, NULL, where);
}

void as_store_drop(as_store *s, as_stored *b, as_error *e)
{
    if (b->file) {
        as_open_files_done(&s->files, b->file, e);
        b->file = NULL;
    }
}

as_stored *as_store_reap(as_store *s, bool *moved, as_error *e)
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
        as_stored *b = io->owner;
        tally->io += io->nanoseconds;
        tally->bytes_written += io->code == AS_OK ? io->count : 0;
        s->writing--;
        as_store_drop(s, b, e);
        return b;
    }
    return NULL;
}

bool as_store_end(as_store *s, as_error *e)
{
    as_open_files_end(&s->files, e);
    return as_open_files_closed(&s->files);
}

bool as_store_busy(const as_store *s)
{
    return s->writing > 0 || as_open_files_syncing(&s->files);
}
