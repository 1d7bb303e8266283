/* SPDX-License-Identifier: Apache-2.0
 * JSON strings, byte for byte as the reference writers escape them.
 */
#ifndef ALLSHARD_BASE_JSON_WRITE_H
#define ALLSHARD_BASE_JSON_WRITE_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

/* Appends the string in quotes. As serde_json: \" \\ \b \t \n \f \r, other bytes
 * below 0x20 as \u00xx, everything else raw. AS_INVALID if it is not UTF-8. */
int as_json_write_serde(as_buffer *b, const char *text, size_t length, as_error *e);

/* As Python's json.dump: the same, and 0x7f and everything beyond ASCII as \uxxxx, with
 * surrogate pairs past U+FFFF. AS_INVALID if it is not UTF-8. */
int as_json_write_python(as_buffer *b, const char *text, size_t length, as_error *e);

#endif
