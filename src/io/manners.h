/* SPDX-License-Identifier: Apache-2.0
 * How threads in the background behave, so that they do not starve the program: where they run,
 * whom the disk serves first, and how fast they write.
 */
#ifndef ALLSHARD_IO_MANNERS_H
#define ALLSHARD_IO_MANNERS_H

#include <stdint.h>

#include "base/error.h"

/* Texts are borrowed. Zero: as the calling thread. */
typedef struct as_manners {
    const char *cpus;      /* "2-3,8"; NULL: the calling thread's */
    const char *priority;  /* "idle", "best-effort:0" to "best-effort:7"; NULL: the calling thread's */
    int64_t bytes_per_s;   /* 0: no limit */
} as_manners;

/* AS_INVALID with a text that says what is possible; a processor that the process may not run on is
 * named. */
int as_manners_check(const as_manners *m, as_error *e);

/* The calling thread, and threads that it makes from now on, run so. What the kernel refuses is
 * told in `e` (AS_SYSTEM), and the rest is done. */
int as_manners_take(const as_manners *m, as_error *e);

/* A limit of bytes a second; zero at first. */
typedef struct as_pace {
    int64_t bytes_per_s; /* 0: none */
    int64_t free_at;     /* as_clock: when all that was let through is paid for */
} as_pace;

/* Nanoseconds until `bytes` more may go; 0: they may, and count from now on. Bursts are limited to
 * a tenth of a second's worth, or one call's bytes. */
int64_t as_pace_ask(as_pace *p, int64_t bytes);

#endif
