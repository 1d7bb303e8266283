/* SPDX-License-Identifier: Apache-2.0
 * What the small texts of a series have in common: no line breaks, times as people read them.
 */
#ifndef ALLSHARD_SERIES_WORDS_H
#define ALLSHARD_SERIES_WORDS_H

#include <stdbool.h>
#include <stdint.h>

/* UTF-8 without control characters (U+0000 to U+001F, U+007F to U+009F)? */
bool as_is_line(const char *text);

/* "2026-01-31T12:00:00.123Z" and its NUL. */
enum { AS_STAMP_SIZE = 25 };

/* Milliseconds since the epoch, as that text; what lies outside of 1970 to 9999 as their ends. */
void as_stamp_write(int64_t time_ms, char out[AS_STAMP_SIZE]);

/* The other way round: also with no or up to nine digits of a second's fraction, which are cut off
 * after three. False: it is no such time (the 30th of February, a second 60, another zone). */
bool as_stamp_read(const char *text, int64_t *time_ms);

/* Now, by the clock of the wall. */
int64_t as_stamp_now(void);

#endif
