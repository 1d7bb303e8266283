/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/load.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "comm/make_plan.h"
#include "commit/view.h"
#include "format/pattern.h"
#include "plan/planner.h"
#include "tensor/dtype.h"
#include "transfer/arguments.h"
#include "transfer/context.h"
#include "transfer/filled.h"
#include "transfer/save.h"
#include "transfer/storage.h"

/* A save that commits while files are being opened makes the load look again. */
enum { TRIES = 5 };

typedef struct loading {
    const as_load_call *call;
    char *pattern; /* heap; NULL: the model, or the only checkpoint that is there */
    as_view *view;
    as_opener opener;
    as_checkpoint checkpoint; /* main process only */
    bool indexed;
    as_buffer names;  /* of the files, each followed by a NUL; on every rank */
    as_buffer places; /* size_t[]: where each begins */
    as_buffer read;   /* as_read_file[]: the headers that this rank read */
    as_plan plan;
} loading;

static size_t file_count(const loading *l)
{
    return l->places.size / sizeof(size_t);
}

static const char *file_at(const loading *l, size_t i)
{
    return l->names.data + ((const size_t *)(const void *)l->places.data)[i];
}

static as_read_file *read_at(const loading *l, size_t i)
{
    return (as_read_file *)(void *)l->read.data + i;
}

static size_t read_count(const loading *l)
{
    return l->read.size / sizeof(as_read_file);
}

static void close_checkpoint(loading *l)
{
    for (size_t i = 0; i < read_count(l); i++) {
        as_table_free(&read_at(l, i)->table);
    }
    l->read.size = 0;
    l->names.size = 0;
    l->places.size = 0;
    as_checkpoint_free(&l->checkpoint);
    l->checkpoint = (as_checkpoint){0};
    as_plan_free(&l->plan);
    as_view_close(l->view);
    l->view = NULL;
}

/* The main process finds the files and reads the index. */
static int resolve(loading *l, as_error *e)
{
    const as_load_call *call = l->call;
    int code =
        as_checkpoint_resolve(&l->opener, l->pattern, &l->checkpoint, &call->session->log, e);
    for (size_t i = 0; code == AS_OK && i < as_checkpoint_file_count(&l->checkpoint); i++) {
        const char *name = as_checkpoint_file(&l->checkpoint, i);
        code = as_buffer_append(&l->names, name, strlen(name) + 1, e);
    }
    l->indexed = code == AS_OK && !as_checkpoint_is_single(&l->checkpoint);
    return code;
}

static int spread_names(loading *l, as_error *e)
{
    int code = as_comm_bcast(l->call->session->comm, 0, &l->indexed, sizeof l->indexed, e);
    if (code == AS_OK) {
        code = as_comm_bcast_buffer(l->call->session->comm, 0, &l->names, e);
    }
    for (size_t at = 0; at < l->names.size && code == AS_OK; at += strlen(l->names.data + at) + 1) {
        code = as_buffer_append(&l->places, &at, sizeof at, e);
    }
    return code;
}

