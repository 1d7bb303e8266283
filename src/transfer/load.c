/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/load.h"

#include <stdlib.h>
#include <string.h>

#include "comm/make_plan.h"
#include "commit/folder.h"
#include "format/pattern.h"
#include "plan/planner.h"
#include "tensor/dtype.h"
#include "transfer/arguments.h"
#include "transfer/blocks.h"
#include "transfer/context.h"
#include "transfer/filled.h"
#include "transfer/loading.h"
#include "transfer/save.h"
#include "transfer/storage.h"

/* A save that commits while files are being opened makes the load look again. */
enum { TRIES = 5 };

static int make_plan(as_loading *l, as_buffer *missing, as_buffer *unexpected, as_error *e)
{
    const as_load_call *call = l->call;
    bool is_main = as_comm_rank(call->session->comm) == 0;
    int64_t block_bytes = call->block_bytes ? call->block_bytes : AS_BLOCK_BYTES;
    if (l->checks.summed && l->checks.block_bytes != block_bytes) {
        as_log_say(&call->session->log, AS_LOG_DEBUG,
                   "%s: blocks of %lld bytes, whose checksums are known, are read, not of %lld",
                   call->path, (long long)l->checks.block_bytes, (long long)block_bytes);
        block_bytes = l->checks.block_bytes;
    }
    as_load_request request = {
        .block_bytes = block_bytes,
        .file_count = (int32_t)as_loading_file_count(l),
        .indexed = l->indexed,
        .files = as_loading_reads(l),
        .read_count = as_loading_read_count(l),
        .checkpoint = is_main ? &l->checkpoint : NULL,
        .allow_missing = call->allow_missing,
        .allow_unexpected = call->allow_unexpected,
    };
    as_planner planner = {0};
    (void)as_planner_load(&planner, as_comm_rank(call->session->comm),
                          as_comm_size(call->session->comm), call->state, &request, e);
    int code = as_make_plan(call->session->comm, &planner, e);
    call->session->meter.tally.plan_steps += planner.steps_run;
    if (code == AS_OK || code == AS_NAMES) {
        as_error trouble = AS_ERROR_INIT;
        as_buffer_free(missing); /* of an earlier load or try */
        as_buffer_free(unexpected);
        *missing = planner.missing;
        *unexpected = planner.unexpected;
        planner.missing = AS_BUFFER_INIT;
        planner.unexpected = AS_BUFFER_INIT;
        if (as_comm_bcast_buffer(call->session->comm, 0, missing, &trouble) == AS_OK) {
            (void)as_comm_bcast_buffer(call->session->comm, 0, unexpected, &trouble);
        }
        if (code == AS_OK) {
            as_error_move(e, &trouble);
            code = as_comm_agree(call->session->comm, e);
        }
        as_error_clear(&trouble);
    }
    if (code == AS_OK) {
        l->plan = planner.plan;
        planner.plan = (as_plan){0};
    }
    as_planner_free(&planner);
    return code;
}

static int open_file(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    as_loading *l = user;
    *name = as_loading_file(l, (size_t)file);
    return l->opener.open(l->opener.self, *name, fd, e);
}

/* Gets the checksums of the blocks that this rank reads. */
static int fetch_sums(as_loading *l, as_error *e)
{
    as_block_walk walk = as_block_walk_begin_whole(&l->plan);
    as_buffer runs = AS_BUFFER_INIT;
    as_block_run run = {.count = 0};
    as_block block;
    int code = AS_OK;
    while (code == AS_OK && as_block_walk_next(&walk, &block)) {
        int64_t number = block.low / l->plan.block_bytes;
        if (run.count && (run.file != block.file || run.first + run.count != number)) {
            code = as_buffer_append(&runs, &run, sizeof run, e);
            run.count = 0;
        }
        if (run.count == 0) {
            run = (as_block_run){.file = block.file, .first = number};
        }
        run.count++;
    }
    if (code == AS_OK && run.count) {
        (void)as_buffer_append(&runs, &run, sizeof run, e);
    }
    code = as_load_checks_fetch(&l->checks, l->call->session->comm, &runs, &l->sums, e);
    as_buffer_free(&runs);
    return code;
}

/* A block is bad, which all ranks agree on: who read the header of its file knows the tensors that
 * have bytes in it. If MPI or memory fail on the way the text stays without them. */
