/* SPDX-License-Identifier: Apache-2.0
 * The sign of life of a lock while its holder sits in one long system call: a thread that touches
 * the file each quarter of the lease. It makes no MPI call, takes no signal, and makes no system
 * call on the disk before the first quarter has passed.
 */
#ifndef ALLSHARD_COMMIT_HEARTBEAT_H
#define ALLSHARD_COMMIT_HEARTBEAT_H

#include <stdint.h>

typedef struct as_heartbeat as_heartbeat;

/* Called by the thread every `period_ms` until the end. */
typedef void as_beat(void *user);

/* NULL: no thread or memory could be had, with the reason in *reason (an errno). */
as_heartbeat *as_heartbeat_start(int64_t period_ms, as_beat *beat, void *user, int *reason);

/* Ends and joins the thread; waits for a beat that is under way. NULL is allowed. */
void as_heartbeat_stop(as_heartbeat *h);

#endif
