/* SPDX-License-Identifier: Apache-2.0
 * The steps by which a nonblocking save becomes a checkpoint, in their order: what the main process
 * does alone runs in threads of its own, a new one each time, while the program adds tensors,
 * metadata and files to the state.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_PUBLISH_H
#define ALLSHARD_TESTS_SUPPORT_PUBLISH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "api/handles.h"
#include "support_model.h"
#include "transfer/publish.h"
#include "transfer/stage.h"
#include "transfer/storage.h"

/* ---- a state ---- */

typedef struct declared {
    allshard *as;
    allshard_state *s;
    holding h;    /* of the mixed model; empty in the other case */
    float *many;  /* tensors of one element, and of long names */
    char *config; /* a small file of several blocks */
} declared;

/* The mixed model or many tensors, with small files and metadata. */
declared declare(allshard *as, bool many);
void undeclare(declared *d);

/* ---- a save in steps ---- */

typedef struct saving saving;
struct saving {
    declared state;
    as_save_call call;
    as_stage stage;
    as_engine_choice storage;
    as_txn *txn;
    as_buffer checksums;
    size_t extras; /* bytes of these that are of small files */
    as_publication p;
    as_error e;
    /* Hands the last rank's report on in its own way; NULL: as it is. */
    int (*spoil)(saving *x, int from, int64_t own, as_buffer *sums, as_error *e);
    int flaw; /* for `spoil` */
    int looks;
    int look_fails; /* at that look; 0: never */
    int ticks;
    int tick_fails;
    size_t memory; /* to read back into */
    atomic_bool over;
    pthread_t log_thread; /* that gave the last warning */
    char logged[512];
};

/* Up to the bytes of all ranks on disk. The code is the same on all ranks. Collective, as all of
 * this. */
int saving_write(saving *x, allshard *as, const allshard_save_options *o, const char *folder,
                 bool many);

/* This rank's blocks alone, in a thread, into x->memory bytes. Returns its own code. */
int saving_read_back(saving *x, as_error *e);

/* From there to the end. */
int saving_publish(saving *x);

void saving_end(saving *x);

#endif
