/* SPDX-License-Identifier: Apache-2.0
 * One rank's work for `verify --against` (replicas.c): reads what may be a replica of a block, and
 * tells by its checksum whether it is.
 */
#ifndef ALLSHARD_CLI_REPLICA_PROBE_H
#define ALLSHARD_CLI_REPLICA_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum as_replica { AS_REPLICA_NONE = 0, AS_REPLICA_FILE = 1, AS_REPLICA_TENSORS = 2 };

/* A rotten block. */
typedef struct as_replica_task {
    const char *file;    /* its name */
    int64_t file_size;   /* as it was saved */
    int64_t begin;       /* of the block */
    int64_t bytes;       /* of it */
    uint64_t sum;        /* of what was saved */
    int64_t piece_count; /* that follow; 0: there is only the file of that name */
} as_replica_task;

/* Bytes that follow one another in the block. */
typedef struct as_replica_piece {
    bool own; /* of the rotten checkpoint: the header, gaps */
    const char *file;
    int64_t from; /* place in that file */
    int64_t bytes;
} as_replica_piece;

/* Write a message of tasks, each followed by its pieces. */
int as_replica_put_task(as_buffer *out, const as_replica_task *t, as_error *e);
int as_replica_put_piece(as_buffer *out, const as_replica_piece *p, as_error *e);

/* Does all tasks of a message; appends an int64_t (enum as_replica) for each to `result`. What
 * cannot be read is no replica. Local. */
int as_replica_probe(const as_buffer *tasks, const char *path, const char *dir, as_buffer *result,
                     as_error *e);

#endif
