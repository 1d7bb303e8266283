/* SPDX-License-Identifier: Apache-2.0
 * The pieces, metadata and small files that one rank declares under a part name.
 */
#ifndef ALLSHARD_PLAN_STATE_H
#define ALLSHARD_PLAN_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "format/pairs.h"
#include "tensor/geometry.h"

typedef struct as_piece {
    as_hash name;          /* of the tensor */
    size_t name_at;        /* place of the NUL-terminated name in as_state.names */
    size_t dims_at;        /* index in as_state.dims: shape, then offset, local shape, strides */
    char *data;            /* the caller's; first element of the box */
    int64_t order;         /* global order key, 0: none */
    int64_t bytes;         /* of the whole tensor */
    as_hash storage;       /* identity of the storage, zero: none given */
    int64_t storage_bytes; /* as if it held elements of the dtype in the file */
    int64_t storage_offset;
    uint8_t dtype;  /* in the file */
    uint8_t memory; /* dtype in memory: elements are cast on their way if it is another */
    uint8_t ndim;
    bool flat; /* dims: shape, then flat offset and count */
    bool has_strides;
} as_piece;

/* What a caller declares; arrays and name are borrowed. */
typedef struct as_declaration {
    const char *name;
    as_box box; /* dtype: in memory */
    int stored; /* dtype in the file; AS_DTYPE_NONE: the same */
    void *data;
    int64_t order;
    uint64_t storage;
    int64_t storage_bytes; /* in memory, as the offset */
    int64_t storage_offset;
} as_declaration;

typedef struct as_small_file {
    char *name;  /* heap, owned */
    char *bytes; /* heap, owned */
    size_t size;
    as_hash hash;
} as_small_file;

typedef struct as_state {
    char *part;       /* heap, owned */
    as_buffer pieces; /* as_piece[] */
    as_buffer names;
    as_buffer dims; /* int64_t[] */
    as_pairs metadata;
    as_buffer files;  /* as_small_file[] */
    as_buffer *seams; /* heap, owned: elements that a load has got in half, see cast_tiles.h */
    as_hash revision; /* of all that was declared, in its order, pointers included */
} as_state;

int as_state_init(as_state *s, const char *part, as_error *e);
void as_state_free(as_state *s);

/* Checks and copies a piece. AS_INVALID with a text that names the tensor. */
int as_state_add(as_state *s, const as_declaration *d, as_error *e);

/* The same without a look at it: what was checked when it was declared for another rank, with the
 * hash of its name and the bytes of the whole tensor. For plans of ranks that are not there: the
 * revision does not change. */
int as_state_add_known(as_state *s, const as_declaration *d, as_hash name, int64_t bytes,
                       as_error *e);

/* Adds metadata; a key that is there gets the new value. AS_NOMEM. */
int as_state_add_meta(as_state *s, const char *key, const char *value, as_error *e);

/* Copies a small file; one of the same name is replaced. */
int as_state_add_file(as_state *s, const char *name, const void *bytes, size_t size, as_error *e);

/* NULL if there is none of that name. */
const as_small_file *as_state_file_find(const as_state *s, const char *name);

static inline size_t as_state_count(const as_state *s)
{
    return s->pieces.size / sizeof(as_piece);
}

static inline const as_piece *as_state_piece(const as_state *s, size_t i)
{
    return (const as_piece *)(const void *)s->pieces.data + i;
}

static inline const char *as_state_name(const as_state *s, size_t i)
{
    return s->names.data + as_state_piece(s, i)->name_at;
}

static inline size_t as_state_file_count(const as_state *s)
{
    return s->files.size / sizeof(as_small_file);
}

static inline const as_small_file *as_state_file(const as_state *s, size_t i)
{
    return (const as_small_file *)(const void *)s->files.data + i;
}

/* The piece as a box of the dtype that it has in the file, or in memory; arrays are borrowed from
 * the state. */
as_box as_state_box(const as_state *s, size_t i);
as_box as_state_memory_box(const as_state *s, size_t i);

/* Indexes of all pieces, sorted by name hash, then index; the caller frees. */
int as_state_sorted(const as_state *s, size_t **out, as_error *e);

/* Index into `sorted` of the first piece of that name; as_state_count if there is none. */
size_t as_state_find(const as_state *s, const size_t *sorted, as_hash name);

/* Hash of a tensor name. */
as_hash as_name_hash(const char *name, size_t length);

#endif
