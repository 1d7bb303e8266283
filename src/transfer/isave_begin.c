/* SPDX-License-Identifier: Apache-2.0
 * The part of a nonblocking save for which the ranks are together and the caller waits: plan,
 * memory, the bytes' way out of the caller's memory, and the new files.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "io/pool.h"
#include "io/room.h"
#include "transfer/isave_parts.h"
#include "transfer/outcome.h"
#include "transfer/storage.h"

enum { LARGEST_STREAM = 256 << 20, MOST_COPIERS = 8 };

/* ---- memory ---- */

/* Ranks on this one's node. Collective. */
static int count_near(as_session *s, int *near, as_error *e)
{
    const int32_t *nodes;
    int code = as_session_nodes(s, &nodes, e);
    int self = as_comm_rank(s->comm);
    *near = 1;
    for (int r = 0; code == AS_OK && r < as_comm_size(s->comm); r++) {
        *near += r != self && nodes[r] == nodes[self];
    }
    return code;
}

/* Half of what the node has, shared out; nothing is known: no limit. */
static int64_t default_limit(int near)
{
    int64_t room = as_room_memory();
    return room > 0 ? as_max_i64(1, room / 2 / near) : INT64_MAX;
}

typedef struct needs {
    int64_t room; /* limit of this save */
    int64_t whole;
    int64_t least;
} needs;

/* Why not a snapshot, of the rank whose limit is the most too small. */
static void give_reason(as_isave *s, int64_t lacking)
{
    if (s->staging == AS_STAGE_SNAPSHOT) {
        (void)snprintf(s->staging_reason, sizeof s->staging_reason, "%s",
                       "all ranks' limits have room for all they write");
    } else if (s->call.staging == AS_STAGE_STREAM) {
        (void)snprintf(s->staging_reason, sizeof s->staging_reason, "%s", "it was asked for");
    } else {
        (void)snprintf(s->staging_reason, sizeof s->staging_reason,
                       "snapshot_memory lacks %lld bytes for a snapshot on the rank where it is "
                       "tightest",
                       (long long)lacking);
    }
}

/* Of the ring, in either mode. */
static int64_t ring_bytes(const needs *n, bool stream)
{
    int64_t most = as_min_i64(n->room, as_max_i64(LARGEST_STREAM, n->least));
    return stream ? as_min_i64(n->whole, most) : n->whole;
}

/* Settles the mode, the same on all ranks; *anew: the lane's memory is too small on some. Collective. */
static int choose_staging(as_isave *s, const needs *n, bool *anew, as_error *e)
{
    bool stream = s->call.staging == AS_STAGE_STREAM;
    int rank = as_comm_rank(s->session->comm);
    if (e->code == AS_OK && s->call.staging == AS_STAGE_SNAPSHOT && n->whole > n->room) {
        (void)as_fail(
            e, AS_LIMIT, 0,
            "%s: a snapshot takes %lld bytes on rank %d, and its limit has room for %lld: "
            "raise allshard_options.snapshot_memory, or let the save be a stream",
            s->directory, (long long)n->whole, rank, (long long)n->room);
    } else if (e->code == AS_OK && n->least > n->room) {
        (void)as_fail(e, AS_LIMIT, 0,
                      "%s: a nonblocking save takes at least %lld bytes of memory on rank %d, and "
                      "its limit has room for %lld: raise allshard_options.snapshot_memory, make "
                      "block_bytes smaller, or wait for other saves that are in flight",
                      s->directory, (long long)n->least, rank, (long long)n->room);
    }
    int code = as_comm_agree(s->session->comm, e);
    int64_t most[] = {stream ? 1 : n->whole - n->room,
                      as_lane_is_short(s->lane, ring_bytes(n, false)),
                      as_lane_is_short(s->lane, ring_bytes(n, true))};
    if (code == AS_OK) {
        code = as_comm_max(s->session->comm, most, (int)(sizeof most / sizeof *most), e);
    }
    int64_t lacking = most[0];
    s->staging = lacking > 0 ? AS_STAGE_STREAM : AS_STAGE_SNAPSHOT;
    *anew = most[lacking > 0 ? 2 : 1] != 0;
    give_reason(s, lacking);
    if (code == AS_OK && s->is_main && lacking > 0 && !stream && !s->session->told_stream) {
        s->session->told_stream = true;
        as_log_say(&s->session->log, AS_LOG_WARNING,
                   "the save is a stream, and allshard_isave takes as long as writing nearly all "
                   "of it: %s",
                   s->staging_reason);
    }
    return code;
}

