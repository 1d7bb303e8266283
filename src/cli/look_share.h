/* SPDX-License-Identifier: Apache-2.0
 * Who looks at what (look.c): every file's blocks in one long row, of which each rank gets as many
 * bytes. Rank 0 tells each rank its share, and no more.
 */
#ifndef ALLSHARD_CLI_LOOK_SHARE_H
#define ALLSHARD_CLI_LOOK_SHARE_H

#include "cli/look.h"

enum { AS_LOOK_PIECE = 4 << 20 }; /* bytes that are read at once */

/* A tensor as it travels: four words. */
typedef struct as_look_tensor {
    int64_t begin; /* in the file */
    int64_t end;
    int64_t dtype;
    int64_t entry; /* of the file's table */
} as_look_tensor;

/* Blocks of one file that one rank looks at. */
typedef struct as_look_part {
    int64_t file;
    int64_t size;                  /* of the file, as rank 0 saw it */
    int64_t span;                  /* bytes that blocks are cut from */
    int64_t block_bytes;           /* without sums: AS_LOOK_PIECE */
    int64_t begin;                 /* of this rank's first block */
    int64_t end;                   /* of its last */
    char *name;                    /* heap */
    const uint64_t *sums;          /* of this rank's blocks; NULL: none */
    const as_look_tensor *tensors; /* that hold floats and touch these blocks, by place */
    size_t tensor_count;
} as_look_part;

/* A rank's share. Sums and tensors lie in `text`. */
typedef struct as_look_share {
    as_buffer text;
    as_look_part *parts; /* heap */
    size_t count;
    int64_t bytes; /* of all parts */
} as_look_share;

/* The message with the share of rank `rank` of `ranks`. */
int as_look_share_write(const as_look_order *order, int rank, int ranks, as_buffer *out,
                        as_error *e);

/* Reads such a message, which it takes over. */
int as_look_share_read(as_look_share *out, as_buffer *text, as_error *e);

void as_look_share_free(as_look_share *s);

#endif
