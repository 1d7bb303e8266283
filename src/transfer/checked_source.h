/* SPDX-License-Identifier: Apache-2.0
 * A file as the format room reads it, whose blocks are compared with their checksums
 * before a byte of them is handed on.
 */
#ifndef ALLSHARD_TRANSFER_CHECKED_SOURCE_H
#define ALLSHARD_TRANSFER_CHECKED_SOURCE_H

#include "format/format.h"
#include "transfer/bad_block.h"

typedef struct as_checked_source {
    as_source plain;      /* the file */
    int32_t file;         /* its number, for `bad` */
    const uint64_t *sums; /* of its first blocks; borrowed */
    size_t sum_count;
    int64_t block_bytes;
    const char *path; /* what is loaded, for error texts */
    as_buffer block;  /* the bytes of block number `held` */
    int64_t held;     /* −1: none */
    int64_t hashed;   /* bytes so far */
    as_bad_block bad;
} as_checked_source;

/* Sets all but plain, file, sums, sum_count, block_bytes and path, which the caller has set. *out
 * points to `c`. A block that differs is AS_CORRUPT, and then stands in c->bad; reading beyond the
 * blocks whose sums are there is AS_INTERNAL. */
void as_checked_source_open(as_checked_source *c, as_source *out);

void as_checked_source_close(as_checked_source *c);

#endif
