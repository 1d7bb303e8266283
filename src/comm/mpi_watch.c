/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/mpi_watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "comm/mpi_comm.h"
#include "comm/stalled.h"

enum {
    TAG_BEAT = 1,         /* to the main process */
    TAG_ANSWER = 2,       /* from it */
    TAG_VERDICT = 3,      /* either way */
    SLOWEST = 50000000,   /* nanoseconds between two looks */
    QUICKEST = 500000,    /* likewise */
    PROBES = 2,           /* MPI may take a message in without telling of it before the next one */
    PROBES_AFTER = 50,    /* likewise, by a rank that has been away: there is much to take in */
    FAREWELL = 100000000, /* nanoseconds that a verdict may take on its way out */
    PARTING = 1000000000  /* and that all may take to end the signs of life, beyond the limit */
};

typedef struct beat {
    int64_t stuck; /* 1: this rank's storage ends nothing */
} beat;

/* Small enough to leave any rank without the other's help. */
typedef struct verdict {
    int32_t rank; /* the lowest that stalled */
    int32_t reserved;
    char host[AS_HOST_BYTES];
    char text[AS_STALLED_TEXT];
} verdict;

struct as_watch {
    MPI_Comm comm;
    int rank;
    int size;
    double seconds;
    int64_t limit; /* nanoseconds */
    int64_t interval;
    int64_t pace;
    int64_t next; /* look */
    int64_t last; /* likewise */
    int64_t base; /* silence before it does not count */
    int probes;   /* of the look that is under way */
    bool meeting;
    bool closing;
    const char *function;
    const char *outcome;
    as_error verdict; /* AS_OK: no rank has stalled */

    bool working; /* operations of the storage are under way */
    int64_t ended;
    int64_t moved; /* when `ended` changed last */

    bool asked;   /* a beat was sent and not answered */
    int64_t sent; /* when */
    beat beat;
    MPI_Request request;

    /* Of the main process: */
    char *hosts;          /* [size][AS_HOST_BYTES]; other ranks: the main process's alone */
    int64_t *heard;       /* [size] */
    int64_t judge;        /* next time */
    MPI_Request *answers; /* [size] */
    verdict told;         /* stays in place until all have it */
};

int as_watch_open(as_watch **out, MPI_Comm from, double seconds, const char *host, as_error *e)
{
    *out = NULL;
    as_watch *w = calloc(1, sizeof *w);
    int failed = !w;
    int any = 0;
    int size = 0;
    int rank = 0;
    (void)MPI_Comm_size(from, &size);
    (void)MPI_Comm_rank(from, &rank);
    if (w) {
        size_t count = rank == 0 ? (size_t)size : 1;
        w->hosts = calloc(count, AS_HOST_BYTES);
        w->heard = calloc(count, sizeof *w->heard);
        w->answers = calloc(count, sizeof *w->answers);
        failed = !w->hosts || !w->heard || !w->answers;
        for (size_t i = 0; w->answers && i < count; i++) {
            w->answers[i] = MPI_REQUEST_NULL;
        }
    }
    int code =
        as_mpi_check(e, MPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, from), "MPI_Allreduce");
    if (code == AS_OK && any) {
        code = as_fail_nomem(e);
    }
    if (code == AS_OK && w) { /* agreement says that it is there */
        w->rank = rank;
        w->size = size;
        w->seconds = seconds;
        w->limit = (int64_t)(seconds * 1e9);
        w->interval = w->limit / 4;
        w->pace = as_max_i64(QUICKEST, as_min_i64(SLOWEST, w->limit / 64));
        w->verdict = AS_ERROR_INIT;
        w->request = MPI_REQUEST_NULL;
        code = as_mpi_check(e, MPI_Comm_dup(from, &w->comm), "MPI_Comm_dup");
    }
    if (code == AS_OK && w) {
        code = as_mpi_check(e,
                            MPI_Gather(host, AS_HOST_BYTES, MPI_BYTE, w->hosts, AS_HOST_BYTES,
                                       MPI_BYTE, 0, w->comm),
                            "MPI_Gather");
    }
    if (code == AS_OK && w) { /* its own host comes first */
        code =
            as_mpi_check(e, MPI_Bcast(w->hosts, AS_HOST_BYTES, MPI_BYTE, 0, w->comm), "MPI_Bcast");
    }
    if (code != AS_OK && w) {
        free(w->hosts);
        free(w->heard);
        free(w->answers);
        free(w);
        w = NULL;
    }
    *out = w;
    return code;
}

