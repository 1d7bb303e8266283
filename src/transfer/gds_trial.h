/* SPDX-License-Identifier: Apache-2.0
 * Which of two ways of blocks is the faster one: the first blocks of a save or load take them in
 * turns, each turn begins when the one before it has ended, and the faster way has the rest. A rule
 * alone, by a clock that is the caller's.
 */
#ifndef ALLSHARD_TRANSFER_GDS_TRIAL_H
#define ALLSHARD_TRANSFER_GDS_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

enum as_gds_way { AS_GDS_BY_HOST, AS_GDS_STRAIGHT, AS_GDS_LATER };

enum {
    AS_GDS_TURN = 8,  /* blocks of a turn */
    AS_GDS_TURNS = 4, /* by the host, straight, by the host, straight */
    /* Blocks that a rank must have to move for a trial to be worth it. */
    AS_GDS_TRIAL_LEAST = 4 * AS_GDS_TURN * AS_GDS_TURNS
};

typedef struct as_gds_trial {
    bool decided;
    enum as_gds_way winner; /* if decided */
    int turn;
    int begun; /* blocks of the turn */
    int ended;
    int64_t start;    /* of the turn, nanoseconds */
    int64_t bytes[2]; /* by way */
    int64_t time[2];
} as_gds_trial;

/* A zero trial has just begun. One that need not be made: */
static inline as_gds_trial as_gds_trial_won(enum as_gds_way winner)
{
    return (as_gds_trial){.decided = true, .winner = winner};
}

/* The way of the next block; AS_GDS_LATER: the turn has all its blocks, and they have not ended. */
enum as_gds_way as_gds_trial_way(const as_gds_trial *t);

/* A block is begun that way, which as_gds_trial_way gave. */
void as_gds_trial_begin(as_gds_trial *t, int64_t bytes, int64_t now);

/* One that was begun has ended. True if that decided it. */
bool as_gds_trial_end(as_gds_trial *t, int64_t now);

/* Gigabytes a second that way, of a trial that was made. */
double as_gds_trial_rate(const as_gds_trial *t, enum as_gds_way way);

#endif
