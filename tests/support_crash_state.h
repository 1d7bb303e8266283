/* SPDX-License-Identifier: Apache-2.0
 * One state that a crash could leave: what each uncertain thing came to (support_crash.c chooses),
 * and the folder that follows from it. Of support_crash.c alone.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_CRASH_STATE_H
#define ALLSHARD_TESTS_SUPPORT_CRASH_STATE_H

#include "support_crash.h"

/* One thing that a crash may lose. */
typedef struct crash_op {
    const trace_event *event;
    uint64_t durable; /* the moment from which it cannot be lost */
    bool is_name;
    int node;  /* of the data; of the name: what it stands for, -1: nothing any more */
    int place; /* of the name */
    int after; /* this op only where that one is, too; -1: none */
} crash_op;

typedef struct crash_node {
    uint64_t inode;
    bool is_folder;
} crash_node;

typedef struct crash_place {
    int folder; /* node */
    const char *name;
} crash_place;

typedef struct crash {
    const crash_rules *rules;
    crash_visit *visit;
    void *user;
    crash_counts *counts;
    const char *scratch;
    crash_op *ops;
    int op_count;
    crash_node *nodes;
    int node_count;
    crash_place *places;
    int place_count;
    uint64_t told;
    uint64_t *moments;
    int moment_count;
    /* the state at hand */
    uint64_t moment;
    unsigned char *choice; /* [op_count] */
    uint64_t *torn;        /* [op_count] seed of which sectors are there */
    int *at_place;         /* [place_count] node or -1 */
    int *open;             /* pending ops of the moment */
    int open_count;
    uint64_t *seen; /* hash set */
    size_t seen_size;
    size_t seen_count;
    uint64_t random;
} crash;

enum { CRASH_LOST, CRASH_DONE, CRASH_TORN };

/* What each name stands for by the choices: c->at_place. Before the next two. */
void crash_settle(crash *c);

/* Takes the tree of the state into *hash: the same tree, the same number. */
void crash_hash(const crash *c, uint64_t *hash);

/* Builds the tree in c->scratch, in place of what lies there. */
void crash_rebuild(const crash *c);

#endif
