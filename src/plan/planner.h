/* SPDX-License-Identifier: Apache-2.0
 * Makes a plan in steps that are pure functions from messages to messages, so that
 * the same code runs under MPI and, for thousands of ranks, in one process.
 */
#ifndef ALLSHARD_PLAN_PLANNER_H
#define ALLSHARD_PLAN_PLANNER_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/catalog.h"
#include "plan/fault.h"
#include "plan/found.h"
#include "plan/mail.h"
#include "plan/plan.h"
#include "plan/request.h"
#include "plan/schedule.h"
#include "plan/state.h"

enum as_planner_move {
    AS_MOVE_EXCHANGE, /* deliver mail.out, then step again */
    AS_MOVE_SHARE,    /* deliver mail.share, then step again; that step leaves mail.in where it is,
                         though it may sort it */
    AS_MOVE_DONE,     /* the plan is ready */
};

typedef struct as_planner as_planner;

/* Where a simulation's planners get the state of their rank from, each time they need it: it need
 * not be there in between. What comes is good until the next call. */
typedef struct as_state_source {
    int (*get)(void *user, int rank, const as_state **out, as_error *e);
    void *user;
} as_state_source;

/* One step: reads mail->in, fills mail->out or mail->share. */
typedef struct as_planner_step {
    int (*run)(as_planner *p, as_mail *mail, as_error *e);
    enum as_planner_move move;
} as_planner_step;

struct as_planner {
    int rank;
    int size;
    const as_state *state; /* NULL: see source */
    const as_state_source *source;
    const as_save_request *save; /* one of the two */
    const as_load_request *load;
    const as_planner_step *steps;
    int64_t steps_run;      /* so far */
    size_t declared;        /* save: pieces, */
    size_t left_out;        /* those of them that are not described, */
    uint64_t declared_mark; /* and the sum of the marks of all */
    as_catalog catalog;
    as_fault fault; /* who knows the names that an error's text needs */
    as_schedule schedule;
    as_plan plan; /* the result; the caller may move it out */

    as_buffer ties;      /* save: words of tied tensors, as the owner of their storage sees them */
    as_found_list found; /* load: what the checkpoint holds of the tensors that this rank owns */
    as_buffer missing;   /* load, main process: names, sorted, each followed by a NUL */
    as_buffer unexpected;
};

/* `state` and the request are borrowed until as_planner_free. */
int as_planner_save(as_planner *p, int rank, int size, const as_state *state,
                    const as_save_request *request, as_error *e);
int as_planner_load(as_planner *p, int rank, int size, const as_state *state,
                    const as_load_request *request, as_error *e);

/* The state of this rank. */
int as_planner_state(as_planner *p, const as_state **out, as_error *e);

/* Runs the next step. After an error the planner is good for as_planner_name and
 * as_planner_free only. */
int as_planner_next(as_planner *p, as_mail *mail, enum as_planner_move *move, as_error *e);

/* The name that a label of a fault stands for on this rank; never NULL. */
const char *as_planner_name(as_planner *p, int64_t label);

void as_planner_free(as_planner *p);

/* The steps that save and load share, from regions to parts. */
int as_planner_answer(as_planner *p, as_mail *mail, as_error *e);
int as_planner_cut(as_planner *p, as_mail *mail, as_error *e);
int as_planner_settle(as_planner *p, as_mail *mail, as_error *e);
int as_planner_weigh(as_planner *p, as_mail *mail, as_error *e);
int as_planner_level(as_planner *p, as_mail *mail, as_error *e);
int as_planner_hand(as_planner *p, as_mail *mail, as_error *e);
int as_planner_finish(as_planner *p, as_mail *mail, as_error *e);

/* Takes what as_planner_share_size put into the share of every rank. */
int as_planner_take_sizes(as_planner *p, const as_mail *mail, as_error *e);
int as_planner_share_size(as_mail *mail, int32_t file, int64_t bytes, as_error *e);

#endif
