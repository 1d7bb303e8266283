/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static _Thread_local as_buffer_meter *current;

as_buffer_meter *as_buffer_meter_set(as_buffer_meter *meter)
{
    as_buffer_meter *before = current;
    current = meter;
    return before;
}

void as_buffer_meter_add(int64_t bytes)
{
    if (current) {
        current->now += bytes;
        current->most = current->now > current->most ? current->now : current->most;
    }
}

int as_buffer_reserve(as_buffer *b, size_t more, as_error *e)
{
    size_t need;
    if (!as_add_size(b->size, more, &need)) {
        return as_fail_nomem(e);
    }
    if (need <= b->capacity) {
        return AS_OK;
    }
    size_t capacity = b->capacity ? b->capacity : need < 64 ? 64 : need;
    while (capacity < need) {
        /* Half as much again: large tables waste less than by doubling. */
        if (!as_add_size(capacity, capacity / 2 + 1, &capacity)) {
            capacity = need;
        }
    }
    char *data = realloc(b->data, capacity);
    if (!data) {
        return as_fail_nomem(e);
    }
    as_buffer_meter_add((int64_t)(capacity - b->capacity));
    b->data = data;
    b->capacity = capacity;
    return AS_OK;
}

int as_buffer_append(as_buffer *b, const void *bytes, size_t count, as_error *e)
{
    if (count == 0) {
        return AS_OK;
    }
    int code = as_buffer_reserve(b, count, e);
    if (code == AS_OK) {
        memcpy(b->data + b->size, bytes, count);
        b->size += count;
    }
    return code;
}

int as_buffer_char(as_buffer *b, char c, as_error *e)
{
    return as_buffer_append(b, &c, 1, e);
}

int as_buffer_format(as_buffer *b, as_error *e, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        return as_fail(e, AS_INTERNAL, 0, "a format string was refused");
    }
    int code = as_buffer_reserve(b, (size_t)length + 1, e);
    if (code != AS_OK) {
        return code;
    }
    va_start(arguments, format);
    (void)vsnprintf(b->data + b->size, (size_t)length + 1, format, arguments);
    va_end(arguments);
    b->size += (size_t)length;
    return AS_OK;
}

int as_buffer_extend(as_buffer *b, size_t count, void **out, as_error *e)
{
    int code = as_buffer_reserve(b, count, e);
    if (code == AS_OK) {
        /* An empty buffer has no place that could be counted from. */
        *out = b->data ? b->data + b->size : NULL;
        if (count && *out) {
            memset(*out, 0, count);
        }
        b->size += count;
    }
    return code;
}

const char *as_buffer_string(as_buffer *b)
{
    if (as_buffer_reserve(b, 1, NULL) != AS_OK) {
        return NULL;
    }
    b->data[b->size] = '\0';
    return b->data;
}

void as_buffer_free(as_buffer *b)
{
    free(b->data);
    as_buffer_meter_add(-(int64_t)b->capacity);
    *b = AS_BUFFER_INIT;
}
