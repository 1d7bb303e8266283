/* SPDX-License-Identifier: Apache-2.0
 * The tensors of a model, in its order: out of a checkpoint or out of the table of
 * known models. Kept in flat arrays, which go to the other ranks as they are.
 */
#ifndef ALLSHARD_CLI_TENSORS_H
#define ALLSHARD_CLI_TENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

typedef struct as_tensor_row {
    size_t name_at;  /* place of the name in as_tensors.names */
    size_t shape_at; /* index of the first dimension in as_tensors.shapes; never 0 */
    int64_t numel;   /* elements */
    int64_t bytes;
    uint64_t begin;       /* first byte in its file; 0 if there is no file */
    uint32_t name_length; /* bytes */
    uint32_t file;        /* number of its file */
    int32_t dtype;        /* enum as_dtype */
    int32_t ndim;
} as_tensor_row;

typedef struct as_tensors {
    as_buffer rows;  /* as_tensor_row[] */
    as_buffer names; /* UTF-8, each followed by a NUL */
    as_buffer
        shapes;    /* int64_t[]; the first belongs to no tensor, so that scalars point there too */
    int64_t bytes; /* of all */
    int64_t numel; /* of all */
} as_tensors;

#define AS_TENSORS_INIT ((as_tensors){0})

static inline size_t as_tensors_count(const as_tensors *t)
{
    return t->rows.size / sizeof(as_tensor_row);
}

static inline const as_tensor_row *as_tensors_row(const as_tensors *t, size_t i)
{
    return (const as_tensor_row *)(const void *)t->rows.data + i;
}

/* NUL-terminated; a name out of a file may hold NUL bytes besides: see name_length. */
static inline const char *as_tensors_name(const as_tensors *t, size_t i)
{
    return t->names.data + as_tensors_row(t, i)->name_at;
}

/* ndim dimensions, in elements; not NULL. */
static inline const int64_t *as_tensors_shape(const as_tensors *t, size_t i)
{
    return (const int64_t *)(const void *)t->shapes.data + as_tensors_row(t, i)->shape_at;
}

/* Appends a tensor; name and shape are copied. AS_LIMIT if a dimension, the tensor or all
 * tensors together pass what 63 bits hold; AS_INVALID if its bits fill no whole bytes. */
int as_tensors_add(as_tensors *t, const char *name, size_t name_length, int dtype, int ndim,
                   const uint64_t *shape, uint32_t file, uint64_t begin, as_error *e);

/* Can each tensor be declared to the library? AS_LIMIT with the name of one that cannot: more
 * than 16 dimensions, or a NUL byte in its name. */
int as_tensors_check(const as_tensors *t, as_error *e);

void as_tensors_free(as_tensors *t);

#endif
