/* SPDX-License-Identifier: Apache-2.0
 * Small JSON files that carry their own checksum: the journal and the manifest.
 * The checksum is over the compact text with sorted keys, without the checksum
 * itself, so that other spacing or order of keys does not break it.
 */
#ifndef ALLSHARD_COMMIT_SEAL_H
#define ALLSHARD_COMMIT_SEAL_H

#include <jansson.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

/* Sets "checksum" of the object and appends its text to `out`, keys in the order
 * of their insertion, with a newline at the end. */
int as_seal(json_t *object, as_buffer *out, as_error *e);

/* The object, a new reference in *out. AS_FORMAT: not JSON, names twice, or the
 * checksum is missing or wrong. `what` names the file. */
int as_unseal(const char *bytes, size_t count, const char *what, json_t **out, as_error *e);

#endif
