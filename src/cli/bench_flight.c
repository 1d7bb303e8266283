/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_flight.h"

#include <math.h>
#include <stdio.h>

#include "cli/bench_collect.h"
#include "cli/bench_measure.h"

static const as_places flight_places = {
    AS_PLACES_COMMON(FLIGHT),           .seconds = AS_M_FLIGHT_DURABLE_S,
    .blocking = AS_M_FLIGHT_BLOCKING_S, .counts = AS_M_FLIGHT_COUNTS_S,
    .clean = AS_M_FLIGHT_CLEAN_S,       .written = AS_M_FLIGHT_WRITTEN,
    .staged = AS_M_FLIGHT_STAGED,       .snapshot = AS_M_FLIGHT_SNAPSHOT,
    .touched = AS_M_FLIGHT_TOUCHED,
};

/* Seconds of the loop between two looks at the save: a short step of a training. */
static const double step_s = 5e-3;

/* What one rank saw of a save in flight, in seconds. */
struct seen {
    double staged;
    double staged_processor; /* of all threads */
    double blocking;
    double durable; /* that the test tells when old files are gone, too: less the time of that */
    double tests;
    double longest; /* of them */
    double loop;    /* while it was in flight */
    double loop_processor;
    int64_t iterations;
    int64_t test_count;
};

/* Until the save is over. What is known of its outcome is told again by the wait. Of the tests
 * their processor time counts as blocked: where ranks share processors, MPI lets others run in them
 * (sched_yield), and these compute meanwhile. If it were the tests that wait, the loop would lose
 * the time. */
static void compute(as_flight *f, allshard_request *request, struct seen *s)
{
    double begin = as_seconds();
    int done = 0;
    int code = ALLSHARD_OK;
    while (!done && code == ALLSHARD_OK) {
        double start = as_thread_seconds();
        s->iterations += as_bench_loop_run(&f->loop, step_s);
        double before = as_seconds();
        double middle = as_thread_seconds();
        code = allshard_test(request, &done);
        double test = as_seconds() - before;
        s->loop_processor += middle - start;
        s->blocking += as_thread_seconds() - middle;
        s->tests += test;
        s->longest = fmax(s->longest, test);
        s->test_count++;
    }
    s->loop = as_seconds() - begin;
}

/* The code of the save. Collective. */
static int fly(const as_turns *t, as_flight *f, const char *path, bool spoil, double begin,
               struct seen *s, as_error *e)
{
    as_bench *b = t->bench;
    allshard_request *request = NULL;
    allshard_save_options options = b->save;
    options.cpus = options.cpus ? options.cpus : b->cpus.background;
    double processor = as_process_seconds();
    int code = allshard_isave(t->state->state, path, &options, &request);
    s->staged = s->blocking = as_seconds() - begin;
    s->staged_processor = as_process_seconds() - processor;
    if (code != ALLSHARD_OK) {
        return code;
    }
    if (spoil) {
        (void)as_bench_state_spoil(t->state, e); /* told when the ranks have ended the save */
    }
    as_bench_cpus_pin(&b->cpus, true);
    compute(f, request, s);
    as_bench_cpus_pin(&b->cpus, false);
    s->durable = as_seconds() - begin;
    double before = as_seconds();
    allshard_stats stats = {.size = sizeof stats};
    code = allshard_wait(&request, &stats);
    s->blocking += as_seconds() - before;
    if (code == ALLSHARD_OK) {
        s->durable -= stats.clean_s;
        const char *reason = stats.staging_reason ? stats.staging_reason : "";
        (void)snprintf(t->layout->staging_reason, sizeof t->layout->staging_reason, "%s", reason);
        t->layout->stream = stats.staging == ALLSHARD_STAGE_STREAM;
    }
    return code;
}