const as_error *as_watch_verdict(const as_watch *w)
{
    return w->verdict.code == AS_OK ? NULL : &w->verdict;
}

void as_watch_enter(as_watch *w, const char *function)
{
    w->function = function;
    w->outcome = NULL;
    w->working = false;
    w->next = 0;
    as_watch_wait(w);
}

void as_watch_meeting(as_watch *w, bool meeting)
{
    w->meeting = meeting;
}

void as_watch_wait(as_watch *w)
{
    w->base = as_clock();
}

void as_watch_outcome(as_watch *w, const char *outcome)
{
    w->outcome = outcome;
}

void as_watch_storage(as_watch *w, bool under_way, int64_t ended)
{
    if (!under_way) {
        w->working = false;
    } else if (!w->working || w->ended != ended) {
        w->working = true;
        w->ended = ended;
        w->moved = as_clock();
    }
}

static bool is_stuck(const as_watch *w, int64_t now)
{
    return w->working && now - w->moved > w->limit;
}

/* ---- verdicts ---- */

static int tell_verdict(const as_watch *w, as_error *e)
{
    (void)as_fail(e, AS_TIMEOUT, 0, "%s", as_error_text(&w->verdict));
    return AS_TIMEOUT;
}

static void adopt(as_watch *w, const verdict *v)
{
    (void)as_fail(&w->verdict, AS_TIMEOUT, 0, "%s", v->text);
    w->verdict.rank = v->rank;
    memcpy(w->verdict.host, v->host, sizeof w->verdict.host);
}

/* Lets what was sent leave, but does not wait for those that do not take it. */
static void let_leave(MPI_Request *requests, int count)
{
    int64_t end = as_clock() + FAREWELL;
    int idle = 0;
    int done = 0;
    while (MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS && !done &&
           as_clock() < end) {
        as_comm_pause(&idle);
    }
}

/* The main process tells all. Answers that are on their way may be lost by then: nobody waits for
 * them any more. */
static void spread(as_watch *w)
{
    for (int r = 1; r < w->size; r++) {
        if (MPI_Isend(&w->told, sizeof w->told, MPI_BYTE, r, TAG_VERDICT, w->comm,
                      &w->answers[r]) != MPI_SUCCESS) {
            w->answers[r] = MPI_REQUEST_NULL;
        }
    }
    let_leave(w->answers, w->size);
}

static void condemn(as_watch *w, as_stalled *s)
{
    s->function = w->function ? w->function : "a collective call";
    s->seconds = w->seconds;
    s->outcome = w->outcome;
    w->told = (verdict){.rank = s->ranks[0]};
    memcpy(w->told.host, s->hosts[0], sizeof w->told.host);
    as_stalled_text(s, w->told.text);
    adopt(w, &w->told);
}

/* The lowest ones are told, each once: a rank that says twice that it is stuck, before the main
 * process looks, is one. */
static void add(as_stalled *s, const as_watch *w, int rank)
{
    int told = s->count < AS_STALLED_TOLD ? s->count : AS_STALLED_TOLD;
    int last = s->count < AS_STALLED_TOLD ? s->count : AS_STALLED_TOLD - 1;
    int at = told;
    while (at > 0 && s->ranks[at - 1] >= rank) {
        at--;
    }
    if (at < told && s->ranks[at] == rank) {
        return;
    }
    for (int i = last; i > at; i--) {
        s->ranks[i] = s->ranks[i - 1];
        s->hosts[i] = s->hosts[i - 1];
    }
    if (at < AS_STALLED_TOLD) {
        s->ranks[at] = rank;
        s->hosts[at] = w->hosts + (size_t)rank * AS_HOST_BYTES;
    }
    s->count++;
}

