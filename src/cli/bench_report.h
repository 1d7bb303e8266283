/* SPDX-License-Identifier: Apache-2.0
 * What was measured, for people (tables on a terminal or in Markdown) and for machines (JSON).
 */
#ifndef ALLSHARD_CLI_BENCH_REPORT_H
#define ALLSHARD_CLI_BENCH_REPORT_H

#include "cli/bench.h"

/* Both on rank 0. AS_NOMEM. */
int as_bench_text(const as_bench *b, bool markdown, as_error *e);

/* Puts the figures and all samples into the tool's JSON object. */
int as_bench_json(const as_bench *b, as_error *e);

/* "POSIX_FADV_DONTNEED and /proc/sys/vm/drop_caches" */
const char *as_bench_chill_text(const as_bench *b);

#endif
