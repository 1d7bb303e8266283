/* SPDX-License-Identifier: Apache-2.0 */
#include "format/repeats.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/hash.h"

/* A string by its hash and number: 8 bytes, whatever its length. Hashes that
 * meet by chance cost a comparison and no more, so a short one will do. */
typedef struct item {
    uint32_t hash;
    uint32_t number;
} item;

typedef struct list {
    const void *strings;
    as_repeats_text text;
} list;

static int compare_text(const list *l, uint32_t a, uint32_t b)
{
    const char *text_a;
    const char *text_b;
    size_t length_a;
    size_t length_b;
    l->text(l->strings, a, &text_a, &length_a);
    l->text(l->strings, b, &text_b, &length_b);
    if (length_a != length_b) {
        return length_a < length_b ? -1 : 1;
    }
    return length_a == 0 ? 0 : memcmp(text_a, text_b, length_a);
}

/* Equal hashes are ordered by the bytes, so that made-up collisions cost a comparison, not a
 * search through all that collide; equal strings by number. */
static int compare(const void *left, const void *right, void *context)
{
    const item *a = left;
    const item *b = right;
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    int order = compare_text(context, a->number, b->number);
    return order ? order : (a->number > b->number) - (a->number < b->number);
}

/* Sets first[] from the sorted items; allocates it at the first repeat. */
static int collect(const list *l, const item *items, size_t count, uint32_t **first, as_error *e)
{
    size_t leader = 0;
    for (size_t i = 1; i < count; i++) {
        if (items[i].hash != items[leader].hash ||
            compare_text(l, items[i].number, items[leader].number) != 0) {
            leader = i;
            continue;
        }
        if (!*first) {
            *first = malloc(count * sizeof **first);
            if (!*first) {
                return as_fail_nomem(e);
            }
            for (size_t n = 0; n < count; n++) {
                (*first)[n] = (uint32_t)n;
            }
        }
        (*first)[items[i].number] = items[leader].number;
    }
    return AS_OK;
}

int as_repeats_find(const void *strings, size_t count, as_repeats_text text, uint32_t **first,
                    as_error *e)
{
    *first = NULL;
    if (count < 2) {
        return AS_OK;
    }
    if (count >= UINT32_MAX) {
        return as_fail(e, AS_LIMIT, 0, "%zu names are more than can be handled", count);
    }
    item *items = malloc(count * sizeof *items);
    if (!items) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        const char *bytes;
        size_t length;
        text(strings, i, &bytes, &length);
        items[i] =
            (item){.hash = (uint32_t)as_hash_bytes(bytes, length).low, .number = (uint32_t)i};
    }
    list l = {.strings = strings, .text = text};
    qsort_r(items, count, sizeof *items, compare, &l);
    int code = collect(&l, items, count, first, e);
    free(items);
    return code;
}
