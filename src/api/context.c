/* SPDX-License-Identifier: Apache-2.0
 * Contexts, errors and versions.
 */
#include <stdlib.h>
#include <string.h>

#include "api/flights.h"
#include "api/handles.h"
#include "api/settings.h"
#include "base/version.h"
#include "comm/compare.h"

enum { LARGEST_OPTIONS = 4096 };

as_error *as_begin(allshard *as)
{
    as_error_clear(&as->error);
    free((void *)as->missing);
    free((void *)as->unexpected);
    as->missing = NULL;
    as->unexpected = NULL;
    as->missing_count = 0;
    as->unexpected_count = 0;
    as->missing_names.size = 0;
    as->unexpected_names.size = 0;
    return &as->error;
}

/* Whatever a rank has met by then: that one has stalled is what all return. */
static int take_verdict(allshard *as)
{
    const as_error *verdict = as_comm_verdict(as->session.comm);
    if (verdict) {
        as_error_clear(&as->error);
        (void)as_fail(&as->error, verdict->code, 0, "%s", as_error_text(verdict));
        as->error.rank = verdict->rank;
        memcpy(as->error.host, verdict->host, sizeof as->error.host);
    }
    return as->error.code;
}

int as_come(allshard *as, const char *function)
{
    as->together = true;
    if (take_verdict(as) == AS_OK) {
        as_comm_enter(as->session.comm, function);
    }
    return as->error.code;
}

int as_meet(allshard *as, const char *function)
{
    as_session *s = &as->session;
    s->calls++;
    int code = as_come(as, function);
    if (code == AS_OK && s->check_calls) {
        code = as_comm_meet(s->comm, function, s->calls, &as->error);
    }
    if (code == AS_OK) {
        as_flights_move(as);
    }
    return code;
}

int as_end(allshard *as)
{
    if (as->together) {
        as->together = false;
        as_comm_enter(as->session.comm, NULL);
        if (as->error.code !=
            AS_OK) { /* else it came when the outcome was settled: for next time */
            (void)take_verdict(as);
        }
    }
    if (as->error.code != AS_OK) {
        as_log_say(&as->session.log, AS_LOG_DEBUG, "%s: %s", as_code_name(as->error.code),
                   as_error_text(&as->error));
    }
    return as->error.code;
}

int as_take_options(void *to, size_t known, const void *from, size_t size, const char *what,
                    as_error *e)
{
    memset(to, 0, known);
    if (!from) {
        return AS_OK;
    }
    /* Structures end on whole words in every version; what is far larger than any was never set. */
    if (size < sizeof(size_t) || size % sizeof(size_t) != 0 || size > LARGEST_OPTIONS) {
        return as_fail(e, AS_INVALID, 0, "the member \"size\" of %s is not set to its sizeof",
                       what);
    }
    /* A newer caller may set members that this library does not know: that must not pass unseen. */
    const char *bytes = from;
    for (size_t i = known; i < size; i++) {
        if (bytes[i]) {
            return as_fail(e, AS_INVALID, 0,
                           "%s has a member set that this library (%s) does not "
                           "know",
                           what, as_version());
        }
    }
    memcpy(to, from, size < known ? size : known);
    return AS_OK;
}

/* A rank that waits in a call may be waited for by one that tests until its save is over. */
static void move_flights(void *user)
{
    as_flights_move(user);
}

