/* SPDX-License-Identifier: Apache-2.0
 * Sets of processors: as people write them, and as threads run on them.
 */
#ifndef ALLSHARD_IO_CPUS_H
#define ALLSHARD_IO_CPUS_H

#include <stdbool.h>

#include "base/error.h"

/* No Linux has more (NR_CPUS of MAXSMP); glibc's own set ends at 1024. */
enum { AS_CPUS_MOST = 8192, AS_CPUS_WORD = 8 * sizeof(unsigned long) };

/* As sched_setaffinity(2) takes it. Zero: empty. */
typedef struct as_cpus {
    unsigned long words[AS_CPUS_MOST / AS_CPUS_WORD];
} as_cpus;

/* "2-3,8", "0-30:2" (every second one): numbers and ranges with commas between, as taskset(1) has
 * them, but without blanks, and none named twice. AS_INVALID with a text that quotes the list as
 * `cpus` and tells what is wrong with it. */
int as_cpus_parse(as_cpus *out, const char *list, as_error *e);

bool as_cpus_has(const as_cpus *c, int number);
void as_cpus_put(as_cpus *c, int number);
int as_cpus_count(const as_cpus *c);
bool as_cpus_equal(const as_cpus *a, const as_cpus *b);

/* Those of `a` that are not in `b`. */
as_cpus as_cpus_less(const as_cpus *a, const as_cpus *b);

/* "0-3,8", for people: a long list is cut and ends in "…"; "none". */
typedef struct as_cpus_text {
    char text[128];
} as_cpus_text;
as_cpus_text as_cpus_tell(const as_cpus *c);

/* Where the calling thread may run. False: the kernel does not tell; *out is empty. */
bool as_cpus_of_thread(as_cpus *out);

/* The calling thread, and those that it makes later, run there; on those of them that the process
 * may run on, if these are some. 0 or the errno. */
int as_cpus_bind(const as_cpus *c);

#endif
