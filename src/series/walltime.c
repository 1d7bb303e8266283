/* SPDX-License-Identifier: Apache-2.0 */
#include "series/walltime.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/quote.h"
#include "commit/owner.h"
#include "series/walltime_read.h"

static const double usual_s = 900;
static const double soon_s = 300;  /* between questions when less than this is left, ... */
static const double near_s = 1800; /* ... or one failed */
static const double latest = 1e11; /* seconds since the epoch that make sense */

static const char *const commands[] = {
    [AS_SCHEDULER_SLURM] = "squeue", [AS_SCHEDULER_PBS] = "qstat", [AS_SCHEDULER_LSF] = "bjobs"};

static double clock_seconds(void)
{
    return (double)as_clock() / 1e9;
}

static double day_seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double as_end_left(const as_end *end)
{
    switch (end->kind) {
    case AS_END_EPOCH:
        return fmax(end->seconds - day_seconds(), 0);
    case AS_END_CLOCK:
        return fmax(end->seconds - clock_seconds(), 0);
    default:
        return -1;
    }
}

/* ------------------------------------------------------------------ variables */

/* NULL: not set, or empty. */
static const char *variable(const as_walltime *w, const char *name)
{
    const char *text = as_environment_get(w->env, name);
    return text && *text ? text : NULL;
}

static bool read_positive(const char *text, double *out)
{
    char *end = NULL;
    double value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !(value > 0 && value < latest)) {
        return false;
    }
    *out = value;
    return true;
}

/* A job's id goes to a command: letters, digits and what ids have between them. */
static bool is_id(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    static const char others[] = "._-[]@";
    if (!text || strlen(text) > 100 || !strchr(letters, *text)) {
        return false;
    }
    for (; *text; text++) {
        if (!strchr(letters, *text) && !strchr(others, *text)) {
            return false;
        }
    }
    return true;
}

/* Of a task of an array SLURM_JOB_ID may be the id of the whole array. */
static bool find_slurm(as_walltime *w)
{
    const char *job = variable(w, "SLURM_JOB_ID");
    job = job ? job : variable(w, "SLURM_JOBID");
    const char *array = variable(w, "SLURM_ARRAY_JOB_ID");
    const char *task = variable(w, "SLURM_ARRAY_TASK_ID");
    if (!is_id(job)) {
        return false;
    }
    if (is_id(array) && is_id(task)) {
        (void)snprintf(w->job, sizeof w->job, "%s_%s", array, task);
    } else {
        (void)snprintf(w->job, sizeof w->job, "%s", job);
    }
    double end;
    if (read_positive(variable(w, "SLURM_JOB_END_TIME"), &end)) {
        w->start = (as_end){.kind = AS_END_EPOCH, .seconds = end};
    }
    return true;
}

/* Seconds since this process began; 0 if that cannot be told. */
static double age(void)
{
    as_owner self;
    as_error ignored = AS_ERROR_INIT;
    struct timespec now;
    long ticks = sysconf(_SC_CLK_TCK);
    double seconds = 0;
    if (as_owner_self(&self, &ignored) == AS_OK && self.start > 0 && ticks > 0 &&
        clock_gettime(CLOCK_BOOTTIME, &now) == 0) {
        seconds = (double)now.tv_sec - (double)self.start / (double)ticks;
    }
    as_error_clear(&ignored);
    return fmax(seconds, 0);
}

static bool find_pbs(as_walltime *w)
{
    const char *job = variable(w, "PBS_JOBID");
    if (!is_id(job)) {
        return false;
    }
    (void)snprintf(w->job, sizeof w->job, "%s", job);
    double length;
    if (read_positive(variable(w, "PBS_WALLTIME"), &length)) {
        w->start = (as_end){.kind = AS_END_CLOCK, .seconds = clock_seconds() - age() + length};
    }
    return true;
}

static bool find_lsf(as_walltime *w)
{
    const char *job = variable(w, "LSB_JOBID");
    const char *index = variable(w, "LSB_JOBINDEX");
    if (!is_id(job)) {
        return false;
    }
    bool array = is_id(index) && strcmp(index, "0") != 0;
    (void)snprintf(w->job, sizeof w->job, array ? "%s[%s]" : "%s", job, index);
    return true;
}

