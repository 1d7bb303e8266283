/* SPDX-License-Identifier: Apache-2.0
 * Handles of series, and what series.c, series_save.c and series_load.c share.
 */
#ifndef ALLSHARD_API_SERIES_H
#define ALLSHARD_API_SERIES_H

#include "api/handles.h"
#include "series/policy.h"
#include "series/series.h"

struct allshard_series {
    allshard *context;
    as_series *series;
    as_policy *policy;
    allshard_request *parts[AS_MOST_PARTS]; /* of the save in flight; NULL: none */

    /* Of nonblocking saves that ended, for the next allshard_series_poll. */
    bool saved;
    int64_t saved_step;
    int failed; /* code */

    allshard_field *loaded_fields; /* heap: of the last load */
    allshard_series *next;
};

/* The save that was in flight is over on this rank: its parts' states are free again, and the policy
 * knows. Its code, with its record in `e`; AS_OK if there was none. `news` may be NULL. */
int as_series_land(allshard_series *r, as_series_news *news, as_error *e);

/* The same where nobody asks for the code: it is for the next poll, and a failure is told to the log. */
void as_series_land_quietly(allshard_series *r);

/* Before another one begins: waits for it, and lands it quietly. Collective. */
void as_series_clear_way(allshard_series *r);

#endif
