/* SPDX-License-Identifier: Apache-2.0
 * File name patterns: "model{suffix}.safetensors", where {suffix} stands for
 * "-00001-of-00003" or, with one file only, for nothing.
 */
#ifndef ALLSHARD_FORMAT_PATTERN_H
#define ALLSHARD_FORMAT_PATTERN_H

#include <stdint.h>

#include "base/error.h"

enum as_pattern_kind {
    AS_PATTERN_NONE,   /* not a name of this pattern */
    AS_PATTERN_SINGLE, /* model.safetensors */
    AS_PATTERN_SHARD,  /* model-00001-of-00003.safetensors */
    AS_PATTERN_INDEX,  /* model.safetensors.index.json */
};

/* Whether a pattern can be used. It follows Python's str.format as far as huggingface_hub
 * needs it: {suffix} once or more, {{ and }} for single braces, nothing else in
 * braces. Names must lie in the folder itself, be UTF-8 of a length that the file
 * system takes, have the extension of a known format with something before it, and pass
 * the check for shard names (as_index_check_file). AS_PATTERN with the reason. */
int as_pattern_check(const char *pattern, as_error *e);

/* *out (heap, the caller's): the name of shard 1 ≤ `shard` ≤ `count`; with count 1 that of the
 * single file. Numbers have at least five digits. AS_PATTERN, AS_NOMEM. */
int as_pattern_name(const char *pattern, uint64_t shard, uint64_t count, char **out, as_error *e);

/* *out (heap, the caller's): the single name + ".index.json". AS_PATTERN, AS_NOMEM. */
int as_pattern_index_name(const char *pattern, char **out, as_error *e);

/* What `name` is to the pattern (enum as_pattern_kind); for a shard *shard and *count are set. A
 * number has exactly five digits, or more without a leading zero, as as_pattern_name
 * writes them; whether shard ≤ count is not asked. AS_PATTERN, AS_NOMEM. */
int as_pattern_match(const char *pattern, const char *name, int *kind, uint64_t *shard,
                     uint64_t *count, as_error *e);

/* *out (heap, the caller's): the default of a part, "<part>{suffix}.safetensors", with braces in
 * the part's name doubled. AS_NOMEM. */
int as_pattern_default(const char *part, char **out, as_error *e);

#endif
