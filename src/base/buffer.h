/* SPDX-License-Identifier: Apache-2.0
 * A growable run of bytes: for strings, messages and arrays of plain structs.
 */
#ifndef ALLSHARD_BASE_BUFFER_H
#define ALLSHARD_BASE_BUFFER_H

#include <stdarg.h>
#include <stddef.h>

#include "base/error.h"

typedef struct as_buffer {
    char *data; /* heap; NULL while empty */
    size_t size;
    size_t capacity;
} as_buffer;

#define AS_BUFFER_INIT ((as_buffer){0})

/* Makes room for `more` bytes beyond size. AS_OK, AS_NOMEM. */
int as_buffer_reserve(as_buffer *b, size_t more, as_error *e);

int as_buffer_append(as_buffer *b, const void *bytes, size_t count, as_error *e);
int as_buffer_char(as_buffer *b, char c, as_error *e);
int as_buffer_format(as_buffer *b, as_error *e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends `count` zero bytes and gives their place in *out; the place is valid
 * until the buffer grows again. */
int as_buffer_extend(as_buffer *b, size_t count, void **out, as_error *e);

/* The bytes as a C string (a NUL stands behind them); NULL without memory. */
const char *as_buffer_string(as_buffer *b);

void as_buffer_free(as_buffer *b);

#endif
