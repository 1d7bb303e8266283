/* SPDX-License-Identifier: Apache-2.0
 * One error record: what went wrong first, where, and what to do about it.
 */
#ifndef ALLSHARD_BASE_ERROR_H
#define ALLSHARD_BASE_ERROR_H

#include "base/codes.h"

typedef struct as_error {
    int code;      /* AS_OK or a negative code */
    int sys_errno; /* errno of the cause, 0 if none */
    int rank;      /* rank that met it; -1 until the ranks agreed */
    char host[64]; /* its host; empty until the ranks agreed */
    char *text;    /* heap, owned by the record; NULL if code is AS_OK. One line, fit to be shown */
} as_error;

#define AS_ERROR_INIT ((as_error){.rank = -1})

/* Records an error and returns its code. The first error wins: a record that
 * holds one already keeps it, and its code is returned. With sys_errno != 0
 * ": strerror" is appended, and what to do where a disk or a quota is full. `e` may be NULL (the
 * code is still returned). Control characters of whatever goes into a text are escaped
 * (as_quote_text), so that no name from a file or a folder can fake a line or move a cursor. */
int as_fail(as_error *e, int code, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Out of memory; needs none itself. Returns AS_NOMEM (or the earlier code). */
int as_fail_nomem(as_error *e);

/* Puts "prefix: " before the text, as an error goes up through the callers. */
void as_error_prefix(as_error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The text, never NULL; valid as long as the record is not changed. */
const char *as_error_text(const as_error *e);

/* Moves `from` into `to` (dropping what `to` held) and clears `from`. */
void as_error_move(as_error *to, as_error *from);

/* Hands the record of an inner step up and clears it: `to` takes it over unless it holds an
 * error already or is NULL. Returns the code that `from` had. */
int as_error_pass(as_error *to, as_error *from);

void as_error_clear(as_error *e);

#endif
