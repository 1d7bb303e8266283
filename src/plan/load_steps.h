/* SPDX-License-Identifier: Apache-2.0
 * The steps of a load's plan, in order: what ranks declare meets what files hold.
 */
#ifndef ALLSHARD_PLAN_LOAD_STEPS_H
#define ALLSHARD_PLAN_LOAD_STEPS_H

#include "plan/planner.h"

/* Every rank → owners: descriptors; readers of headers: what the files hold; main process: what
 * the index says, and which names were dropped as tied. */
int as_load_describe(as_planner *p, as_mail *mail, as_error *e);
/* Owners → owners of kept names: pieces of dropped names. */
int as_load_join(as_planner *p, as_mail *mail, as_error *e);
/* Owners compare declarations with files; → who knows the names: missing and unexpected. */
int as_load_check(as_planner *p, as_mail *mail, as_error *e);
/* → main process: the names. */
int as_load_tell_names(as_planner *p, as_mail *mail, as_error *e);
/* Main process judges them; readers of headers → all: sizes of the files. */
int as_load_sizes(as_planner *p, as_mail *mail, as_error *e);
/* Owners → coordinators of groups: regions. */
int as_load_regions(as_planner *p, as_mail *mail, as_error *e);

/* Name k of what this rank has read: first the index's, then its files', in order. */
const char *as_load_file_name(const as_load_request *request, size_t k);

#endif
