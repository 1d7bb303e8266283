/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "format/repeats.h"

enum { CHUNK = 4096 };

/* Strings lie together in chunks: a list of millions of short pairs would cost
 * several times its size if each had a block of its own. */
struct as_pairs_chunk {
    struct as_pairs_chunk *next;
    size_t used, capacity;
    char bytes[];
};

/* NULL without memory. */
static char *take_bytes(as_pairs *p, size_t count)
{
    struct as_pairs_chunk *c = p->chunks;
    if (!c || c->capacity - c->used < count) {
        /* Each chunk is twice as large as the one before it, up to 1 MiB. */
        size_t capacity = !c ? CHUNK : c->capacity < 1 << 20 ? c->capacity * 2 : c->capacity;
        if (capacity < count) {
            capacity = count;
        }
        size_t size;
        if (!as_add_size(sizeof *c, capacity, &size) || !(c = malloc(size))) {
            return NULL;
        }
        c->next = p->chunks;
        c->used = 0;
        c->capacity = capacity;
        p->chunks = c;
    }
    char *place = c->bytes + c->used;
    c->used += count;
    return place;
}

static int copy(as_pairs *p, const char *text, size_t length, char **out, as_error *e)
{
    size_t size;
    char *place = as_add_size(length, 1, &size) ? take_bytes(p, size) : NULL;
    if (!place) {
        return as_fail_nomem(e);
    }
    if (length > 0) {
        memcpy(place, text, length);
    }
    place[length] = '\0';
    *out = place;
    return AS_OK;
}

static int grow(as_pairs *p, as_error *e)
{
    if (p->count < p->capacity) {
        return AS_OK;
    }
    size_t capacity = p->capacity < 8 ? 8 : p->capacity + p->capacity / 2;
    size_t size;
    if (!as_mul_size(capacity, sizeof *p->items, &size)) {
        return as_fail_nomem(e);
    }
    as_pair *items = realloc(p->items, size);
    if (!items) {
        return as_fail_nomem(e);
    }
    p->items = items;
    p->capacity = capacity;
    return AS_OK;
}

static int set_value(as_pairs *p, as_pair *pair, const char *value, size_t length, as_error *e)
{
    if (length == 0) {
        pair->value = pair->key + pair->key_length; /* the key's NUL is an empty string */
        pair->value_length = 0;
        return AS_OK;
    }
    int code = copy(p, value, length, &pair->value, e);
    pair->value_length = code == AS_OK ? length : pair->value_length;
    return code;
}

int as_pairs_append(as_pairs *p, const char *key, size_t key_length, const char *value,
                    size_t value_length, as_error *e)
{
    as_pair pair = {.key_length = key_length};
    int code = grow(p, e);
    if (code == AS_OK) {
        code = copy(p, key, key_length, &pair.key, e);
    }
    if (code == AS_OK) {
        code = set_value(p, &pair, value, value_length, e);
    }
    if (code == AS_OK) {
        p->items[p->count++] = pair;
    }
    return code;
}

const as_pair *as_pairs_find(const as_pairs *p, const char *key, size_t key_length)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->items[i].key_length == key_length && memcmp(p->items[i].key, key, key_length) == 0) {
            return &p->items[i];
        }
    }
    return NULL;
}

int as_pairs_set(as_pairs *p, const char *key, size_t key_length, const char *value,
                 size_t value_length, as_error *e)
{
    const as_pair *there = as_pairs_find(p, key, key_length);
    if (!there) {
        return as_pairs_append(p, key, key_length, value, value_length, e);
    }
    return set_value(p, &p->items[there - p->items], value, value_length, e);
}

int as_pairs_value_last(as_pairs *p, const char *value, size_t value_length, as_error *e)
{
    return set_value(p, &p->items[p->count - 1], value, value_length, e);
}

static void key_text(const void *list, size_t i, const char **text, size_t *length)
{
    const as_pairs *p = list;
    *text = p->items[i].key;
    *length = p->items[i].key_length;
}

int as_pairs_unique(as_pairs *p, as_error *e)
{
    uint32_t *first;
    int code = as_repeats_find(p, p->count, key_text, &first, e);
    if (code != AS_OK || !first) {
        return code;
    }
    for (size_t i = 0; i < p->count; i++) {
        if (first[i] != i) {
            p->items[first[i]].value = p->items[i].value;
            p->items[first[i]].value_length = p->items[i].value_length;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (first[i] == i) {
            p->items[kept++] = p->items[i];
        }
    }
    p->count = kept;
    free(first);
    return AS_OK;
}

void as_pairs_free(as_pairs *p)
{
    while (p->chunks) {
        struct as_pairs_chunk *next = p->chunks->next;
        free(p->chunks);
        p->chunks = next;
    }
    free(p->items);
    *p = AS_PAIRS_INIT;
}
