/* SPDX-License-Identifier: Apache-2.0 */
#include "series/policy.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "series/due.h"
#include "series/history.h"
#include "series/signals.h"
#include "series/watcher.h"

struct as_policy {
    as_comm *comm;
    as_log log;
    int64_t (*clock)(void);
    bool is_main;
    as_signals stops;
    as_signals saves;
    int stop_signal; /* that came, and no poll has carried to the others yet; 0: none */
    int save_signal;

    /* Of the main process: */
    as_due due;
    as_watcher *watcher;
    char *root;   /* heap */
    int64_t step; /* of the last poll */
    bool watches; /* its thread was to be started */
    bool walltime;
};

/* What the ranks reduce; each takes the largest of all. */
enum slot {
    STEP,
    STEP_DOWN, /* the step, negative */
    STOP_SIGNAL,
    SAVE_SIGNAL,
    FLAGS, /* from here on of the main process alone; the others give the least there is */
    SECONDS_LEFT,
    MARGIN,
    INTERVAL,
    SLOTS
};

/* Beside the reasons for a save. */
enum {
    STOP_SHIFT = 8,
    SIGNAL_SHIFT = 16,
    SIGNAL_MASK = 0xff,
    COVERED = 1 << 24,
    PERSON = 1 << 25,
    HELD = 1 << 26,
    LAST = 1 << 27,
    REASONS = 0xff
};

/* -------------------------------------------------------------------- options */

static double usual(double value, double otherwise)
{
    return value == 0 ? otherwise : value;
}

static int check_number(double value, const char *name, double most, as_error *e)
{
    /* Written so that no number at all is refused too. */
    if (!(value >= 0 && value <= most)) {
        return as_fail(e, AS_INVALID, 0, "%s is %g; it must be 0 to %g", name, value, most);
    }
    return AS_OK;
}

static int check(const as_policy_options *o, as_error *e)
{
    const double longest = 1e9;
    if (o->every_steps < 0) {
        return as_fail(e, AS_INVALID, 0, "every_steps is %" PRId64 "; it must be 0 or more",
                       o->every_steps);
    }
    int code = check_number(o->every_s, "every_s", longest, e);
    code = code ? code : check_number(o->overhead_percent, "overhead_percent", 100, e);
    code = code ? code : check_number(o->mtbf_s, "mtbf_s", longest, e);
    code = code ? code : check_number(o->margin, "margin", 1000, e);
    code = code ? code : check_number(fmax(o->margin_s, 0), "margin_s", longest, e);
    code = code ? code : check_number(fmax(o->first_margin_s, 0), "first_margin_s", longest, e);
    code = code ? code : check_number(o->end_time, "end_time", 1e11, e);
    if (code == AS_OK && (isnan(o->margin_s) || isnan(o->first_margin_s))) {
        code = as_fail(e, AS_INVALID, 0, "margin_s or first_margin_s is no number");
    }
    return code;
}

static as_due_rules rules_of(const as_policy_options *o)
{
    return (as_due_rules){
        .every_steps = o->every_steps,
        .every_s = o->every_s,
        .overhead_percent = o->overhead_percent,
        .mtbf_s = o->mtbf_s,
        .margin = usual(o->margin, 1.2),
        .margin_s = fmax(usual(o->margin_s, 5), 0),
        .first_margin_s = fmax(usual(o->first_margin_s, 120), 0),
    };
}

/* ----------------------------------------------------------------------- open */

static double now_s(const as_policy *p)
{
    return (double)p->clock() / 1e9;
}

static int listen_to_signals(as_policy *p, const as_policy_options *o, as_error *e)
{
    static const int usual_stops[] = {SIGUSR2, SIGTERM};
    bool own = o->stop_list != NULL;
    const int *stops = own ? o->stop_list : usual_stops;
    size_t stop_count = own ? o->stop_count : sizeof usual_stops / sizeof *usual_stops;
    if ((o->stop_count > 0 && !o->stop_list) || (o->save_count > 0 && !o->save_list)) {
        return as_fail(e, AS_INVALID, 0, "a list of signals is NULL, but its count is not 0");
    }
    for (size_t i = 0; i < o->save_count; i++) {
        for (size_t j = 0; j < stop_count; j++) {
            if (o->save_list[i] == stops[j]) {
                return as_fail(e, AS_INVALID, 0,
                               "signal %d (%s) is both a stop signal and a save signal", stops[j],
                               strsignal(stops[j]));
            }
        }
    }
    int code = as_signals_listen(&p->stops, stops, stop_count, &p->log, e);
    return code ? code : as_signals_listen(&p->saves, o->save_list, o->save_count, &p->log, e);
}

