/* SPDX-License-Identifier: Apache-2.0
 * What the rules say about a checkpoint (verify.c): the format of each file, the index against the
 * headers, and the folder around them. Nothing but headers and small files is read. On rank 0.
 */
#ifndef ALLSHARD_CLI_VERIFY_RULES_H
#define ALLSHARD_CLI_VERIFY_RULES_H

#include "cli/verify.h"
#include "cli/verify_bytes.h"
#include "format/checkpoint.h"

/* Everything that one run works on. */
typedef struct as_check {
    as_findings *findings;
    as_view *view;
    as_checkpoint checkpoint;
    as_shard *shards; /* of checkpoint's files; those that cannot be read have empty tables */
    bool *good;       /* could file f be read? */
    as_verified found;
    as_shard *others; /* tables of files of other parts, with their names; heap */
    as_names other_files;
    int64_t other_tensors;
    int64_t other_bytes;
    as_buffer tables; /* as_named_table[]: of all files that could be read */
    bool in_place;    /* what .allshard/ says cannot be known */
    const as_verify_options *options;
    as_progress *progress;
    as_error *e;
} as_check;

/* Checks `path`, and lists the tables of all files that could be read. c->view stays NULL if
 * nothing could be opened, which is a finding then. */
int as_check_rules(as_check *c, const char *path);

/* Has a save replaced files since? What looks bad may be one checkpoint while another takes its
 * place: then nothing else counts. AS_BUSY in c->e. */
void as_check_change(as_check *c);

void as_check_free(as_check *c);

#endif
