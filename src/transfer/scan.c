/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/scan.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/sys.h"
#include "io/pool.h"
#include "transfer/buffers.h"
#include "transfer/files.h"

enum { REST = 100000 }; /* longest sleep between two looks, nanoseconds */

/* A range on its way. */
typedef struct scan_slot {
    as_scan_range range;
    char *bytes; /* its buffer, which stays with the slot */
    bool read;   /* or given up: it waits for its turn */
    as_error why;
    as_io io;
    as_open_file *file;
} scan_slot;

typedef struct scanner {
    const as_scan *scan;
    as_transfer transfer; /* what as_open_files looks at */
    as_engine *engine;
    as_open_files files;
    char *own;    /* memory of the buffers, if none was given */
    char *memory; /* of the buffers */
    scan_slot *slots;
    int slot_count;
    int first; /* the slots are a ring; this one is handed over next */
    int busy;
    bool more;
} scanner;

/* ---- beginning and end ---- */

static int open_buffers(scanner *s, as_error *e)
{
    const as_scan *scan = s->scan;
    size_t step = as_pool_step((size_t)scan->longest);
    s->slot_count = scan->slots > 0 ? scan->slots : as_transfer_slots(scan->longest);
    s->memory = scan->memory;
    if (s->memory) {
        s->slot_count = (int)as_min_i64(s->slot_count, (int64_t)(scan->memory_bytes / step));
        if (s->slot_count < 1) {
            return as_fail(e, AS_INTERNAL, 0, "the transfer buffers have no room for a range");
        }
    } else {
        s->own = aligned_alloc(AS_POOL_PAGE, (size_t)s->slot_count * step);
        s->memory = s->own;
    }
    s->slots = calloc((size_t)s->slot_count, sizeof *s->slots);
    if (!s->memory || !s->slots) {
        return as_fail_nomem(e);
    }
    for (int i = 0; i < s->slot_count; i++) {
        s->slots[i].bytes = s->memory + (size_t)i * step;
        s->slots[i].why = AS_ERROR_INIT;
    }
    return AS_OK;
}

static int open_scanner(scanner *s, const as_scan *scan, as_error *e)
{
    *s = (scanner){
        .scan = scan,
        .transfer = {.engine = scan->engine, .open_file = scan->open_file, .user = scan->user},
        .more = true};
    s->files.transfer = &s->transfer;
    int code = open_buffers(s, e);
    if (code != AS_OK) {
        return code;
    }
    as_engine_options options = scan->engine_options;
    options.arena = s->memory;
    options.arena_bytes = (size_t)s->slot_count * as_pool_step((size_t)scan->longest);
    options.trace = scan->meter->trace;
    code = scan->engine->open(&s->engine, &options, e);
    s->files.engine = s->engine;
    return code;
}

static void close_scanner(scanner *s)
{
    as_open_files_free(&s->files);
    if (s->engine) {
        as_meter_engine(s->scan->meter, s->scan->engine, s->engine);
        s->scan->engine->close(s->engine);
    }
    for (int i = 0; s->slots && i < s->slot_count; i++) {
        as_error_clear(&s->slots[i].why);
    }
    free(s->slots);
    free(s->own);
}

/* ---- ranges ---- */

/* What the page cache holds of a range goes, if it is clean; a file system that cannot do that reads
 * as it always does. */
static void let_go(const scan_slot *slot)
{
    int64_t begin = slot->range.offset / AS_POOL_PAGE * AS_POOL_PAGE;
    int64_t end = (int64_t)as_pool_step((size_t)(slot->range.offset + slot->range.bytes));
    (void)as_sys_table.fadvise(slot->file->io.fd, (off_t)begin, (off_t)(end - begin),
                               POSIX_FADV_DONTNEED);
}

/* A failure of one range: the scan's, or told with the range. */
static void fail(const scanner *s, scan_slot *slot, as_error *why, as_error *e)
{
    slot->read = true;
    as_error_move(&slot->why, why);
    if (!s->scan->go_on) {
        (void)as_error_pass(e, &slot->why);
    }
}

