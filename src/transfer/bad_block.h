/* SPDX-License-Identifier: Apache-2.0
 * What is told of a block whose bytes are not those that were saved.
 */
#ifndef ALLSHARD_TRANSFER_BAD_BLOCK_H
#define ALLSHARD_TRANSFER_BAD_BLOCK_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "format/table.h"

typedef struct as_bad_block {
    int32_t file; /* its number in the checkpoint; −1: no block is bad so far */
    int64_t low;  /* bytes [low, high) of the file */
    int64_t high;
    uint64_t expected;
    uint64_t found;
} as_bad_block;

#define AS_BAD_BLOCK_NONE ((as_bad_block){.file = -1})

/* Appends what bytes [low, high) of a file hold, as its table tells: "the header and tensors "a",
 * "b" and 7 more". */
int as_bad_block_holds(as_buffer *out, const as_table *table, int64_t low, int64_t high,
                       as_error *e);

/* Fails with AS_CORRUPT. `name` is the file's, `holds` what the bytes hold (NULL: not known),
 * `path` what was loaded. Returns the code. */
int as_bad_block_fail(const as_bad_block *b, const char *name, const char *holds, const char *path,
                      as_error *e);

#endif
