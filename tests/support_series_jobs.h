/* SPDX-License-Identifier: Apache-2.0
 * What happens to a series in tests: saves, prunes and recoveries of one process, by the steps of the
 * library's, and what can go wrong with them.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_SERIES_JOBS_H
#define ALLSHARD_TESTS_SUPPORT_SERIES_JOBS_H

#include "support_faults.h"
#include "support_series.h"

#define SERIES_PATTERN "e{epoch}_s{step}"

enum job_kind { JOB_SAVE, JOB_PRUNE, JOB_RECOVER, JOB_KINDS };

typedef struct job {
    enum job_kind kind;
    const char *root;
    int64_t now_ms;
    book_one one;           /* a save's: what is saved */
    as_keep_rules rules;    /* a save's and a prune's */
    char loaded[BOOK_NAME]; /* a save's: that the run was loaded from */
    char tag[BOOK_NAME]; /* gets a tag just before it is moved out of the root; empty: none does */
    int64_t lease_ms;    /* of a save's and a recovery's lock; 0: longer than any test */
} job;

/* Puts what tags at the worst moment into the table of system calls; after fault_install, once. */
void job_install(void);

/* Its code, with the text in `e`. Of a save, as in the library: AS_OK as soon as it counts. */
int job_do(const job *j, as_error *e);

/* The same in a process of its own, with a fault (fault_set), whose locks are those of a dead one
 * afterwards. JOB_KILLED: it was. */
enum { JOB_KILLED = 1 };
int job_do_in_child(const job *j, enum fault_mode mode, int at, int error);

#endif
