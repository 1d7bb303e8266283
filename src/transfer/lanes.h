/* SPDX-License-Identifier: Apache-2.0
 * What nonblocking saves of a context work with, kept from one to the next: a thread, a
 * communicator and memory for each that is in flight.
 */
#ifndef ALLSHARD_TRANSFER_LANES_H
#define ALLSHARD_TRANSFER_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/arena.h"
#include "comm/comm.h"
#include "device/devices.h"
#include "io/reserve.h"
#include "transfer/background.h"

typedef struct as_lane {
    bool taken;
    as_comm *comm; /* a twin of the context's */
    as_background *background;
    char *cpus; /* heap: where the background was told to run; NULL: where its caller may */
    as_reserve reserve;
    as_pin pin;     /* of it, for devices */
    as_arena *ring; /* the reserves of the node's ranks, for one another; NULL: not had yet */
} as_lane;

/* Zero at first. */
typedef struct as_lanes {
    as_lane **list; /* [count]; the same number on all ranks */
    size_t count;
    int64_t limit;       /* bytes of all reserves together; 0: not known yet */
    as_devices *devices; /* borrowed; NULL: all pieces lie on the host */
} as_lanes;

/* A lane that is not taken on any rank, made if there is none. Collective: all ranks get the same
 * one. */
int as_lanes_take(as_lanes *l, as_lane **out, as_comm *c, as_error *e);

/* Makes a new thread if it is to run elsewhere than the last time: the kernel's workers that io_uring
 * has made for a thread cannot be moved. Local. AS_NOMEM, AS_SYSTEM. */
int as_lane_settle(as_lane *lane, const char *cpus, as_error *e);

/* `lost`: MPI may still use its communicator, on all ranks. Local: each rank gives a lane back when
 * it has done with it. */
void as_lanes_give(as_lanes *l, as_lane *lane, bool lost);

/* Pins it if any piece lies on a device. */
void as_lane_pin(const as_lanes *l, as_lane *lane, const as_homes *h);

/* Bytes that the lane's reserve may have, while others have theirs: whole pages, which is how it
 * has them. */
int64_t as_lanes_room(const as_lanes *l, const as_lane *lane);

/* Must the lane's memory be had anew to be `bytes` large? Then all ranks have to. */
bool as_lane_is_short(const as_lane *lane, int64_t bytes);

/* Has that memory, touched by `threads` threads (*touched: bytes that were had from the system;
 * io/reserve.h). The ranks of a node make theirs known to one another, and may each use `quota` bytes
 * of others' at a time. AS_NOMEM. Collective: all ranks get the same code, and that of an error which
 * `e` holds already on some. */
int as_lane_fit(const as_lanes *l, as_lane *lane, as_comm *c, int64_t bytes, int threads,
                size_t quota, size_t *touched, as_error *e);

/* Frees the memory of lanes that are not taken, but for that of `keep` (may be NULL). */
void as_lanes_trim(as_lanes *l, const as_lane *keep);

/* No lane is taken. Collective, unless `lost`. */
void as_lanes_close(as_lanes *l, bool lost);

#endif
