/* SPDX-License-Identifier: Apache-2.0 */
#include "format/table.h"

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

void as_table_free(as_table *t)
{
    as_buffer_free(&t->entries);
    as_buffer_free(&t->names);
    as_buffer_free(&t->shapes);
    as_pairs_free(&t->metadata);
    *t = AS_TABLE_INIT;
}
