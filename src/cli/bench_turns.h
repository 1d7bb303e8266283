/* SPDX-License-Identifier: Apache-2.0
 * The repetitions of a benchmark: ours and the plain loops by turns, so that both meet the same
 * minutes of a machine whose speed changes from hour to hour.
 */
#ifndef ALLSHARD_CLI_BENCH_TURNS_H
#define ALLSHARD_CLI_BENCH_TURNS_H

#include "base/buffer.h"
#include "base/error.h"
#include "cli/bench.h"
#include "cli/bench_state.h"

/* What turns are made with. */
typedef struct as_turns {
    as_bench *bench;
    as_bench_layout *layout;
    as_bench_state *state;
    const char *name; /* of the checkpoint's folder in the benchmark's */
    as_buffer *files; /* as_bench_file[] of the last save */
} as_turns;

/* Between two things that are measured. AS_SYSTEM after a signal. All here are collective. */
int as_turns_step(as_bench *b, as_error *e);

/* Outside the clock: each save meets an empty folder. */
int as_turns_clear(const as_turns *t, as_error *e);

/* The files of the checkpoint that was just saved. */
int as_turns_look(const as_turns *t, as_error *e);

/* A save. */
int as_turns_save(const as_turns *t, as_sample *out, as_error *e);

/* A load of what was saved last, compared with it; by the ranks that load, the others sleep. */
int as_turns_load(const as_turns *t, as_sample *out, as_error *e);

/* One that does not count, and the repetitions: of saves, and of loads. */
int as_turns_of_saves(const as_turns *t, as_error *e);
int as_turns_of_loads(const as_turns *t, as_error *e);

#endif
