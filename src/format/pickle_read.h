/* SPDX-License-Identifier: Apache-2.0
 * An unpickler that makes data of data and never runs anything. It knows protocols 2 to 5 as far as
 * a state dict of tensors needs them: None, booleans, numbers, strings, bytes, tuples, lists,
 * dicts, and a fixed list of names in torch and collections (pickle_torch.c), whose calls it does
 * not make but understands. Any other name, call or opcode ends the reading with a text that says
 * which.
 *
 * Nothing recurses. Memory is bounded by the bytes that have been read: an opcode of n bytes makes
 * at most one node and, later, one cell; memo numbers may not pass the bytes read so far; strings
 * stay where they lie in the text.
 */
#ifndef ALLSHARD_FORMAT_PICKLE_READ_H
#define ALLSHARD_FORMAT_PICKLE_READ_H

#include "base/buffer.h"
#include "base/name_map.h"
#include "format/format.h"

enum as_pickle_kind {
    AS_PICKLE_NONE,
    AS_PICKLE_BOOL,    /* number: 0 or 1 */
    AS_PICKLE_INT,     /* number: two's complement */
    AS_PICKLE_LONG,    /* a whole number beyond 64 bits: its bytes, as bytes */
    AS_PICKLE_FLOAT,   /* number: the bits of a double */
    AS_PICKLE_STRING,  /* number: place in the text; length */
    AS_PICKLE_BYTES,   /* the same */
    AS_PICKLE_TUPLE,   /* number: of the node */
    AS_PICKLE_LIST,    /* the same */
    AS_PICKLE_DICT,    /* the same; keys and values take turns. OrderedDicts too */
    AS_PICKLE_GLOBAL,  /* number: in as_pickle_globals */
    AS_PICKLE_STORAGE, /* number: in as_pickle.views */
    AS_PICKLE_TENSOR,  /* number: in as_pickle.tensors */
};

typedef struct as_pickle_value {
    uint64_t number;
    uint32_t length; /* of text */
    uint8_t kind;    /* enum as_pickle_kind */
} as_pickle_value;

/* A tuple, list or dict: a chain of cells, numbered from 1; 0 ends it. */
typedef struct as_pickle_node {
    uint32_t first;
    uint32_t last;
    uint32_t count;
} as_pickle_node;

typedef struct as_pickle_cell {
    as_pickle_value value;
    uint32_t next;
} as_pickle_cell;

/* A storage, by its key: one for each key. */
typedef struct as_pickle_storage {
    char *key;      /* heap; no NUL inside */
    uint32_t class; /* in as_pickle_globals */
    uint64_t numel; /* elements of the class; bytes of an UntypedStorage */
} as_pickle_storage;

/* A range of a storage that tensors count their offsets from: all of it, in files of torch ≥ 0.4.
 * */
typedef struct as_pickle_view {
    uint32_t storage; /* in as_pickle.storages */
    uint64_t offset;  /* elements */
    uint64_t numel;
} as_pickle_view;

typedef struct as_pickle_tensor {
    uint32_t view;    /* in as_pickle.views */
    uint32_t dtype;   /* in as_pickle_globals: the storage's class, or of v3 the dtype */
    uint64_t offset;  /* elements of that dtype */
    uint32_t shape;   /* nodes: tuples of the same length, of AS_PICKLE_INT ≥ 0 */
    uint32_t strides; /* elements */
    bool parameter;
    bool requires_grad;
} as_pickle_tensor;

typedef struct as_pickle {
    const as_source *source;
    const char *what; /* "data.pkl", for error texts; borrowed */
    uint64_t begin;   /* of the text in the source */
    uint64_t room;    /* bytes that it may have there */
    as_buffer text;   /* what was read of it */
    size_t at;        /* next byte of text */
    as_buffer stack;  /* as_pickle_value[] */
    as_buffer marks;  /* size_t[]: entries of the stack below each MARK */
    as_buffer memo;   /* as_pickle_value[]; length UINT32_MAX and kind NONE: not set */
    size_t memo_set;  /* how many are set */
    as_buffer nodes;  /* as_pickle_node[] */
    as_buffer cells;  /* as_pickle_cell[]; number 0 is none */
    as_buffer views, tensors, storages;
    as_name_map keys; /* of storages */
} as_pickle;

/* Nothing is read yet. Source and `what` are borrowed. */
void as_pickle_open(as_pickle *p, const as_source *source, const char *what, uint64_t begin,
                    uint64_t room);

/* Reads one pickle from where the last one ended, with a stack and a memo of its own; values of
 * former ones stay. AS_FORMAT; AS_LIMIT if it has more than 128 MiB or tens of millions of parts.
 * */
int as_pickle_run(as_pickle *p, as_pickle_value *out, as_error *e);

void as_pickle_close(as_pickle *p);

static inline const as_pickle_node *as_pickle_node_at(const as_pickle *p, uint64_t i)
{
    return (const as_pickle_node *)(const void *)p->nodes.data + i;
}

static inline const as_pickle_cell *as_pickle_cell_at(const as_pickle *p, uint64_t i)
{
    return (const as_pickle_cell *)(const void *)p->cells.data + i;
}

static inline const as_pickle_view *as_pickle_view_at(const as_pickle *p, uint64_t i)
{
    return (const as_pickle_view *)(const void *)p->views.data + i;
}

static inline const as_pickle_tensor *as_pickle_tensor_at(const as_pickle *p, uint64_t i)
{
    return (const as_pickle_tensor *)(const void *)p->tensors.data + i;
}

static inline size_t as_pickle_storage_count(const as_pickle *p)
{
    return p->storages.size / sizeof(as_pickle_storage);
}

static inline const as_pickle_storage *as_pickle_storage_at(const as_pickle *p, uint64_t i)
{
    return (const as_pickle_storage *)(const void *)p->storages.data + i;
}

/* The text of a STRING, BYTES or LONG; no NUL behind it. */
static inline const char *as_pickle_text(const as_pickle *p, const as_pickle_value *v)
{
    return p->text.data + v->number;
}

bool as_pickle_is_string(const as_pickle *p, const as_pickle_value *v, const char *text);

/* "a tuple", for error texts. */
const char *as_pickle_kind_name(int kind);

#endif
