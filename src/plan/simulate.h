/* SPDX-License-Identifier: Apache-2.0
 * Makes plans for any number of ranks in one process, with the functions that the
 * ranks themselves would run.
 */
#ifndef ALLSHARD_PLAN_SIMULATE_H
#define ALLSHARD_PLAN_SIMULATE_H

#include <stdint.h>

#include "plan/planner.h"
#include "plan/request.h"
#include "plan/state.h"

/* Adds the pieces that `rank` would declare; data pointers NULL. Called whenever the plan needs to
 * look at what the rank declares: states are not kept, of which all ranks together have too
 * many. */
typedef int (*as_declare)(void *user, int rank, as_state *state, as_error *e);

/* What a plan costs one rank. */
typedef struct as_plan_cost {
    int64_t nanoseconds; /* CPU time of all steps; to declare the state is not the plan's */
    int64_t memory;      /* bytes at the peak, mail and shared rows included, the state not */
    int64_t messages;    /* to other ranks */
    int64_t bytes;       /* of them, and of what it shares with all */
} as_plan_cost;

typedef struct as_simulation {
    int ranks;
    int32_t shard_count;
    int64_t total_size; /* bytes of tensors */
    int64_t tensor_count;
    int64_t *file_bytes;     /* [shard_count] */
    int64_t *file_tensors;   /* [shard_count] */
    char **file_names;       /* [shard_count] */
    int64_t *writer_bytes;   /* [ranks]: what each writes */
    int64_t exchanged_bytes; /* what crosses between ranks, over all */
    int64_t described;       /* pieces that travel, over all ranks */
    int64_t left_out;        /* empty ones that need not */
    as_plan_cost *cost;      /* [ranks] */
} as_simulation;

/* Runs the planners of all ranks, each fresh from as_planner_save or as_planner_load, to the end,
 * with the messages that they send each other. The first error of the lowest rank comes back with
 * the names in its text. */
int as_simulate_planners(as_planner *planners, int ranks, as_error *e);

int as_simulate_save(int ranks, as_declare declare, void *user, const as_save_request *request,
                     as_simulation *out, as_error *e);

void as_simulation_free(as_simulation *s);

#endif
