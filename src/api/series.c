/* SPDX-License-Identifier: Apache-2.0
 * Series: opened, waited for, closed.
 */
#include "api/series.h"

#include <stdlib.h>
#include <string.h>

#include "api/flights.h"

static void check_options(const allshard_series_options *o, as_error *e)
{
    if (o->keep_last < 0 || o->keep_every < 0 || o->keep_best < 0 || !(o->keep_seconds >= 0)) {
        (void)as_fail(
            e, AS_INVALID, 0,
            "keep_last, keep_every, keep_best and keep_seconds must be 0 (no such rule) or "
            "more");
    }
    if (o->signals < ALLSHARD_SIGNALS_NONE || o->signals > ALLSHARD_SIGNALS_CATCH) {
        (void)as_fail(e, AS_INVALID, 0, "signals is %d; see enum allshard_signals", o->signals);
    }
    if (o->walltime < ALLSHARD_WALLTIME_AUTO || o->walltime > ALLSHARD_WALLTIME_OFF) {
        (void)as_fail(e, AS_INVALID, 0, "walltime is %d; see enum allshard_walltime", o->walltime);
    }
    if (o->metric && as_metric_check(o->metric, e) != AS_OK) {
        as_error_prefix(e, "metric");
    }
}

static int open_policy(as_policy **out, allshard *as, const char *root,
                       const allshard_series_options *o, as_error *e)
{
    const as_policy_options options = {
        .every_steps = o->every_steps,
        .every_s = o->every_s,
        .overhead_percent = o->overhead_percent,
        .mtbf_s = o->mtbf_s,
        .margin = o->margin,
        .margin_s = o->margin_s,
        .first_margin_s = o->first_margin_s,
        .walltime = o->walltime == ALLSHARD_WALLTIME_AUTO,
        .signals = o->signals == ALLSHARD_SIGNALS_CATCH,
        .stop_list = o->stop_signals,
        .stop_count = o->stop_signal_count,
        .save_list = o->save_signals,
        .save_count = o->save_signal_count,
    };
    return as_policy_open(out, as->session.comm, root, &options, &as->session.log, e);
}

int allshard_series_open(allshard_series **out, allshard *as, const char *root,
                         const allshard_series_options *options)
{
    if (out) {
        *out = NULL;
    }
    if (!out || !as) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(as);
    if (as_meet(as, "allshard_series_open") != AS_OK) {
        return as_end(as);
    }
    allshard_series_options o;
    (void)as_take_options(&o, sizeof o, options, options ? options->size : 0,
                          "allshard_series_options", e);
    check_options(&o, e);
    const as_series_options given = {.pattern = o.pattern,
                                     .keep = {.last = o.keep_last,
                                              .every = o.keep_every,
                                              .best = o.keep_best,
                                              .metric = o.metric,
                                              .metric_max = o.metric_max != 0,
                                              .seconds = o.keep_seconds}};
    allshard_series *r = calloc(1, sizeof *r);
    if (!r) {
        (void)as_fail_nomem(e);
    }
    as_series *series = NULL;
    as_policy *policy = NULL;
    int code = as_series_open(&series, &as->session, root, &given, e);
    if (code == AS_OK) {
        code = open_policy(&policy, as, as_series_root(series), &o, e);
    }
    if (code == AS_OK && r) { /* without memory for it the ranks have agreed on that */
        *r = (allshard_series){
            .context = as, .series = series, .policy = policy, .next = as->series};
        as->series = r;
        *out = r;
    } else {
        as_series_close(series);
        free(r);
    }
    return as_end(as);
}

int as_series_land(allshard_series *r, as_series_news *news, as_error *e)
{
    bool any = as_series_in_flight(r->series);
    as_series_news own = {.step = -1};
    for (size_t i = 0; i < AS_MOST_PARTS && r->parts[i]; i++) {
        as_flight_finish(r->parts[i]);
        as_flight_free(r->parts[i]);
        r->parts[i] = NULL;
    }
    int code = as_series_take(r->series, &own, e);
    if (any && code == AS_OK) {
        as_policy_saved(r->policy, own.step, own.blocked_s, own.durable_s);
    } else if (any) {
        as_policy_failed(r->policy, own.step);
    }
    if (news) {
        *news = own;
    }
    return code;
}

void as_series_land_quietly(allshard_series *r)
{
    if (!as_series_in_flight(r->series)) {
        return;
    }
    const as_session *session = &r->context->session;
    as_series_news news;
    as_error own = AS_ERROR_INIT;
    int code = as_series_land(r, &news, &own);
    if (code == AS_OK) {
        r->saved = true;
        r->saved_step = news.step;
    } else {
        r->failed = code;
        as_log_say(as_comm_rank(session->comm) == 0 ? &session->log : NULL, AS_LOG_ERROR,
                   "the nonblocking save of step %lld has failed: %s", (long long)news.step,
                   as_error_text(&own));
    }
    as_error_clear(&own);
}

void as_series_clear_way(allshard_series *r)
{
    as_series_join(r->series);
    as_series_land_quietly(r);
    as_series_join(r->series); /* what its end has begun */
}

int allshard_series_wait(allshard_series *r, allshard_stats *stats)
{
    if (!r) {
        return ALLSHARD_INVALID;
    }
    allshard *as = r->context;
    as_error *e = as_begin(as);
    if (as_meet(as, "allshard_series_wait") != AS_OK) {
        return as_end(as);
    }
    if (stats && stats->size < sizeof(size_t)) {
        (void)as_fail(e, AS_INVALID, 0,
                      "the member \"size\" of allshard_stats is not set to its sizeof");
        stats = NULL;
    }
    bool any = as_series_in_flight(r->series);
    as_series_await(r->series);
    if (any) {
        (void)as_series_land(r, NULL, e);
    }
    if (stats) {
        (void)allshard_get_stats(as, as_comm_rank(as->session.comm), stats);
    }
    return as_end(as);
}

static void unlink_series(allshard_series *r)
{
    allshard_series **at = &r->context->series;
    while (*at != r) {
        at = &(*at)->next;
    }
    *at = r->next;
}

int allshard_series_close(allshard_series *r)
{
    if (!r) {
        return ALLSHARD_OK;
    }
    allshard *as = r->context;
    as_error *e = as_begin(as);
    if (as->cancel_on_close) { /* before it takes another step */
        as_series_cancel(r->series);
    }
    bool known = as_comm_verdict(as->session.comm) != NULL;
    if (!known && as_meet(as, "allshard_series_close") == AS_MISMATCH) {
        return as_end(as); /* the others are elsewhere, and may have to follow */
    }
    as_error own = AS_ERROR_INIT;
    as_series_join(r->series);
    (void)as_series_land(r, NULL, &own);
    as_series_join(r->series); /* what the end of the save has begun */
    if (as->cancel_on_close && own.code == AS_CANCELLED) {
        as_error_clear(&own);
    }
    (void)as_error_pass(e, &own);
    unlink_series(r);
    as_policy_close(r->policy);
    as_series_close(r->series);
    free(r->loaded_fields);
    free(r);
    return as_end(as);
}
