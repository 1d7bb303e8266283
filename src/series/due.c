/* SPDX-License-Identifier: Apache-2.0 */
#include "series/due.h"

#include <math.h>
#include <string.h>

#include "series/control.h"
#include "series/interval.h"

/* Those that a person may hold back, and those that a clock gives. */
static const int by_clock = AS_REASON_SECONDS | AS_REASON_OVERHEAD | AS_REASON_FAILURES;
static const int can_wait =
    AS_REASON_STEPS | AS_REASON_SECONDS | AS_REASON_OVERHEAD | AS_REASON_FAILURES;
static const double first_retry_s = 60;
static const double last_retry_s = 3600;

void as_due_open(as_due *d, const as_due_rules *rules, double now)
{
    memset(d, 0, sizeof *d);
    d->rules = *rules;
    d->origin_s = now;
    d->first_step = -1;
    d->saved_step = -1;
    d->first_left_s = -1;
    d->polled_s = -1;
}

/* -------------------------------------------------------------------- margins */

static double expected_s(const as_due *d, double left)
{
    if (d->durable.count > 0) {
        return d->rules.margin * as_timing_careful(&d->durable) + d->rules.margin_s;
    }
    /* A job that is shorter than that would stop as soon as it began. */
    double whole = d->first_left_s >= 0 ? d->first_left_s : left;
    return whole >= 0 ? fmin(d->rules.first_margin_s, whole / 4) : d->rules.first_margin_s;
}

/* What the last save needs before the end: also the one that is in flight must end first. */
static double margin_s(const as_due *d, const as_due_sight *s)
{
    double margin = expected_s(d, s->seconds_left);
    if (d->in_flight) {
        margin += fmax(margin - (s->now - d->began_s), 0);
    }
    return margin;
}

/* Would a save have to begin before the poll after this one, if so many seconds passed first? */
static bool end_is_near(const as_due *d, const as_due_sight *s, double seconds)
{
    return s->seconds_left >= 0 &&
           s->seconds_left - seconds <= margin_s(d, s) + as_timing_careful(&d->gaps);
}

/* ------------------------------------------------------------------ intervals */

/* What a save is thought to cost; negative: nothing is known. */
static double cost_s(const as_due *d)
{
    if (d->blocked.count > 0) {
        return as_timing_typical(&d->blocked);
    }
    return d->loaded_s > 0 ? d->loaded_s : -1;
}

/* Begin to begin. 0: nobody asks for one, or the cost is not known. *reason: what it is due to.
 * With both rules the overhead is a limit: the longer one counts. For it the last save alone
 * matters, since then each save has paid for itself before the next. */
static double interval_s(const as_due *d, int *reason)
{
    const as_due_rules *r = &d->rules;
    double cost = cost_s(d);
    double failures = r->mtbf_s > 0 && cost >= 0 ? as_interval_failures(cost, r->mtbf_s) : 0;
    double last = d->blocked.count > 0 ? as_timing_last(&d->blocked) : cost;
    double overhead =
        r->overhead_percent > 0 && cost >= 0 ? as_interval_overhead(last, r->overhead_percent) : 0;
    *reason = r->mtbf_s > 0 ? AS_REASON_FAILURES : 0;
    if (r->overhead_percent > 0 && (r->mtbf_s <= 0 || overhead > failures)) {
        *reason = AS_REASON_OVERHEAD;
    }
    return fmax(failures, overhead);
}

/* Where what a save costs is not known one is made as soon as there is something to save. */
static int due_by_interval(const as_due *d, const as_due_sight *s)
{
    int reason;
    double interval = interval_s(d, &reason);
    if (d->in_flight || reason == 0) {
        return 0;
    }
    bool unknown = cost_s(d) < 0;
    bool due = unknown ? d->first_step >= 0 && s->step > d->first_step && d->failures == 0
                       : s->now - d->origin_s >= interval;
    return due ? reason : 0;
}

/* Multiples of every_steps, also where polls step over them. Before the first poll the step before
 * counts as the one that was reached. */
static bool due_by_steps(const as_due *d, int64_t step)
{
    int64_t every = d->rules.every_steps;
    if (every <= 0) {
        return false;
    }
    int64_t reached = d->first_step >= 0 ? d->reached_step : step - (step > 0);
    return step / every > reached / every;
}

static int due_by_rules(const as_due *d, const as_due_sight *s)
{
    int save = due_by_interval(d, s);
    if (due_by_steps(d, s->step)) {
        save |= AS_REASON_STEPS;
    }
    if (d->rules.every_s > 0 && !d->in_flight && s->now - d->origin_s >= d->rules.every_s) {
        save |= AS_REASON_SECONDS;
    }
    return save;
}

/* ----------------------------------------------------------------------- wish */

as_due_wish as_due_look(const as_due *d, const as_due_sight *s)
{
    int reason;
    unsigned words = s->words & ~d->answered;
    as_due_wish w = {
        .save = due_by_rules(d, s),
        .stop = d->stopping,
        .covered = s->step == d->saved_step,
        .by_person = d->by_person || (words & AS_CONTROL_STOP),
        .held = (s->words & AS_CONTROL_HOLD) != 0,
        .signal = d->signal,
        .seconds_left = s->seconds_left < 0 ? -1 : s->seconds_left,
        .margin_s = margin_s(d, s),
        .interval_s = interval_s(d, &reason),
    };
    if (s->now >= d->owed_from_s) {
        w.save |= d->owed;
    }
    if (w.held) {
        w.save &= ~can_wait;
    }
    if ((words & AS_CONTROL_STOP) && !(d->stopping & AS_REASON_CONTROL)) {
        w.stop |= AS_REASON_CONTROL;
        w.save |= d->stopping ? 0 : AS_REASON_CONTROL;
    }
    if (words & AS_CONTROL_SAVE) {
        w.save |= AS_REASON_CONTROL;
    }
    w.last = !d->stopping && end_is_near(d, s, expected_s(d, s->seconds_left));
    if (!d->stopping && end_is_near(d, s, 0)) {
        w.stop |= AS_REASON_WALLTIME;
        w.save |= AS_REASON_WALLTIME;
    }
    return w;
}

