/* SPDX-License-Identifier: Apache-2.0
 * Nonblocking saves and their requests.
 */
#include "transfer/isave.h"

#include <stdlib.h>
#include <string.h>

#include "api/flights.h"
#include "api/save.h"
#include "transfer/arguments.h"

enum { MOST_COPY_THREADS = 64 };

static void check_threads(int32_t threads, int most, const char *name, as_error *e)
{
    if (threads < 0 || threads > most) {
        (void)as_fail(e, AS_INVALID, 0, "%s is %d; it must be 0 (the library's choice) to %d", name,
                      threads, most);
    }
}

/* What is for nonblocking saves alone. */
static void take_options(as_isave_call *call, const allshard_save_options *o, as_error *e)
{
    call->staging = (enum as_staging)o->staging;
    call->io_threads = o->io_threads;
    call->copy_threads = o->copy_threads;
    call->manners =
        (as_manners){.cpus = o->cpus, .priority = o->io_priority, .bytes_per_s = o->bandwidth};
    if (o->staging < ALLSHARD_STAGE_AUTO || o->staging > ALLSHARD_STAGE_STREAM) {
        (void)as_fail(e, AS_INVALID, 0, "staging is %d; see enum allshard_staging", o->staging);
    }
    if (o->if_busy < ALLSHARD_BUSY_WAIT || o->if_busy > ALLSHARD_BUSY_REFUSE) {
        (void)as_fail(e, AS_INVALID, 0, "if_busy is %d; see enum allshard_if_busy", o->if_busy);
    }
    check_threads(o->io_threads, AS_ENGINE_THREADS, "io_threads", e);
    check_threads(o->copy_threads, MOST_COPY_THREADS, "copy_threads", e);
    (void)as_manners_check(&call->manners, e);
}

void as_isave_call_from(as_isave_call *call, allshard_state *s, const char *directory,
                        const allshard_save_options *options, allshard_save_options *known,
                        as_error *e)
{
    *known = (allshard_save_options){.size = 0};
    *call = (as_isave_call){.staging = AS_STAGE_AUTO};
    as_save_call_from(&call->save, s, directory, options, e);
    if (e->code == AS_OK) { /* else the options may be none */
        (void)as_take_options(known, sizeof *known, options, options ? options->size : 0,
                              "allshard_save_options", e);
        take_options(call, known, e);
    }
}

/* Arguments that decide how the ranks go on together. Collective. */
static int compare(as_comm *c, const allshard_save_options *o, as_error *e)
{
    int64_t values[] = {e->code != AS_OK, o->staging, -o->staging, o->if_busy, -o->if_busy};
    as_error trouble = AS_ERROR_INIT;
    int code = as_comm_max(c, values, sizeof values / sizeof *values, &trouble);
    if (code != AS_OK) {
        as_error_move(e, &trouble);
        return code;
    }
    if (values[0]) {
        return as_comm_agree(c, e);
    }
    if (values[1] == -values[2] && values[3] == -values[4]) {
        return AS_OK;
    }
    const as_argument arguments[] = {as_argument_number("staging", o->staging),
                                     as_argument_number("if_busy", o->if_busy)};
    return as_arguments_agree(c, arguments, sizeof arguments / sizeof *arguments, e);
}

int allshard_isave(allshard_state *s, const char *directory, const allshard_save_options *options,
                   allshard_request **request)
{
    if (!s) {
        return ALLSHARD_INVALID;
    }
    allshard *as = s->context;
    as_error *e = as_begin(as);
    if (request) {
        *request = NULL;
    }
    if (as_meet(as, "allshard_isave") != AS_OK) {
        return as_end(as);
    }
    allshard_save_options o;
    as_isave_call call;
    as_isave_call_from(&call, s, directory, options, &o, e);
    if (!directory || !*directory) {
        (void)as_fail(e, AS_INVALID, 0, "no directory is given to save to");
    }
    allshard_request *r = calloc(1, sizeof *r);
    if (!request) {
        (void)as_fail(e, AS_INVALID, 0, "there is no place to put the request: request is NULL");
    } else if (!r) {
        (void)as_fail_nomem(e);
    }
    as_isave *save = NULL;
    int code = compare(as->session.comm, &o, e);
    if (code == AS_OK) {
        code = as_flights_settle(s, o.if_busy == ALLSHARD_BUSY_REFUSE, e);
    }
    if (code == AS_OK) {
        code = as_isave_begin(&save, &call, e);
    }
    if (code == AS_OK && r && request) {
        as_flights_add(r, s, save);
        *request = r;
    } else {
        free(r);
    }
    return as_end(as);
}

int allshard_test(allshard_request *request, int *done)
{
    if (!request || !done) {
        return ALLSHARD_INVALID;
    }
    allshard *as = request->context;
    as_error *e = as_begin(as);
    as_error trouble = AS_ERROR_INIT;               /* of MPI: what needs MPI will meet it, too */
    (void)as_comm_look(as->session.comm, &trouble); /* others may wait while this rank tests */
    as_error_clear(&trouble);
    const as_error *verdict = as_comm_verdict(as->session.comm);
    if (verdict) { /* what is left to do is allshard_wait's */
        *done = 1;
        (void)as_fail(e, verdict->code, 0, "%s", as_error_text(verdict));
        return as_end(as);
    }
    as_flights_move(as); /* other ranks may test another one */
    *done = as_isave_move(request->save);
    if (*done) {
        (void)as_isave_outcome(request->save, e);
    }
    return as_end(as);
}

int allshard_wait(allshard_request **request, allshard_stats *stats)
{
    if (!request || !*request) {
        return ALLSHARD_OK;
    }
    allshard_request *r = *request;
    allshard *as = r->context;
    as_error *e = as_begin(as);
    (void)as_come(as, "allshard_wait"); /* other ranks may have been here, or come later */
    if (stats && stats->size < sizeof(size_t)) {
        (void)as_fail(e, AS_INVALID, 0,
                      "the member \"size\" of allshard_stats is not set to its sizeof");
        stats = NULL;
    }
    as_flight_finish(r);
    (void)as_isave_outcome(r->save, e);
    as_isave_publish_meters(r->save, &as->session);
    if (stats) {
        (void)allshard_get_stats(as, as_comm_rank(as->session.comm), stats);
    }
    as_flight_free(r);
    *request = NULL;
    return as_end(as);
}

int allshard_cancel(allshard_request *request)
{
    if (!request) {
        return ALLSHARD_INVALID;
    }
    as_isave_cancel(request->save);
    return ALLSHARD_OK;
}

int allshard_request_progress(const allshard_request *request, allshard_progress *out)
{
    if (!request || !out || out->size < sizeof(size_t)) {
        return ALLSHARD_INVALID;
    }
    as_isave_progress p = as_isave_progress_of(request->save);
    allshard_progress told = {
        .size = out->size,
        .phase = (int32_t)p.phase,
        .staging = (int32_t)p.staging,
        .bytes_written = p.bytes_written,
        .bytes_total = p.bytes_total,
    };
    memcpy(out, &told, out->size < sizeof told ? out->size : sizeof told);
    return ALLSHARD_OK;
}

int allshard_trim(allshard *as)
{
    if (!as) {
        return ALLSHARD_INVALID;
    }
    as_lanes_trim(&as->session.lanes, NULL);
    return ALLSHARD_OK;
}
