/* SPDX-License-Identifier: Apache-2.0
 * A number for each name, found at once however many names there are. Lists that come from outside
 * can be as long as their file: a search from one end to the other for each of their names would
 * take hours.
 */
#ifndef ALLSHARD_BASE_NAME_MAP_H
#define ALLSHARD_BASE_NAME_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Private: an open hash table, at most half full. */
typedef struct as_name_map {
    struct as_name_slot *slots; /* heap */
    size_t capacity;            /* a power of two, or 0 */
    size_t count;
} as_name_map;

#define AS_NAME_MAP_INIT ((as_name_map){0})

/* Gives `name` the number unless it has one already. The text is borrowed: it must stay where it is
 * as long as the map is used. AS_OK, AS_NOMEM. */
int as_name_map_add(as_name_map *m, const char *name, size_t number, as_error *e);

/* The number of that name, in *number if that is not NULL; false: it has none. */
bool as_name_map_find(const as_name_map *m, const char *name, size_t *number);

void as_name_map_free(as_name_map *m);

#endif
