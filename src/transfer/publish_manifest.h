/* SPDX-License-Identifier: Apache-2.0
 * The manifest of a checkpoint that is about to count.
 */
#ifndef ALLSHARD_TRANSFER_PUBLISH_MANIFEST_H
#define ALLSHARD_TRANSFER_PUBLISH_MANIFEST_H

#include "commit/manifest.h"
#include "transfer/publish.h"

/* Stages the manifest of what comes in, `files` (as_manifest_file[]; their checksums may go), with
 * what the old one told of other parts than this and `gone`. Its bytes are appended to *text. */
int as_publish_manifest(const as_publication *p, as_buffer *files, const as_names *gone,
                        as_buffer *text, as_error *e);

#endif