int as_walltime_open(as_walltime *w, const as_environment *env, double end_time, double ask_s,
                     as_error *e)
{
    *w = (as_walltime){.env = env, .ask_s = ask_s};
    const char *text = variable(w, AS_END_TIME_VARIABLE);
    double end = end_time;
    if (text && !read_positive(text, &end)) {
        return as_fail(e, AS_INVALID, 0,
                       AS_END_TIME_VARIABLE " is %s; it must be seconds since 1970, as `date +%%s` "
                                            "writes them",
                       as_quote(text, strlen(text)).text);
    }
    if (end > 0) {
        w->fixed = true;
        w->end = (as_end){.kind = AS_END_EPOCH, .seconds = end};
        return AS_OK;
    }
    w->scheduler = find_slurm(w) ? AS_SCHEDULER_SLURM
                   : find_pbs(w) ? AS_SCHEDULER_PBS
                   : find_lsf(w) ? AS_SCHEDULER_LSF
                                 : AS_SCHEDULER_NONE;
    w->end = w->start;
    w->next = clock_seconds();
    return AS_OK;
}

/* ------------------------------------------------------------------- question */

bool as_walltime_is_due(const as_walltime *w)
{
    return !w->fixed && w->scheduler != AS_SCHEDULER_NONE && clock_seconds() >= w->next;
}

static enum as_left read_answer(const as_walltime *w, as_buffer *text, double *seconds)
{
    const char *string = as_buffer_string(text);
    if (!string) {
        return AS_LEFT_UNKNOWN;
    }
    switch (w->scheduler) {
    case AS_SCHEDULER_SLURM:
        return as_left_slurm(string, seconds);
    case AS_SCHEDULER_PBS:
        return as_left_pbs(string, day_seconds(), seconds);
    default:
        return as_left_lsf(string, seconds);
    }
}

static int ask(as_walltime *w, double command_s, const atomic_bool *cancel, as_error *e)
{
    const char *command = commands[w->scheduler];
    const char *slurm[] = {command, "-h", "-j", w->job, "-o", "%L", NULL};
    const char *pbs[] = {command, "-f", w->job, NULL};
    const char *lsf[] = {command, "-noheader", "-o", "time_left", w->job, NULL};
    const char *const *argv = w->scheduler == AS_SCHEDULER_SLURM ? slurm
                              : w->scheduler == AS_SCHEDULER_PBS ? pbs
                                                                 : lsf;
    /* What it answers was true at some moment after this: the job does not end before. */
    double asked = clock_seconds();
    as_buffer text = AS_BUFFER_INIT;
    double left = 0;
    int code = as_run_command(argv, w->env, command_s, cancel, &text, e);
    enum as_left answer = code == AS_OK ? read_answer(w, &text, &left) : AS_LEFT_UNKNOWN;
    if (code == AS_OK && answer == AS_LEFT_UNKNOWN) {
        as_quoted shown = as_quote(text.size ? text.data : "", text.size < 100 ? text.size : 100);
        code = as_fail(e, AS_FORMAT, 0, "%s: its answer %s tells no time", command, shown.text);
    } else if (answer == AS_LEFT_KNOWN) {
        w->end = (as_end){.kind = AS_END_CLOCK, .seconds = asked + left};
    } else if (answer == AS_LEFT_ENDLESS) {
        w->end = (as_end){.kind = AS_END_UNKNOWN};
    }
    as_buffer_free(&text);
    return code;
}

static void complain(const as_walltime *w, const as_error *e, const as_log *log)
{
    if (w->end.kind == AS_END_UNKNOWN) {
        as_log_say(log, AS_LOG_WARNING,
                   "the time left to job %s is not known, and no save is made for its end: %s; "
                   "set " AS_END_TIME_VARIABLE " to have one",
                   w->job, as_error_text(e));
    } else {
        as_log_say(log, AS_LOG_WARNING,
                   "the time left to job %s cannot be asked for, and what was known before counts "
                   "(%.0f s): %s",
                   w->job, as_end_left(&w->end), as_error_text(e));
    }
}

void as_walltime_ask(as_walltime *w, double command_s, const atomic_bool *cancel, const as_log *log)
{
    as_error e = AS_ERROR_INIT;
    int code = ask(w, command_s, cancel, &e);
    bool cancelled = cancel && atomic_load(cancel);
    if (code != AS_OK && !w->complained && !cancelled) {
        complain(w, &e, log);
    }
    w->complained = code != AS_OK;
    double left = as_end_left(&w->end);
    bool soon = code != AS_OK || (left >= 0 && left < near_s);
    double pause = w->ask_s > 0 ? w->ask_s : soon ? soon_s : usual_s;
    w->next = clock_seconds() + pause;
    as_error_clear(&e);
}
