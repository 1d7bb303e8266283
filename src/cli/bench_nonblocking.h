/* SPDX-License-Identifier: Apache-2.0
 * The turns of nonblocking saves: a plain memcpy, a save in flight beside a compute loop, the loop
 * alone, a blocking save. What was saved is loaded and compared after each of the saves.
 */
#ifndef ALLSHARD_CLI_BENCH_NONBLOCKING_H
#define ALLSHARD_CLI_BENCH_NONBLOCKING_H

#include "cli/bench_turns.h"

/* Things that as_turns_step counts in one layout. */
int64_t as_nonblocking_steps(const as_bench *b);

/* Bytes of memory that this rank needs beside its pieces, of which it has so many at the most:
 * where they are copied to, by the plain memcpy and by the library. */
int64_t as_nonblocking_memory(const as_bench *b, int64_t pieces);

/* One turn that does not count, and the repetitions. Collective. */
int as_turns_nonblocking(const as_turns *t, as_error *e);

#endif