static int open_watcher(as_policy *p, const char *root, const as_policy_options *o, as_error *e)
{
    const as_watcher_options w = {
        .walltime = o->walltime,
        .end_time = o->end_time,
        .ask_s = o->ask_s,
        .look_s = usual(o->look_s, 1),
        .command_s = usual(o->command_s, 30),
    };
    return as_watcher_open(&p->watcher, root, &w, &p->log, e);
}

static int open_own(as_policy *p, const char *root, const as_policy_options *o, as_error *e)
{
    as_due_rules rules = rules_of(o);
    int code = check(o, e);
    if (code == AS_OK && p->is_main) {
        as_due_open(&p->due, &rules, now_s(p));
        p->root = strdup(root);
        code = p->root ? open_watcher(p, root, o, e) : as_fail_nomem(e);
    }
    if (code == AS_OK && o->signals) {
        code = listen_to_signals(p, o, e);
    }
    return code;
}

int as_policy_open(as_policy **out, as_comm *comm, const char *root,
                   const as_policy_options *options, const as_log *log, as_error *e)
{
    *out = NULL;
    as_policy *p = calloc(1, sizeof *p);
    if (!p) {
        (void)as_fail_nomem(e);
    } else {
        p->comm = comm;
        p->log = log ? *log : (as_log){0};
        p->clock = options->clock ? options->clock : as_clock;
        p->is_main = as_comm_rank(comm) == 0;
        p->walltime = options->walltime;
        (void)open_own(p, root, options, e);
    }
    int code = as_comm_agree(comm, e);
    if (code != AS_OK) {
        as_policy_close(p);
        return code;
    }
    *out = p;
    return AS_OK;
}

/* ----------------------------------------------------------------------- poll */

