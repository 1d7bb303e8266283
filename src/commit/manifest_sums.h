/* SPDX-License-Identifier: Apache-2.0
 * Checksums of blocks as the text of a manifest: 16 lower-case hex digits each, one after the
 * other.
 */
#ifndef ALLSHARD_COMMIT_MANIFEST_SUMS_H
#define ALLSHARD_COMMIT_MANIFEST_SUMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Appends them, without a NUL. */
int as_sums_to_text(as_buffer *out, const uint64_t *sums, size_t count, as_error *e);

/* *out is the caller's to free. AS_FORMAT for anything but 16 hex digits for each. */
int as_sums_from_text(const char *text, size_t length, uint64_t **out, size_t *count, as_error *e);

#endif
