/* SPDX-License-Identifier: Apache-2.0
 * An ordered list of string pairs: metadata of a header or an index.
 * Strings are UTF-8 with a length; they may hold NUL bytes.
 */
#ifndef ALLSHARD_FORMAT_PAIRS_H
#define ALLSHARD_FORMAT_PAIRS_H

#include <stddef.h>

#include "base/error.h"

typedef struct as_pair {
    char *key; /* owned by the list; a NUL stands behind it */
    size_t key_length;
    char *value; /* owned by the list; a NUL stands behind it */
    size_t value_length;
} as_pair;

typedef struct as_pairs {
    as_pair *items;
    size_t count;
    size_t capacity;
    struct as_pairs_chunk *chunks; /* where the strings lie */
} as_pairs;

#define AS_PAIRS_INIT ((as_pairs){0})

/* Sets key to value: in place if the key is there already, else at the end. */
int as_pairs_set(as_pairs *p, const char *key, size_t key_length, const char *value,
                 size_t value_length, as_error *e);

/* For long lists: appends without a look at the keys that are there. as_pairs_unique then makes
 * the list what as_pairs_set would have made: a key's last value, at its first place. */
int as_pairs_append(as_pairs *p, const char *key, size_t key_length, const char *value,
                    size_t value_length, as_error *e);
int as_pairs_unique(as_pairs *p, as_error *e);

/* Gives the last pair a value, for readers that meet the key first. */
int as_pairs_value_last(as_pairs *p, const char *value, size_t value_length, as_error *e);

/* NULL if the key is not there. */
const as_pair *as_pairs_find(const as_pairs *p, const char *key, size_t key_length);

void as_pairs_free(as_pairs *p);

#endif