static void name_tensors(as_loading *l, as_bad_block *bad, as_error *e)
{
    as_comm *c = l->call->session->comm;
    as_buffer holds = AS_BUFFER_INIT;
    as_error trouble = AS_ERROR_INIT;
    if (e->rank < 0 || as_comm_bcast(c, e->rank, bad, sizeof *bad, &trouble) != AS_OK ||
        bad->file < 0) {
        as_error_clear(&trouble);
        return;
    }
    for (size_t i = 0; i < as_loading_read_count(l); i++) {
        if (as_loading_read(l, i)->file == bad->file) {
            (void)as_bad_block_holds(&holds, &as_loading_read(l, i)->table, bad->low, bad->high,
                                     NULL);
        }
    }
    int knows = as_plan_builder(bad->file, (int32_t)as_loading_file_count(l), as_comm_size(c));
    if (as_comm_bcast_buffer(c, knows, &holds, &trouble) == AS_OK) {
        as_error named = AS_ERROR_INIT;
        const char *text = holds.size ? as_buffer_string(&holds) : NULL;
        (void)as_bad_block_fail(bad, as_loading_file(l, (size_t)bad->file), text, l->call->path,
                                &named);
        named.rank = e->rank;
        memcpy(named.host, e->host, sizeof named.host);
        as_error_move(e, &named);
    }
    as_error_clear(&trouble);
    as_buffer_free(&holds);
}

/* Reads all bytes, then makes sure that each piece got its own. */
static int transfer_bytes(as_loading *l, const as_buffer *missing, as_error *e)
{
    size_t count = as_state_count(l->call->state);
    as_session *session = l->call->session;
    as_bad_block bad = AS_BAD_BLOCK_NONE;
    as_engine_choice storage;
    int code = as_storage_for_load(
        &storage, session, l->call->engine, l->call->path, &l->opener,
        as_loading_file_count(l) ? as_loading_file(l, 0) : NULL,
        as_loading_file_count(l) ? as_loading_file(l, as_loading_file_count(l) - 1) : NULL, e);
    if (code == AS_OK) {
        code = as_session_buffers(session, l->plan.block_bytes, e);
    }
    if (code == AS_OK && l->checks.summed) {
        code = fetch_sums(l, e);
    }
    if (code != AS_OK) {
        return code;
    }
    as_homes homes = {0};
    (void)as_session_find(session, l->call->state, l->call->cuda_stream, &homes, e);
    as_transfer t = {
        .comm = l->call->session->comm,
        .state = l->call->state,
        .devices = homes.of ? session->devices : NULL,
        .homes = &homes,
        .plan = &l->plan,
        .engine = as_engine_by_name(storage.engine),
        .arena = session->arena,
        .memory = l->call->session->memory,
        .meter = &l->call->session->meter,
        .filled = calloc(count ? count : 1, sizeof *t.filled),
        .expected = l->checks.summed ? (const uint64_t *)(const void *)l->sums.data : NULL,
        .bad = &bad,
        .open_file = open_file,
        .user = l,
        .progress = l->call->session->progress,
        .progress_user = l->call->session->progress_user,
    };
    if (!t.filled) {
        (void)as_fail_nomem(e);
    }
    t.state->seams->size = 0; /* what an earlier load broke off with */
    as_probe_options(&storage, &t.engine_options);
    if (e->code == AS_OK) {
        (void)as_gds_prepare(&session->gds, &t, storage.gds, NULL, e);
    }
    code = as_transfer_load(&t, e);
    as_session_found(session, &homes, t.meter);
    as_storage_explain(t.meter, &storage);
    as_gds_explain(session->gds, storage.gds, t.meter, &session->log);
    if (code == AS_CORRUPT) {
        name_tensors(l, &bad, e);
    }
    if (code == AS_OK) {
        (void)as_filled_check(t.state, t.filled, missing, e);
        code = as_comm_agree(t.comm, e);
    }
    free(t.filled);
    return code;
}

static as_tally *tally(const as_loading *l)
{
    return &l->call->session->meter.tally;
}

