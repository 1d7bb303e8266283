/* SPDX-License-Identifier: Apache-2.0
 * What the main process wants at a step, by the rules of a series and what saves took so far; and
 * the verdict that all ranks make of it. No input or output, no clock: the caller brings the time.
 * Times are seconds of one clock that only goes forward.
 */
#ifndef ALLSHARD_SERIES_DUE_H
#define ALLSHARD_SERIES_DUE_H

#include <stdbool.h>
#include <stdint.h>

#include "series/policy.h"
#include "series/timing.h"

/* As allshard_series_options, with nothing left to default. */
typedef struct as_due_rules {
    int64_t every_steps;
    double every_s;
    double overhead_percent;
    double mtbf_s;
    double margin;
    double margin_s;
    double first_margin_s;
} as_due_rules;

/* What can be seen at a poll. */
typedef struct as_due_sight {
    double now;
    int64_t step;
    double seconds_left; /* negative: not known */
    unsigned words;      /* of the control file */
} as_due_sight;

typedef struct as_due {
    as_due_rules rules;
    as_timing blocked; /* by saves */
    as_timing durable; /* begin of a save until it is durable */
    as_timing gaps;    /* between polls with no save begun in between */

    double origin_s;      /* begin of the last save, or of the run */
    int64_t first_step;   /* that the run began with; -1: no poll yet, and nothing was loaded */
    int64_t reached_step; /* every_steps counts from here */
    int64_t saved_step;   /* nothing is new at this one: saved, being saved, or loaded; -1: none */
    double loaded_s;      /* what the save of the loaded checkpoint took; 0: not known */
    double first_left_s;  /* of the job's time, when it was known first; negative: not yet */
    double polled_s;      /* last poll; negative: none, or a save was begun since */

    int asked;            /* reasons for a save in the last verdict ... */
    unsigned asked_words; /* ... and the words that were there */

    bool in_flight;
    double began_s;
    int behind;        /* reasons of the save that is in flight */
    unsigned answered; /* words that a save has answered, until they are gone */

    int owed; /* reasons for a save that stay until one begins, though their cause is gone */
    double owed_from_s;
    int failures; /* in a row */

    int stopping; /* reasons; 0: no */
    int signal;   /* that stops, or is owed a save */
    bool by_person;
} as_due;

void as_due_open(as_due *d, const as_due_rules *rules, double now);

/* What goes from the main process to all ranks. */
typedef struct as_due_wish {
    int save;     /* reasons */
    int stop;     /* reasons */
    bool covered; /* a save at this step would hold nothing new */
    bool by_person;
    bool held;
    bool last;  /* after a save that begins now there would be no time for another */
    int signal; /* of before */
    double seconds_left;
    double margin_s;
    double interval_s;
} as_due_wish;

/* Changes nothing. */
as_due_wish as_due_look(const as_due *d, const as_due_sight *sight);

/* The verdict of a wish, and of signals that reached any rank since the last poll (0: none). */
as_verdict as_due_judge(const as_due_wish *wish, int stop_signal, int save_signal);

/* What the main process keeps of it, once it was given. */
void as_due_told(as_due *d, const as_due_sight *sight, const as_due_wish *wish, int stop_signal,
                 int save_signal);

void as_due_loaded(as_due *d, int64_t step, double save_seconds, double now);
void as_due_began(as_due *d, int64_t step, double now);

/* The save that began last has ended; another step than its own changes nothing. The words of the
 * control file that are to be struck out now. */
unsigned as_due_saved(as_due *d, int64_t step, double blocked_s, double durable_s);
void as_due_failed(as_due *d, int64_t step, double now);

/* Words that are to be struck out as the run ends: a stop that was obeyed. */
unsigned as_due_ends(const as_due *d);

#endif
