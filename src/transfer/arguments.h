/* SPDX-License-Identifier: Apache-2.0
 * What every rank must give alike to a collective call: compared before anything
 * is done with it.
 */
#ifndef ALLSHARD_TRANSFER_ARGUMENTS_H
#define ALLSHARD_TRANSFER_ARGUMENTS_H

#include <stddef.h>

#include "base/hash.h"
#include "comm/comm.h"

typedef struct as_argument {
    const char *name; /* as the caller knows it */
    as_hash value;
} as_argument;

as_argument as_argument_text(const char *name, const char *text); /* NULL counts as "" */
as_argument as_argument_number(const char *name, int64_t number);
as_argument as_argument_list(const char *name, const char *const *texts, size_t count);

/* AS_MISMATCH names the argument and the rank that differs from the main process; AS_OK if all
 * agree. A rank may come with an error: then all get it. Collective. */
int as_arguments_agree(as_comm *c, const as_argument *arguments, size_t count, as_error *e);

#endif
