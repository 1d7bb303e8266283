/* SPDX-License-Identifier: Apache-2.0
 * Every state of the disk that a power cut could leave, from a trace of what was done to it.
 *
 * The rules are POSIX's, with nothing that journaling file systems add to them:
 *   An fsync of a file makes its data and size durable as they were when it began, not its name.
 *   An fsync of a folder makes its names durable as they were when it began.
 *   Of everything else any subset may be there, in any combination over all files and folders: a
 *   write whole, in part (by sectors of 512 bytes) or not at all; a name that came or not; one
 *   that went or not.
 *   A rename may also be found half done, with both names there (the file has two, then), but
 *   never with neither: no program could rename anything otherwise. So the old name is only gone
 *   for good when the new one is there, and an fsync of either folder makes the new one durable.
 *
 * Where no more than `exhaustive` combinations are possible, all are tried; everywhere all
 * prefixes, all but one, each alone, each write in part, and random ones. A state that was seen is
 * not tried again.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_CRASH_H
#define ALLSHARD_TESTS_SUPPORT_CRASH_H

#include <stdbool.h>
#include <stdint.h>

#include "support_trace.h"

typedef struct crash_rules {
    int64_t exhaustive;
    int random; /* subsets of each moment */
    bool pairs; /* all but two, too, where there are more combinations */
    uint64_t seed;
    int part; /* of `parts`: states are dealt out to several processes */
    int parts;
    bool first_only; /* ends with the first state that is refused */
} crash_rules;

typedef struct crash_counts {
    int64_t moments;
    int64_t complete;  /* of them: all combinations were tried */
    int64_t tried;     /* states that were rebuilt */
    int64_t seen;      /* that had been tried before, or are another process's */
    int64_t refused;   /* by the visitor */
    int64_t uncertain; /* things at the moment that has most of them */
} crash_counts;

/* Looks at a state, which lies in `root` and is the visitor's to change. `told`: some rank had
 * learned that the save is good. `number` is the same for the same state in each run. False: it
 * should not be; then what was lost is printed, for the first ones. */
typedef bool crash_visit(void *user, const char *root, bool told, uint64_t number);

/* `log`: a tree of before (trace_tree) and what happened then, in order; `root` is the number
 * of the tree's folder. Rebuilds each state in the folder `scratch`, which must not exist. */
void crash_explore(const trace_log *log, uint64_t root, const crash_rules *rules,
                   const char *scratch, crash_visit *visit, void *user, crash_counts *counts);

#endif
