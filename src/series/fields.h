/* SPDX-License-Identifier: Apache-2.0
 * Named texts that go with a checkpoint: {epoch} of a folder's name, and whatever the caller adds.
 */
#ifndef ALLSHARD_SERIES_FIELDS_H
#define ALLSHARD_SERIES_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { AS_MOST_FIELDS = 64, AS_LONGEST_FIELD_NAME = 64, AS_LONGEST_FIELD = 4096 };

typedef struct as_field {
    char *name;  /* heap */
    char *value; /* heap */
} as_field;

typedef struct as_fields {
    as_field items[AS_MOST_FIELDS]; /* in the order in which they were set */
    size_t count;
} as_fields;

#define AS_FIELDS_INIT ((as_fields){.count = 0})

/* AS_INVALID: the name is not 1 to 64 letters, digits and '_', or is "step"; the value is not UTF-8,
 * has a control character, or more than 4,096 bytes. */
int as_field_check(const char *name, const char *value, as_error *e);

/* Sets one, over an earlier value. Codes as above; AS_LIMIT: there are too many; AS_NOMEM. */
int as_fields_set(as_fields *f, const char *name, const char *value, as_error *e);

/* NULL: there is none. */
const char *as_fields_get(const as_fields *f, const char *name);

void as_fields_free(as_fields *f);

#endif
