/* SPDX-License-Identifier: Apache-2.0
 * The folder that a benchmark works in: one of its own inside DIR, and nothing else of DIR.
 */
#ifndef ALLSHARD_CLI_BENCH_FOLDER_H
#define ALLSHARD_CLI_BENCH_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/world.h"
#include "commit/folder.h"

typedef struct as_bench_folder {
    char *path;   /* heap: DIR/allshard-bench.N */
    int fd;       /* of it; -1: none */
    as_made made; /* rank 0: what of DIR was not there */
} as_bench_folder;

#define AS_BENCH_FOLDER_INIT ((as_bench_folder){.fd = -1})

/* Makes DIR if it is not there, and the folder in it. Collective. */
int as_bench_folder_make(as_bench_folder *f, as_world *w, const char *directory, as_error *e);

/* Removes what as_bench_folder_make made, on rank 0; with `keep` it only closes it. Collective;
 * also after a failure half way. An error says what is left. */
int as_bench_folder_end(as_bench_folder *f, as_world *w, bool keep, as_error *e);

/* Removes a folder or file in it, with all that is below, on rank 0. Collective. */
int as_bench_folder_remove(as_bench_folder *f, as_world *w, const char *name, as_error *e);

/* A file of a checkpoint. */
typedef struct as_bench_file {
    char name[256];
    int64_t bytes;
    bool tensors; /* a shard, not an index or manifest */
} as_bench_file;

/* The files in a folder in it: as_bench_file[], the same on all ranks. Collective. */
int as_bench_folder_files(as_bench_folder *f, as_world *w, const char *name, as_buffer *out,
                          as_error *e);

/* Flags: with POSIX_FADV_DONTNEED; all that the kernel caches, with /proc/sys/vm/drop_caches. */
enum as_chill { AS_CHILL_FILES = 1, AS_CHILL_SYSTEM = 2 };

/* Makes the kernel forget the files of a checkpoint in this folder in the ways that this rank is to
 * take, an as_chill. *done: the ways in which no rank failed. Collective. */
int as_bench_chill(as_bench_folder *f, as_world *w, const char *name, const as_buffer *files,
                   int ways, int *done, as_error *e);

/* Waits until nothing that was written before is on its way to the file system any more.
 * Collective. */
int as_bench_settle(as_bench_folder *f, as_world *w, as_error *e);

#endif
