/* SPDX-License-Identifier: Apache-2.0
 * One operation on device memory: whole pages by cuFile, the rest by way of the host. No page is
 * written by both ways at the same time, for the reason that io/direct.h gives.
 */
#ifndef ALLSHARD_IO_GDS_MOVE_H
#define ALLSHARD_IO_GDS_MOVE_H

#include <pthread.h>
#include <stdatomic.h>

#include "io/cufile_library.h"
#include "io/engine.h"
#include "io/gds_lane.h"

enum { AS_GDS_REASON = 160 };

/* What all operations of an engine share. From any thread. */
typedef struct as_gds_mover {
    const as_cuda *cuda;
    const as_cufile *cufile;
    atomic_bool on;
    atomic_llong bytes;   /* by cuFile */
    pthread_mutex_t lock; /* of `reason` */
    char reason[AS_GDS_REASON];
} as_gds_mover;

void as_gds_mover_init(as_gds_mover *m, const as_cuda *cuda, const as_cufile *cufile);
void as_gds_mover_free(as_gds_mover *m);
bool as_gds_mover_on(const as_gds_mover *m);
int64_t as_gds_mover_bytes(const as_gds_mover *m);

/* cuFile is used no more; the first reason is kept. */
void as_gds_mover_stop(as_gds_mover *m, const char *why);
/* Of why it is used; nothing once it is stopped. */
void as_gds_mover_note(as_gds_mover *m, const char *text);
void as_gds_mover_reason(as_gds_mover *m, char text[AS_GDS_REASON]);

/* Opens the file for cuFile and registers it, if that works; else cuFile is stopped. By one thread,
 * before the operations on the file and after them, with a context current. */
void as_gds_file_open(as_gds_mover *m, as_io_file *file);
void as_gds_file_close(as_gds_mover *m, as_io_file *file);

/* Does the operation, with the context of its bytes current. Storage that fails is AS_SYSTEM, as
 * with other engines; what cuFile does not do otherwise is done without it from there on. AS_CUDA,
 * AS_FORMAT (the file ended). */
int as_gds_move(as_gds_mover *m, as_gds_lane *lane, as_io *io, as_error *e);

#endif
