/* SPDX-License-Identifier: Apache-2.0 */
#include "api/flights.h"
#include "api/series.h"

#include <stdlib.h>

#include "transfer/arguments.h"

void as_flights_add(allshard_request *r, allshard_state *s, as_isave *save)
{
    allshard *as = s->context;
    *r = (allshard_request){.context = as, .state = s, .number = ++as->flights_begun, .save = save};
    allshard_request **end = &as->flights;
    while (*end) {
        end = &(*end)->next;
    }
    *end = r;
    s->flight = r;
}

void as_flights_move(allshard *as)
{
    for (allshard_request *r = as->flights; r; r = r->next) {
        (void)as_isave_move(r->save);
    }
    for (allshard_series *r = as->series; r; r = r->next) {
        (void)as_series_move(r->series);
    }
}

void as_flight_finish(allshard_request *r)
{
    as_isave_wait(r->save);
    as_isave_end(r->save);
    if (r->state) {
        r->state->flight = NULL;
        r->state = NULL;
    }
}

int as_flights_settle(allshard_state *s, bool refuse, as_error *e)
{
    as_comm *c = s->context->session.comm;
    if (s->context->flights_begun == 0) {
        return AS_OK; /* on all ranks */
    }
    /* Some ranks may have ended the save already, which only they know: they come without. */
    const int64_t none = -INT64_MAX;
    int64_t number = s->flight ? s->flight->number : 0;
    int64_t values[] = {number ? number : none, number ? -number : none, e->code != AS_OK,
                        s->flight && !as_isave_move(s->flight->save)};
    as_error trouble = AS_ERROR_INIT;
    int code = as_comm_max(c, values, sizeof values / sizeof *values, &trouble);
    if (code != AS_OK) {
        as_error_move(e, &trouble);
        return code;
    }
    if (values[2]) {
        return as_comm_agree(c, e);
    }
    if (values[0] != none && values[0] != -values[1]) {
        as_argument a =
            as_argument_number("nonblocking save of the state that is in flight", number);
        return as_arguments_agree(c, &a, 1, e);
    }
    if (refuse && values[3]) {
        (void)as_fail(e, AS_BUSY, 0,
                      "a nonblocking save of this state is in flight: call allshard_wait first, or "
                      "let this save wait for it (if_busy)");
        return as_comm_agree(c, e);
    }
    if (s->flight) {
        as_flight_finish(s->flight);
    }
    return AS_OK;
}

static void free_flight(allshard *as, allshard_request *r)
{
    allshard_request **at = &as->flights;
    while (*at != r) {
        at = &(*at)->next;
    }
    *at = r->next;
    if (!r->borrowed) {
        as_isave_free(r->save);
    }
    free(r);
}

void as_flight_free(allshard_request *r)
{
    free_flight(r->context, r);
}

void as_flights_cancel(allshard *as)
{
    for (allshard_request *r = as->flights; r; r = r->next) {
        as_isave_cancel(r->save);
    }
}

void as_flights_close(allshard *as, bool cancel, as_error *e)
{
    allshard_request *next;
    for (allshard_request *r = as->flights; r; r = next) {
        next = r->next;
        as_flight_finish(r);
        as_error own = AS_ERROR_INIT;
        (void)as_isave_outcome(r->save, &own);
        if (cancel && own.code == AS_CANCELLED) {
            as_error_clear(&own);
        }
        (void)as_error_pass(e, &own);
        free_flight(as, r);
    }
}