/* Lane, mode, memory. Collective. */
static int take_memory(as_isave *s, as_error *e)
{
    as_session *session = s->session;
    const as_plan *plan = &s->stage.prepared->plan;
    int near = 1;
    int code = as_lanes_take(&session->lanes, &s->lane, session->comm, e);
    if (code == AS_OK) {
        code = count_near(session, &near, e);
    }
    if (as_comm_is_lost(code)) {
        return code; /* with a text that is the same on all ranks, wherever they were */
    }
    if (code != AS_OK) {
        as_error_prefix(e, "%s", s->directory);
        return code;
    }
    as_error own = AS_ERROR_INIT;
    if (as_lane_settle(s->lane, s->cpus, &own) != AS_OK) { /* for the next agreement */
        as_error_prefix(&own, "%s", s->directory);
    }
    (void)as_error_pass(e, &own);
    if (session->lanes.limit == 0) {
        session->lanes.limit = default_limit(near);
    }
    needs n = {.whole = as_outbox_snapshot_bytes(plan), .least = as_outbox_stream_bytes(plan)};
    if (s->call.save.read_back) { /* which takes two blocks at a time */
        int64_t two = 2 * (int64_t)as_pool_step((size_t)plan->block_bytes);
        n.whole = as_max_i64(n.whole, two);
        n.least = as_max_i64(n.least, two);
    }
    n.room = as_lanes_room(&session->lanes, s->lane);
    if (n.room < n.whole) {
        as_lanes_trim(&session->lanes, s->lane);
        n.room = as_lanes_room(&session->lanes, s->lane);
    }
    bool anew = false;
    code = choose_staging(s, &n, &anew, e);
    if (code != AS_OK) {
        return code;
    }
    int64_t bytes = ring_bytes(&n, s->staging == AS_STAGE_STREAM);
    int64_t all = as_room_processors();
    int processors = (int)as_max_i64(1, all / near);
    s->crowded = all < 2 * (int64_t)near;
    s->copiers =
        s->call.copy_threads ? s->call.copy_threads : (int)as_min_i64(processors, MOST_COPIERS);
    s->report = malloc(sizeof *s->report);
    if (!s->report) {
        (void)as_fail_nomem(e);
    }
    if (s->is_main) {
        s->meters = calloc((size_t)as_comm_size(session->comm), sizeof *s->meters);
        (void)(s->meters ? AS_OK : as_fail_nomem(e));
    }
    size_t touched = 0;
    /* A quarter of the buffers' memory is for what others have (transfer/buffers.h). */
    if (anew) {
        code = as_lane_fit(&session->lanes, s->lane, session->comm, bytes, s->copiers,
                           (size_t)session->memory / 4, &touched, e);
    }
    s->memory = bytes;
    s->touched = (int64_t)touched;
    if (e->code == AS_OK) {
        (void)as_outbox_open(&s->outbox, plan, s->lane->reserve.base, (size_t)bytes, e);
    }
    return as_comm_is_lost(code) ? code : as_comm_agree(session->comm, e);
}

/* ---- the way out of the caller's memory ---- */

