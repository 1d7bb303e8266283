/* SPDX-License-Identifier: Apache-2.0
 * A thousand jobs (a hundred with sanitizers) on a clock of their own, with random failures: what the policy's
 * interval loses beside fixed ones, whether an overhead stays below its limit, and whether the last
 * save is done before the job's time ends.
 *
 * ALLSHARD_PLOT_DATA=FILE writes what is lost with which interval, for bench/interval.py.
 */
/* timeout: 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "box_support.h"
#include "series/due.h"
#include "series/interval.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { JOBS = 100 };
#else
enum { JOBS = 1000 };
#endif

static double uniform(uint64_t *seed)
{
    return (double)(chance(seed) >> 11) / 9007199254740992.0;
}

/* ------------------------------------------------------------------------ failures */

typedef struct scenario {
    const char *name;
    double mtbf;    /* seconds, of the whole job */
    double told;    /* what the policy is told of it */
    double cost;    /* of a save: the ranks wait so long ... */
    double durable; /* ... and it counts after so long */
    double step;    /* of work */
    double steps;   /* that are to be done */
    double restart; /* until a job that failed goes on */
    double spread;  /* saves take 1 ± spread of that, and every twentieth three times as long */
} scenario;

static const scenario scenarios[] = {
    {"a day between failures, saves of a minute", 86400, 86400, 60, 60, 60, 6000, 120, 0.2},
    {"four hours, saves of two minutes", 14400, 14400, 120, 120, 20, 3000, 120, 0.2},
    {"an hour, saves of two minutes", 3600, 3600, 120, 120, 10, 2000, 60, 0.2},
    {"a day, nonblocking saves: 2 s of 60 s", 86400, 86400, 2, 60, 20, 8000, 120, 0.2},
};

enum { SCENARIOS = sizeof scenarios / sizeof *scenarios, LATEST_FAILURES = 4000 };

/* A job's life: the n-th failure and the n-th save are the same whatever the interval. */
typedef struct life {
    const scenario *s;
    uint64_t seed;
    double now;
    double next_failure;
    uint64_t failure_seed;
    int64_t saves;
    int64_t failures;
} life;

static void draw_failure(life *l)
{
    l->next_failure += -log(1 - uniform(&l->failure_seed)) * l->s->mtbf;
}

static life life_of(const scenario *s, int job)
{
    life l = {.s = s, .seed = (uint64_t)job * 977 + 5};
    l.failure_seed = l.seed + 1;
    draw_failure(&l);
    return l;
}

/* The factor by which the n-th save takes longer than told. */
static double slowness(const life *l)
{
    uint64_t seed = l->seed * 31 + (uint64_t)l->saves;
    double factor = 1 + l->s->spread * (2 * uniform(&seed) - 1);
    return chance(&seed) % 20 == 0 ? 3 * factor : factor;
}

/* Time passes; false: a failure came first, and time stands after the restart. */
static bool pass(life *l, double seconds)
{
    if (l->now + seconds < l->next_failure) {
        l->now += seconds;
        return true;
    }
    l->now = l->next_failure + l->s->restart;
    while (l->next_failure <= l->now) { /* those during the restart are the same one */
        draw_failure(l);
    }
    l->failures++;
    assert_true(l->failures < LATEST_FAILURES);
    return false;
}

/* What is lost, but for the restarts: saves, and work that has to be done again. */
static double lost(const life *l, double steps)
{
    return l->now - steps * l->s->step - (double)l->failures * l->s->restart;
}

/* With saves every so many steps. */
static double lost_with(const scenario *s, int job, double every)
{
    life l = life_of(s, job);
    double durable_step = 0; /* the run would go on from here */
    double step = 0;
    double pending_at = 0;    /* a save on its way is durable then, ... */
    double pending_step = -1; /* ... of this step */
    while (step < s->steps) {
        double work = fmin(every, s->steps - step);
        bool alive = pass(&l, work * s->step);
        if (pending_step >= 0 && (alive ? l.now : l.now - s->restart) >= pending_at) {
            durable_step = pending_step;
            pending_step = -1;
        }
        if (alive) {
            step += work;
            double slow = slowness(&l);
            l.saves++;
            pending_step = step;
            pending_at = l.now + s->durable * slow;
            alive = step >= s->steps || pass(&l, s->cost * slow);
        }
        if (!alive) {
            step = durable_step;
            pending_step = -1;
        } else if (pending_step >= 0 && l.now >= pending_at) {
            durable_step = pending_step;
            pending_step = -1;
        }
    }
    return lost(&l, s->steps);
}

typedef struct policy_run {
    life life;
    as_due due;
    int64_t step;
    int64_t durable_step;
    double durable_took; /* of the checkpoint that a run would go on from */
    double pending_at;   /* negative: none is on its way */
    double pending_took;
    double pending_blocked;
    double intervals; /* sum of those between saves of one life */
    int64_t interval_count;
    double last_save; /* negative: none since the last failure */
} policy_run;