/* Is there a message? */
static int probe(as_watch *w, int from, bool *there, MPI_Status *status, as_error *e)
{
    int flag = 0;
    int code = AS_OK;
    for (int i = 0; i < w->probes && !flag && code == AS_OK; i++) {
        code = as_mpi_check(e, MPI_Iprobe(from, MPI_ANY_TAG, w->comm, &flag, status), "MPI_Iprobe");
    }
    *there = code == AS_OK && flag;
    return code;
}

/* ---- the main process ---- */

static int take_beat(as_watch *w, int from, int64_t now, as_stalled *stuck, as_error *e)
{
    beat b;
    int code = as_mpi_check(
        e, MPI_Recv(&b, sizeof b, MPI_BYTE, from, TAG_BEAT, w->comm, MPI_STATUS_IGNORE),
        "MPI_Recv");
    if (code == AS_OK) {
        w->heard[from] = now;
        if (b.stuck) {
            add(stuck, w, from);
        }
        /* The last answer was taken, or there would be no new beat. */
        code = as_mpi_check(e, MPI_Wait(&w->answers[from], MPI_STATUS_IGNORE), "MPI_Wait");
    }
    if (code == AS_OK) {
        code = as_mpi_check(
            e, MPI_Isend(NULL, 0, MPI_BYTE, from, TAG_ANSWER, w->comm, &w->answers[from]),
            "MPI_Isend");
    }
    return code;
}

static int take_verdict(as_watch *w, int from, as_error *e)
{
    int code = as_mpi_check(
        e,
        MPI_Recv(&w->told, sizeof w->told, MPI_BYTE, from, TAG_VERDICT, w->comm, MPI_STATUS_IGNORE),
        "MPI_Recv");
    if (code == AS_OK) {
        adopt(w, &w->told);
        if (w->rank == 0) {
            spread(w);
        }
    }
    return code;
}

static bool is_silent(const as_watch *w, int rank, int64_t now)
{
    return now - as_max_i64(w->heard[rank], w->base) > w->limit + w->interval;
}

static int look_as_main(as_watch *w, bool waiting, int64_t now, as_error *e)
{
    as_stalled s = {.kind = AS_STALL_STORAGE};
    bool there = true;
    int code = AS_OK;
    while (code == AS_OK && there && w->verdict.code == AS_OK) {
        MPI_Status status;
        code = probe(w, MPI_ANY_SOURCE, &there, &status, e);
        if (there) {
            code = status.MPI_TAG == TAG_BEAT ? take_beat(w, status.MPI_SOURCE, now, &s, e)
                                              : take_verdict(w, status.MPI_SOURCE, e);
        }
    }
    if (code != AS_OK || w->verdict.code != AS_OK || w->closing) {
        return code;
    }
    if (is_stuck(w, now)) {
        add(&s, w, 0);
    }
    if (s.count == 0 && waiting && now >= w->judge) {
        w->judge = now + w->interval / 4;
        s.kind = w->meeting ? AS_STALL_ABSENT : AS_STALL_SILENT;
        for (int r = 1; r < w->size; r++) {
            if (is_silent(w, r, now)) {
                add(&s, w, r);
            }
        }
    }
    if (s.count) {
        condemn(w, &s);
        spread(w);
    }
    return AS_OK;
}

/* ---- the others ---- */

static int send_beat(as_watch *w, int64_t now, as_error *e)
{
    /* It was taken, or there would have been no answer. */
    int code = as_mpi_check(e, MPI_Wait(&w->request, MPI_STATUS_IGNORE), "MPI_Wait");
    if (code == AS_OK) {
        w->beat = (beat){.stuck = is_stuck(w, now)};
        code = as_mpi_check(
            e, MPI_Isend(&w->beat, sizeof w->beat, MPI_BYTE, 0, TAG_BEAT, w->comm, &w->request),
            "MPI_Isend");
    }
    w->asked = true;
    w->sent = now;
    return code;
}

