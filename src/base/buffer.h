/* SPDX-License-Identifier: Apache-2.0
 * A growable run of bytes: for strings, messages and arrays of plain structs.
 */
#ifndef ALLSHARD_BASE_BUFFER_H
#define ALLSHARD_BASE_BUFFER_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct as_buffer {
    char *data; /* heap; NULL while empty */
    size_t size;
    size_t capacity;
} as_buffer;

#define AS_BUFFER_INIT ((as_buffer){0})

/* Makes room for `more` bytes beyond size; exactly so if the buffer is new. AS_OK, AS_NOMEM. */
int as_buffer_reserve(as_buffer *b, size_t more, as_error *e);

int as_buffer_append(as_buffer *b, const void *bytes, size_t count, as_error *e);
int as_buffer_char(as_buffer *b, char c, as_error *e);
int as_buffer_format(as_buffer *b, as_error *e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends `count` zero bytes and gives their place in *out; the place is valid
 * until the buffer grows again. NULL where there is nothing: no byte added to an empty buffer. */
int as_buffer_extend(as_buffer *b, size_t count, void **out, as_error *e);

/* The bytes as a C string (a NUL stands behind them); NULL without memory. */
const char *as_buffer_string(as_buffer *b);

void as_buffer_free(as_buffer *b);

/* What a thread's buffers hold, for those who want to know. Bytes that were taken before the
 * meter was set and are given back under it make `now` negative. */
typedef struct as_buffer_meter {
    int64_t now;  /* taken less given back */
    int64_t most; /* the largest that `now` has been */
} as_buffer_meter;

/* Counts on `meter` (borrowed; NULL: on none) from now on, for this thread. Returns the one
 * before. */
as_buffer_meter *as_buffer_meter_set(as_buffer_meter *meter);

/* Counts memory that is no buffer's: bytes taken, or given back if negative. */
void as_buffer_meter_add(int64_t bytes);

#endif
