/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/save.h"

#include <stdlib.h>

#include "commit/transaction.h"
#include "transfer/context.h"
#include "transfer/outcome.h"
#include "transfer/prepare.h"
#include "transfer/publish.h"
#include "transfer/stage.h"
#include "transfer/storage.h"

typedef struct saving {
    const as_save_call *call;
    as_session *session;
    as_stage stage;
    as_engine_choice storage;
    as_txn *txn;         /* main process only */
    as_buffer checksums; /* as_block_sum[] of what this rank wrote */
    int64_t start;       /* as_clock */
    bool durable;        /* main process: it counts, and all moves are made */
} saving;

static bool is_main(const saving *s)
{
    return as_comm_rank(s->session->comm) == 0;
}

static as_tally *tally(const saving *s)
{
    return &s->session->meter.tally;
}

static int refresh_lock(void *user, as_error *e)
{
    saving *s = user;
    return as_txn_refresh(s->txn, e);
}

/* Between the steps of the commit: the other ranks wait for this one. */
static int give_sign(void *user, as_error *e)
{
    saving *s = user;
    return as_comm_look(s->session->comm, e);
}

static int open_staged(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    saving *s = user;
    return as_stage_open(&s->stage, file, fd, name, e);
}

static int open_written(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    saving *s = user;
    return as_stage_open_written(&s->stage, file, fd, name, e);
}

/* Of what was written; also where the manifest is not to have them. */
static as_buffer *sums_wanted(saving *s)
{
    return s->call->no_checksums && !s->call->read_back ? NULL : &s->checksums;
}

/* An error is for the next agreement. */
static void prepare_gds(const saving *s, as_transfer *t, as_error *e)
{
    as_buffer folder = AS_BUFFER_INIT;
    if (s->storage.gds != AS_GDS_OFF && e->code == AS_OK &&
        as_staged_folder(s->call->directory, &folder, e) == AS_OK) {
        (void)as_gds_prepare(&s->session->gds, t, s->storage.gds, folder.data, e);
    }
    as_buffer_free(&folder);
}

static int transfer_bytes(saving *s, as_error *e)
{
    int64_t from = as_clock();
    as_homes homes = {0};
    (void)as_session_find(s->session, s->call->state, s->call->cuda_stream, &homes, e);
    as_transfer t = {
        .comm = s->session->comm,
        .state = s->call->state,
        .devices = homes.of ? s->session->devices : NULL,
        .homes = &homes,
        .plan = &s->stage.prepared->plan,
        .engine = as_engine_by_name(s->storage.engine),
        .arena = s->session->arena,
        .memory = s->session->memory,
        .meter = &s->session->meter,
        .checksums = sums_wanted(s),
        .open_file = open_staged,
        .open_written = s->call->read_back ? open_written : NULL,
        .tick = s->txn ? refresh_lock : NULL,
        .user = s,
        .progress = s->session->progress,
        .progress_user = s->session->progress_user,
    };
    as_probe_options(&s->storage, &t.engine_options);
    prepare_gds(s, &t, e);
    int code = as_transfer_save(&t, e);
    as_session_found(s->session, &homes, t.meter);
    as_storage_explain(&s->session->meter, &s->storage);
    as_gds_explain(s->session->gds, s->storage.gds, &s->session->meter, &s->session->log);
    if (code == AS_OK) {
        code = as_stage_settle(&s->stage, e);
    }
    (void)as_meter_end(&s->session->meter, "transfer", from, t.plan->own_bytes,
                       &tally(s)->transfer);
    return code;
}

