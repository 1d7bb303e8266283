/* SPDX-License-Identifier: Apache-2.0
 * What `allshard recover` tells of a series: which of its checkpoints are good.
 */
#ifndef ALLSHARD_CLI_RECOVER_SERIES_H
#define ALLSHARD_CLI_RECOVER_SERIES_H

#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/command.h"
#include "commit/recover.h"
#include "series/members.h"

/* Looks at the checkpoints in `root` when recovery is done. *is_series: any of them was saved by a
 * series. Unless `dry_run`: where a save was finished, or the link leads to nothing, ROOT/latest is
 * led to where it belongs; that this fails is only told. AS_SYSTEM, AS_NOMEM. */
int as_recover_series(const char *root, const as_recover_report *report, bool dry_run,
                      as_members *out, bool *is_series, const as_log *log, as_error *e);

/* "3 checkpoints, 1 of them damaged; …", and a line for each damaged one. */
void as_recover_series_print(const as_output *o, const as_members *m);

/* {"checkpoints": 3, "newest": NAME or null, "damaged": [{"name": …, "why": …}, …]} */
json_t *as_recover_series_json(const as_members *m);

#endif
