/* SPDX-License-Identifier: Apache-2.0
 * Between the two halves of support_faults.h: the wrappers of the calls, and what decides about
 * each.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_FAULTS_CALLS_H
#define ALLSHARD_TESTS_SUPPORT_FAULTS_CALLS_H

#include "support_faults.h"

enum fault_verdict {
    VERDICT_MAKE,
    VERDICT_REFUSE, /* not made: fails with `error` */
    VERDICT_LIE,    /* made: says that it failed with `error` */
    VERDICT_SHORT   /* made for a part of its bytes */
};

/* A call on its way. */
typedef struct fault_making {
    enum fault_call call;
    int fd;           /* file, or folder of `path`; -1: none */
    const char *path; /* or NULL */
    int to_fd;
    const char *to;
    int64_t offset, count; /* of bytes */

    enum fault_verdict verdict;
    int error;
    int number;       /* in the trace */
    char closed[600]; /* path of what is being closed, for the trace */
} fault_making;

/* Counts the call and decides; may kill the process, or sleep. errno stays. */
void fault_judge(fault_making *m);

/* The caller is given this result. */
void fault_told(const fault_making *m, int64_t result, int error);
void fault_tell(const fault_making *m, const char *result);

#endif
