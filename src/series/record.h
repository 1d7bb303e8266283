/* SPDX-License-Identifier: Apache-2.0
 * What a checkpoint of a series tells of itself, in the member "checkpoint" of its manifest:
 *
 *   {"step": 500, "time": "2026-01-31T12:00:00.123Z", "save_seconds": 1.25, "world_size": 8,
 *    "parent": "checkpoint-400", "metric": {"name": "loss", "value": 2.5},
 *    "fields": {"epoch": "3"}, "job": {"SLURM_JOB_ID": "17", …}}
 *
 * parent, metric, fields and job may be left out; readers pass over members that they do not know.
 */
#ifndef ALLSHARD_SERIES_RECORD_H
#define ALLSHARD_SERIES_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "series/fields.h"

typedef struct as_record {
    int64_t step;
    int64_t time_ms;     /* since the epoch: when the save began */
    double save_seconds; /* from there until all was ready to count */
    int64_t world_size;  /* ranks */
    char *parent;        /* heap: folder name of the checkpoint before in this run; NULL: none */
    char *metric;        /* heap: its name; NULL: none */
    double metric_value; /* may be infinite or NaN: written as a string then */
    as_fields fields;    /* the caller's */
    as_fields job;       /* of the scheduler, as_record_job */
} as_record;

#define AS_RECORD_INIT ((as_record){0})

enum { AS_LONGEST_METRIC = 256 };

/* AS_INVALID: the name of a metric is not 1 to 256 bytes of UTF-8 without control characters. */
int as_metric_check(const char *name, as_error *e);

/* The scheduler's variables that tell where a checkpoint comes from (SLURM_JOB_ID, PBS_JOBID, …),
 * those that are set. */
int as_record_job(as_record *r, as_error *e);

/* *out is the caller's. AS_INVALID: the metric's name; AS_INTERNAL: the rest is not what the comments
 * above say; AS_NOMEM. */
int as_record_to_json(const as_record *r, json_t **out, as_error *e);

/* Every field is checked. AS_FORMAT; `what` names the file. *out is overwritten; after an error it is
 * as it was. */
int as_record_from_json(const json_t *tree, const char *what, as_record *out, as_error *e);

void as_record_free(as_record *r);

#endif
