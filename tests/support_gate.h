/* SPDX-License-Identifier: Apache-2.0
 * System calls that stand still on one rank until others let them go on, and marks in the scratch
 * folder by which processes wait for each other without MPI.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_GATE_H
#define ALLSHARD_TESTS_SUPPORT_GATE_H

#include <stdbool.h>

enum call {
    CALL_NONE,
    CALL_CREATE, /* of a staged file */
    CALL_WRITER, /* open of a staged file by its writer */
    CALL_PWRITE,
    CALL_FSYNC,
    CALL_MANIFEST, /* its creation, in the commit */
    CALL_JOURNAL,  /* its renaming: what counts */
    CALL_MOVE,     /* a renaming after it */
    CALL_CLEAN,    /* an unlink after it */
    CALL_OPEN,     /* for reading */
    CALL_PREAD,
    CALL_TWIN /* a communicator is made: before MPI's call, and after it */
};

/* Puts the wrappers in place; once per process. */
void gate_install(void);

/* On this rank the at-th call of the kind makes the mark "there" and waits for "wake"; with `relay`
 * it makes that mark itself and waits for "back". CALL_NONE: none does. */
void gate_set(enum call call, int at, bool relay);

/* For calls that are not the table's: comes here before them, and stands still if it is to. */
void gate_pass(enum call call);

extern int gate_round;   /* of the test, the same on all ranks: each has marks of its own */
extern int gate_slow_us; /* each write, fsync and renaming takes so long */

const char *gate_path(const char *what); /* static, one of a few texts in turn */
void gate_mark(const char *what);
void gate_wait(const char *what);

/* Called between two looks by gate_wait in the thread that called gate_install. NULL: nothing. */
extern void (*gate_idle)(void);

/* Seconds since the mark was made; below 0: it was not. */
double gate_age(const char *what);

#endif