/* Reasons for a save now. Whoever stops already does not save again for another signal to stop; and
 * what a clock asks for can wait for the last save, if that is the next one. */
static int saves(const as_due_wish *w, int stop_signal, int save_signal)
{
    int save = w->save;
    if ((stop_signal && !w->stop) || save_signal) {
        save |= AS_REASON_SIGNAL;
    }
    if (w->last && !(save & AS_REASON_WALLTIME)) {
        save &= ~by_clock;
    }
    return w->covered ? 0 : save;
}

/* Work after the last save would be lost. */
static int stops(const as_due_wish *w, int save, int stop_signal)
{
    int stop = w->stop | (stop_signal ? AS_REASON_SIGNAL : 0);
    return stop == 0 && save != 0 && w->last ? AS_REASON_WALLTIME : stop;
}

as_verdict as_due_judge(const as_due_wish *w, int stop_signal, int save_signal)
{
    int save = saves(w, stop_signal, save_signal);
    int stop = stops(w, save, stop_signal);
    int signal = stop_signal ? stop_signal : save_signal;
    return (as_verdict){
        .save = save != 0,
        .stop = stop != 0,
        .requeue = stop != 0 && !w->by_person,
        .reasons = save | stop,
        .signal = w->signal ? w->signal : signal,
        .held = w->held,
        .seconds_left = w->seconds_left,
        .margin_s = w->margin_s,
        .interval_s = w->interval_s,
    };
}

/* ---------------------------------------------------------------------- state */

static void note_poll(as_due *d, const as_due_sight *s)
{
    if (d->polled_s >= 0) {
        as_timing_add(&d->gaps, s->now - d->polled_s);
    }
    d->polled_s = s->now;
    if (d->first_step < 0) {
        d->first_step = s->step;
        d->reached_step = s->step - (s->step > 0);
    }
    if (d->first_left_s < 0) {
        d->first_left_s = s->seconds_left;
    }
    d->answered &= s->words;
    if (!(s->words & AS_CONTROL_SAVE) && !(d->stopping & AS_REASON_CONTROL)) {
        d->owed &= ~AS_REASON_CONTROL; /* somebody has thought better of it */
    }
}

void as_due_told(as_due *d, const as_due_sight *s, const as_due_wish *w, int stop_signal,
                 int save_signal)
{
    note_poll(d, s);
    int save = saves(w, stop_signal, save_signal);
    int stop = stops(w, save, stop_signal);
    /* What asks once, and not again at the next poll. */
    int once = save & (AS_REASON_SIGNAL | AS_REASON_WALLTIME);
    if (stop & ~d->stopping & AS_REASON_CONTROL) {
        once |= save & AS_REASON_CONTROL;
    }
    if (once & ~d->owed) {
        d->owed_from_s = s->now;
    }
    d->owed |= once;
    d->asked = save;
    d->asked_words = s->words & (AS_CONTROL_STOP | AS_CONTROL_SAVE);
    if (d->signal == 0) {
        d->signal = stop_signal ? stop_signal : save_signal;
    }
    d->stopping = stop;
    d->by_person = d->by_person || w->by_person;
}

void as_due_loaded(as_due *d, int64_t step, double save_seconds, double now)
{
    d->first_step = d->reached_step = d->saved_step = step;
    d->loaded_s = isfinite(save_seconds) && save_seconds > 0 ? save_seconds : 0;
    d->origin_s = now;
    d->polled_s = -1;
}

void as_due_began(as_due *d, int64_t step, double now)
{
    d->in_flight = true;
    d->began_s = d->origin_s = now;
    d->saved_step = d->reached_step = step;
    d->first_step = d->first_step < 0 ? step : d->first_step;
    d->polled_s = -1;
    d->behind = d->asked | d->owed;
    d->answered |= d->behind & AS_REASON_CONTROL ? d->asked_words : 0;
    d->owed = d->asked = 0;
    if (!(d->stopping & AS_REASON_SIGNAL)) {
        d->signal = 0;
    }
}

unsigned as_due_saved(as_due *d, int64_t step, double blocked_s, double durable_s)
{
    if (!d->in_flight || step != d->saved_step) {
        return 0;
    }
    as_timing_add(&d->blocked, blocked_s);
    as_timing_add(&d->durable, durable_s);
    d->in_flight = false;
    d->behind = 0;
    d->failures = 0;
    d->polled_s = -1;
    return d->answered;
}

void as_due_failed(as_due *d, int64_t step, double now)
{
    if (!d->in_flight || step != d->saved_step) {
        return;
    }
    d->in_flight = false;
    d->saved_step = -1;
    d->polled_s = -1;
    d->owed |= d->behind;
    d->behind = 0;
    double pause = first_retry_s;
    for (int i = 0; i < d->failures && pause < last_retry_s; i++) {
        pause *= 2;
    }
    d->owed_from_s = now + fmin(pause, last_retry_s);
    d->failures += d->failures < 100;
}

unsigned as_due_ends(const as_due *d)
{
    return d->stopping & AS_REASON_CONTROL ? AS_CONTROL_STOP : 0;
}
