/* SPDX-License-Identifier: Apache-2.0
 * allshard.manifest.json: what a save wrote, per part. Readers of the weights do
 * not need it; verify, tools and people do.
 *
 *   {"allshard_manifest": 1, "version": "0.1.0",
 *    "parts": {"model": {"step": 100, "pattern": "model{suffix}.safetensors",
 *       "index": "model.safetensors.index.json", "created": "2025-01-31T12:00:00Z",
 *       "world_size": 8, "block_size": 4194304, "checksum": "xxh3-64", "total_size": 123,
 *       "engine": "uring", "engine_reason": "ext4: …", "tensor_count": 12,
 *       "files": [{"name": …, "size": …, "role": "shard", "checksums": "<16 hex digits a block>"},
 *       …], "writers": [bytes of rank 0, …]}},
 *    "checkpoint": {what it tells of itself as one of a series: series/record.h},
 *    "checksum": "<XXH3-64 of the rest>"}
 *
 * "step" is left out if the save had none, "index" is null without one, "writers", "engine" and
 * "engine_reason" may be left out, "checkpoint" is there in a series only, and "checksums" may be left
 * out, too: blocks have block_size bytes, the last
 * one of a file what is left; "checksum" names the function, or says "none". Keys that a reader
 * does not know are kept in entries of other parts.
 */
#ifndef ALLSHARD_COMMIT_MANIFEST_H
#define ALLSHARD_COMMIT_MANIFEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "commit/names.h"

#define AS_MANIFEST_KEY "allshard_manifest"
#define AS_MANIFEST_CHECKPOINT "checkpoint"

enum {
    AS_MANIFEST_VERSION = 1,
    AS_MANIFEST_LARGEST = 256 << 20 /* bytes that a reader needs to be ready for */
};

enum as_role { AS_ROLE_SHARD, AS_ROLE_INDEX, AS_ROLE_EXTRA };

typedef struct as_manifest_file {
    const char *name;
    int64_t size; /* bytes */
    enum as_role role;
    const uint64_t *sums; /* of its blocks, first to last; NULL: not told */
    size_t sum_count;
} as_manifest_file;

/* One part. As input all strings and arrays are borrowed; those of a part inside an
 * as_manifest belong to it. */
typedef struct as_manifest_part {
    const char *part; /* "model" */
    bool has_step;
    int64_t step;
    const char *pattern;
    const char *index;   /* NULL: one shard, no index */
    const char *created; /* UTC, see as_utc_text */
    int64_t world_size;
    int64_t block_size;
    const char *checksum;      /* of blocks: AS_CHECKSUM_NAME, AS_CHECKSUM_NONE, or unknown here */
    const char *engine;        /* that wrote; NULL: not told */
    const char *engine_reason; /* why that one; NULL: not told */
    int64_t total_size;        /* bytes of all tensors */
    int64_t tensor_count;
    const as_manifest_file *files;
    size_t file_count;
    const int64_t *writers; /* bytes written by each rank; NULL: not told */
    size_t writer_count;
} as_manifest_part;

typedef struct as_manifest {
    const char *version;     /* of the library that wrote it */
    as_manifest_part *parts; /* in the order of the file */
    size_t part_count;
    json_t *checkpoint; /* not looked at here but for being an object; borrowed; NULL: none */
    json_t *tree;       /* what the strings above live in */
} as_manifest;

#define AS_MANIFEST_INIT ((as_manifest){0})

/* The text of the new manifest: `part`, and the other parts of the old one (old NULL:
 * there was none), and its "checkpoint". An old one that cannot be read is replaced, with a warning. Parts
 * whose shards or index are among `gone` (may be NULL) or are now files of `part` are
 * dropped, with a warning: their data are no more. */
int as_manifest_to_bytes(const as_manifest_part *part, const char *version, const char *old,
                         size_t old_size, const as_names *gone, const as_log *log, as_buffer *out,
                         as_error *e);

/* The text of one manifest for all parts of several, which were saved into folders of their own, and
 * whose files come into one; `checkpoint` (NULL: none) is what the whole tells of itself. AS_INVALID:
 * a part, or a file, is in two of them; only extras may be, if as far as the manifests tell they are
 * the same. */
int as_manifest_join(const as_manifest *const *all, size_t count, const char *version,
                     const json_t *checkpoint, as_buffer *out, as_error *e);

/* AS_FORMAT with the reason; `what` names the file. Every field is checked. */
int as_manifest_from_bytes(const char *bytes, size_t count, const char *what, as_manifest *out,
                           as_error *e);

/* The part of that name; NULL if there is none. */
const as_manifest_part *as_manifest_find(const as_manifest *m, const char *part);

void as_manifest_free(as_manifest *m);

#endif
