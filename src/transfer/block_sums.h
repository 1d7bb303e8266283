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

/* Files by their numbers. */
typedef struct as_block_files {
    const int64_t *sizes; /* [count] bytes */
    size_t count;
    int64_t block_bytes;
} as_block_files;

/* Those of all files. Zero at first. */
typedef struct as_block_sums {
    size_t files;
    size_t *first;  /* [files + 1]: where each file's begin in `sums` */
    uint64_t *sums; /* in the order of the files and blocks */
    char *known; /* [blocks]: 1 where a sum has come; NULL before the beginning and after the end */
} as_block_sums;

/* Room for every block of `files`, which are not looked at afterwards. */
int as_block_sums_begin(as_block_sums *s, const as_block_files *files, as_error *e);

/* Takes those of rank `from`: `bytes` bytes of as_block_sum[], of any alignment. AS_INTERNAL if one
 * is of a block that is not there or has its sum already. */
int as_block_sums_take(as_block_sums *s, int from, const void *records, size_t bytes, as_error *e);

/* That was all. AS_INTERNAL if a block has no sum. */
int as_block_sums_end(as_block_sums *s, as_error *e);

/* All of that on the main process, where alone `files` counts, with the sums (as_block_sum[]) of all
 * ranks. Collective; elsewhere *out is left empty. */
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
