/* SPDX-License-Identifier: Apache-2.0
 * Tags of a checkpoint: NAME/allshard.tags.json, {"allshard_tags": 1, "tags": ["best", …]}. A file
 * of its own, for tags come and go when the checkpoint is long complete.
 */
#ifndef ALLSHARD_SERIES_TAGS_H
#define ALLSHARD_SERIES_TAGS_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "commit/names.h"

#define AS_TAGS_NAME "allshard.tags.json"

enum { AS_MOST_TAGS = 256, AS_LONGEST_TAG = 128 };

/* AS_INVALID: not 1 to 128 bytes of UTF-8 without spaces, control characters, '/' and ','. */
int as_tag_check(const char *tag, as_error *e);

/* Sorted, in place of what *out held; no file: none. `folder` is the checkpoint's, open; `what` its
 * path for texts. AS_FORMAT: the file is damaged, or something else lies there. */
int as_tags_read(int folder, const char *what, as_names *out, as_error *e);

/* Replaces the file in one rename, durably; no tags: the file goes. The list need not be sorted. */
int as_tags_write(int folder, const char *what, const as_names *tags, as_error *e);

/* Adds tags and takes others away (either list may be NULL); nobody else's change gets lost, where
 * flock works between those who tag. *before and *after: the tags, sorted, in place of what was in
 * them; if they are the same nothing was written. AS_INVALID: no tag; AS_LIMIT: too many. */
int as_tags_change(int folder, const char *what, const as_names *add, const as_names *gone,
                   as_names *before, as_names *after, as_error *e);

/* What the file holds, for who puts it into a folder that does not count yet. */
int as_tags_to_bytes(const as_names *tags, as_buffer *out, as_error *e);

#endif
