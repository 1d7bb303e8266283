/* SPDX-License-Identifier: Apache-2.0
 * The steps of a nonblocking save after it was staged. Each look takes as many as it can; none
 * blocks.
 *
 *   all ranks  WRITING → WRITTEN → (CHECKING → CHECKED) → REPORTING → COMMITTED → OVER
 *   main       … REPORTING → COMMITTING → COMMITTED → CLEANING → OVER
 *   failure    WRITTEN or CHECKED → (main: CLEANING) → OVER
 */
#include "transfer/isave.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "transfer/isave_parts.h"
#include "transfer/outcome.h"

enum { LONGEST_REST = 1000000 /* nanoseconds */ };

static void start(as_isave *s, as_job *job)
{
    as_background_start(s->lane->background, job, s);
}

/* Has the job ended? Then its error is this rank's. */
static bool job_done(as_isave *s)
{
    if (!as_background_idle(s->lane->background)) {
        return false;
    }
    (void)as_background_take(s->lane->background, &s->error);
    return true;
}

static void note_cancelled(as_isave *s)
{
    if (s->error.code == AS_OK) {
        (void)as_isave_look(s, &s->error);
    }
}

/* What the main process adds to the verdict on a rank that stalls. */
static void tell_outcome(const as_isave *s)
{
    const char *text = as_outcome_unknown_here;
    if (s->is_main && s->step != AS_ISAVE_COMMITTING) {
        bool before = !s->durable && s->error.code == AS_OK;
        text = before ? as_outcome_unchanged : as_outcome_of(s->durable ? AS_OK : s->error.code);
    }
    as_comm_outcome(s->session->comm, text);
}

static void enter(as_isave *s, enum as_isave_step step, enum as_phase phase)
{
    s->step = step;
    atomic_store(&s->phase, (int)phase);
}

/* Nothing is to be had of MPI any more. What runs in the background is ended, so that it touches
 * nothing that is freed. */
static void lose(as_isave *s)
{
    s->lost = true;
    atomic_store(&s->watch.stop, 1);
    if (s->outbox) {
        as_outbox_abandon(s->outbox);
    }
    as_background_wait(s->lane->background);
    as_error trouble = AS_ERROR_INIT;
    (void)as_background_take(s->lane->background, &trouble);
    as_error_clear(&trouble);
    as_stage_free(&s->stage);
    if (s->txn) {
        start(s, as_isave_job_clean);
        as_background_wait(s->lane->background);
    }
    enter(s, AS_ISAVE_OVER, AS_PHASE_OVER);
}

static bool agree_begin(as_isave *s, enum as_isave_step step)
{
    as_error trouble = AS_ERROR_INIT;
    if (as_comm_agree_begin(s->lane->comm, &s->error, &trouble) != AS_OK) {
        as_error_move(&s->error, &trouble);
        lose(s);
        return true;
    }
    enter(s, step, step == AS_ISAVE_COMMITTED ? AS_PHASE_COMMITTING : AS_PHASE_AGREEING);
    return true;
}

/* *agreed: with s->error on all ranks. */
static bool agree_test(as_isave *s, bool *agreed)
{
    as_error result = AS_ERROR_INIT;
    (void)as_comm_agree_test(s->lane->comm, agreed, &result);
    if (*agreed) {
        as_error_move(&s->error, &result);
        return true;
    }
    if (result.code != AS_OK) {
        as_error_move(&s->error, &result);
        lose(s);
        return true;
    }
    return false;
}

/* After the last agreement, or one on a failure. */
static bool clean(as_isave *s)
{
    as_stage_free(&s->stage); /* some file systems do not remove a folder that is open */
    if (s->is_main && s->txn) {
        start(s, as_isave_job_clean);
        s->step = AS_ISAVE_CLEANING;
    } else {
        enter(s, AS_ISAVE_OVER, AS_PHASE_OVER);
    }
    return true;
}

/* ---- the steps; true if something moved ---- */

static bool writing(as_isave *s)
{
    if (!job_done(s)) {
        return false;
    }
    as_isave_merge_meters(s);
    as_outbox_close(s->outbox);
    s->outbox = NULL;
    note_cancelled(s);
    return agree_begin(s, AS_ISAVE_WRITTEN);
}

static bool written(as_isave *s)
{
    bool agreed = false;
    if (!agree_test(s, &agreed) || !agreed) {
        return s->step == AS_ISAVE_OVER;
    }
    if (s->error.code != AS_OK) {
        return clean(s);
    }
    if (as_isave_checks(s)) {
        start(s, as_isave_job_check);
        s->step = AS_ISAVE_CHECKING; /* the bytes are there all the same: phases never go back */
    } else {
        s->step = AS_ISAVE_REPORTING;
    }
    return true;
}

