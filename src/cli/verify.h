/* SPDX-License-Identifier: Apache-2.0
 * Checks a checkpoint: every rule of the format for each file, the index against the
 * headers, sizes and checksums against the manifest, and what lies in the folder besides.
 */
#ifndef ALLSHARD_CLI_VERIFY_H
#define ALLSHARD_CLI_VERIFY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/findings.h"
#include "cli/progress.h"
#include "series/shards.h"
#include "cli/world.h"
#include "commit/manifest.h"
#include "commit/names.h"
#include "commit/view.h"

typedef struct as_verify_options {
    const char *pattern; /* as for as_contents_read; NULL: all that the manifest knows besides */
    bool no_checksums;   /* headers and sizes only */
    bool deep;           /* look for NaN and infinities */
    const char *against; /* another copy of the checkpoint; NULL: none */
    const char *engine;  /* NULL: auto */
} as_verify_options;

typedef struct as_verdict {
    as_findings findings;
    int64_t files;   /* that belong to the checkpoint, or to other parts that were checked */
    int64_t tensors; /* that these have */
    int64_t bytes;   /* of those tensors */

    int64_t bytes_read;      /* to compare them, or to look into them */
    int64_t blocks_compared; /* with their checksums */
    double seconds;          /* that took */
    char engine[16];         /* that did it; empty: nothing was read */
    const char *unknown;     /* why no checksums were compared; NULL: they were */

    json_t *replicas; /* what can be had from options.against; NULL: not asked, or nothing rotten */
    as_names mend;    /* commands that take it from there */
} as_verdict;

#define AS_VERDICT_INIT ((as_verdict){0})

/* AS_INVALID, AS_PATTERN. */
int as_verify_options_check(const as_verify_options *o, as_error *e);

/* `progress` counts files, then bytes. Whatever is wrong with the checkpoint
 * is a finding; an error says that it could not be checked: AS_NOT_FOUND, AS_SYSTEM, AS_BUSY,
 * AS_NOMEM, AS_LIMIT, AS_MPI. *out is filled on rank 0. Collective. */
int as_verify(as_verdict *out, as_world *w, const char *path, const as_verify_options *options,
              as_progress *progress, as_error *e);

void as_verdict_free(as_verdict *v);

/* What the files that belong to the checkpoint turned out to be (verify_rules.c ↔ verify_folder.c). */
typedef struct as_verified {
    const char *pattern;    /* what was asked for; NULL: nothing */
    const char *index_name; /* NULL: a single file */
    as_names files;         /* in the order of the index */
    bool complete;          /* all files could be read, and all tensors of the index found */
    int64_t tensors;
    int64_t bytes;

    /* By as_verify_folder or as_verify_beside: */
    bool has_manifest;
    as_manifest manifest;
    const as_manifest_part *part; /* of the manifest that is this checkpoint; NULL: none */
} as_verified;

/* For a path that is a file: what the manifest beside it says of it, if it does. */
int as_verify_beside(as_findings *f, as_view *v, as_verified *found, as_error *e);

/* The folder around the files: manifest, stale and stray files, leftovers of a killed save. Not
 * for a path that is a file. */
int as_verify_folder(as_findings *f, as_view *v, as_verified *found, as_error *e);

#endif
