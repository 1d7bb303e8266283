/* SPDX-License-Identifier: Apache-2.0
 * The table of a checkpoint, read once by rank 0 and given to all ranks: which
 * tensors there are, in the checkpoint's order, and where their bytes lie.
 */
#ifndef ALLSHARD_CLI_READ_CHECKPOINT_H
#define ALLSHARD_CLI_READ_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/progress.h"
#include "cli/tensors.h"
#include "cli/world.h"
#include "commit/names.h"

typedef struct as_contents {
    /* In the order of the weight_map, or, without an index, of the data (begin, end, place in the
     * header). row->file counts `files`, row->begin is the place in that file. */
    as_tensors tensors;
    as_names files;   /* relative to the folder, in the order of first mention in the index */
    as_buffer sizes;  /* int64_t[]: bytes of each file */
    char *index_name; /* heap; NULL: one file without an index */
} as_contents;

#define AS_CONTENTS_INIT ((as_contents){0})

static inline int64_t as_contents_size(const as_contents *c, size_t file)
{
    return ((const int64_t *)(const void *)c->sizes.data)[file];
}

/* Reads the index and all headers. Tensors that the index does not name are left out, with a
 * warning to `log`. `pattern` tells which checkpoint is meant if a folder holds several (NULL:
 * "model{suffix}.safetensors", else the only one). `progress`, which may be NULL, counts files.
 * AS_NOT_FOUND: no such path, or no checkpoint
 * in it; AS_FORMAT: it breaks the rules, or the index names what is not there; AS_LIMIT. */
int as_contents_read(as_contents *out, const char *path, const char *pattern, as_progress *progress,
                     const as_log *log, as_error *e);

/* The same on rank 0; all ranks get it. Collective. */
int as_contents_share(as_contents *out, as_world *w, const char *path, const char *pattern,
                      const as_log *log, as_error *e);

void as_contents_free(as_contents *c);

/* What a checkpoint is called if nobody says otherwise. */
#define AS_DEFAULT_PATTERN "model{suffix}.safetensors"

#endif