static bool checking(as_isave *s)
{
    if (!job_done(s)) {
        return false;
    }
    as_isave_merge_meters(s);
    note_cancelled(s);
    return agree_begin(s, AS_ISAVE_CHECKED);
}

static bool checked(as_isave *s)
{
    bool agreed = false;
    if (!agree_test(s, &agreed) || !agreed) {
        return s->step == AS_ISAVE_OVER;
    }
    if (s->error.code != AS_OK) {
        return clean(s);
    }
    s->step = AS_ISAVE_REPORTING;
    return true;
}

static bool reporting(as_isave *s)
{
    bool done = false;
    as_error trouble = AS_ERROR_INIT;
    if (as_isave_report(s, &done, &trouble) != AS_OK) {
        as_error_move(&s->error, &trouble);
        lose(s);
        return true;
    }
    if (!done) {
        return false;
    }
    if (!s->is_main) {
        return agree_begin(s, AS_ISAVE_COMMITTED);
    }
    note_cancelled(s);
    if (s->error.code != AS_OK) {
        return agree_begin(s, AS_ISAVE_COMMITTED);
    }
    as_meters_engine(&s->meter, s->meters, as_comm_size(s->lane->comm), &s->publication.engine,
                     &s->publication.engine_reason);
    start(s, as_isave_job_commit);
    enter(s, AS_ISAVE_COMMITTING, AS_PHASE_COMMITTING);
    return true;
}

static bool committing(as_isave *s)
{
    return job_done(s) && agree_begin(s, AS_ISAVE_COMMITTED);
}

static bool committed(as_isave *s)
{
    bool agreed = false;
    if (!agree_test(s, &agreed) || !agreed) {
        return s->step == AS_ISAVE_OVER;
    }
    s->durable_at = as_clock();
    return clean(s);
}

static bool cleaning(as_isave *s)
{
    as_error none = AS_ERROR_INIT;
    if (!as_background_idle(s->lane->background)) {
        return false;
    }
    (void)as_background_take(s->lane->background, &none);
    as_error_clear(&none);
    as_isave_merge_meters(s);
    enter(s, AS_ISAVE_OVER, AS_PHASE_OVER);
    return true;
}

static bool step_on(as_isave *s)
{
    switch (s->step) {
    case AS_ISAVE_WRITING:
        return writing(s);
    case AS_ISAVE_WRITTEN:
        return written(s);
    case AS_ISAVE_CHECKING:
        return checking(s);
    case AS_ISAVE_CHECKED:
        return checked(s);
    case AS_ISAVE_REPORTING:
        return reporting(s);
    case AS_ISAVE_COMMITTING:
        return committing(s);
    case AS_ISAVE_COMMITTED:
        return committed(s);
    case AS_ISAVE_CLEANING:
        return cleaning(s);
    case AS_ISAVE_OVER:
        break;
    }
    return false;
}

static bool move(as_isave *s)
{
    bool moved = false;
    while (s->step != AS_ISAVE_OVER && step_on(s)) {
        moved = true;
    }
    if (s->lane) {
        as_background_tell(s->lane->background, &s->session->log);
    }
    if (s->step == AS_ISAVE_OVER && s->over_at == 0) {
        s->over_at = as_clock();
    }
    return moved;
}

/* The caller was in a call since then, of which the time until the save was over counts. */
static void count_blocking(as_isave *s, int64_t from)
{
    int64_t to = s->over_at ? s->over_at : as_clock();
    s->blocking += as_max_i64(0, to - from);
}

bool as_isave_move(as_isave *s)
{
    int64_t from = as_clock();
    if (s->step != AS_ISAVE_OVER) {
        (void)move(s);
        if (!s->waited_for) {
            count_blocking(s, from);
        }
    }
    return s->step == AS_ISAVE_OVER;
}

int as_isave_outcome(const as_isave *s, as_error *e)
{
    if (s->error.code != AS_OK && e->code == AS_OK) {
        (void)as_fail(e, s->error.code, 0, "%s", as_error_text(&s->error));
        e->sys_errno = s->error.sys_errno;
        e->rank = s->error.rank;
        memcpy(e->host, s->error.host, sizeof e->host);
    }
    return s->error.code;
}

/* A job that writes blocks may also wait, for memory or for its pace; the others only work. Nobody
 * waits for the last one. */
