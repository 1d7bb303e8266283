/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"

/* Stands for a text that could not be allocated; never freed. */
static char no_memory_text[] = "out of memory";

/* The text, made fit to be shown: paths and names in it may be anybody's. NULL without memory. */
static char *format_text(const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) {
        return NULL;
    }
    char *text = malloc((size_t)length + 1);
    if (text) {
        (void)vsnprintf(text, (size_t)length + 1, format, arguments);
        text = as_quote_text(text);
    }
    return text;
}

/* "first<joint>second" on the heap, or NULL. */
static char *join(const char *first, const char *joint, const char *second)
{
    size_t size = strlen(first) + strlen(joint) + strlen(second) + 1;
    char *text = malloc(size);
    if (text) {
        (void)snprintf(text, size, "%s%s%s", first, joint, second);
    }
    return text;
}

static void set_text(as_error *e, char *text)
{
    if (e->text != no_memory_text) {
        free(e->text);
    }
    e->text = text ? text : no_memory_text;
}

/* What to do about a cause that is the same wherever it is met. */
static const char *advice(int sys_errno)
{
    switch (sys_errno) {
    case ENOSPC:
        return " (make room on that file system, bytes and inodes, and run again)";
    case EDQUOT:
        return " (make room within the quota, bytes and inodes, and run again)";
    default:
        return "";
    }
}

int as_fail(as_error *e, int code, int sys_errno, const char *format, ...)
{
    if (!e) {
        return code;
    }
    if (e->code != AS_OK) {
        return e->code;
    }
    e->code = code;
    e->sys_errno = sys_errno;
    va_list arguments;
    va_start(arguments, format);
    char *text = format_text(format, arguments);
    va_end(arguments);
    if (text && sys_errno) {
        char reason[128];
        /* glibc's GNU form may return a string of its own instead of filling the buffer. */
        char *full = join(text, ": ", strerror_r(sys_errno, reason, sizeof reason));
        free(text);
        text = full ? join(full, "", advice(sys_errno)) : NULL;
        free(full);
    }
    set_text(e, text);
    return code;
}

int as_fail_nomem(as_error *e)
{
    if (e && e->code == AS_OK) {
        e->code = AS_NOMEM;
        set_text(e, NULL);
    }
    return e ? e->code : AS_NOMEM;
}

void as_error_prefix(as_error *e, const char *format, ...)
{
    if (e->code == AS_OK) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    char *prefix = format_text(format, arguments);
    va_end(arguments);
    char *text = prefix ? join(prefix, ": ", as_error_text(e)) : NULL;
    free(prefix);
    text = text ? as_quote_text(text) : NULL; /* callers upon callers: not without end */
    if (text) {
        set_text(e, text);
    }
}

const char *as_error_text(const as_error *e)
{
    return e->text ? e->text : as_code_text(e->code);
}

void as_error_move(as_error *to, as_error *from)
{
    as_error_clear(to);
    *to = *from;
    *from = AS_ERROR_INIT;
}

int as_error_pass(as_error *to, as_error *from)
{
    int code = from->code;
    if (to && to->code == AS_OK && code != AS_OK) {
        as_error_move(to, from);
    }
    as_error_clear(from);
    return code;
}

void as_error_clear(as_error *e)
{
    if (e->text != no_memory_text) {
        free(e->text);
    }
    *e = AS_ERROR_INIT;
}
