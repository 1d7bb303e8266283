/* SPDX-License-Identifier: Apache-2.0
 * The steps of a save's plan (DESIGN 3, steps 1 to 4), in order.
 */
#ifndef ALLSHARD_PLAN_SAVE_STEPS_H
#define ALLSHARD_PLAN_SAVE_STEPS_H

#include "plan/planner.h"

/* Is piece i one that is not described? */
bool as_save_leaves_out(const as_state *s, size_t i);

/* Every rank → owners: descriptors of its pieces, but not of empty ones of tensors that have bytes
 * and an order key: there are far more of those than of others, and as_save_split looks after
 * them. */
int as_save_describe(as_planner *p, as_mail *mail, as_error *e);
/* Owners → owners of storages: tensors by storage. */
int as_save_merge(as_planner *p, as_mail *mail, as_error *e);
/* Owners of storages → sources: which of your names share a storage? */
int as_save_ask_names(as_planner *p, as_mail *mail, as_error *e);
/* Sources → owners of storages: the names. */
int as_save_tell_names(as_planner *p, as_mail *mail, as_error *e);
/* Owners of storages → owners of tensors and main process: names that are dropped. */
int as_save_resolve(as_planner *p, as_mail *mail, as_error *e);
/* Owners → all: a row per tensor. */
int as_save_rows(as_planner *p, as_mail *mail, as_error *e);
/* Every rank splits, and finds its empty pieces among the rows; tellers → builders: names and
 * shapes. */
int as_save_split(as_planner *p, as_mail *mail, as_error *e);
/* Builders lay out their files; builders → owners: places. */
int as_save_headers(as_planner *p, as_mail *mail, as_error *e);
/* Builders → all: sizes of the files. */
int as_save_sizes(as_planner *p, as_mail *mail, as_error *e);
/* Owners → coordinators of groups: regions. */
int as_save_regions(as_planner *p, as_mail *mail, as_error *e);

#endif
