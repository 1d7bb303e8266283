/* SPDX-License-Identifier: Apache-2.0
 * What every rank must give alike to a collective call: compared before anything
 * is done with it.
 */
#ifndef ALLSHARD_TRANSFER_ARGUMENTS_H
#define ALLSHARD_TRANSFER_ARGUMENTS_H

#include <stddef.h>

#include "comm/compare.h"

enum as_argument_kind { AS_ARGUMENT_TEXT, AS_ARGUMENT_NUMBER, AS_ARGUMENT_OCTAL, AS_ARGUMENT_LIST };

typedef struct as_argument {
    const char *name; /* as the caller knows it */
    as_hash hash;
    enum as_argument_kind kind; /* how it is shown */
    const char *text;           /* borrowed; NULL: none is given */
    int64_t number;             /* or how many names a list has */
} as_argument;

as_argument as_argument_text(const char *name, const char *text); /* NULL is no "" */
as_argument as_argument_number(const char *name, int64_t number);
as_argument as_argument_octal(const char *name, int64_t number);
as_argument as_argument_list(const char *name, const char *const *texts, size_t count);

/* A number that the caller gave as a text, which is what is shown of it. */
as_argument as_argument_read(const char *name, const char *text, int64_t number);

/* AS_MISMATCH names the first argument that differs, the values and the ranks that gave them;
 * AS_OK if all agree. A rank may come with an error: then all get it. Collective. */
int as_arguments_agree(as_comm *c, const as_argument *arguments, size_t count, as_error *e);

#endif
