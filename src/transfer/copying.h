/* SPDX-License-Identifier: Apache-2.0
 * Copies out of and into device memory, within the loops that move a transfer's bytes. Where no
 * piece lies on a device none of this does anything.
 */
#ifndef ALLSHARD_TRANSFER_COPYING_H
#define ALLSHARD_TRANSFER_COPYING_H

#include "transfer/context.h"

/* What a loop knows of them. Zero at first. */
typedef struct as_copying {
    int64_t since; /* as_clock: the last one ended then, or the first was begun; 0: none are
                      under way */
    int64_t bytes; /* as_devices_bytes at that time */
} as_copying;

/* Moves them on: sets *moved if any ended. Never blocks. */
void as_copying_step(as_copying *c, const as_transfer *t, bool *moved, as_error *e);

/* AS_OK, or the code of the first that failed, with its text in `e`. None of them are under way. */
int as_copying_check(const as_transfer *t, const as_copies *copies, as_error *e);

/* Are any under way? To *ended is added what grows when one ends. */
bool as_copying_busy(const as_transfer *t, int64_t *ended);

/* Nanoseconds to rest at the most: short while some are under way, else `longest`. */
int64_t as_copying_rest(const as_transfer *t, int64_t longest);

/* Waits until none are under way: before buffers go that they use. */
void as_copying_drain(as_copying *c, const as_transfer *t, as_error *e);

#endif
