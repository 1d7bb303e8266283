/* SPDX-License-Identifier: Apache-2.0
 * Sizes that people write: "5GB", "8.2MB", "4096".
 */
#ifndef ALLSHARD_BASE_SIZE_H
#define ALLSHARD_BASE_SIZE_H

#include <stdint.h>

#include "base/error.h"

/* Bytes, as huggingface_hub's parse_size_to_int counts them: a number as Python's
 * float() reads it, then TB, GB, MB or KB (powers of ten, any case); the product is
 * taken in double and cut off toward zero, so that "8.2MB" is 8199999. Beyond
 * that, a bare number as Python's int() reads it is bytes. Negative sizes are legal.
 * `text` is UTF-8, NUL-terminated. AS_SIZE with what is accepted; NULL is AS_INVALID. */
int as_size_parse(const char *text, int64_t *bytes, as_error *e);

#endif
