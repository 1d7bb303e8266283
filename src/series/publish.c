/* SPDX-License-Identifier: Apache-2.0
 * What the thread in the background does for a series: all that touches the disk once the parts are
 * saved, and no MPI call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "series/control.h"
#include "series/assemble.h"
#include "series/away.h"
#include "series/latest.h"
#include "series/members.h"
#include "series/parts.h"
#include "series/prune.h"
#include "series/sweep.h"
#include "series/words.h"

int as_series_look(void *series, as_error *e)
{
    as_series *r = series;
    (void)atomic_fetch_add(&r->steps, 1);
    return atomic_load(&r->stop) ? as_fail(e, AS_CANCELLED, 0,
                                           "%s: the save was cancelled; the series holds what it "
                                           "held before",
                                           r->root)
                                 : AS_OK;
}

/* What the manifest tells of the whole, with the bytes of each rank's state. */
static int describe(as_saving *s, int ranks, json_t **out, as_error *e)
{
    s->record.save_seconds = (double)(as_clock() - s->begun) * 1e-9;
    int code = as_record_to_json(&s->record, out, e);
    if (code != AS_OK || !s->has_ranks) {
        return code;
    }
    json_t *bytes = json_array();
    for (int i = 0; i < ranks && bytes; i++) {
        if (json_array_append_new(bytes, json_integer(s->rank_bytes[i])) < 0) {
            json_decref(bytes);
            bytes = NULL;
        }
    }
    if (!bytes || json_object_set_new(*out, AS_RANKS_KEY, bytes) < 0) {
        json_decref(*out);
        *out = NULL;
        return as_fail_nomem(e);
    }
    return AS_OK;
}

static void warn(as_series *r, const char *what, as_error *e)
{
    if (e->code != AS_OK) {
        as_log_say(&r->log, AS_LOG_WARNING, "%s: \"%s\" is saved, but %s: %s", r->root,
                   r->saving.name, what, as_error_text(e));
    }
    as_error_clear(e);
}

static void tell_gone(as_series *r, const as_members *members, const as_names *gone)
{
    for (size_t i = 0; i < gone->count; i++) {
        const as_member *m = as_members_named(members, gone->items[i]);
        char text[64] = "";
        if (m) {
            (void)snprintf(text, sizeof text, "%lld bytes", (long long)m->bytes);
        }
        const as_event event = {.kind = AS_EVENT_PRUNED,
                                .name = gone->items[i],
                                .step = m ? m->step : -1,
                                .text = *text ? text : NULL};
        as_series_note_event(r, &r->log, &event);
    }
}

/* Names that stay whatever the rules say; also what ROOT/latest leads to, which is an older one if
 * it could not be set: whoever follows it must find something. */
static int list_in_use(const as_series *r, as_names *out, as_error *e)
{
    char *latest = NULL;
    int code = as_names_add(out, r->saving.name, e);
    if (code == AS_OK) {
        code = as_latest_get(as_txn_folder(r->txn), r->root, &latest, e);
    }
    if (code == AS_OK && latest) {
        code = as_names_add(out, latest, e);
    }
    free(latest);
    for (size_t i = 0; i < r->in_use.count && code == AS_OK; i++) {
        code = as_names_add(out, r->in_use.items[i], e);
    }
    return code;
}

/* The new one is durable, and among those that are looked at. */
static int retain(as_series *r, as_error *e)
{
    as_prune plan = AS_PRUNE_INIT;
    as_names in_use = AS_NAMES_INIT;
    as_names gone = AS_NAMES_INIT;
    int code = list_in_use(r, &in_use, e);
    if (code == AS_OK) {
        code = as_members_read_again(&r->seen, r->root, r->pattern, &r->log, e);
    }
    if (code == AS_OK) {
        code = as_prune_plan(&plan, &r->seen, &r->keep, &in_use, as_stamp_now(), e);
    }
    if (code == AS_OK) {
        code = as_prune_spare(&plan, &r->seen, as_txn_folder(r->txn), e);
    }
    if (code == AS_OK) {
        code = as_away_move(r->txn, &plan.going, &gone, e);
        r->settled = code == AS_OK;
    }
    tell_gone(r, &r->seen, &gone);
    as_names_free(&gone);
    as_names_free(&in_use);
    as_prune_free(&plan);
    return code;
}

/* `allshard hold`: also what would go waits, for the next save after it. What cannot be read holds
 * nothing; who polls is told of that. */
