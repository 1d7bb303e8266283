/* SPDX-License-Identifier: Apache-2.0
 * What the engines share about O_DIRECT: a second descriptor of each file, which part of an
 * operation may go through it, and the memory of why it is not used.
 */
#ifndef ALLSHARD_IO_DIRECT_H
#define ALLSHARD_IO_DIRECT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "io/engine.h"

/* Of one engine. Functions may be called by any of its threads unless told otherwise. */
typedef struct as_direct {
    int64_t offset_align; /* at least a page: see as_direct_next */
    int64_t memory_align;
    atomic_bool on;              /* O_DIRECT is tried */
    atomic_llong direct_bytes;   /* that went through O_DIRECT descriptors so far */
    atomic_llong buffered_bytes; /* that went through the page cache so far */
    pthread_mutex_t lock;        /* of `reason` */
    char reason[256];            /* why not as asked; empty if it is */
    char told[256];              /* the caller's copy */
} as_direct;

int as_direct_open(as_direct **out, const as_engine_options *options, bool wanted, as_error *e);
void as_direct_close(as_direct *d); /* NULL is allowed */

/* Remembers why the engine does not do what was asked for. The first reasons are kept, as many as
 * there is room for. */
void as_direct_note(as_direct *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* O_DIRECT was refused with that errno: from now on the engine works through the page cache. */
void as_direct_give_up(as_direct *d, const as_io_file *file, const char *call, int sys_errno);

/* By the engine's owner. attach opens the second descriptor, and does without if it is refused.
 * file->engine is theirs. AS_NOMEM. */
int as_direct_attach(as_direct *d, as_io_file *file, as_error *e);
void as_direct_detach(as_io_file *file);

/* The next call's share of an operation. */
typedef struct as_direct_piece {
    int fd;
    bool direct;
    int64_t count;
} as_direct_piece;

/* What of the operation, of which `done` bytes are done, is next. Only whole multiples of the
 * alignment go through O_DIRECT, from memory that is aligned there; heads, tails and memory that
 * does not fit go through the page cache. No page is written by both ways, because what the cache
 * holds of a page would be written back over what went past it: hence alignment of a page at
 * least. Called again after a short count, it makes the rest aligned. */
as_direct_piece as_direct_next(as_direct *d, const as_io *io, int64_t done);

/* Counts what a piece moved. */
void as_direct_count(as_direct *d, bool direct, int64_t bytes);

/* Starts to write back what an operation of `buffered` bytes put into the page cache, so that the
 * fsync at the end finds little left, and waits for earlier ranges of the file if too much is
 * under way. A failure belongs to the operation. May wait for storage. */
int as_direct_write_back(as_direct *d, const as_io *io, int64_t buffered, as_error *e);

/* Operations of fewer bytes are not worth a call of their own. */
enum { AS_WRITE_BACK_LEAST = 1 << 20 };

/* The error of a read or write of `count` bytes, `done` bytes into the operation.
 * sys_errno 0: the file ended (read), or the call took nothing (write). */
int as_direct_fail(const as_io *io, int64_t done, int64_t count, int sys_errno, as_error *e);

/* By the engine's owner: did O_DIRECT do the work so far? */
bool as_direct_used(as_direct *d, const char **reason);

#endif
