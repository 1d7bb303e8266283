/* SPDX-License-Identifier: Apache-2.0
 * Runs a planner over real ranks.
 */
#ifndef ALLSHARD_COMM_MAKE_PLAN_H
#define ALLSHARD_COMM_MAKE_PLAN_H

#include "comm/comm.h"
#include "plan/planner.h"

/* Runs all steps. Collective; after a failure the text names the tensors. `e` may hold an
 * error already: then no rank makes a plan. */
int as_make_plan(as_comm *c, as_planner *p, as_error *e);

#endif
