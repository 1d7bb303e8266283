/* SPDX-License-Identifier: Apache-2.0 */
#include "format/table.h"

#include <stdlib.h>

#include "base/checked.h"

int as_table_add(as_table *t, const char *name, size_t name_length, int dtype, int ndim,
                 const uint64_t *shape, uint64_t begin, uint64_t end, as_error *e)
{
    if (ndim < 0 || name_length >= UINT32_MAX) {
        return as_fail(e, AS_LIMIT, 0, "a tensor's name or shape is too long for a table");
    }
    as_entry entry = {.begin = begin,
                      .end = end,
                      .name_at = t->names.size,
                      .shape_at = t->shapes.size / sizeof *shape,
                      .name_length = (uint32_t)name_length,
                      .ndim = (uint32_t)ndim,
                      .dtype = dtype};
    int code = as_buffer_append(&t->names, name, name_length, e);
    if (code == AS_OK) {
        code = as_buffer_char(&t->names, '\0', e);
    }
    if (code == AS_OK) {
        code = as_buffer_append(&t->shapes, shape, (size_t)ndim * sizeof *shape, e);
    }
    if (code == AS_OK) {
        code = as_buffer_append(&t->entries, &entry, sizeof entry, e);
    }
    return code;
}

int as_table_add_view(as_table *t, const char *name, size_t name_length, int dtype, int ndim,
                      const uint64_t *shape, const uint64_t *strides, uint32_t storage,
                      uint64_t begin, uint64_t end, as_error *e)
{
    if (ndim < 0) {
        return as_fail(e, AS_LIMIT, 0, "a tensor's shape is too long for a table");
    }
    int code = as_buffer_append(&t->strides, strides, (size_t)ndim * sizeof *strides, e);
    code = code == AS_OK ? as_buffer_append(&t->storage_of, &storage, sizeof storage, e) : code;
    return code == AS_OK ? as_table_add(t, name, name_length, dtype, ndim, shape, begin, end, e)
                         : code;
}

bool as_table_is_dense(const as_table *t, size_t i)
{
    const as_entry *x = as_table_entry(t, i);
    const uint64_t *shape = as_table_shape(t, i);
    const uint64_t *strides = as_table_strides(t, i);
    if (!strides || x->begin == x->end) {
        return true;
    }
    /* The tensor has elements, so that no dimension is 0, and a table's strides stay below 2^64. */
    uint64_t expected = 1;
    for (uint32_t d = x->ndim; d > 0; d--) {
        if (shape[d - 1] > 1 && strides[d - 1] != expected) {
            return false;
        }
        if (!as_mul_u64(expected, shape[d - 1], &expected)) {
            return false;
        }
    }
    return true;
}

as_storage as_table_storage(const as_table *t, size_t i)
{
    if (t->storage_of.size == 0) {
        return (as_storage){.begin = as_table_entry(t, i)->begin, .end = as_table_entry(t, i)->end};
    }
    const uint32_t *of = (const uint32_t *)(const void *)t->storage_of.data;
    return ((const as_storage *)(const void *)t->storages.data)[of[i]];
}

typedef struct view {
    as_entry entry;
    uint32_t storage;
} view;

static int compare_views(const void *left, const void *right)
{
    const as_entry *a = &((const view *)left)->entry;
    const as_entry *b = &((const view *)right)->entry;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    if (a->end != b->end) {
        return a->end < b->end ? -1 : 1;
    }
    return (a->name_at > b->name_at) - (a->name_at < b->name_at);
}

int as_table_sort_views(as_table *t, as_error *e)
{
    size_t count = as_table_count(t);
    view *views = malloc((count + 1) * sizeof *views);
    if (!views) {
        return as_fail_nomem(e);
    }
    as_entry *entries = (as_entry *)(void *)t->entries.data;
    uint32_t *of = (uint32_t *)(void *)t->storage_of.data;
    for (size_t i = 0; i < count; i++) {
        views[i] = (view){.entry = entries[i], .storage = of[i]};
    }
    qsort(views, count, sizeof *views, compare_views);
    for (size_t i = 0; i < count; i++) {
        entries[i] = views[i].entry;
        of[i] = views[i].storage;
    }
    free(views);
    return AS_OK;
}

void as_table_free(as_table *t)
{
    as_buffer_free(&t->strides);
    as_buffer_free(&t->storages);
    as_buffer_free(&t->storage_of);
    as_buffer_free(&t->entries);
    as_buffer_free(&t->names);
    as_buffer_free(&t->shapes);
    as_pairs_free(&t->metadata);
    *t = AS_TABLE_INIT;
}
