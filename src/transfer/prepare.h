/* SPDX-License-Identifier: Apache-2.0
 * The first half of a save: arguments are checked and compared, the plan is made.
 */
#ifndef ALLSHARD_TRANSFER_PREPARE_H
#define ALLSHARD_TRANSFER_PREPARE_H

#include "plan/request.h"
#include "transfer/extras.h"
#include "transfer/save.h"

typedef struct as_prepared {
    char *pattern; /* heap */
    as_extras extras;
    as_save_request request; /* borrows the others */
    as_plan plan;
} as_prepared;

/* What was prepared last for a state, and what for. */
struct as_plan_cache {
    bool filled;
    as_hash key;    /* of the state's revision and all arguments that the plan depends on */
    int64_t number; /* of the plan among those of the context: ranks may keep several states */
    as_prepared prepared;
};

/* Afterwards call->cache->prepared serves the save. If no rank's declaration or arguments changed
 * since the cache was filled that costs one small reduction; else a new plan is made. After an
 * error the cache is empty. Collective. */
int as_prepare(const as_save_call *call, as_error *e);

void as_plan_cache_clear(as_plan_cache *c);

/* The name of a file of the plan; *out is the caller's to free. */
int as_prepared_file_name(const as_prepared *p, int32_t file, char **out, as_error *e);

#endif
