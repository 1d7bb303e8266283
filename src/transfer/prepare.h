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

/* Collective. Free the result in any case. */
int as_prepare(as_prepared *p, const as_save_call *call, as_error *e);

/* The name of a file of the plan; *out is the caller's to free. */
int as_prepared_file_name(const as_prepared *p, int32_t file, char **out, as_error *e);

void as_prepared_free(as_prepared *p);

#endif
