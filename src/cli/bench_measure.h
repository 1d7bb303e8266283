/* SPDX-License-Identifier: Apache-2.0
 * One save or one load under the clock.
 */
#ifndef ALLSHARD_CLI_BENCH_MEASURE_H
#define ALLSHARD_CLI_BENCH_MEASURE_H

#include "cli/bench.h"
#include "cli/bench_state.h"

/* Saves into the folder `name` of the benchmark's folder, and puts all AS_M_SAVE_… into the sample
 * but those that need the size of the checkpoint. Collective. */
int as_measure_save(as_bench *b, as_bench_layout *l, const as_bench_state *s, const char *name,
                    as_sample *out, as_error *e);

/* Loads from there. Likewise, but collective over the ranks that load: the others do not call it. */
int as_measure_load(as_bench *b, as_bench_layout *l, const as_bench_state *s, const char *name,
                    as_sample *out, as_error *e);

/* The path of that folder. Collective over the ranks of `w`. */
int as_measure_path(const as_bench *b, as_world *w, const char *name, as_buffer *out, as_error *e);

#endif
