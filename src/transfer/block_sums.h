/* SPDX-License-Identifier: Apache-2.0
 * Checksums of the blocks of a new checkpoint, on their way from the writers to the
 * manifest.
 */
#ifndef ALLSHARD_TRANSFER_BLOCK_SUMS_H
#define ALLSHARD_TRANSFER_BLOCK_SUMS_H

#include <stdbool.h>

#include "base/checksum.h"
#include "comm/comm.h"

/* XXH3-64 of block number `block` of a file: its bytes from block × block_bytes on, as many as a
 * block has, or as are left at the file's end. */
typedef struct as_block_sum {
    int64_t file;
    int64_t block;
    uint64_t sum;
} as_block_sum;

/* Those of all files. */
typedef struct as_block_sums {
    size_t *first;  /* [files + 1]: where each file's begin in `sums` */
    uint64_t *sums; /* in the order of the files and blocks */
} as_block_sums;

/* Files by their numbers. */
typedef struct as_block_files {
    const int64_t *sizes; /* [count] bytes */
    size_t count;
    int64_t block_bytes;
} as_block_files;

/* Brings the sums (as_block_sum[]) of all ranks to the main process; AS_INTERNAL if a block of
 * `files`, which counts there only, has none or two. Collective; elsewhere *out is left empty. */
int as_block_sums_collect(as_block_sums *out, as_comm *c, const as_block_files *files,
                          const as_buffer *mine, as_error *e);

/* Appends the sums (as_block_sum) of file number `file`, whose bytes are all in memory. */
int as_block_sums_add(as_buffer *mine, int64_t file, const void *bytes, size_t count,
                      int64_t block_bytes, as_error *e);

void as_block_sums_free(as_block_sums *s);

/* Sums of the blocks of bytes in memory, or of a file that is written from begin to end. */
typedef struct as_sum_stream {
    int64_t block_bytes;
    int64_t filled;           /* bytes of the open block */
    as_checksum_stream *hash; /* NULL: nothing came yet */
    as_buffer sums;           /* uint64_t[] */
} as_sum_stream;

int as_sum_stream_add(as_sum_stream *s, const void *bytes, size_t count, as_error *e);
/* The last block is closed; `sums` is then the caller's to take or free. */
int as_sum_stream_end(as_sum_stream *s, as_error *e);
void as_sum_stream_free(as_sum_stream *s);

#endif
