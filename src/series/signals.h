/* SPDX-License-Identifier: Apache-2.0
 * Signals that the process is sent. A handler counts them and calls the one of before, if there was
 * one: what the default action or SIG_IGN would have done is not done. It is the same for all who
 * listen in the process, and goes when the last of them has gone.
 */
#ifndef ALLSHARD_SERIES_SIGNALS_H
#define ALLSHARD_SERIES_SIGNALS_H

#include <stddef.h>

#include "base/error.h"
#include "base/log.h"

enum { AS_MOST_SIGNALS = 32 };

/* One who listens. */
typedef struct as_signals {
    int numbers[AS_MOST_SIGNALS];
    unsigned seen[AS_MOST_SIGNALS]; /* counts of the handler that were told of */
    size_t count;
} as_signals;

#define AS_SIGNALS_INIT ((as_signals){.count = 0})

/* Listens from now on. AS_INVALID: a number is no signal, is there twice, cannot be caught (SIGKILL,
 * SIGSTOP), or tells of a fault of the program itself (SIGSEGV, SIGBUS, SIGFPE, SIGILL), to which a
 * handler could not return; or there are too many. Then nothing is changed. Where another handler
 * lies over allshard's, of a listener before, it stays on top, with a warning: it should call the
 * one of before. */
int as_signals_listen(as_signals *s, const int *numbers, size_t count, const as_log *log,
                      as_error *e);

/* The first of the numbers that came since the last call; 0: none. The others count as told of,
 * too. */
int as_signals_came(as_signals *s);

/* Gives back those signals that nobody else listens to. A handler that was put over allshard's
 * stays; it may go on calling allshard's, which calls the one of before. */
void as_signals_leave(as_signals *s);

#endif
