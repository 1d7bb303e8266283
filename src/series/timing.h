/* SPDX-License-Identifier: Apache-2.0
 * What something has taken the last times, and how long it should be expected to take.
 */
#ifndef ALLSHARD_SERIES_TIMING_H
#define ALLSHARD_SERIES_TIMING_H

enum { AS_TIMING_KEPT = 8 };

typedef struct as_timing {
    double seconds[AS_TIMING_KEPT]; /* the newest first */
    int count;
} as_timing;

/* What is no number, or negative, counts as 0. */
void as_timing_add(as_timing *t, double seconds);

/* All of these are 0 if nothing was measured. The median (of an even number the larger one of the
 * middle), which a stray one does not move: */
double as_timing_typical(const as_timing *t);

/* The larger of the median and the largest, of which a tenth is taken off for each newer one: what
 * was slow lately may be so again, but a stray one is forgotten. */
double as_timing_careful(const as_timing *t);

double as_timing_last(const as_timing *t);

#endif
