/* SPDX-License-Identifier: Apache-2.0
 * Options that several commands share: how a checkpoint is written and read.
 */
#ifndef ALLSHARD_CLI_OPTIONS_H
#define ALLSHARD_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <allshard.h>

#include "base/error.h"
#include "cli/args.h"

/* The values as given; NULL: not given. */
typedef struct as_save_arguments {
    const char *max_shard_size;
    const char *engine;
    const char *align;
    const char *checksum;
    const char *writers_per_node;
    const char *creators;
    const char *stripe_count;
    const char *stripe_size;
    const char *block_size;
    const char *memory;
    bool verify_after_write;
    bool no_check;
    bool device; /* the tensors may lie in device memory: set by the command */
} as_save_arguments;

/* "auto" and the others; NULL past the last. */
const char *as_engine_choice(size_t i);

/* Rows of an option table for an as_save_arguments `a`. */
#define AS_SAVE_ROWS(a)                                                                            \
    {.name = "max-shard-size",                                                                     \
     .value = "SIZE",                                                                              \
     .help = "largest shard: 5GB (default), 500MB, 10KB, or bytes;\n"                              \
             "decimal units, read as huggingface_hub reads them",                                  \
     .text = &(a).max_shard_size},                                                                 \
        {.name = "engine",                                                                         \
         .value = "E",                                                                             \
         .help = "how bytes get to storage; auto (default) takes what\n"                           \
                 "fits the file system. One of",                                                   \
         .choice = as_engine_choice,                                                               \
         .text = &(a).engine},                                                                     \
        {.name = "align",                                                                          \
         .value = "BYTES",                                                                         \
         .help = "tensor data begin at a multiple of this power of two,\n"                         \
                 "up to 1MiB, with spaces after the header; 0 (default):\n"                        \
                 "byte for byte as huggingface_hub writes",                                        \
         .text = &(a).align},                                                                      \
        {.name = "checksum",                                                                       \
         .value = "C",                                                                             \
         .help = "of each block, into the manifest: xxh3 (default) or\n"                           \
                 "none",                                                                           \
         .text = &(a).checksum},                                                                   \
        {.name = "verify-after-write",                                                             \
         .help = "read what was written from storage again, and compare,\n"                        \
                 "before the save counts",                                                         \
         .flag = &(a).verify_after_write},                                                         \
        {.name = "no-check",                                                                       \
         .help = "load without comparing blocks with the checksums in the\n"                       \
                 "manifest",                                                                       \
         .flag = &(a).no_check},                                                                   \
        {.name = "writers-per-node",                                                               \
         .value = "N",                                                                             \
         .help = "so many ranks of a node write, and the others hand\n"                            \
                 "them their bytes; default: all",                                                 \
         .text = &(a).writers_per_node},                                                           \
        {.name = "creators",                                                                       \
         .value = "N",                                                                             \
         .help = "so many ranks at the most create files at the same\n"                            \
                 "time; default: no limit",                                                        \
         .text = &(a).creators},                                                                   \
        {.name = "stripe-count",                                                                   \
         .value = "N",                                                                             \
         .help = "on Lustre: stripes of the new files, or all; default:\n"                         \
                 "as the folder has them",                                                         \
         .text = &(a).stripe_count},                                                               \
        {.name = "stripe-size",                                                                    \
         .value = "SIZE",                                                                          \
         .help = "on Lustre: bytes of a stripe, a multiple of 64KiB",                              \
         .text = &(a).stripe_size},                                                                \
        {.name = "block-size",                                                                     \
         .value = "SIZE",                                                                          \
         .help = "unit of writing and reading; default 4MiB",                                      \
         .text = &(a).block_size},                                                                 \
    {                                                                                              \
        .name = "memory", .value = "SIZE",                                                         \
        .help = "transfer buffers of each rank, beside the tensors that\n"                         \
                "it holds; default 64MiB",                                                         \
        .text = &(a).memory                                                                        \
    }

/* Reads what was given into *save, whose other members stay, and --memory into *memory (0: the
 * library's default). Strings stay those of `a`. AS_INVALID, AS_SIZE. */
int as_save_arguments_read(const as_save_arguments *a, allshard_save_options *save, int64_t *memory,
                           as_error *e);

/* What a load takes as its checksum. */
int32_t as_load_checksum(const as_save_arguments *a);

/* What goes with --nonblocking, as given; NULL: not given. */
typedef struct as_isave_arguments {
    const char *staging;
    const char *snapshot_memory;
    const char *cpus;
    const char *io_threads;
    const char *copy_threads;
    const char *io_priority;
    const char *bandwidth;
} as_isave_arguments;

/* Rows of an option table for an as_isave_arguments `a`. */
#define AS_ISAVE_ROWS(a)                                                                           \
    {.name = "staging",                                                                            \
     .value = "S",                                                                                 \
     .help = "snapshot: all that a rank writes is copied first;\n"                                 \
             "stream: copied and written in bounded memory; auto\n"                                \
             "(default): a snapshot if there is memory for it",                                    \
     .text = &(a).staging},                                                                        \
        {.name = "snapshot-memory",                                                                \
         .value = "SIZE",                                                                          \
         .help = "of each rank, for what is copied and not yet written;\n"                         \
                 "default: half of what is free, shared by the ranks",                             \
         .text = &(a).snapshot_memory},                                                            \
        {.name = "cpus",                                                                           \
         .value = "LIST",                                                                          \
         .help = "processors of the threads in the background, such as\n"                          \
                 "2-3,8; default: those that the compute loop leaves",                             \
         .text = &(a).cpus},                                                                       \
        {.name = "io-threads",                                                                     \
         .value = "N",                                                                             \
         .help = "threads of each rank that write, 1 to 16",                                       \
         .text = &(a).io_threads},                                                                 \
        {.name = "copy-threads",                                                                   \
         .value = "N",                                                                             \
         .help = "threads of each rank that copy, 1 to 64",                                        \
         .text = &(a).copy_threads},                                                               \
        {.name = "io-priority",                                                                    \
         .value = "P",                                                                             \
         .help = "of the writes: idle, best-effort:0 to best-effort:7",                            \
         .text = &(a).io_priority},                                                                \
    {                                                                                              \
        .name = "bandwidth", .value = "SIZE",                                                      \
        .help = "bytes a second that each rank writes at the most", .text = &(a).bandwidth         \
    }

/* Reads what was given into *save, whose other members stay, and the limit of memory into
 * *snapshot_memory (0: the library's default). Strings stay those of `a`. AS_INVALID; also if
 * `wanted` is false and one of them was given. */
int as_isave_arguments_read(const as_isave_arguments *a, bool wanted, allshard_save_options *save,
                            int64_t *snapshot_memory, as_error *e);

/* Will --trace FILE be writable when all is done? What was measured by then is worth too much to be
 * lost to a wrong path. Nothing stays. NULL: not given. AS_SYSTEM. */
int as_trace_check(const char *path, as_error *e);

#endif
