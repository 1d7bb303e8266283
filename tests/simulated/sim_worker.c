/* SPDX-License-Identifier: Apache-2.0
 * What is under way in the streams, and the thread that does it: one operation at a time, of those
 * whose turn has come the one whose random time is over first.
 */
#include "sim_state.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

static pthread_cond_t work; /* for the worker */
static pthread_cond_t done; /* for those who wait */
static uint64_t numbers;
static bool started;
static int waiting; /* calls */

static int64_t now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Has all of the stream that was asked for before the operation ended? */
static bool is_past(const sim_stream *s, const sim_op *op)
{
    return !s->first || s->first->number > op->number;
}

static bool turn_has_come(const sim_op *op)
{
    const sim_stream *s = op->stream;
    if (op->act == SIM_ACT_WAIT && !s->object.context->lost) {
        if (op->awaited->finished < op->awaited_number) {
            return false;
        }
    }
    if (!s->blocking) {
        return true;
    }
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        const sim_stream *other = sim_object_at(SIM_STREAM, i);
        if (other != s && other->blocking && other->legacy != s->legacy &&
            other->object.context == s->object.context && !is_past(other, op)) {
            return false;
        }
    }
    return true;
}

/* The operation to run now; else NULL, and *soonest is when there may be one. */
static sim_op *choose(int64_t *soonest)
{
    sim_op *best = NULL;
    int64_t at = now();
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        sim_op *op = ((sim_stream *)sim_object_at(SIM_STREAM, i))->first;
        if (!op || !turn_has_come(op)) {
            continue;
        }
        if (!op->due) {
            op->due = at + op->delay * 1000;
        }
        if (op->due > at) {
            *soonest = op->due < *soonest ? op->due : *soonest;
        } else if (!best || op->due < best->due ||
                   (op->due == best->due && op->number < best->number)) {
            best = op;
        }
    }
    return best;
}

static void run(const sim_op *op)
{
    sim_context *c = op->stream->object.context;
    int code = c->lost;
    if (!code) {
        code = op->late;
    }
    if (!code && op->act == SIM_ACT_COPY) {
        code = sim_run_copy(op);
    } else if (!code && op->act == SIM_ACT_LAUNCH) {
        code = sim_run_launch(op);
    }
    c->lost = c->lost ? c->lost : code;
}

static void *worker(void *unused)
{
    (void)unused;
    sim_lock();
    for (;;) {
        int64_t soonest = INT64_MAX;
        bool held = sim_is_stalled() || (sim_is_held() && !waiting);
        sim_op *op = held ? NULL : choose(&soonest);
        if (op) {
            run(op);
            sim_stream *s = op->stream;
            s->first = op->next;
            s->last = s->first ? s->last : NULL;
            s->finished = op->number;
            free(op->copy.staged);
            free(op->launch.parameters);
            free(op);
            (void)pthread_cond_broadcast(&done);
        } else if (soonest == INT64_MAX) {
            (void)pthread_cond_wait(&work, &sim_mutex);
        } else {
            struct timespec t = {.tv_sec = soonest / 1000000000, .tv_nsec = soonest % 1000000000};
            (void)pthread_cond_timedwait(&work, &sim_mutex, &t);
        }
    }
    return NULL;
}

int sim_start_worker(void)
{
    if (started) {
        return 0;
    }
    pthread_condattr_t clock;
    pthread_t thread;
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    if (pthread_condattr_init(&clock) != 0 ||
        pthread_condattr_setclock(&clock, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&work, &clock) != 0 || pthread_cond_init(&done, NULL) != 0) {
        return AS_CU_OUT_OF_MEMORY;
    }
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&thread, NULL, worker, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) {
        return AS_CU_OUT_OF_MEMORY;
    }
    (void)pthread_detach(thread);
    started = true;
    return 0;
}

void sim_wake(void)
{
    if (started) {
        (void)pthread_cond_broadcast(&work);
    }
}

uint64_t sim_ask(const sim_op *op, sim_stream *stream)
{
    sim_op *kept = malloc(sizeof *kept);
    if (!kept) {
        return 0;
    }
    sim_order(op, stream);
    *kept = *op;
    kept->next = NULL;
    kept->stream = stream;
    kept->number = ++numbers;
    kept->due = 0;
    if (op->act == SIM_ACT_COPY || op->act == SIM_ACT_LAUNCH) {
        kept->delay = sim_next_delay();
        kept->late = sim_late(op->call);
    }
    if (stream->last) {
        stream->last->next = kept;
    } else {
        stream->first = kept;
    }
    stream->last = kept;
    stream->asked = kept->number;
    sim_wake();
    return kept->number;
}

int sim_wait(const sim_stream *stream, uint64_t number)
{
    waiting++;
    sim_wake();
    while (stream->finished < number) {
        (void)pthread_cond_wait(&done, &sim_mutex);
    }
    waiting--;
    return stream->object.context->lost;
}

void sim_wait_context(const sim_context *context)
{
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        const sim_stream *s = sim_object_at(SIM_STREAM, i);
        if (s->object.context == context) {
            (void)sim_wait(s, s->asked);
        }
    }
}

bool sim_idle(void)
{
    sim_lock();
    bool idle = true;
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        idle = idle && !((const sim_stream *)sim_object_at(SIM_STREAM, i))->first;
    }
    sim_unlock();
    return idle;
}

/* ---- what reaches an area ---- */

static bool reaches(const sim_op *op, const sim_area *area, bool writes)
{
    if (op->act == SIM_ACT_COPY) {
        return sim_meet(&op->copy.to, area) ||
               (!writes && !op->copy.staged && sim_meet(&op->copy.from, area));
    }
    return op->act == SIM_ACT_LAUNCH && sim_points(&op->launch, area);
}

static const sim_op *find(const sim_area *area, bool writes)
{
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        const sim_stream *s = sim_object_at(SIM_STREAM, i);
        for (const sim_op *op = s->first; op; op = op->next) {
            if (reaches(op, area, writes)) {
                return op;
            }
        }
    }
    return NULL;
}

bool sim_under_way(const sim_area *area, bool writes)
{
    return find(area, writes) != NULL;
}

void sim_wait_area(const sim_area *area)
{
    const sim_op *op = find(area, false);
    while (op) {
        (void)sim_wait(op->stream, op->number);
        op = find(area, false);
    }
}
