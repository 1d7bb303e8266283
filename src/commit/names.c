/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/names.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "commit/folder.h"

enum { LONGEST_NAME = 255 };

int as_names_add(as_names *n, const char *name, as_error *e)
{
    if (n->count == n->capacity) {
        size_t capacity = n->capacity ? n->capacity : 16;
        size_t bytes;
        if (!as_add_size(capacity, n->capacity, &capacity) ||
            !as_mul_size(capacity, sizeof *n->items, &bytes)) {
            return as_fail_nomem(e);
        }
        char **items = realloc(n->items, bytes);
        if (!items) {
            return as_fail_nomem(e);
        }
        n->items = items;
        n->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) {
        return as_fail_nomem(e);
    }
    n->items[n->count++] = copy;
    return AS_OK;
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void as_names_sort(as_names *n)
{
    if (n->count > 1) {
        qsort(n->items, n->count, sizeof *n->items, compare_items);
    }
}

static int compare_key(const void *key, const void *item)
{
    return strcmp(key, *(char *const *)item);
}

bool as_names_find(const as_names *sorted, const char *name)
{
    return sorted->count > 0 &&
           bsearch(name, sorted->items, sorted->count, sizeof *sorted->items, compare_key);
}

void as_names_free(as_names *n)
{
    for (size_t i = 0; i < n->count; i++) {
        free(n->items[i]);
    }
    free(n->items);
    *n = AS_NAMES_INIT;
}

bool as_name_is_plain(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= LONGEST_NAME && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && strcasecmp(name, AS_META_NAME) != 0;
}

int as_name_check(const char *name, as_error *e)
{
    if (!as_name_is_plain(name)) {
        return as_fail(
            e, AS_INVALID, 0,
            "\"%s\" cannot be the name of a file in a checkpoint folder: it must be 1 to "
            "255 bytes without '/', and neither \".\", \"..\" nor " AS_META_NAME,
            name);
    }
    return AS_OK;
}

bool as_name_is_index(const char *name)
{
    static const char ending[] = ".index.json";
    size_t length = strlen(name);
    size_t tail = sizeof ending - 1;
    return length > tail && strcmp(name + length - tail, ending) == 0;
}
