/* SPDX-License-Identifier: Apache-2.0
 * For tests of rotten bytes: places in a checkpoint's files, bits that flip and flip back, and what
 * a load must say of them. All ranks draw the same numbers from the same seed.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_ROT_H
#define ALLSHARD_TESTS_SUPPORT_ROT_H

#include <stdint.h>

#include "allshard.h"
#include "format/table.h"

enum { ROT_MOST_FILES = 64 };

typedef struct rot_shard {
    char name[300];
    int64_t size;
    as_table table;
} rot_shard;

/* Of the checkpoint that was read last. */
extern rot_shard rot_shards[ROT_MOST_FILES];
extern int rot_shard_count;

extern uint64_t rot_seed;
extern int64_t rot_flips; /* that loads were to find */

/* 0 to below-1. */
uint64_t rot_draw(uint64_t below);

/* "FOLDER/NAME" into out. */
void rot_path(char *out, size_t size, const char *folder, const char *name);

/* Bytes of a file; 0 without one. */
int64_t rot_size(const char *folder, const char *name);

/* Every rank reads all tables of a folder; they wait for each other. */
void rot_read_shards(const char *folder);

/* Frees what rot_read_shards read. */
void rot_free_shards(void);

/* Flips a bit, or flips it back. The next collective call comes after it on all ranks. */
void rot_flip(const char *folder, const char *name, int64_t at, int bit);

/* The only one of the tensors that has the byte; NULL: it is the header's. *count: tensors that
 * have bytes in its block. */
const as_entry *rot_entry_at(const rot_shard *s, int64_t at, int64_t block, size_t *count);

/* Flips a bit of byte `at`, which a load of `path` must find (CORRUPT, the file, the bytes of the
 * block, the tensor), and flips it back. */
void rot_expect_found(allshard *as, allshard_state *s, const char *path, const char *folder,
                      const rot_shard *f, int64_t at, int64_t block,
                      const allshard_load_options *o);

#endif
