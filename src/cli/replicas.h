/* SPDX-License-Identifier: Apache-2.0
 * `verify --against DIR`: for each rotten block, whether DIR has the bytes that were saved. It is
 * told only where it is proved: what is there, put together, has the checksum that the manifest of
 * the rotten checkpoint says.
 */
#ifndef ALLSHARD_CLI_REPLICAS_H
#define ALLSHARD_CLI_REPLICAS_H

#include "cli/verify_bytes.h"
#include "cli/world.h"

typedef struct as_replicas {
    as_names words; /* for each run of bytes->looked: where its blocks can be had, or that they
                       cannot */
    as_names mend;  /* commands that bring them over */
    json_t *list;   /* of what can be had: file, begin, end, from_file, from_begin */
} as_replicas;

#define AS_REPLICAS_INIT ((as_replicas){0})

/* Looks into `dir`, another copy of the checkpoint at `path`: first at the file of the same name and
 * size, then at the same tensors, however they are sharded there. `bytes` and `f`, which gets a
 * warning if `dir` holds no checkpoint that can be read, count on rank 0, where *out is filled. The
 * ranks share the reading. Collective. */
int as_replicas_find(as_replicas *out, as_world *w, const as_bytes *bytes, const char *path,
                     const char *dir, as_findings *f, as_error *e);

void as_replicas_free(as_replicas *r);

#endif