/* Through an integer: the largest of one number and of the least integer is that number. */
static int64_t of_double(double number)
{
    int64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static double to_double(int64_t bits)
{
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static void write_wish(const as_due_wish *w, int64_t *slots)
{
    slots[FLAGS] = w->save | (int64_t)w->stop << STOP_SHIFT |
                   (int64_t)(w->signal & SIGNAL_MASK) << SIGNAL_SHIFT | (w->covered ? COVERED : 0) |
                   (w->by_person ? PERSON : 0) | (w->held ? HELD : 0) | (w->last ? LAST : 0);
    slots[SECONDS_LEFT] = of_double(w->seconds_left);
    slots[MARGIN] = of_double(w->margin_s);
    slots[INTERVAL] = of_double(w->interval_s);
}

static as_due_wish read_wish(const int64_t *slots)
{
    int64_t flags = slots[FLAGS];
    return (as_due_wish){
        .save = (int)(flags & REASONS),
        .stop = (int)(flags >> STOP_SHIFT & REASONS),
        .signal = (int)(flags >> SIGNAL_SHIFT & SIGNAL_MASK),
        .covered = (flags & COVERED) != 0,
        .by_person = (flags & PERSON) != 0,
        .held = (flags & HELD) != 0,
        .last = (flags & LAST) != 0,
        .seconds_left = to_double(slots[SECONDS_LEFT]),
        .margin_s = to_double(slots[MARGIN]),
        .interval_s = to_double(slots[INTERVAL]),
    };
}

/* The main process's own part, before the others are met. */
static as_due_sight look(as_policy *p, int64_t step)
{
    if (!p->watches) {
        as_error e = AS_ERROR_INIT;
        p->watches = true;
        if (as_watcher_start(p->watcher, &e) != AS_OK) {
            as_log_say(&p->log, AS_LOG_WARNING, "%s", as_error_text(&e));
        }
        as_error_clear(&e);
    }
    as_watcher_tell(p->watcher, &p->log);
    as_sight seen = as_watcher_sight(p->watcher);
    return (as_due_sight){
        .now = now_s(p),
        .step = step,
        .seconds_left = p->walltime ? as_end_left(&seen.end) : -1,
        .words = seen.words,
    };
}

static void catch_signals(as_policy *p)
{
    int stop = as_signals_came(&p->stops);
    int save = as_signals_came(&p->saves);
    p->stop_signal = p->stop_signal ? p->stop_signal : stop;
    p->save_signal = p->save_signal ? p->save_signal : save;
}

static int check_steps(const int64_t *slots, as_error *e)
{
    int64_t least = -slots[STEP_DOWN];
    if (least < 0) {
        return as_fail(e, AS_INVALID, 0,
                       "a rank polls at step %" PRId64 "; steps must be 0 or more", least);
    }
    if (least != slots[STEP]) {
        return as_fail(e, AS_MISMATCH, 0,
                       "ranks poll at different steps, from %" PRId64 " to %" PRId64
                       "; all must give the same",
                       least, slots[STEP]);
    }
    return AS_OK;
}

int as_policy_poll(as_policy *p, int64_t step, int64_t *more, int more_count, as_verdict *out,
                   as_error *e)
{
    int64_t slots[SLOTS + AS_POLICY_MORE];
    as_due_sight sight = {0};
    catch_signals(p);
    /* The least integer has no negative. */
    slots[STEP] = step < 0 ? -1 : step;
    slots[STEP_DOWN] = -slots[STEP];
    slots[STOP_SIGNAL] = p->stop_signal;
    slots[SAVE_SIGNAL] = p->save_signal;
    for (int i = FLAGS; i < SLOTS; i++) {
        slots[i] = INT64_MIN;
    }
    if (p->is_main) {
        sight = look(p, step);
        as_due_wish wish = as_due_look(&p->due, &sight);
        write_wish(&wish, slots);
    }
    if (more_count > 0) {
        memcpy(slots + SLOTS, more, (size_t)more_count * sizeof *more);
    }
    int code = as_comm_max(p->comm, slots, SLOTS + more_count, e);
    if (code != AS_OK) {
        return code;
    }
    if (more_count > 0) {
        memcpy(more, slots + SLOTS, (size_t)more_count * sizeof *more);
    }
    code = check_steps(slots, e);
    if (code != AS_OK) {
        return code;
    }
    as_due_wish wish = read_wish(slots);
    int stop = (int)slots[STOP_SIGNAL];
    int save = (int)slots[SAVE_SIGNAL];
    *out = as_due_judge(&wish, stop, save);
    p->stop_signal = p->save_signal = 0;
    if (p->is_main) {
        as_due_told(&p->due, &sight, &wish, stop, save);
        p->step = step;
    }
    return AS_OK;
}

/* ---------------------------------------------------------------------- saves */

void as_policy_loaded(as_policy *p, int64_t step, double save_seconds)
{
    if (p->is_main) {
        as_due_loaded(&p->due, step, save_seconds, now_s(p));
    }
}

void as_policy_began(as_policy *p, int64_t step)
{
    if (p->is_main) {
        as_due_began(&p->due, step, now_s(p));
    }
}

void as_policy_saved(as_policy *p, int64_t step, double blocked_s, double durable_s)
{
    if (p->is_main) {
        unsigned words = as_due_saved(&p->due, step, blocked_s, durable_s);
        if (words) {
            as_watcher_strike(p->watcher, words);
        }
    }
}

void as_policy_failed(as_policy *p, int64_t step)
{
    if (p->is_main) {
        as_due_failed(&p->due, step, now_s(p));
    }
}

/* A run that was to stop: the history tells why. */
static void note_stop(as_policy *p)
{
    char text[200] = "";
    int reasons = p->due.stopping;
    if (reasons & AS_REASON_CONTROL) {
        (void)snprintf(text, sizeof text, "a person asked for it");
    } else if (reasons & AS_REASON_WALLTIME) {
        (void)snprintf(text, sizeof text, "the job's time ends");
    } else {
        (void)snprintf(text, sizeof text, "signal %d (%s)", p->due.signal,
                       strsignal(p->due.signal));
    }
    const as_event event = {.kind = AS_EVENT_STOP, .step = p->step, .text = text};
    as_error e = AS_ERROR_INIT;
    int root;
    if (as_folder_open(p->root, &root, &e) == AS_OK) {
        (void)as_history_append(root, p->root, &event, &e);
        (void)as_sys_table.close(root);
    }
    if (e.code != AS_OK) {
        as_log_say(&p->log, AS_LOG_WARNING, "the history does not tell of the stop: %s",
                   as_error_text(&e));
    }
    as_error_clear(&e);
}

void as_policy_close(as_policy *p)
{
    if (!p) {
        return;
    }
    as_signals_leave(&p->stops);
    as_signals_leave(&p->saves);
    if (p->watcher) {
        as_watcher_strike(p->watcher, as_due_ends(&p->due));
        as_watcher_close(p->watcher, &p->log);
        if (p->due.stopping) {
            note_stop(p);
        }
    }
    free(p->root);
    free(p);
}