static bool is_held(const as_series *r)
{
    unsigned words = 0;
    as_error ignored = AS_ERROR_INIT;
    (void)as_control_read(as_txn_folder(r->txn), r->root, &words, NULL, &ignored);
    as_error_clear(&ignored);
    return (words & AS_CONTROL_HOLD) != 0;
}

/* Gives up the root. */
static void finish(as_series *r)
{
    as_error own = AS_ERROR_INIT;
    if (r->txn && r->settled) {
        if (as_txn_finish(r->txn, &own) != AS_OK) {
            as_log_say(&r->log, AS_LOG_WARNING, "%s", as_error_text(&own));
        }
    } else {
        as_txn_abort(r->txn);
    }
    r->txn = NULL;
    as_error_clear(&own);
}

/* All that may fail without harm to what is saved. */
static void tidy(as_series *r)
{
    as_error e = AS_ERROR_INIT;
    bool replaced = false;
    bool gone = false;
    r->settled = as_txn_settle(r->txn, &e) == AS_OK;
    warn(r, "its leftovers wait for recovery", &e);
    if (r->settled) { /* else the folder may be another's by now */
        (void)as_latest_set(as_txn_folder(r->txn), r->root, r->saving.name, &e);
        warn(r, "\"" AS_LATEST_NAME "\" does not lead to it", &e);
        (void)as_txn_set_aside(r->txn, r->gone, &replaced, &e);
        warn(r, "the one that it replaced is only removed in the end", &e);
    }
    if (r->settled && as_keep_rules_any(&r->keep) && !is_held(r)) {
        (void)retain(r, &e);
        warn(r, "no older ones could be let go of", &e);
    }
    if (r->settled) {
        (void)as_txn_set_aside(r->txn, r->gone, &gone, &e);
        warn(r, "older ones are only removed in the end", &e);
    }
    if (!replaced && !gone) { /* nothing takes long: then nobody meets the lock afterwards */
        finish(r);
    }
}

int as_series_job_commit(void *user, as_error *e)
{
    as_series *r = user;
    as_saving *s = &r->saving;
    const as_tick tick = {.call = as_series_look, .self = r};
    json_t *checkpoint = NULL;
    const char *name = s->name;
    int code = describe(s, r->ranks, &checkpoint, e);
    const as_assembly a = {.parts = s->count,
                           .name = s->name,
                           .checkpoint = checkpoint,
                           .tags = &s->tags,
                           .mode = s->mode,
                           .tick = &tick};
    if (code == AS_OK) {
        code = as_assemble(&a, r->txn, e);
    }
    json_decref(checkpoint);
    if (code == AS_OK) {
        code = as_txn_commit_folders(r->txn, &name, 1, NULL, 0, e);
    }
    r->counts = code == AS_OK;
    if (r->counts) {
        const as_event event = {.kind = s->replaces ? AS_EVENT_REPLACED : AS_EVENT_SAVED,
                                .name = s->name,
                                .step = s->record.step,
                                .text = s->note};
        as_series_note_event(r, &r->log, &event);
        tidy(r);
    }
    return code;
}

void as_series_keep_failure(as_series *r)
{
    const as_saving *s = &r->saving;
    free(r->failed_name);
    free(r->failed_text);
    r->failed_name = s->name ? strdup(s->name) : NULL;
    r->failed_text = strdup(as_error_text(&s->error));
    r->failed_step = s->record.step;
}

int as_series_job_abort(void *user, as_error *e)
{
    (void)e;
    as_series *r = user;
    as_txn_abort(r->txn);
    r->txn = NULL;
    const as_event event = {.kind = AS_EVENT_FAILED,
                            .name = r->failed_name,
                            .step = r->failed_step,
                            .text = r->failed_text};
    as_series_note_event(r, &r->log, &event);
    return AS_OK;
}

/* The save counts whatever happens here: a fault is told, not returned. */
int as_series_job_sweep(void *user, as_error *e)
{
    (void)e;
    as_series *r = user;
    as_error own = AS_ERROR_INIT;
    if (as_sweep(r->root, r->gone, r->rank, r->ranks, &own) != AS_OK) {
        as_log_say(&r->log, AS_LOG_DEBUG, "%s",
                   as_error_text(&own)); /* the main process sees to it */
    }
    as_error_clear(&own);
    as_error_clear(&own);
    finish(r);
    return AS_OK;
}