/* Names the main process, and tells it so, for the time when it comes back. */
static void give_up(as_watch *w)
{
    as_stalled s = {.kind = w->meeting ? AS_STALL_ABSENT : AS_STALL_SILENT};
    add(&s, w, 0);
    condemn(w, &s);
    MPI_Request request = MPI_REQUEST_NULL;
    if (MPI_Isend(&w->told, sizeof w->told, MPI_BYTE, 0, TAG_VERDICT, w->comm, &request) ==
        MPI_SUCCESS) {
        let_leave(&request, 1);
    }
}

static int look_as_other(as_watch *w, bool waiting, int64_t now, as_error *e)
{
    bool there = true;
    int code = AS_OK;
    while (code == AS_OK && there && w->verdict.code == AS_OK) {
        MPI_Status status;
        code = probe(w, 0, &there, &status, e);
        if (!there) {
            break;
        }
        if (status.MPI_TAG == TAG_VERDICT) {
            code = take_verdict(w, 0, e);
            continue;
        }
        code = as_mpi_check(
            e, MPI_Recv(NULL, 0, MPI_BYTE, 0, TAG_ANSWER, w->comm, MPI_STATUS_IGNORE), "MPI_Recv");
        w->asked = false;
    }
    if (code != AS_OK || w->verdict.code != AS_OK || w->closing) {
        return code;
    }
    if (!w->asked && (now - w->sent >= w->interval || is_stuck(w, now))) {
        return send_beat(w, now, e);
    }
    if (waiting && w->asked && now - as_max_i64(w->sent, w->base) > w->limit + w->interval) {
        give_up(w);
    }
    return AS_OK;
}

int as_watch_poll(as_watch *w, bool waiting, as_error *e)
{
    if (w->verdict.code != AS_OK) {
        return tell_verdict(w, e);
    }
    int64_t now = as_clock();
    if (now < w->next) {
        return AS_OK;
    }
    bool away = now - w->last > w->interval;
    w->probes = away ? PROBES_AFTER : PROBES;
    if (!waiting || away) {
        w->base = now; /* who was away itself heard nobody */
    }
    w->last = now;
    w->next = now + w->pace;
    int code = w->rank == 0 ? look_as_main(w, waiting, now, e) : look_as_other(w, waiting, now, e);
    return code == AS_OK && w->verdict.code != AS_OK ? tell_verdict(w, e) : code;
}

/* No more beats; those that are out are answered, and nobody leaves before all have theirs. */
static bool end_beats(as_watch *w)
{
    as_error trouble = AS_ERROR_INIT;
    int64_t end = as_clock() + w->limit + PARTING;
    MPI_Request request = MPI_REQUEST_NULL;
    bool met = false;
    int done = 0;
    int idle = 0;
    int code = AS_OK;
    w->closing = true;
    while (code == AS_OK && !done && as_clock() < end) {
        w->next = 0;
        code = as_watch_poll(w, false, &trouble);
        if (code == AS_OK && !met && !w->asked) {
            code = as_mpi_check(&trouble, MPI_Ibarrier(w->comm, &request), "MPI_Ibarrier");
            met = true;
        }
        if (code == AS_OK && met) {
            code = as_mpi_check(&trouble, MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
        }
        if (!done) {
            as_comm_pause(&idle);
        }
    }
    as_error_clear(&trouble);
    return code == AS_OK && done;
}

bool as_watch_close(as_watch *w)
{
    if (w->verdict.code != AS_OK || !end_beats(w)) {
        return false;
    }
    let_leave(&w->request, 1);
    let_leave(w->answers, w->rank == 0 ? w->size : 1);
    (void)MPI_Comm_free(&w->comm);
    free(w->hosts);
    free(w->heard);
    free(w->answers);
    free(w);
    return true;
}