static void begin_one(scanner *s, const as_scan_range *range, as_error *e)
{
    scan_slot *slot = &s->slots[(s->first + s->busy) % s->slot_count];
    slot->range = *range;
    slot->read = false;
    slot->file = NULL;
    s->busy++;
    as_error why = AS_ERROR_INIT;
    if (as_open_files_get(&s->files, range->file, &slot->file, &why) != AS_OK) {
        fail(s, slot, &why, e);
        return;
    }
    if (s->scan->fresh) {
        let_go(slot);
    }
    slot->io = (as_io){.kind = AS_IO_READ,
                       .file = &slot->file->io,
                       .bytes = slot->bytes,
                       .count = range->bytes,
                       .offset = range->offset,
                       .owner = slot};
    slot->file->under_way++;
    s->scan->engine->submit(s->engine, &slot->io);
}

static void begin_more(scanner *s, bool *moved, as_error *e)
{
    as_scan_range range;
    while (s->more && s->busy < s->slot_count) {
        s->more = e->code == AS_OK && s->scan->next(s->scan->user, &range);
        if (s->more) {
            *moved = true;
            begin_one(s, &range, e);
        }
    }
}

static void reap(scanner *s, bool *moved, as_error *e)
{
    as_io *io;
    as_error why = AS_ERROR_INIT;
    while ((io = s->scan->engine->reap(s->engine, &why))) {
        scan_slot *slot = io->owner;
        as_tally *tally = &s->scan->meter->tally;
        *moved = true;
        tally->operations++;
        tally->io += io->nanoseconds;
        tally->bytes_read += io->code == AS_OK ? io->count : 0;
        as_open_files_done(&s->files, slot->file, e);
        slot->read = true;
        if (io->code != AS_OK) {
            /* Of failures that come at once the engine keeps one text. */
            (void)as_fail(&why, io->code, 0, "it cannot be read");
            fail(s, slot, &why, e);
        }
    }
    as_error_clear(&why);
}

/* One, and then the engine gets the next: it has work while this thread looks at bytes. */
static void hand_over(scanner *s, bool *moved, as_error *e)
{
    scan_slot *slot = &s->slots[s->first];
    if (s->busy == 0 || !slot->read) {
        return;
    }
    bool good = slot->why.code == AS_OK;
    if (e->code == AS_OK) {
        (void)s->scan->take(s->scan->user, &slot->range, good ? slot->bytes : NULL,
                            good ? NULL : &slot->why, e);
    }
    as_error_clear(&slot->why);
    s->first = (s->first + 1) % s->slot_count;
    s->busy--;
    *moved = true;
}

/* Other ranks wait for this one's agreement. */
static void give_sign(const scanner *s, as_error *e)
{
    if (s->scan->comm && as_comm_watches(s->scan->comm)) {
        bool reading = s->busy > 0 && !s->slots[s->first].read;
        as_comm_storage(s->scan->comm, reading, s->scan->meter->tally.operations);
        (void)as_comm_look(s->scan->comm, e);
    }
}

static void run(scanner *s, as_error *e)
{
    as_wait wait = {0};
    while (s->busy > 0 || (s->more && e->code == AS_OK)) {
        bool moved = false;
        begin_more(s, &moved, e);
        reap(s, &moved, e);
        hand_over(s, &moved, e);
        give_sign(s, e);
        if (moved) {
            as_wait_end(&wait, s->scan->meter);
        } else if (s->busy > 0) {
            as_wait_rest(&wait, REST);
        }
    }
}

int as_scan_run(const as_scan *scan, as_error *e)
{
    scanner s;
    if (e->code == AS_OK) {
        if (open_scanner(&s, scan, e) == AS_OK) {
            run(&s, e);
        }
        close_scanner(&s);
    }
    return scan->comm ? as_comm_agree(scan->comm, e) : e->code;
}
