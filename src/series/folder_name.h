/* SPDX-License-Identifier: Apache-2.0
 * Names of a series' folders: "checkpoint-{step}", "epoch{epoch}_step{step:06}", "v{version}".
 */
#ifndef ALLSHARD_SERIES_FOLDER_NAME_H
#define ALLSHARD_SERIES_FOLDER_NAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "series/fields.h"

#define AS_DEFAULT_FOLDER_NAME "checkpoint-{step}"

typedef struct as_folder_pattern as_folder_pattern;

/* AS_PATTERN, with what is wrong: no field at all; {step} twice; another field twice; fields with
 * no text between them; a digit right behind {step}; an unknown format (known: {step:06}, also
 * {step:06d}, for 1 to 18 digits); '/', a beginning with '.', a control character, what is not
 * UTF-8, or more than 255 bytes of plain text. {{ and }} are plain braces. `text` NULL: the default. */
int as_folder_pattern_make(as_folder_pattern **out, const char *text, as_error *e);

bool as_folder_pattern_has_step(const as_folder_pattern *p);

/* Appends the name, NUL-terminated. AS_INVALID: a field of the pattern is not given (`fields` may be
 * NULL: none), its value is empty or has a '/', the step is negative, or the name would not be read
 * back as the same (a value that holds the text after it), not be plain (as_name_is_plain), begin
 * with '.' or "allshard.", or be "latest". */
int as_folder_pattern_write(const as_folder_pattern *p, int64_t step, const as_fields *fields,
                            as_buffer *out, as_error *e);

/* Is that a name that the pattern can produce, written just so? Then *step (−1 without {step} in the
 * pattern) and, if `fields` is not NULL, the fields in it, in place of those before. False also if
 * there is no memory for those. */
bool as_folder_pattern_read(const as_folder_pattern *p, const char *name, int64_t *step,
                            as_fields *fields);

/* NULL is allowed. */
void as_folder_pattern_free(as_folder_pattern *p);

#endif