/* The lock, and the new files. */
static int begin(saving *s, as_error *e)
{
    int64_t from = as_clock();
    as_comm_outcome(s->session->comm, as_outcome_unchanged);
    if (is_main(s)) {
        as_txn_options options = {.mode = (mode_t)s->call->mode,
                                  .inner = s->call->inner,
                                  .tick = {.call = give_sign, .self = s}};
        (void)as_txn_begin(&s->txn, s->call->directory, &options, &s->session->log, e);
    }
    int code = as_comm_agree(s->session->comm, e);
    if (code == AS_OK) {
        (void)as_stage_enter(&s->stage, e);
        code = as_storage_for_save(&s->storage, s->call, e); /* which the ranks agree on */
    }
    if (code == AS_OK) {
        code = as_stage_create(&s->stage, e);
        code = as_comm_is_lost(code) ? code : as_comm_agree(s->session->comm, e);
    }
    if (code == AS_OK) {
        code = as_session_buffers(s->session, s->stage.prepared->plan.block_bytes, e);
    }
    (void)as_meter_end(&s->session->meter, "begin", from, 0, &tally(s)->begin);
    return code;
}

/* Index, manifest and journal: the main process makes the save count. */
static int commit(saving *s, as_error *e)
{
    int64_t from = as_clock();
    as_session_gather(s->session); /* the manifest tells which engines did the work */
    as_publication p = {.comm = s->session->comm,
                        .state = s->call->state,
                        .log = s->session->log,
                        .part = s->call->state->part,
                        .prepared = s->stage.prepared,
                        .txn = s->txn,
                        .directory = s->call->directory,
                        .checksums = sums_wanted(s),
                        .no_checksums = s->call->no_checksums,
                        .read_back = s->call->read_back,
                        .look = give_sign,
                        .user = s};
    as_meters_engine(&s->session->meter, s->session->meters, as_comm_size(s->session->comm),
                     &p.engine, &p.engine_reason);
    if (!is_main(s)) {
        as_comm_outcome(s->session->comm, as_outcome_unknown_here);
    }
    int code = as_publish(&p, e);
    if (code == AS_OK && is_main(s)) {
        int outcome = as_publication_commit(&p, e);
        s->durable = outcome == AS_OK;
        as_comm_outcome(s->session->comm, as_outcome_of(outcome));
    }
    as_publication_free(&p);
    code = code == AS_OK ? as_comm_agree(s->session->comm, e) : code;
    tally(s)->durable =
        as_meter_end(&s->session->meter, "commit", from, 0, &tally(s)->commit) - s->start;
    return code;
}

/* After the ranks have learned the outcome: the old files' bytes are freed. The save counts
 * whatever happens here, so a fault is told, not returned: all ranks return the same code. */
static void finish(saving *s)
{
    int64_t from = as_clock();
    as_error e = AS_ERROR_INIT;
    if (as_txn_finish(s->txn, &e) != AS_OK) {
        as_log_say(&s->session->log, AS_LOG_WARNING,
                   "the save is complete, but its leftovers wait for `allshard recover`: %s",
                   as_error_text(&e));
    }
    s->txn = NULL;
    as_error_clear(&e);
    (void)as_meter_end(&s->session->meter, "clean", from, 0, &tally(s)->clean);
}

static int prepare(saving *s, as_error *e)
{
    int64_t from = as_clock();
    int code = as_prepare(s->call, e);
    s->stage = (as_stage){.call = s->call, .prepared = &s->call->cache->prepared};
    (void)as_meter_end(&s->session->meter, "plan", from, 0, &tally(s)->plan);
    return code;
}

int as_save_run(const as_save_call *call, as_error *e)
{
    saving s = {.call = call, .session = call->session, .start = as_clock()};
    as_session_begin(s.session, AS_SAVE);
    int code = prepare(&s, e);
    if (code == AS_OK) {
        code = begin(&s, e);
    }
    if (code == AS_OK) {
        code = transfer_bytes(&s, e);
    }
    if (code == AS_OK) {
        code = commit(&s, e);
    }
    tally(&s)->total = as_clock() - s.start;
    if (code == AS_OK) {
        as_session_gather(s.session);
    }
    if (s.durable) { /* also if a rank stalled afterwards */
        finish(&s);
    }
    as_stage_free(&s.stage); /* some file systems do not remove a folder that is open */
    as_txn_abort(s.txn);
    as_buffer_free(&s.checksums);
    tally(&s)->total = as_clock() - s.start;
    return code;
}