static int read_header(loading *l, int32_t file, as_error *e)
{
    const char *name = file_at(l, (size_t)file);
    const as_format *format = as_format_by_name(name);
    as_read_file r = {.file = file};
    as_source source;
    int fd = -1;
    if (!format) {
        /* A single file may have any name; safetensors is what such files hold. */
        format = &as_format_safetensors;
    }
    int code = l->opener.open(l->opener.self, name, &fd, e);
    if (code == AS_OK) {
        code = as_source_file(&source, &fd, name, e);
    }
    if (code == AS_OK) {
        code = format->read(&source, &r.table, &l->call->session->log, e);
    }
    if (code == AS_OK) {
        code = as_buffer_append(&l->read, &r, sizeof r, e);
    }
    if (code != AS_OK) {
        as_table_free(&r.table);
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    return code;
}

static int read_headers(loading *l, as_error *e)
{
    int32_t count = (int32_t)file_count(l);
    int code = AS_OK;
    for (int32_t file = 0; file < count && code == AS_OK; file++) {
        if (as_plan_builder(file, count, as_comm_size(l->call->session->comm)) ==
            as_comm_rank(l->call->session->comm)) {
            code = read_header(l, file, e);
        }
    }
    return code;
}

static int open_checkpoint(loading *l, as_error *e)
{
    bool is_main = as_comm_rank(l->call->session->comm) == 0;
    if (as_view_open(&l->view, l->call->path, e) == AS_OK) {
        l->opener = as_view_opener(l->view);
        if (is_main) {
            (void)resolve(l, e);
        }
    }
    int code = as_comm_agree(l->call->session->comm, e);
    if (code == AS_OK) {
        (void)spread_names(l, e);
        code = as_comm_agree(l->call->session->comm, e);
    }
    if (code == AS_OK) {
        (void)read_headers(l, e);
        code = as_comm_agree(l->call->session->comm, e);
    }
    return code;
}

static int make_plan(loading *l, as_buffer *missing, as_buffer *unexpected, as_error *e)
{
    const as_load_call *call = l->call;
    bool is_main = as_comm_rank(call->session->comm) == 0;
    as_load_request request = {
        .block_bytes = call->block_bytes ? call->block_bytes : AS_BLOCK_BYTES,
        .file_count = (int32_t)file_count(l),
        .indexed = l->indexed,
        .files = read_at(l, 0),
        .read_count = read_count(l),
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
    loading *l = user;
    *name = file_at(l, (size_t)file);
    return l->opener.open(l->opener.self, *name, fd, e);
}

/* Reads all bytes, then makes sure that each piece got its own. */
static int transfer_bytes(loading *l, const as_buffer *missing, as_error *e)
{
    size_t count = as_state_count(l->call->state);
    as_session *session = l->call->session;
    as_engine_choice storage;
    int code = as_storage_for_load(&storage, session, l->call->engine, l->call->path, &l->opener,
                                   file_count(l) ? file_at(l, 0) : NULL,
                                   file_count(l) ? file_at(l, file_count(l) - 1) : NULL, e);
    if (code == AS_OK) {
        code = as_session_buffers(session, l->plan.block_bytes, e);
    }
    if (code != AS_OK) {
        return code;
    }
    as_transfer t = {
        .comm = l->call->session->comm,
        .state = l->call->state,
        .plan = &l->plan,
        .engine = as_engine_by_name(storage.engine),
        .arena = session->arena,
        .memory = l->call->session->memory,
        .meter = &l->call->session->meter,
        .filled = calloc(count ? count : 1, sizeof *t.filled),
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
    code = as_transfer_load(&t, e);
    as_storage_explain(t.meter, &storage);
    if (code == AS_OK) {
        (void)as_filled_check(t.state, t.filled, missing, e);
        code = as_comm_agree(t.comm, e);
    }
    free(t.filled);
    return code;
}

static as_tally *tally(const loading *l)
{
    return &l->call->session->meter.tally;
}

/* One look at the checkpoint; AS_BUSY if a save replaced it meanwhile. */
static int try_load(loading *l, as_buffer *missing, as_buffer *unexpected, as_error *e)
{
    as_meter *meter = &l->call->session->meter;
    int64_t at = as_clock();
    int code = open_checkpoint(l, e);
    at = as_meter_end(meter, "begin", at, 0, &tally(l)->begin);
    if (code == AS_OK) {
        code = make_plan(l, missing, unexpected, e);
        at = as_meter_end(meter, "plan", at, 0, &tally(l)->plan);
    }
    if (code == AS_OK) {
        code = transfer_bytes(l, missing, e);
        at = as_meter_end(meter, "transfer", at, l->plan.own_bytes, &tally(l)->transfer);
    }
    if (code == AS_MPI) {
        return code;
    }
    /* Whatever happened: if the files are not one checkpoint any more, that is why. */
    as_error changed = AS_ERROR_INIT;
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

static int check(loading *l, as_error *e)
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
    };
    return as_arguments_agree(call->session->comm, arguments, sizeof arguments / sizeof *arguments,
                              e);
}

int as_load_run(const as_load_call *call, as_buffer *missing, as_buffer *unexpected, as_error *e)
{
    loading l = {.call = call};
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
        close_checkpoint(&l);
    }
    tally(&l)->total = tally(&l)->durable = as_clock() - start;
    if (code == AS_OK) {
        as_session_gather(call->session);
    }
    as_buffer_free(&l.names);
    as_buffer_free(&l.places);
    as_buffer_free(&l.read);
    free(l.pattern);
    return code;
}
