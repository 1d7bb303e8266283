/* SPDX-License-Identifier: Apache-2.0
 * The steps of a save of a series once its parts are staged, or saved. Each look takes as many as it
 * can; none blocks.
 *
 *   all ranks  (PARTS →) AGREE → OVER
 *   main       (PARTS →) COMMIT → AGREE → OVER
 *
 * What went is removed afterwards, in the background, whether anybody looks or not.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/checked.h"
#include "series/parts.h"
#include "transfer/outcome.h"

enum { LONGEST_REST = 1000000 /* nanoseconds */ };

/* ---- steps; true if something moved ---- */

/* The background's last work for this save, for which nobody waits. */
static void wind_up(as_series *r, as_job *job)
{
    as_background_start(r->background, job, r);
    r->sweeping = true;
}

static void end(as_series *r)
{
    as_saving *s = &r->saving;
    s->step = AS_SERIES_OVER;
    if (s->error.code == AS_OK) {
        /* Without memory for it the next one has no parent. */
        free(r->parent);
        r->parent = strdup(s->name);
        s->durable_at = as_clock();
    }
    if (r->is_main && !r->counts) {
        as_series_keep_failure(r);
    }
    if (r->is_main && r->txn) {
        wind_up(r, r->counts ? as_series_job_sweep : as_series_job_abort);
    } else if (!r->is_main && s->error.code == AS_OK && as_keep_rules_any(&r->keep)) {
        wind_up(r, as_series_job_sweep);
    }
}

/* Nothing is to be had of MPI any more. */
static void lose(as_series *r)
{
    r->lost = true;
    atomic_store(&r->stop, 1);
    as_background_wait(r->background);
    as_error trouble = AS_ERROR_INIT;
    (void)as_background_take(r->background, &trouble);
    as_error_clear(&trouble);
    if (r->saving.step != AS_SERIES_OVER) {
        end(r);
        as_background_wait(r->background);
    }
}

static bool agree_begin(as_series *r)
{
    as_error trouble = AS_ERROR_INIT;
    r->saving.step = AS_SERIES_AGREE;
    if (as_comm_agree_begin(r->comm, &r->saving.error, &trouble) != AS_OK) {
        as_error_move(&r->saving.error, &trouble);
        lose(r);
    }
    return true;
}

static bool agree_test(as_series *r)
{
    bool agreed = false;
    as_error result = AS_ERROR_INIT;
    (void)as_comm_agree_test(r->comm, &agreed, &result);
    if (agreed) {
        as_error_move(&r->saving.error, &result);
        end(r);
        return true;
    }
    if (result.code != AS_OK) {
        as_error_move(&r->saving.error, &result);
        lose(r);
        return true;
    }
    return false;
}

/* The parts are over on this rank: what it does next. */
static bool commit(as_series *r)
{
    as_saving *s = &r->saving;
    if (as_comm_is_lost(s->error.code)) {
        lose(r);
        return true;
    }
    if (!r->is_main || s->error.code != AS_OK) {
        return agree_begin(r);
    }
    s->step = AS_SERIES_COMMIT;
    as_background_start(r->background, as_series_job_commit, r);
    return true;
}

static bool parts(as_series *r)
{
    as_saving *s = &r->saving;
    bool over = true;
    for (size_t i = 0; i < s->count; i++) {
        over = as_isave_move(s->parts[i]) && over;
    }
    for (size_t i = 0; i < s->count && over; i++) {
        (void)as_isave_outcome(s->parts[i], &s->error);
    }
    return over && commit(r);
}

static bool committing(as_series *r)
{
    if (!as_background_idle(r->background)) {
        return false;
    }
    (void)as_background_take(r->background, &r->saving.error);
    return agree_begin(r);
}

static bool step_on(as_series *r)
{
    switch (r->saving.step) {
    case AS_SERIES_PARTS:
        return parts(r);
    case AS_SERIES_COMMIT:
        return committing(r);
    case AS_SERIES_AGREE:
        return agree_test(r);
    case AS_SERIES_IDLE:
    case AS_SERIES_OVER:
        break;
    }
    return false;
}

static bool is_under_way(const as_series *r)
{
    return r->saving.step != AS_SERIES_IDLE && r->saving.step != AS_SERIES_OVER;
}

static bool move(as_series *r)
{
    bool moved = false;
    while (is_under_way(r) && step_on(r)) {
        moved = true;
    }
    if (r->sweeping && as_background_idle(r->background)) {
        as_error none = AS_ERROR_INIT;
        (void)as_background_take(r->background, &none);
        as_error_clear(&none);
        r->sweeping = false;
        moved = true;
    }
    as_background_tell(r->background, &r->session->log);
    return moved;
}

