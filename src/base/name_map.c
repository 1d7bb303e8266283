/* SPDX-License-Identifier: Apache-2.0 */
#include "base/name_map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/hash.h"

enum { FEWEST = 64 };

typedef struct as_name_slot {
    const char *name; /* NULL: free */
    size_t number;
} as_name_slot;

/* Where the name is, or where it would go. The seed is not known outside, so that nobody can choose
 * names that all meet in one place. */
static as_name_slot *place_of(const as_name_map *m, const char *name)
{
    static const char seed;
    uint64_t hash = as_hash_seeded(name, strlen(name), (uint64_t)(uintptr_t)&seed).low;
    size_t at = (size_t)hash & (m->capacity - 1);
    while (m->slots[at].name && strcmp(m->slots[at].name, name) != 0) {
        at = (at + 1) & (m->capacity - 1);
    }
    return &m->slots[at];
}

static int grow(as_name_map *m, as_error *e)
{
    as_name_map larger = AS_NAME_MAP_INIT;
    if (m->capacity == 0) {
        larger.capacity = FEWEST;
    } else if (!as_add_size(m->capacity, m->capacity, &larger.capacity)) {
        return as_fail_nomem(e);
    }
    larger.count = m->count;
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < m->capacity; i++) {
        if (m->slots[i].name) {
            *place_of(&larger, m->slots[i].name) = m->slots[i];
        }
    }
    free(m->slots);
    *m = larger;
    return AS_OK;
}

int as_name_map_add(as_name_map *m, const char *name, size_t number, as_error *e)
{
    int code = m->count < m->capacity / 2 ? AS_OK : grow(m, e);
    if (code != AS_OK) {
        return code;
    }
    as_name_slot *slot = place_of(m, name);
    if (!slot->name) {
        *slot = (as_name_slot){.name = name, .number = number};
        m->count++;
    }
    return AS_OK;
}

bool as_name_map_find(const as_name_map *m, const char *name, size_t *number)
{
    const as_name_slot *slot = m->capacity ? place_of(m, name) : NULL;
    if (!slot || !slot->name) {
        return false;
    }
    if (number) {
        *number = slot->number;
    }
    return true;
}

void as_name_map_free(as_name_map *m)
{
    free(m->slots);
    *m = AS_NAME_MAP_INIT;
}