static bool is_storing(const as_isave *s)
{
    return s->step == AS_ISAVE_WRITING
               ? atomic_load(&s->watch.storing) != 0
               : s->step != AS_ISAVE_CLEANING && !as_background_idle(s->lane->background);
}

/* A count that stands as long as the storage ends nothing. A job that writes blocks takes its looks
 * by the clock, whatever its storage does: they do not count. */
static int64_t count_ended(const as_isave *s)
{
    return s->step == AS_ISAVE_WRITING ? atomic_load(&s->watch.operations)
                                       : -1 - atomic_load(&s->steps);
}

void as_isave_wait(as_isave *s)
{
    as_comm *c = s->session->comm;
    int64_t from = as_clock();
    int idle = 0;
    s->waited_for = true;
    as_comm_wait(c);
    while (s->step != AS_ISAVE_OVER) {
        if (move(s)) {
            idle = 0;
            continue;
        }
        as_error trouble = AS_ERROR_INIT;
        if (as_comm_watches(c)) {
            tell_outcome(s);
            as_comm_storage(c, is_storing(s), count_ended(s));
        }
        if (s->step == AS_ISAVE_CLEANING) {
            /* The others have gone, and the outcome is settled: nobody is waited for. */
            (void)as_comm_look(c, &trouble);
            as_comm_rest(&idle, LONGEST_REST);
        } else if (as_comm_await(c, &trouble) != AS_OK) {
            as_error_move(&s->error, &trouble);
            lose(s);
        } else {
            as_comm_rest(&idle, LONGEST_REST);
        }
        as_error_clear(&trouble);
    }
    (void)move(s);
    count_blocking(s, from);
    s->waited_for = false;
}

void as_isave_cancel(as_isave *s)
{
    atomic_store(&s->watch.stop, 1);
}

as_isave_progress as_isave_progress_of(const as_isave *s)
{
    return (as_isave_progress){.phase = (enum as_phase)atomic_load(&s->phase),
                               .staging = s->staging,
                               .bytes_written = atomic_load(&s->watch.bytes),
                               .bytes_total = s->own_bytes};
}

/* ---- figures ---- */

void as_isave_merge_meters(as_isave *s)
{
    /* Nothing but sums, of which each was measured by one of the two. */
    int64_t *to = (int64_t *)(void *)&s->meter.tally;
    const int64_t *from = (const int64_t *)(const void *)&s->written.tally;
    for (size_t i = 0; i < sizeof(as_tally) / sizeof *to; i++) {
        to[i] += from[i];
    }
    if (s->written.engine[0]) {
        memcpy(s->meter.engine, s->written.engine, sizeof s->meter.engine);
        memcpy(s->meter.engine_reason, s->written.engine_reason, sizeof s->meter.engine_reason);
    }
    s->written = (as_meter){.trace = s->written.trace, .thread = s->written.thread};
}

void as_isave_settle_meter(as_isave *s)
{
    as_tally *t = &s->meter.tally;
    int64_t now = s->over_at ? s->over_at : as_clock();
    t->staging = s->staging;
    t->blocking = s->blocking;
    t->staged = s->staged_at - s->begun;
    t->background = now - s->staged_at;
    t->total = now - s->begun;
    t->durable = s->durable_at ? s->durable_at - s->begun : 0;
    t->bytes_staged = s->own_bytes;
    t->snapshot_bytes = s->memory;
    t->touched_bytes = s->touched;
    memcpy(s->meter.staging_reason, s->staging_reason, sizeof s->meter.staging_reason);
}

void as_isave_publish_meters(as_isave *s, as_session *session)
{
    as_isave_settle_meter(s);
    session->operation = AS_ISAVE;
    s->meter.trace = session->meter.trace;
    session->meter = s->meter;
    free(session->meters);
    session->meters = s->meters; /* what the others have reported */
    s->meters = NULL;
}

/* ---- the end ---- */

void as_isave_end(as_isave *s)
{
    if (!s->lane) {
        return;
    }
    as_outbox_close(s->outbox);
    s->outbox = NULL;
    as_publication_free(&s->publication);
    as_buffer_free(&s->checksums);
    as_stage_free(&s->stage);
    if (s->lost && s->message.active) {
        as_comm_leave(s->lane->comm, s->report);
    } else {
        free(s->report);
    }
    s->report = NULL;
    as_lanes_give(&s->session->lanes, s->lane, s->lost);
    s->lane = NULL;
}

void as_isave_free(as_isave *s)
{
    if (!s) {
        return;
    }
    free(s->directory);
    free(s->cpus);
    free(s->priority);
    free(s->meters);
    as_error_clear(&s->error);
    free(s);
}