bool as_series_move(as_series *r)
{
    int64_t from = as_clock();
    bool counts = is_under_way(r) && !r->saving.waited_for;
    (void)move(r);
    if (counts) {
        r->saving.blocked += as_clock() - from;
    }
    return !is_under_way(r);
}

void as_series_set_out(as_series *r, enum as_series_step step)
{
    r->saving.step = step;
    if (step == AS_SERIES_COMMIT) {
        (void)commit(r);
    }
}

/* ---- waiting ---- */

/* What the main process adds to the verdict on a rank that stalls. */
static void tell_outcome(const as_series *r)
{
    const char *text = as_outcome_unknown_here;
    if (r->is_main && r->saving.step != AS_SERIES_COMMIT) {
        bool before = !r->counts && r->saving.error.code == AS_OK;
        text =
            before ? as_outcome_unchanged : as_outcome_of(r->counts ? AS_OK : r->saving.error.code);
    }
    as_comm_outcome(r->session->comm, text);
}

void as_series_await(as_series *r)
{
    as_saving *s = &r->saving;
    as_comm *c = r->session->comm;
    int64_t from = as_clock();
    int idle = 0;
    s->waited_for = true;
    as_comm_wait(c);
    for (size_t i = 0; s->step == AS_SERIES_PARTS && i < s->count; i++) {
        as_isave_wait(s->parts[i]);
    }
    while (is_under_way(r)) {
        if (move(r)) {
            idle = 0;
            continue;
        }
        as_error trouble = AS_ERROR_INIT;
        if (as_comm_watches(c)) {
            tell_outcome(r);
            as_comm_storage(c, s->step == AS_SERIES_COMMIT, -1 - atomic_load(&r->steps));
        }
        if (as_comm_await(c, &trouble) != AS_OK) {
            as_error_move(&s->error, &trouble);
            lose(r);
        } else {
            as_comm_rest(&idle, LONGEST_REST);
        }
        as_error_clear(&trouble);
    }
    s->blocked += as_clock() - from;
    s->waited_for = false;
}

void as_series_join(as_series *r)
{
    as_comm *c = r->session->comm;
    int idle = 0;
    as_series_await(r);
    (void)move(r);
    while (r->sweeping) { /* nobody waits for another */
        as_error trouble = AS_ERROR_INIT;
        (void)as_comm_look(c, &trouble);
        as_error_clear(&trouble);
        as_comm_rest(&idle, LONGEST_REST);
        (void)move(r);
    }
}

/* ---- the outcome ---- */

bool as_series_has_news(const as_series *r)
{
    return r->saving.step == AS_SERIES_OVER;
}

bool as_series_in_flight(const as_series *r)
{
    return r->saving.step != AS_SERIES_IDLE;
}

static void take_figures(as_series *r)
{
    as_saving *s = &r->saving;
    bool nonblocking = s->parts[0] != NULL;
    for (size_t i = 0; i < s->count && nonblocking; i++) {
        as_isave_publish_meters(s->parts[i], r->session);
        as_saving_add_figures(s, r->session);
    }
    s->meter.tally.durable = s->durable_at ? s->durable_at - s->begun : 0;
    as_saving_publish_figures(s, r->session, nonblocking ? AS_ISAVE : AS_SAVE);
}

int as_series_take(as_series *r, as_series_news *news, as_error *e)
{
    as_saving *s = &r->saving;
    if (s->step != AS_SERIES_OVER) {
        return AS_OK;
    }
    if (news) {
        news->step = s->record.step;
        news->blocked_s = (double)s->blocked * 1e-9;
        news->durable_s = s->durable_at ? (double)(s->durable_at - s->begun) * 1e-9 : 0;
    }
    take_figures(r);
    int code = as_error_pass(e, &s->error);
    as_saving_free(s);
    return code;
}

void as_series_cancel(as_series *r)
{
    for (size_t i = 0; i < r->saving.count && r->saving.parts[i]; i++) {
        as_isave_cancel(r->saving.parts[i]);
    }
    atomic_store(&r->stop, 1);
}

as_isave *as_series_part(const as_series *r, size_t i)
{
    return i < r->saving.count ? r->saving.parts[i] : NULL;
}

void as_saving_free(as_saving *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->parts[i]) {
            as_isave_end(s->parts[i]);
            as_isave_free(s->parts[i]);
        }
    }
    free(s->name);
    free(s->note);
    free(s->rank_bytes);
    free(s->meters);
    as_record_free(&s->record);
    as_names_free(&s->tags);
    as_error_clear(&s->error);
    *s = (as_saving){.error = AS_ERROR_INIT};
}
