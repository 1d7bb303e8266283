/* SPDX-License-Identifier: Apache-2.0
 * What a plan costs the ranks, for people and as JSON: `allshard plan --simulate`.
 */
#ifndef ALLSHARD_CLI_PLAN_COSTS_H
#define ALLSHARD_CLI_PLAN_COSTS_H

#include <stdint.h>

#include "cli/command.h"
#include "plan/simulate.h"

typedef struct as_plan_costs {
    as_plan_cost most; /* that any rank has; of each figure by itself */
    as_plan_cost mean;
    double seconds;  /* of the whole simulation, by the clock */
    int64_t process; /* largest memory of this process, bytes */
} as_plan_costs;

as_plan_costs as_plan_costs_of(const as_simulation *s, double seconds);

/* Sets "simulation" in the tool's result. */
void as_plan_costs_json(as_tool *tool, const as_simulation *s, const as_plan_costs *c);

void as_plan_costs_print(const as_output *o, const as_simulation *s, const as_plan_costs *c);

#endif
