/* SPDX-License-Identifier: Apache-2.0
 * Which checkpoints of a series stay. No input or output.
 */
#ifndef ALLSHARD_SERIES_RETENTION_H
#define ALLSHARD_SERIES_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0 (or less, or NaN): no such rule. Without any rule all stay. */
typedef struct as_keep_rules {
    int64_t last;       /* so many of the highest steps */
    int64_t every;      /* those whose step is a multiple of it; 0 is one, too */
    int64_t best;       /* so many of the best metric */
    const char *metric; /* NULL: of any name */
    bool metric_max;    /* larger is better */
    double seconds;     /* those that are younger; one from the future is */
} as_keep_rules;

typedef struct as_kept_one {
    int64_t step;    /* −1: not known */
    int64_t time_ms; /* since the epoch, by clocks that may jump */
    bool good;
    bool tagged;
    bool in_use;        /* this run began from it, or something else needs it */
    const char *metric; /* name; NULL: none */
    double metric_value;
} as_kept_one;

/* Why one stays, as bits. */
enum as_keep_reason {
    AS_KEEP_NEWEST = 1, /* the newest good one */
    AS_KEEP_DAMAGED = 2,
    AS_KEEP_TAGGED = 4,
    AS_KEEP_IN_USE = 8,
    AS_KEEP_LAST = 16,
    AS_KEEP_EVERY = 32,
    AS_KEEP_BEST = 64,
    AS_KEEP_YOUNG = 128,
    AS_KEEP_NO_RULE = 256,
    AS_KEEP_UNKNOWN = 512, /* its step is not known */
    /* What as_retention does not say, but as_prune_plan and as_prune_spare: */
    AS_KEEP_FOREIGN = 1024, /* not saved by a series */
    AS_KEEP_FIXED = 2048,   /* this process may not move it away */
};

/* Is there any rule? */
bool as_keep_rules_any(const as_keep_rules *rules);

/* `items` in the order of as_members (the newest last); reasons[i] gets the bits of items[i]; 0: it
 * goes. Good ones alone count for keep_last and keep_best; a metric that is NaN is none; of equal
 * ones the newer (the later item) is better. */
void as_retention(const as_keep_rules *rules, const as_kept_one *items, size_t count,
                  int64_t now_ms, uint32_t *reasons);

#endif
