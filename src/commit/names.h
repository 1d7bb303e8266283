/* SPDX-License-Identifier: Apache-2.0
 * A list of file names of one folder, and what counts as such a name.
 */
#ifndef ALLSHARD_COMMIT_NAMES_H
#define ALLSHARD_COMMIT_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct as_names {
    char **items; /* heap; each string on the heap, too */
    size_t count;
    size_t capacity;
} as_names;

#define AS_NAMES_INIT ((as_names){0})

/* Appends a copy. AS_OK, AS_NOMEM. */
int as_names_add(as_names *n, const char *name, as_error *e);

/* Byte order. */
void as_names_sort(as_names *n);

/* Looks by bisection: the list must be sorted. */
bool as_names_find(const as_names *sorted, const char *name);

void as_names_free(as_names *n);

/* A name that may be moved about in a checkpoint folder: 1 to 255 bytes, no '/',
 * not "." or "..", and not ".allshard" in any case of its letters. */
bool as_name_is_plain(const char *name);

/* AS_INVALID with the reason if it is none. */
int as_name_check(const char *name, as_error *e);

/* "….index.json": old ones go out first and new ones come in last, so that who
 * reads the folder in place never sees an index without its shards. */
bool as_name_is_index(const char *name);

#endif