static void begin_again(policy_run *r)
{
    const scenario *s = r->life.s;
    const as_due_rules rules = {.mtbf_s = s->told, .margin = 1.2};
    as_due_open(&r->due, &rules, r->life.now);
    r->step = r->durable_step;
    if (r->step > 0) {
        as_due_loaded(&r->due, r->step, r->durable_took, r->life.now);
    }
    r->pending_at = -1;
    r->last_save = -1;
}

static void settle(policy_run *r, double until)
{
    if (r->pending_at >= 0 && until >= r->pending_at) {
        r->durable_step = r->due.saved_step;
        r->durable_took = r->pending_took;
        r->pending_at = -1;
        (void)as_due_saved(&r->due, r->due.saved_step, r->pending_blocked, r->pending_took);
    }
}

/* A save, as the verdict asked for it; false: a failure came. */
static bool save_now(policy_run *r)
{
    life *l = &r->life;
    double slow = slowness(l);
    l->saves++;
    if (r->last_save >= 0) {
        r->intervals += l->now - r->last_save;
        r->interval_count++;
    }
    r->last_save = l->now;
    as_due_began(&r->due, r->step, l->now);
    r->pending_took = l->s->durable * slow;
    r->pending_blocked = l->s->cost * slow;
    r->pending_at = l->now + r->pending_took;
    bool alive = pass(l, r->pending_blocked);
    settle(r, alive ? l->now : l->now - l->s->restart);
    return alive;
}

static bool make_step(policy_run *r)
{
    life *l = &r->life;
    bool alive = pass(l, l->s->step);
    settle(r, alive ? l->now : l->now - l->s->restart);
    if (!alive) {
        return false;
    }
    r->step++;
    const as_due_sight sight = {.now = l->now, .step = r->step, .seconds_left = -1};
    as_due_wish wish = as_due_look(&r->due, &sight);
    as_verdict v = as_due_judge(&wish, 0, 0);
    as_due_told(&r->due, &sight, &wish, 0, 0);
    return !v.save || (double)r->step >= l->s->steps || save_now(r);
}

static policy_run lost_with_policy(const scenario *s, int job)
{
    policy_run r = {.life = life_of(s, job)};
    begin_again(&r);
    while ((double)r.step < s->steps) {
        if (!make_step(&r)) {
            begin_again(&r);
        }
    }
    return r;
}

/* Shares of the useful time. */
typedef struct outcome {
    double ours;
    double interval; /* mean of ours, seconds */
    double best;
    double best_interval;
    double ends[2]; /* with a quarter and four times of the best estimate */
    int64_t failures;
} outcome;

static double share_with(const scenario *s, double interval)
{
    double every = fmax(1, floor((interval - s->cost) / s->step + 0.5));
    double sum = 0;
    for (int job = 0; job < JOBS; job++) {
        sum += lost_with(s, job, every);
    }
    return sum / (JOBS * s->steps * s->step);
}

static outcome try_scenario(const scenario *s, FILE *data)
{
    outcome o = {.best = INFINITY};
    double sum = 0;
    double intervals = 0;
    int64_t count = 0;
    for (int job = 0; job < JOBS; job++) {
        policy_run r = lost_with_policy(s, job);
        sum += lost(&r.life, s->steps);
        intervals += r.intervals;
        count += r.interval_count;
        o.failures += r.life.failures;
    }
    o.ours = sum / (JOBS * s->steps * s->step);
    o.interval = intervals / (double)count;
    double estimate = as_interval_failures(s->cost, s->mtbf);
    int points = data ? 25 : 13;
    for (int i = 0; i < points; i++) {
        double power = 4.0 * i / (points - 1) - 2;
        double interval = s->cost + (estimate - s->cost) * pow(2, power);
        double share = share_with(s, interval);
        if (share < o.best) {
            o.best = share;
            o.best_interval = interval;
        }
        if (i == 0 || i == points - 1) {
            o.ends[i > 0] = share;
        }
        if (data) {
            (void)fprintf(data, "fixed\t%s\t%.6g\t%.6g\n", s->name, interval, share);
        }
    }
    if (data) {
        (void)fprintf(data, "policy\t%s\t%.6g\t%.6g\n", s->name, o.interval, o.ours);
    }
    return o;
}

static void test_failures(void **state)
{
    (void)state;
    const char *path = getenv("ALLSHARD_PLOT_DATA");
    FILE *data = path ? fopen(path, "w") : NULL;
    for (int i = 0; i < SCENARIOS; i++) {
        outcome o = try_scenario(&scenarios[i], data);
        print_message("%s: %d jobs, %lld failures; lost %.2f %% with saves %.0f s apart; at best "
                      "%.2f %% with %.0f s; 1/4 and 4 times: %.2f %%, %.2f %%\n",
                      scenarios[i].name, JOBS, (long long)o.failures, o.ours * 100, o.interval,
                      o.best * 100, o.best_interval, o.ends[0] * 100, o.ends[1] * 100);
        assert_true(o.failures > JOBS);
        assert_true(o.ours <= 1.1 * o.best);
        /* An interval that is badly wrong would be seen. */
        assert_true(o.ends[0] > 1.1 * o.best && o.ends[1] > 1.1 * o.best);
    }
    if (data) {
        assert_int_equal(fclose(data), 0);
    }
}

