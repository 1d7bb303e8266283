/* SPDX-License-Identifier: Apache-2.0
 * What `allshard prune` tells: each checkpoint, whether it stays and why.
 */
#ifndef ALLSHARD_CLI_PRUNE_REPORT_H
#define ALLSHARD_CLI_PRUNE_REPORT_H

#include <stdbool.h>

#include "base/error.h"
#include "cli/command.h"
#include "series/prune.h"

typedef struct as_prune_report {
    const char *root;
    bool dry_run;
    const as_members *members;
    const as_prune *plan;
    const as_names *gone; /* of plan->going those that went; NULL on a dry run */
} as_prune_report;

/* Lines for people. AS_NOMEM. */
int as_prune_print(const as_output *o, const as_prune_report *r, as_error *e);

/* The object of --json. */
void as_prune_json(as_tool *tool, const as_prune_report *r);

#endif
