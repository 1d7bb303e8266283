/* SPDX-License-Identifier: Apache-2.0
 * How threads in the background behave, so that they do not starve the program: where they run,
 * whom the disk serves first, and how fast they write.
 */
#ifndef ALLSHARD_IO_MANNERS_H
#define ALLSHARD_IO_MANNERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "io/cpus.h"

/* Texts are borrowed. Zero: as the calling thread. */
typedef struct as_manners {
    const char *cpus; /* "2-3,8" (io/cpus.h); NULL: the calling thread's */
    const char
        *priority; /* "idle", "best-effort:0" to "best-effort:7"; NULL: the calling thread's */
    int64_t bytes_per_s; /* 0: no limit */
} as_manners;

/* AS_INVALID with a text that names the option as allshard_save_options does and says what is
 * possible. A processor that the process may not run on is named; which these are a thread finds
 * out that lives for this alone, so that the calling one is not moved about. */
int as_manners_check(const as_manners *m, as_error *e);

/* How a thread runs: what as_manners leaves open. */
typedef struct as_manners_home {
    as_cpus cpus; /* empty: the kernel did not tell, and they stay */
    bool has_priority;
    int priority; /* as ioprio_get(2) has it */
} as_manners_home;

/* Notes how the calling thread runs. Cheap: two system calls. */
void as_manners_note(as_manners_home *home);

/* The calling thread, and threads that it makes from now on, run so; what `m` leaves open is as in
 * `home` (NULL: as it is now). A thread that is kept for several saves takes the manners of each
 * with the home that the thread which asks for the save has noted: nothing of an earlier save
 * is left. What the kernel refuses is told in `e` (AS_SYSTEM), and the rest is done.
 *
 * io_uring: what is submitted by the thread has its priority, and so have the kernel's workers,
 * which share its I/O context. The workers' processors are as_engine_options.bind_workers. */
int as_manners_take(const as_manners *m, const as_manners_home *home, as_error *e);

/* A limit of bytes a second; zero at first. */
typedef struct as_pace {
    int64_t bytes_per_s; /* 0: none */
    int64_t free_at;     /* as_clock: when all that was let through is paid for */
    int64_t fraction;    /* and so many bytes_per_s-ths of a nanosecond later */
} as_pace;

/* Nanoseconds until `bytes` more may go; 0: they may, and count from now on. The wait may be long
 * (a block of 512 MiB at 1 MB/s makes the next wait for nine minutes): sleep in slices if there is
 * something to watch meanwhile. What goes in any T seconds is at most T + 0.1 seconds' worth and
 * the bytes of one call: a tenth of a second is what may be made up for after having asked late.
 * Over time it is exact as long as nobody comes later than that. */
int64_t as_pace_ask(as_pace *p, int64_t bytes);

/* The same at the moment `now` of as_clock, for tests. */
int64_t as_pace_ask_at(as_pace *p, int64_t bytes, int64_t now);

#endif
