/* SPDX-License-Identifier: Apache-2.0
 * The tables of a benchmark for people: what they share.
 */
#ifndef ALLSHARD_CLI_BENCH_TEXT_H
#define ALLSHARD_CLI_BENCH_TEXT_H

#include "cli/bench_report.h"
#include "cli/bench_table.h"

typedef struct as_text {
    const as_bench *bench;
    const as_output *out;
    bool markdown;
    double *scratch; /* of as_summarize */
} as_text;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One metric over the repetitions of a layout. */
as_summary as_text_sum(const as_text *t, const as_bench_layout *l, enum as_metric m);

/* Prints a filled table under its title, and closes it. */
void as_text_table(const as_text *t, as_table *table, const char *title);

/* Tables; all AS_NOMEM. Where the time of saves goes. */
int as_text_phases(const as_text *t, bool nonblocking, as_error *e);

/* Saves alone; or all of saves and loads. */
int as_text_saves(const as_text *t, as_error *e);
int as_text_blocking(const as_text *t, as_error *e);

/* Nonblocking saves, and what they are compared with. */
int as_text_nonblocking(const as_text *t, as_error *e);

#endif
