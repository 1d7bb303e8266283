/* SPDX-License-Identifier: Apache-2.0
 * Is there room for a benchmark, in memory and on disk? And what is it that DIR lies on?
 */
#ifndef ALLSHARD_CLI_BENCH_ROOM_H
#define ALLSHARD_CLI_BENCH_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/world.h"

/* The file system that DIR lies on. */
typedef struct as_bench_place {
    char name[32];     /* as io/filesystems.h has it; "0x1234" if it is not there */
    int64_t available; /* bytes free to this user */
    bool in_memory;    /* files in it are memory */
} as_bench_place;

int as_bench_place_look(int fd, const char *path, as_bench_place *out, as_error *e);

/* How many ranks of this host have the same `key`, and how many of these come before this one.
 * Collective. */
int as_world_alike(as_world *w, uint64_t key, int *before, int *count, as_error *e);

/* How many hosts the ranks run on, and is this rank the first one of its host? Collective. */
int as_world_hosts(as_world *w, int64_t *out, bool *first, as_error *e);

/* AS_LIMIT with the figures if `disk` bytes are not free on the file system, or the memory of the
 * ranks (`memory` bytes on this one) is not on one of the hosts. Collective. */
int as_bench_room(as_world *w, const as_bench_place *on, const char *path, int64_t memory,
                  int64_t disk, as_error *e);

#endif