/* ------------------------------------------------------------------------ overhead */

/* Saves block for no more than their percent of the time from the first to the last, and not for
 * much less; whatever they take. */
static void test_overhead(void **state)
{
    (void)state;
    uint64_t seed = 3;
    double least = 1;
    for (int run = 0; run < JOBS; run++) {
        double percent = 0.5 + 20 * uniform(&seed);
        double cost = 1 + 100 * uniform(&seed);
        double step = cost * (0.01 + 0.1 * uniform(&seed));
        const as_due_rules rules = {.overhead_percent = percent, .margin = 1.2};
        as_due d;
        double now = 5;
        double blocked = 0; /* by all saves but the last */
        double first = -1;
        double last = 0;
        double last_cost = 0;
        as_due_open(&d, &rules, now);
        for (int64_t n = 1, saves = 0; saves < 12; n++) {
            now += step;
            const as_due_sight sight = {.now = now, .step = n, .seconds_left = -1};
            as_due_wish wish = as_due_look(&d, &sight);
            as_due_told(&d, &sight, &wish, 0, 0);
            if (as_due_judge(&wish, 0, 0).save) {
                saves++;
                first = first < 0 ? now : first;
                last = now;
                blocked += last_cost;
                last_cost = cost * (0.3 + 3 * uniform(&seed));
                as_due_began(&d, n, now);
                now += last_cost;
                (void)as_due_saved(&d, n, last_cost, last_cost);
            }
        }
        double share = blocked / (last - first) * 100 / percent;
        assert_true(share <= 1 + 1e-9);
        least = fmin(least, share);
    }
    print_message("%d runs: from %.2f of the limit to all of it\n", JOBS, least);
    assert_true(least > 0.8);
}

/* ----------------------------------------------------------------------- wall time */

typedef struct ending {
    bool in_time;
    double spare; /* seconds between the end of the last save and the job's */
    double save;  /* what the last save took */
    double margin;
} ending;

/* A job that saves every so often and stops when the verdict says so. */
static ending run_to_the_end(uint64_t *seed, double margin, double margin_s, double spread,
                             bool stray, bool by_steps)
{
    double takes = 5 + 300 * uniform(seed);
    double step = takes * (0.01 + 0.5 * uniform(seed));
    double left = takes * (20 + 50 * uniform(seed));
    double every = takes * (2 + 5 * uniform(seed));
    const as_due_rules rules = {.every_s = by_steps ? 0 : every,
                                .every_steps = by_steps ? (int64_t)(every / step) : 0,
                                .margin = margin,
                                .margin_s = margin_s,
                                .first_margin_s = 120};
    as_due d;
    double now = 100;
    double end = now + left;
    as_due_open(&d, &rules, now);
    for (int64_t n = 1;; n++) {
        now += step;
        const as_due_sight sight = {.now = now, .step = n, .seconds_left = fmax(end - now, 0)};
        as_due_wish wish = as_due_look(&d, &sight);
        as_verdict v = as_due_judge(&wish, 0, 0);
        as_due_told(&d, &sight, &wish, 0, 0);
        if (v.save || v.stop) {
            double save = takes * (1 + spread * (2 * uniform(seed) - 1));
            save *= stray && chance(seed) % 50 == 0 ? 3 : 1;
            as_due_began(&d, n, now);
            now += save;
            (void)as_due_saved(&d, n, save, save);
            if (v.stop) {
                assert_true(v.save && v.requeue && (v.reasons & AS_REASON_WALLTIME));
                return (ending){.in_time = now <= end,
                                .spare = end - now - step, /* that may have been one step more */
                                .save = save,
                                .margin = v.margin_s / takes};
            }
        }
    }
}

static void test_walltime(void **state)
{
    (void)state;
    static const struct {
        double margin;
        double spread;
    } cases[] = {{1.1, 0.04}, {1.15, 0.06}, {1.2, 0.08}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t seed = 17 + i;
        double margin = cases[i].margin;
        double spread = cases[i].spread;
        for (int job = 0; job < JOBS; job++) {
            bool by_steps = job % 2;
            ending e = run_to_the_end(&seed, margin, 0, spread, false, by_steps);
            assert_true(e.in_time);
            /* The margin is that many saves, but for what they differ by, ... */
            assert_true(fabs(e.margin / margin - 1) <= spread + 1e-9);
            /* ... and what is left over no more. Only where a step had to be saved that is the last
             * one for which there is time it may be as much again. */
            double most = margin * (1 + spread) / (1 - spread);
            assert_true(e.spare <= e.save * (by_steps ? 2 * most - 1 : most - 1));
        }
    }
    /* By default, where one save in fifty takes three times as long. */
    uint64_t seed = 23;
    int late = 0;
    for (int job = 0; job < JOBS; job++) {
        late += !run_to_the_end(&seed, 1.2, 5, 0.1, true, job % 2).in_time;
    }
    print_message("%d of %d jobs end before a last save that takes three times as long\n", late,
                  JOBS);
    assert_true(late <= JOBS / 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_overhead),
        cmocka_unit_test(test_walltime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
