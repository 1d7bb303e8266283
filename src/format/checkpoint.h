/* SPDX-License-Identifier: Apache-2.0
 * Which files make up the checkpoint at a path. No tensor file is opened.
 */
#ifndef ALLSHARD_FORMAT_CHECKPOINT_H
#define ALLSHARD_FORMAT_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/log.h"
#include "format/index.h"
#include "format/opener.h"

typedef struct as_checkpoint {
    char *index_name; /* heap; NULL: one file, without an index */
    as_index index;   /* with an index: weight_map, files, metadata */
    char *single;     /* heap; the file's name if there is no index */
} as_checkpoint;

#define AS_CHECKPOINT_INIT ((as_checkpoint){0})

static inline bool as_checkpoint_is_single(const as_checkpoint *c)
{
    return c->single != NULL;
}

/* Files to read, in the order of first mention in the index. */
static inline size_t as_checkpoint_file_count(const as_checkpoint *c)
{
    return c->single ? 1 : as_index_file_count(&c->index);
}

/* Relative to the opener's folder. */
static inline const char *as_checkpoint_file(const as_checkpoint *c, size_t i)
{
    return c->single ? c->single : as_index_file(&c->index, i);
}

/* Finds the checkpoint. A path that is a file is that file. In a folder `pattern` says which
 * checkpoint is meant: its index, else its single file, else AS_NOT_FOUND. Without one (NULL), in
 * this order: index or single file of "model{suffix}.safetensors"; the only
 * *.safetensors.index.json; the only *.safetensors. AS_NOT_FOUND if there is nothing of the kind;
 * AS_FORMAT if there are several candidates, shards without an index, or a bad index; both texts
 * say what was found and what to do. *out is overwritten; after an error it holds nothing. */
int as_checkpoint_resolve(const as_opener *opener, const char *pattern, as_checkpoint *out,
                          const as_log *log, as_error *e);

void as_checkpoint_free(as_checkpoint *c);

#endif