static int open_context(allshard **out, const void *mpi_comm, const allshard_options *options)
{
    as_error e = AS_ERROR_INIT;
    allshard_options o;
    if (out) {
        *out = NULL;
    } else {
        (void)as_fail(&e, AS_INVALID, 0, "there is no place to put the context: out is NULL");
    }
    (void)as_take_options(&o, sizeof o, options, options ? options->size : 0, "allshard_options",
                          &e);
    if (o.memory < 0) {
        (void)as_fail(&e, AS_INVALID, 0, "memory is %lld bytes", (long long)o.memory);
    }
    if (o.snapshot_memory < 0) {
        (void)as_fail(&e, AS_INVALID, 0, "snapshot_memory is %lld bytes",
                      (long long)o.snapshot_memory);
    }
    as_log log = {.call = o.log, .user = o.log_user};
    as_settings settings;
    as_devices *devices = NULL;
    if (as_settings_read(&settings, &o, &e) == AS_OK) {
        (void)as_devices_open(&devices, settings.cuda, &e);
    }
    as_error trouble = AS_ERROR_INIT;
    as_comm *comm = NULL;
    int code = as_comm_open(&comm, mpi_comm, &trouble);
    as_trace *trace = NULL;
    allshard *as = calloc(1, sizeof *as);
    if (!as) {
        (void)as_fail_nomem(&e);
    } else if (o.trace) {
        (void)as_trace_open(&trace, AS_TRACE_SPANS, &e);
    }
    if (code != AS_OK) {
        as_error_move(&e, &trouble);
    } else {
        code = as_settings_agree(&settings, comm, &e);
    }
    if (code == AS_OK && settings.timeout_s > 0 && as_comm_size(comm) > 1) {
        settings.check_calls = true; /* ranks that wait for each other are all alive */
        code = as_comm_watch(comm, settings.timeout_s, &e);
    }
    if (code != AS_OK || !as || !out) { /* without the last two the ranks agree on an error */
        as_log_say(&log, AS_LOG_ERROR, "allshard_open: %s", as_error_text(&e));
        as_comm_free(comm);
        as_devices_close(devices);
        as_trace_close(trace);
        free(as);
    } else {
        as->session = (as_session){.comm = comm,
                                   .log = log,
                                   .progress = o.progress,
                                   .progress_user = o.progress_user,
                                   .memory = o.memory ? o.memory : AS_POOL_BYTES,
                                   .lanes = {.limit = o.snapshot_memory, .devices = devices},
                                   .check_calls = settings.check_calls,
                                   .devices = devices,
                                   .meter = {.trace = trace}};
        as->error = AS_ERROR_INIT;
        as->cancel_on_close = settings.cancel_on_close;
        as_comm_meanwhile(comm, move_flights, as);
        as_session_watch(&as->session);
        *out = as;
    }
    as_error_clear(&e);
    as_error_clear(&trouble);
    return code;
}

int allshard_open(allshard **out, allshard_comm comm, const allshard_options *options)
{
    return open_context(out, &comm, options);
}

#ifndef ALLSHARD_NO_MPI
int allshard_open_f(allshard **out, MPI_Fint comm, const allshard_options *options)
{
    MPI_Comm c = MPI_Comm_f2c(comm);
    return open_context(out, &c, options);
}
#endif

int allshard_close(allshard *as)
{
    if (!as) {
        return ALLSHARD_OK;
    }
    (void)as_begin(as);
    if (as->cancel_on_close) { /* before any of them takes another step */
        as_flights_cancel(as);
    }
    bool known = as_comm_verdict(as->session.comm) != NULL;
    int code = known ? AS_OK : as_meet(as, "allshard_close");
    if (code == AS_MISMATCH) {
        return as_end(as); /* the others are elsewhere, and this context may have to follow */
    }
    as_flights_close(as, as->cancel_on_close, &as->error);
    if (!known) {
        code = as_end(as);
    }
    as_error_clear(&as->error);
    as_buffer_free(&as->missing_names);
    as_buffer_free(&as->unexpected_names);
    as_session_close(&as->session);
    free(as);
    return code;
}

int allshard_last_error(const allshard *as, allshard_error *out)
{
    if (!as || !out || out->size < sizeof(size_t)) {
        return ALLSHARD_INVALID;
    }
    allshard_error e = {
        .size = out->size,
        .code = as->error.code,
        .sys_errno = as->error.sys_errno,
        .rank = as->error.rank,
        .host = as->error.host,
        .text = as->error.code == AS_OK ? "" : as_error_text(&as->error),
    };
    memcpy(out, &e, out->size < sizeof e ? out->size : sizeof e);
    return as->error.code;
}

const char *allshard_error_name(int code)
{
    return as_code_name(code);
}

const char *allshard_version(void)
{
    return as_version();
}
