/* SPDX-License-Identifier: Apache-2.0
 * Checks a checkpoint: every rule of the format for each file, the index against the
 * headers, sizes against the manifest, and what lies in the folder besides.
 */
#ifndef ALLSHARD_CLI_VERIFY_H
#define ALLSHARD_CLI_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/findings.h"
#include "cli/progress.h"
#include "commit/names.h"
#include "commit/view.h"

typedef struct as_verdict {
    as_findings findings;
    int64_t files;   /* that belong to the checkpoint */
    int64_t tensors; /* that the checkpoint has */
    int64_t bytes;   /* of those tensors */
} as_verdict;

#define AS_VERDICT_INIT ((as_verdict){0})

/* `pattern` as for as_contents_read; `progress` counts files. Whatever is wrong with the checkpoint
 * is a finding; an error says that it could not be checked: AS_NOT_FOUND, AS_SYSTEM, AS_BUSY,
 * AS_NOMEM. */
int as_verify(as_verdict *out, const char *path, const char *pattern, as_progress *progress,
              as_error *e);

void as_verdict_free(as_verdict *v);

/* What the files that belong to the checkpoint turned out to be (verify.c → verify_folder.c). */
typedef struct as_verified {
    const char *pattern;    /* what was asked for; NULL: nothing */
    const char *index_name; /* NULL: a single file */
    as_names files;         /* in the order of the index */
    bool complete;          /* all files could be read, and all tensors of the index found */
    int64_t tensors;
    int64_t bytes;
} as_verified;

/* The folder around the files: manifest, stale and stray files, leftovers of a killed save. Not
 * for a path that is a file. */
int as_verify_folder(as_findings *f, as_view *v, const as_verified *found, as_error *e);

#endif
