/* SPDX-License-Identifier: Apache-2.0
 * What an owner hears about the checkpoint: the tensors that headers hold, what
 * the index says, and which names stand for dropped ones.
 */
#ifndef ALLSHARD_PLAN_FOUND_H
#define ALLSHARD_PLAN_FOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "plan/fault.h"
#include "plan/words.h"

/* Words of a message about a tensor of a header; the shape follows. */
enum {
    AS_F_NAME = 0,
    AS_F_FILE = 2,
    AS_F_LABEL = 3, /* the reader knows the name by this */
    AS_F_DTYPE = 4,
    AS_F_BEGIN = 5,
    AS_F_END = 6,
    AS_F_NDIM = 7,
    AS_F_HEAD = 8
};

/* Words of a message about a line of the index. */
enum { AS_I_NAME = 0, AS_I_FILE = 2, AS_I_LABEL = 3, AS_I_WORDS = 4 };

/* Words of a message about a dropped name. */
enum { AS_A_NAME = 0, AS_A_KEPT = 2, AS_A_WORDS = 4 };

typedef struct as_found {
    const int64_t *words; /* AS_F_… */
    int32_t rank;         /* that read the header */
} as_found;

typedef struct as_found_list {
    as_buffer tensors; /* as_found[]; after as_found_settle sorted by name, each once */
    as_buffer lines;   /* const int64_t *[]: AS_I_… */
    as_buffer aliases; /* const int64_t *[]: AS_A_…; sorted by name */
} as_found_list;

void as_found_free(as_found_list *f);

/* Keeps, of the tensors, those that the index names in that file (all without an index).
 * AS_FORMAT if a line of the index has no tensor; the main process knows its name. */
int as_found_settle(as_found_list *f, bool indexed, as_fault *fault, as_error *e);

/* NULL if the checkpoint has no tensor of that name. */
const as_found *as_found_find(const as_found_list *f, as_hash name);

/* The words of the dropped name, or NULL. */
const int64_t *as_found_alias(const as_found_list *f, as_hash name);

#endif