static int stage_bytes(as_isave *s, as_error *e)
{
    int64_t from = as_clock();
    as_homes homes = {0};
    if (as_session_find(s->session, s->call.save.state, s->call.save.cuda_stream, &homes, e) ==
        AS_OK) {
        as_lane_pin(&s->session->lanes, s->lane, &homes);
    }
    as_transfer t = {
        .comm = s->session->comm,
        .state = s->call.save.state,
        .devices = homes.of ? s->session->devices : NULL,
        .homes = &homes,
        .plan = &s->stage.prepared->plan,
        .engine = &as_engine_posix,
        .arena = s->session->arena,
        .ring = s->lane->ring,
        .memory = s->session->memory,
        .meter = &s->meter,
    };
    int code = as_stage_blocks(&t, s->outbox, s->copiers, e);
    as_session_found(s->session, &homes, &s->meter);
    (void)as_meter_end(&s->meter, "stage", from, t.plan->own_bytes, &s->meter.tally.transfer);
    return code;
}

/* The main process's transaction, which its background begins. Collective. */
static int join_begin(as_isave *s, as_error *e)
{
    if (s->is_main) {
        as_background_wait(s->lane->background);
        (void)as_background_take(s->lane->background, e);
        as_background_tell(s->lane->background, &s->session->log);
    }
    return as_comm_agree(s->session->comm, e);
}

/* New files, and what the index will be. Collective. */
static int make_files(as_isave *s, as_error *e)
{
    int64_t from = as_clock();
    (void)as_stage_enter(&s->stage, e);
    int code = as_storage_for_save(&s->storage, &s->call.save, e); /* which the ranks agree on */
    if (code == AS_OK) {
        code = as_stage_create(&s->stage, e);
        if (s->is_main && e->code == AS_OK) {
            (void)as_publish_expect(&s->publication, e);
        }
        if (!as_comm_is_lost(code)) { /* which the ranks agree on again, with all of that */
            code = as_publish_early(&s->publication, e);
            s->small_sums = s->checksums.size;
        }
    }
    (void)as_meter_end(&s->meter, "begin", from, 0, &s->meter.tally.begin);
    return code;
}

static void start_writing(as_isave *s)
{
    as_background_start(s->lane->background, as_isave_job_write, s);
}

static int stage_snapshot(as_isave *s, as_error *e)
{
    int code = stage_bytes(s, e);
    if (as_comm_is_lost(code)) {
        return code;
    }
    code = join_begin(s, e); /* which has an error of staging, too */
    if (code == AS_OK) {
        code = make_files(s, e);
    }
    if (code == AS_OK) {
        start_writing(s);
    }
    return code;
}

static int stage_stream(as_isave *s, as_error *e)
{
    int code = join_begin(s, e);
    if (code == AS_OK) {
        code = make_files(s, e);
    }
    if (code == AS_OK) {
        start_writing(s);
        code = stage_bytes(s, e);
    }
    return code;
}

/* ---- from end to end ---- */

static int copy_text(char **out, const char *text, as_error *e)
{
    *out = text ? strdup(text) : NULL;
    return text && !*out ? as_fail_nomem(e) : AS_OK;
}

/* The program may go to another folder while the save is in flight. */
static int copy_path(char **out, const char *path, as_error *e)
{
    char *here = path && *path && *path != '/' ? getcwd(NULL, 0) : NULL;
    if (here && asprintf(out, "%s%s%s", here, strcmp(here, "/") == 0 ? "" : "/", path) < 0) {
        *out = NULL;
        (void)as_fail_nomem(e);
    }
    int code = here ? AS_OK : copy_text(out, path, e);
    free(here);
    return code;
}

/* What outlives the call. Without memory on some rank nobody begins. Collective. */
static int make(as_isave **out, const as_isave_call *call, as_error *e)
{
    as_session *session = call->save.session;
    as_isave *s = calloc(1, sizeof *s);
    if (!s) {
        (void)as_fail_nomem(e);
    } else {
        s->call = *call;
        s->session = session;
        s->is_main = as_comm_rank(session->comm) == 0;
        s->error = AS_ERROR_INIT;
        s->begun = as_clock();
        (void)copy_path(&s->directory, call->save.directory, e);
        (void)copy_text(&s->cpus, call->manners.cpus, e);
        (void)copy_text(&s->priority, call->manners.priority, e);
        s->call.save.directory = s->directory;
        s->call.manners.cpus = s->cpus;
        s->call.manners.priority = s->priority;
        atomic_store(&s->phase, AS_PHASE_WRITING);
    }
    int code = as_comm_agree(session->comm, e);
    if (code != AS_OK) {
        as_isave_free(s);
        s = NULL;
    }
    *out = s;
    return code;
}

