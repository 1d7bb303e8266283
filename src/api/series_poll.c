/* SPDX-License-Identifier: Apache-2.0
 * Save now? Stop now? And how is the save that is on its way?
 */
#include <string.h>

#include "api/series.h"

/* What became of nonblocking saves since the last poll, the same on all ranks. */
static void tell_saves(allshard_series *r, as_verdict *v)
{
    v->in_flight = as_series_in_flight(r->series);
    v->saved = r->saved;
    v->saved_step = r->saved ? r->saved_step : 0;
    v->failed = r->failed;
    r->saved = false;
    r->failed = AS_OK;
}

static void deliver(const as_verdict *from, allshard_verdict *out)
{
    allshard_verdict told = {
        .size = out->size,
        .save = from->save,
        .stop = from->stop,
        .requeue = from->requeue,
        .reasons = from->reasons,
        .signal = from->signal,
        .held = from->held,
        .seconds_left = from->seconds_left,
        .margin_s = from->margin_s,
        .interval_s = from->interval_s,
        .in_flight = from->in_flight,
        .saved = from->saved,
        .saved_step = from->saved_step,
        .failed = from->failed,
    };
    memcpy(out, &told, out->size < sizeof told ? out->size : sizeof told);
}

int allshard_series_poll(allshard_series *r, int64_t step, allshard_verdict *verdict)
{
    if (!r) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(r->context);
    if (as_meet(r->context, "allshard_series_poll") != AS_OK) {
        return as_end(r->context);
    }
    if (!verdict || verdict->size < sizeof(size_t)) {
        (void)as_fail(e, AS_INVALID, 0,
                      "the verdict is NULL, or its member \"size\" is not set to its sizeof");
    }
    /* A save is over for all ranks at the same poll. */
    int64_t more[] = {as_series_in_flight(r->series) && !as_series_has_news(r->series),
                      e->code != AS_OK};
    as_verdict v;
    as_error own = AS_ERROR_INIT;
    int code = as_policy_poll(r->policy, step, more, sizeof more / sizeof *more, &v, &own);
    if (code == AS_OK && more[1]) {
        (void)as_comm_agree(r->context->session.comm, e);
    } else if (code == AS_OK && verdict) {
        if (!more[0]) {
            as_series_land_quietly(r);
        }
        tell_saves(r, &v);
        deliver(&v, verdict);
    }
    (void)as_error_pass(e, &own);
    return as_end(r->context);
}