/* Iterations a second of all ranks together: of the clock, and of their processors. */
static int put_rates(const as_turns *t, int64_t iterations, double seconds, double processor,
                     double *by_clock, double *by_processor, as_error *e)
{
    static const double unit = 1e-3; /* numbers of ranks are added up as whole ones */
    int64_t rates[] = {(int64_t)((double)iterations / seconds / unit),
                       (int64_t)((double)iterations / processor / unit)};
    int code = as_world_sum(&t->bench->tool->world, rates, 2, e);
    *by_clock = (double)rates[0] * unit;
    *by_processor = (double)rates[1] * unit;
    return code;
}

/* What the library does not tell. */
static int put_seen(const as_turns *t, as_flight *f, const struct seen *s, as_sample *out,
                    as_error *e)
{
    double *v = out->value;
    int64_t most[] = {(int64_t)(s->staged * 1e9), (int64_t)(s->longest * 1e9),
                      (int64_t)(s->loop * 1e9), s->test_count, (int64_t)(s->tests * 1e9)};
    int64_t sums[] = {(int64_t)(s->loop_processor * 1e9), (int64_t)(s->staged_processor * 1e9)};
    as_world *w = &t->bench->tool->world;
    int code = as_world_max(w, most, sizeof most / sizeof *most, e);
    code = code == AS_OK ? as_world_sum(w, sums, 2, e) : code;
    v[AS_M_FLIGHT_STAGED_S] = (double)most[0] * 1e-9;
    v[AS_M_FLIGHT_TEST_S] = (double)most[1] * 1e-9;
    v[AS_M_FLIGHT_TESTS] = (double)most[3];
    v[AS_M_FLIGHT_TESTS_S] = (double)most[4] * 1e-9;
    v[AS_M_FLIGHT_CPU_S] = fmax(v[AS_M_FLIGHT_CPU_S] - (double)sums[0] * 1e-9, 0);
    v[AS_M_FLIGHT_STAGED_CPU_S] = (double)sums[1] * 1e-9;
    f->seconds = (double)most[2] * 1e-9;
    return code == AS_OK ? put_rates(t, s->iterations, s->loop, s->loop_processor,
                                     &v[AS_M_LOOP_PER_S], &v[AS_M_LOOP_PER_CPU_S], e)
                         : code;
}

int as_flight_save(const as_turns *t, as_flight *f, bool spoil, as_sample *out, as_error *e)
{
    as_bench *b = t->bench;
    as_doers all = {&b->tool->world, &b->spread};
    as_timing timing;
    as_buffer path = AS_BUFFER_INIT;
    struct seen s = {0};
    int code = as_measure_path(b, all.world, t->name, &path, e);
    code = code == AS_OK ? as_timing_start(b, all.world, &timing, e) : code;
    if (code == AS_OK) {
        code = fly(t, f, path.data, spoil, timing.begin, &s, e);
        timing.seconds = s.durable;
        timing.blocking = s.blocking;
        code = as_timing_stop(&all, &timing, code, e);
        code = code == AS_OK ? as_world_agree(all.world, e) : code; /* pieces may not be spoilt */
    }
    as_buffer_free(&path);
    code = code == AS_OK ? as_collect(b, &all, &timing, &flight_places, out, &t->layout->flown, e)
                         : code;
    return code == AS_OK ? put_seen(t, f, &s, out, e) : code;
}

int as_flight_alone(const as_turns *t, as_flight *f, as_sample *out, as_error *e)
{
    as_bench *b = t->bench;
    int code = as_bench_settle(&b->folder, &b->tool->world, e);
    if (code != AS_OK) {
        return code;
    }
    as_bench_cpus_pin(&b->cpus, true);
    double begin = as_seconds();
    double processor = as_thread_seconds();
    int64_t iterations = as_bench_loop_run(&f->loop, f->seconds);
    double seconds = as_seconds() - begin;
    processor = as_thread_seconds() - processor;
    as_bench_cpus_pin(&b->cpus, false);
    return put_rates(t, iterations, seconds, processor, &out->value[AS_M_LOOP_ALONE_PER_S],
                     &out->value[AS_M_LOOP_ALONE_PER_CPU_S], e);
}