/* One look at the checkpoint; AS_BUSY if a save replaced it meanwhile. */
static int try_load(as_loading *l, as_buffer *missing, as_buffer *unexpected, as_error *e)
{
    as_meter *meter = &l->call->session->meter;
    int64_t at = as_clock();
    int code = as_loading_open(l, e);
    at = as_meter_end(meter, "begin", at, 0, &tally(l)->begin);
    if (code == AS_OK) {
        code = make_plan(l, missing, unexpected, e);
        at = as_meter_end(meter, "plan", at, 0, &tally(l)->plan);
    }
    if (code == AS_OK) {
        code = transfer_bytes(l, missing, e);
        at = as_meter_end(meter, "transfer", at, l->plan.own_bytes, &tally(l)->transfer);
    }
    if (as_comm_is_lost(code)) {
        return code;
    }
    /* Whatever happened: if the files are not one checkpoint any more, that is why. */
    as_error changed = AS_ERROR_INIT;
    if (l->view && code == AS_OK) {
        /* What it says was proven; another part's save may have written it anew since. */
        as_view_forget(l->view, AS_MANIFEST_NAME);
    }
    if (l->view) {
        (void)as_view_check(l->view, &changed);
    }
    int still = as_comm_agree(l->call->session->comm, &changed);
    (void)as_meter_end(meter, "commit", at, 0, &tally(l)->commit);
    if (still != AS_OK) {
        as_error_move(e, &changed);
        return still;
    }
    return code;
}

/* Zero strides would put several elements into one place. */
static int check_state(const as_state *s, as_error *e)
{
    for (size_t i = 0; i < as_state_count(s); i++) {
        as_box box = as_state_box(s, i);
        for (int d = 0; box.strides && d < box.ndim; d++) {
            if (box.strides[d] == 0 && box.local[d] > 1) {
                return as_fail(e, AS_INVALID, 0,
                               "tensor \"%s\": a stride of 0 in dimension %d can be saved, but not "
                               "loaded into",
                               as_state_name(s, i), d);
            }
        }
    }
    return AS_OK;
}

static int check(as_loading *l, as_error *e)
{
    const as_load_call *call = l->call;
    int64_t block_bytes = call->block_bytes ? call->block_bytes : AS_BLOCK_BYTES;
    int code = as_check_block_bytes(block_bytes, e);
    if (code == AS_OK && call->pattern) {
        code = as_pattern_check(call->pattern, e);
    }
    if (code == AS_OK && call->engine) {
        code = as_probe_name(call->engine, e);
    }
    if (code == AS_OK) {
        code = check_state(call->state, e);
    }
    if (code == AS_OK && call->pattern) {
        l->pattern = strdup(call->pattern);
        (void)(l->pattern ? AS_OK : as_fail_nomem(e));
    } else if (code == AS_OK && strcmp(call->state->part, "model") != 0) {
        /* Another checkpoint of the folder will not do for "optimizer" or "ema". */
        (void)as_pattern_default(call->state->part, &l->pattern, e);
    }
    as_argument arguments[] = {
        as_argument_text("path", call->path),
        as_argument_text("part of the state", call->state->part),
        as_argument_text("pattern", l->pattern),
        as_argument_number("block_bytes", block_bytes),
        as_argument_number("allow_missing", call->allow_missing),
        as_argument_number("allow_unexpected", call->allow_unexpected),
        as_argument_text("engine", call->engine),
        as_argument_text("checksum", call->no_checksums ? "none" : "xxh3"),
    };
    return as_arguments_agree(call->session->comm, arguments, sizeof arguments / sizeof *arguments,
                              e);
}

/* Those who read a file know its name in the folder, and not always the folder. The same on all
 * ranks, which have one error and one path. */
static void name_folder(const as_load_call *call, as_error *e)
{
    bool of_a_file = e->code == AS_SYSTEM || e->code == AS_FORMAT || e->code == AS_LIMIT ||
                     e->code == AS_NOT_FOUND || e->code == AS_CORRUPT;
    if (of_a_file && !strstr(as_error_text(e), call->path)) {
        as_error_prefix(e, "%s", call->path);
    }
}

int as_load_run(const as_load_call *call, as_buffer *missing, as_buffer *unexpected, as_error *e)
{
    as_loading l = {.call = call, .checks.path = call->path};
    int64_t start = as_clock();
    as_session_begin(call->session, AS_LOAD);
    int code = check(&l, e);
    bool again = code == AS_OK;
    for (int i = 0; i < TRIES && again; i++) {
        as_error_clear(e);
        missing->size = 0;
        unexpected->size = 0;
        code = try_load(&l, missing, unexpected, e);
        again = code == AS_BUSY;
        as_loading_close(&l);
    }
    name_folder(call, e);
    tally(&l)->total = tally(&l)->durable = as_clock() - start;
    if (code == AS_OK) {
        as_session_gather(call->session);
    }
    as_loading_free(&l);
    return code;
}
