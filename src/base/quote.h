/* SPDX-License-Identifier: Apache-2.0
 * Strings from outside, made fit for an error text: no control characters that
 * a terminal would obey, no invalid UTF-8, no endless length.
 */
#ifndef ALLSHARD_BASE_QUOTE_H
#define ALLSHARD_BASE_QUOTE_H

#include <stddef.h>

typedef struct as_quoted {
    char text[256];
} as_quoted;

/* The string in double quotes. Quotes, backslashes, controls and broken bytes
 * are escaped (\", \\, \n, \x1b, \u202e); a long string is cut and ends in `"…`.
 * Made for arguments of as_fail: as_fail(e, c, 0, "%s", as_quote(p, n).text). */
as_quoted as_quote(const char *text, size_t length);

/* Texts that are put together of such strings and others: heap text in, heap text out, the same one
 * if it is fit as it is. Controls and broken bytes are escaped as above, line ends among them,
 * and of a text over 4000 bytes the middle is left out. NULL without memory; `text`
 * is freed then. */
char *as_quote_text(char *text);

#endif
