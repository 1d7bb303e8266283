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

/* Sorted; none: no tags. `folder` is the checkpoint's, open; `what` its path for texts. AS_FORMAT:
 * the file is damaged. */
int as_tags_read(int folder, const char *what, as_names *out, as_error *e);

/* Replaces the file in one rename, durably; no tags: the file goes. */
int as_tags_write(int folder, const char *what, const as_names *tags, as_error *e);

/* What the file holds, for who puts it into a folder that does not count yet. */
int as_tags_to_bytes(const as_names *tags, as_buffer *out, as_error *e);

#endif
