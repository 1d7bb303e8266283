/* SPDX-License-Identifier: Apache-2.0
 * Names do not travel while a plan is made, but errors must name tensors. A fault
 * says which rank knows the name; whoever runs the plan fetches it and puts it
 * where the error's text has AS_NAME_1 or AS_NAME_2.
 */
#ifndef ALLSHARD_PLAN_FAULT_H
#define ALLSHARD_PLAN_FAULT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Characters that Unicode keeps for such inner uses; as_quote lets none of a name through. */
#define AS_NAME_1 "\xef\xb7\x90" /* U+FDD0 */
#define AS_NAME_2 "\xef\xb7\x91"

enum { AS_FAULT_NAMES = 2 };

/* Labels from here on, downwards, stand for file 0, 1, … of the checkpoint that is loaded. */
#define AS_LABEL_FILE(file) (INT64_MIN / 2 - (int64_t)(file))

typedef struct as_fault {
    int32_t rank[AS_FAULT_NAMES];  /* −1: no such name in the text */
    int64_t label[AS_FAULT_NAMES]; /* what that rank knows it by: a piece's index, −1 − k for
                                      name k that it has read, or AS_LABEL_FILE */
} as_fault;

#define AS_FAULT_INIT ((as_fault){.rank = {-1, -1}})

/* Puts the quoted names into the text of e; NULL: it could not be fetched, or the text has no
 * place for it. */
void as_fault_fill(as_error *e, const char *first, const char *second);

#endif
