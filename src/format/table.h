/* SPDX-License-Identifier: Apache-2.0
 * The table of one file: tensor → (offset, bytes). Kept in three flat arrays,
 * so that a header of 100 MB costs a few times its size and no more.
 */
#ifndef ALLSHARD_FORMAT_TABLE_H
#define ALLSHARD_FORMAT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "format/pairs.h"

typedef struct as_entry {
    uint64_t begin;       /* first byte, counted from the start of the file */
    uint64_t end;         /* byte after the last */
    size_t name_at;       /* place of the name in as_table.names */
    size_t shape_at;      /* index of the first dimension in as_table.shapes */
    uint32_t name_length; /* bytes */
    uint32_t ndim;
    int32_t dtype; /* enum as_dtype */
} as_entry;

/* A range of bytes that tensors are views of. Tensors of one storage share its bytes. */
typedef struct as_storage {
    uint64_t begin; /* counted from the start of the file */
    uint64_t end;
} as_storage;

typedef struct as_table {
    as_buffer entries; /* as_entry[]; a reader gives them sorted by (begin, end) */
    as_buffer names;   /* UTF-8, each followed by a NUL */
    as_buffer shapes;  /* uint64_t[] */

    /* Of formats whose tensors are views; empty otherwise: then every tensor has bytes of its own,
     * in C order. With them an entry's begin is its first element, its end the byte after the last
     * one that it reaches, and what lies between may be other tensors' too. */
    as_buffer strides;    /* uint64_t[]: as many as shapes, in the same places; elements */
    as_buffer storages;   /* as_storage[] */
    as_buffer storage_of; /* uint32_t[]: the storage of each entry */

    as_pairs metadata;
    bool has_metadata;   /* the header has a __metadata__ that is not null */
    uint64_t data_begin; /* where tensor data starts */
    uint64_t file_size;  /* bytes */
} as_table;

#define AS_TABLE_INIT ((as_table){0})

static inline size_t as_table_count(const as_table *t)
{
    return t->entries.size / sizeof(as_entry);
}

static inline const as_entry *as_table_entry(const as_table *t, size_t i)
{
    return (const as_entry *)(const void *)t->entries.data + i;
}

/* NUL-terminated; use name_length where the name may hold NUL bytes itself. */
static inline const char *as_table_name(const as_table *t, size_t i)
{
    return t->names.data + as_table_entry(t, i)->name_at;
}

/* ndim dimensions; NULL if the table has none at all. */
static inline const uint64_t *as_table_shape(const as_table *t, size_t i)
{
    const uint64_t *all = (const uint64_t *)(const void *)t->shapes.data;
    return all ? all + as_table_entry(t, i)->shape_at : NULL;
}

/* ndim strides in elements; NULL: C order (as_table_is_dense asks for the same). */
static inline const uint64_t *as_table_strides(const as_table *t, size_t i)
{
    const uint64_t *all = (const uint64_t *)(const void *)t->strides.data;
    return all ? all + as_table_entry(t, i)->shape_at : NULL;
}

/* Whether the elements lie one behind the other in C order, whatever strides say that do not count
 * (of dimensions of 1, of tensors without elements). */
bool as_table_is_dense(const as_table *t, size_t i);

/* The range of bytes that entry i is a view of: its own if the table has no storages. */
as_storage as_table_storage(const as_table *t, size_t i);

/* Appends an entry; name and shape are copied. */
int as_table_add(as_table *t, const char *name, size_t name_length, int dtype, int ndim,
                 const uint64_t *shape, uint64_t begin, uint64_t end, as_error *e);

/* Appends an entry that is a view of storage number `storage`. A table has such entries alone, or
 * none. */
int as_table_add_view(as_table *t, const char *name, size_t name_length, int dtype, int ndim,
                      const uint64_t *shape, const uint64_t *strides, uint32_t storage,
                      uint64_t begin, uint64_t end, as_error *e);

/* Sorts the entries by (begin, end), then by their order so far. AS_NOMEM. */
int as_table_sort_views(as_table *t, as_error *e);

void as_table_free(as_table *t);

#endif
