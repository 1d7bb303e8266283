/* SPDX-License-Identifier: Apache-2.0
 * Signs of life between the ranks of a communicator, so that one that stalls is found and named.
 *
 * Every rank in a collective call sends the main process a beat each quarter of the limit, and the
 * next one only when that was answered. The main process names who is silent for the limit (and a
 * quarter, since beats come that far apart) while it waits itself, or whose storage ends no
 * operation for so long; it tells all at once. Whose beat the main process does not answer for as
 * long names the main process. All looks at messages are at the times when a rank waits or gets to
 * it between two steps of its own work, never in another thread: one system call may last as long
 * as the limit.
 */
#ifndef ALLSHARD_COMM_MPI_WATCH_H
#define ALLSHARD_COMM_MPI_WATCH_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { AS_HOST_BYTES = 64 };

typedef struct as_watch as_watch;

/* On a duplicate of `from`, whose errors are returned. `host`: this rank's, AS_HOST_BYTES. The same
 * code on all ranks. Collective, and waits inside MPI. */
int as_watch_open(as_watch **out, MPI_Comm from, double seconds, const char *host, as_error *e);

/* Ends the signs of life in good order, if no rank stalled and all ranks do so in time; else all is
 * left as it is, which MPI may still use: false. Collective. */
bool as_watch_close(as_watch *w);

/* This rank is in a collective call; NULL: no more. `function` lives on. */
void as_watch_enter(as_watch *w, const char *function);

/* Until it is called again with false: waits are for ranks that have not come to the call. */
void as_watch_meeting(as_watch *w, bool meeting);

/* A wait for others begins: what lies before does not count. */
void as_watch_wait(as_watch *w);

/* Looks for news, and gives signs of life, when it is time to. `waiting`: for others, who are
 * judged then; else only between steps of this rank's own work. AS_TIMEOUT, with the verdict in e,
 * once a rank has been found stalled; AS_MPI. Never blocks. */
int as_watch_poll(as_watch *w, bool waiting, as_error *e);

/* Operations of this rank's storage are under way, or not, and so many have ended so far. */
void as_watch_storage(as_watch *w, bool under_way, int64_t ended);

/* What the verdict is to add about the disk, by the main process; lives on. NULL: nothing. */
void as_watch_outcome(as_watch *w, const char *outcome);

/* The verdict; NULL as long as no rank has stalled. */
const as_error *as_watch_verdict(const as_watch *w);

#endif
