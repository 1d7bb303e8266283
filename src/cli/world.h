/* SPDX-License-Identifier: Apache-2.0
 * The ranks that a command runs on: started by mpirun or srun, or one plain
 * process. What all commands share of MPI is here.
 */
#ifndef ALLSHARD_CLI_WORLD_H
#define ALLSHARD_CLI_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "comm/comm.h"

typedef struct as_world {
    as_comm *comm; /* NULL: one process, and MPI was not started */
    int rank;
    int size;
    bool started; /* MPI was started here and is to be ended here */
} as_world;

/* Was this process started by a launcher, be it as the only one? Its stdout is the launcher's. */
bool as_world_launched(void);

/* What the launcher's environment says, before MPI is started: 0 of 1 without a launcher. A size
 * of 0: there is a launcher, but it does not tell. */
int as_world_launched_rank(void);
int as_world_launched_size(void);

/* Starts MPI if there is a launcher or `mpi` asks for it (allshard_open will be called); a plain
 * `allshard ls` does without. Collective. AS_MPI: also if the launcher started several
 * processes that do not find one another. */
int as_world_start(as_world *w, bool mpi, as_error *e);

/* A rank of this job has stalled: from now on the functions below return at once, and when all is
 * told as_world_abort ends the job. */
void as_world_lose(void);
bool as_world_is_lost(void);
void as_world_abort(int status);

/* Collective; after it no more calls on w. */
void as_world_stop(as_world *w);

/* As the functions of comm/comm.h; with one process they do nothing. */
int as_world_agree(as_world *w, as_error *e);
int as_world_bcast(as_world *w, int root, as_buffer *b, as_error *e);
int as_world_sum(as_world *w, int64_t *values, int count, as_error *e);
int as_world_max(as_world *w, int64_t *values, int count, as_error *e);

#endif
