/* SPDX-License-Identifier: Apache-2.0
 * A nonblocking save under the clock, while its ranks compute; and the computing alone.
 */
#ifndef ALLSHARD_CLI_BENCH_FLIGHT_H
#define ALLSHARD_CLI_BENCH_FLIGHT_H

#include "cli/bench_loop.h"
#include "cli/bench_turns.h"

typedef struct as_flight {
    as_bench_loop loop;
    double seconds; /* that the last save was in flight for, on the rank where that was longest */
} as_flight;

/* Saves, and computes until the save is over, looking at it every few milliseconds; puts all
 * AS_M_FLIGHT_… into the sample but those that need the size of the checkpoint, and the loop's.
 * `spoil`: the pieces are overwritten as soon as they may be. Collective. */
int as_flight_save(const as_turns *t, as_flight *f, bool spoil, as_sample *out, as_error *e);

/* Computes for as long with nothing in flight: AS_M_LOOP_ALONE_PER_S. Collective. */
int as_flight_alone(const as_turns *t, as_flight *f, as_sample *out, as_error *e);

#endif
