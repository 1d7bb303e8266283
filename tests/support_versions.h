/* SPDX-License-Identifier: Apache-2.0
 * One small model whose tensors lie in rows over all ranks, in versions: the bytes tell which
 * version is there, so that old and new are known apart after a crash.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_VERSIONS_H
#define ALLSHARD_TESTS_SUPPORT_VERSIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "allshard.h"

enum { VERSION_TENSORS = 6 };

typedef struct versions {
    allshard *as;
    allshard_state *state;
    unsigned char *memory[VERSION_TENSORS];
    int64_t rows;
    int64_t columns;
    int64_t first; /* row of this rank */
    int64_t count; /* of its rows */
} versions;

/* A context over the whole world, and a state of six tensors, each of `bytes` bytes or somewhat
 * less. Collective. Aborts the test on failure, like all of these. */
void versions_open(versions *v, int64_t bytes);
void versions_close(versions *v);

/* Saves a version; `limit`: largest shard, NULL: one file. The code of allshard_save. */
int versions_save(versions *v, int version, const char *directory, const char *limit,
                  const char *engine);

/* The same, nonblocking: the memory changes as soon as it may. `staged`, which may be NULL, is called
 * when it is staged. */
int versions_isave(versions *v, int version, const char *directory, const char *limit,
                   const char *engine, void (*staged)(void *user), void *user);

/* The version's bytes into the memory; both saves do it by themselves. */
void versions_fill(versions *v, int version);

/* Loads and tells which version it is: one of 1…200, on every rank the same. A load that fails,
 * or gives a mixture, fails the test. `none` is allowed: 0 if there is no checkpoint. */
int versions_load(versions *v, const char *directory, bool none);

#endif
