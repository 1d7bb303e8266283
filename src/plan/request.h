/* SPDX-License-Identifier: Apache-2.0
 * What a plan is made from, beside the state. All pointers are borrowed.
 */
#ifndef ALLSHARD_PLAN_REQUEST_H
#define ALLSHARD_PLAN_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/checkpoint.h"
#include "format/format.h"
#include "format/pairs.h"
#include "format/table.h"

typedef struct as_save_request {
    int64_t limit; /* largest shard in bytes, as as_size_parse gives it */
    const char *pattern;
    const as_format *format;
    int64_t block_bytes;        /* > 0 */
    int64_t align;              /* where tensor data begin, as as_format.layout takes it */
    const char *const *discard; /* of tied names, those to discard if another can be kept */
    size_t discard_count;
    const as_pairs *metadata; /* the user's; only the main process's counts. May be NULL */
    /* [ranks]: the rank that writes in place of each, the same on all ranks; who writes for another
     * writes for itself too. NULL: every rank for itself. */
    const int32_t *writers;
} as_save_request;

/* A file whose header this rank has read. */
typedef struct as_read_file {
    int32_t file; /* its number in the checkpoint */
    as_table table;
} as_read_file;

typedef struct as_load_request {
    int64_t block_bytes;       /* > 0 */
    const as_read_file *files; /* of this rank, ascending */
    size_t read_count;
    const as_checkpoint *checkpoint; /* main process only: index and metadata; else NULL */
    int32_t file_count;
    bool indexed; /* the checkpoint has an index */
    bool allow_missing;
    bool allow_unexpected;
} as_load_request;

#endif
