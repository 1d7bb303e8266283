/* SPDX-License-Identifier: Apache-2.0
 * Threads that work off operations in the order of their coming. They make no MPI
 * call and take no signal.
 */
#ifndef ALLSHARD_IO_WORKERS_H
#define ALLSHARD_IO_WORKERS_H

#include "base/error.h"
#include "io/engine.h"

typedef struct as_workers as_workers;

/* Does one operation and returns its code; called by several threads at once. */
typedef int as_work(void *user, as_io *io, as_error *e);

/* AS_ENGINE_THREADS at the most. If not one thread can be made, submit does the work itself. `trace` may be NULL. AS_NOMEM. */
int as_workers_open(as_workers **out, int threads, as_work *work, void *user, as_trace *trace,
                    as_error *e);

/* Finishes what is under way. NULL is allowed. */
void as_workers_close(as_workers *w);

/* As those of as_engine_type. */
void as_workers_submit(as_workers *w, as_io *io);
as_io *as_workers_reap(as_workers *w, as_error *e);

/* Threads that there are: 0 if none could be made. */
int as_workers_count(const as_workers *w);

/* A span of an operation that ran from `begin` to now. */
void as_workers_trace(as_trace *trace, int thread, const as_io *io, int64_t begin);

#endif
