/* SPDX-License-Identifier: Apache-2.0
 * For tests of nonblocking saves: system calls of the threads in the background that stand still
 * until the test lets them go on, ways to end a request, random models, and what requests promise.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_ISAVE_H
#define ALLSHARD_TESTS_SUPPORT_ISAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "support_model.h"

/* ---- the background stands still ---- */

enum hold {
    HOLD_NOTHING,
    HOLD_WRITE,   /* of a shard's bytes */
    HOLD_SYNC,    /* of a shard */
    HOLD_JOURNAL, /* its renaming: what counts */
    HOLD_MOVE     /* a renaming after it */
};

/* Puts the wrappers in place. Once per process, by the thread that calls the library; what that
 * thread does is never held. */
void hold_install(void);

/* From now on such calls for files beneath the folder wait, in this process; hold_open lets all go
 * on. The wrappers see calls of the engine "posix" only. */
void hold_close(enum hold where, const char *folder);
void hold_open(void);

/* From now on what the background removes takes so long. */
void hold_slow_down(int us);

/* Calls that wait now, and those that were looked at in the background since hold_install. */
int hold_waiting(void);
int hold_calls(void);

/* ---- requests ---- */

/* What must be so of a request's progress, however often one looks. Zero at first. */
typedef struct watch {
    int32_t phase;
    int64_t written;
    int64_t total;
    bool seen;
} watch;

/* Looks, and checks that nothing went back. */
allshard_progress watch_look(watch *w, const allshard_request *request);

enum ending {
    BY_WAIT,   /* never tested */
    BY_TESTS,  /* tested until it is over */
    BY_SOME,   /* tested a few times, by each rank another number, then waited for */
    BY_OTHERS, /* other collective calls on the context, then waited for */
    ENDINGS
};

/* Ends the request in that way and returns its outcome. `random` may differ between ranks. *stats
 * is filled if it is not NULL. Collective. */
int end_request(allshard_request **request, enum ending how, uint64_t *random,
                allshard_stats *stats, allshard_state *other);

/* ---- random things ---- */

/* ALLSHARD_SEED, or 1; and the same mixed with a number. */
uint64_t seed_of_test(void);
uint64_t next_random(uint64_t *state);

/* 0 to below - 1. */
int pick(uint64_t *state, int below);

enum { MOST_TENSORS = 12, MOST_NAME = 32 };

typedef struct random_model {
    model m;
    model_tensor tensors[MOST_TENSORS];
    char names[MOST_TENSORS][MOST_NAME];
} random_model;

/* Makes the elements' bytes others, or turns that round. Only for memory without strides. */
void holding_turn(holding *h, int by);

/* The same on all ranks if *state is. */
void random_model_make(random_model *r, uint64_t *state);

#endif