static void describe_publication(as_isave *s)
{
    as_comm *c = s->session->comm;
    bool sums = !s->call.save.no_checksums || s->call.save.read_back;
    s->publication = (as_publication){.comm = c,
                                      .state = s->call.save.state,
                                      .prepared = s->stage.prepared,
                                      .log = s->session->log,
                                      .part = s->call.save.state->part,
                                      .directory = s->directory,
                                      .checksums = sums ? &s->checksums : NULL,
                                      .no_checksums = s->call.save.no_checksums,
                                      .read_back = s->call.save.read_back,
                                      .look = as_isave_look,
                                      .user = s};
}

/* A save that failed before it was staged leaves nothing, on any rank. */
static void give_up(as_isave *s, int code)
{
    s->lost = as_comm_is_lost(code);
    if (s->outbox) {
        as_outbox_abandon(s->outbox);
    }
    if (s->lane) {
        atomic_store(&s->watch.stop, 1);
        as_background_wait(s->lane->background);
        as_error none = AS_ERROR_INIT;
        (void)as_background_take(s->lane->background, &none);
        as_error_clear(&none);
    }
    as_stage_free(&s->stage);
    if (s->txn) {
        (void)as_isave_job_clean(s, NULL);
    }
    if (s->lane) {
        as_background_tell(s->lane->background, &s->session->log);
    }
    s->step = AS_ISAVE_OVER;
    as_isave_end(s);
    as_isave_free(s);
}

int as_isave_begin(as_isave **out, const as_isave_call *call, as_error *e)
{
    as_session *session = call->save.session;
    as_isave *s = NULL;
    *out = NULL;
    as_comm_outcome(session->comm, as_outcome_unchanged); /* until it returns */
    as_session_begin(session, AS_ISAVE);
    int64_t from = as_clock();
    int code = as_prepare(&call->save, e);
    (void)as_meter_end(&session->meter, "plan", from, 0, &session->meter.tally.plan);
    if (code == AS_OK) {
        code = make(&s, call, e);
    }
    if (code != AS_OK) {
        return code;
    }
    s->begun = from;
    s->stage = (as_stage){.call = &s->call.save, .prepared = &call->save.cache->prepared};
    s->own_bytes = s->stage.prepared->plan.own_bytes;
    describe_publication(s);
    as_manners_note(&s->home);
    code = take_memory(s, e);
    if (code == AS_OK) {
        code = as_session_buffers(session, s->stage.prepared->plan.block_bytes, e);
    }
    s->meter = session->meter;
    s->written = (as_meter){.trace = session->meter.trace, .thread = AS_TRACE_BACKGROUND};
    if (code == AS_OK) {
        s->log = as_background_log(s->lane->background);
        if (s->is_main) {
            as_background_start(s->lane->background, as_isave_job_begin, s);
        }
        code = s->staging == AS_STAGE_SNAPSHOT ? stage_snapshot(s, e) : stage_stream(s, e);
    }
    if (code != AS_OK) {
        give_up(s, code);
        return code;
    }
    s->publication.txn = s->txn;
    s->publication.log = s->log; /* from now on it is made by the background */
    s->call.save.pattern = NULL; /* the caller's, like all that was settled by now */
    s->call.save.max_shard_size = NULL;
    s->call.save.engine = NULL;
    s->call.save.discard = NULL;
    s->call.save.discard_count = 0;
    s->staged_at = as_clock();
    s->blocking = s->staged_at - s->begun;
    *out = s;
    return AS_OK;
}
