/* SPDX-License-Identifier: Apache-2.0
 * How blocks get to storage and back. An engine takes operations, works on them at
 * once or in the background, and hands them back when they are done.
 */
#ifndef ALLSHARD_IO_ENGINE_H
#define ALLSHARD_IO_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct as_io {
    bool write; /* else read */
    int fd;
    char *bytes;   /* not written to by a write; stays put until the operation is done */
    int64_t count; /* ≤ 1 GiB */
    int64_t offset;
    const char *what;   /* the file's name, for errors; lives as long as the operation */
    int code;           /* out: AS_OK or what went wrong; its text is in the engine's error */
    void *owner;        /* the caller's */
    struct as_io *next; /* the engine's */
} as_io;

typedef struct as_engine as_engine;

typedef struct as_engine_type {
    const char *name;
    int (*open)(as_engine **out, as_error *e);
    /* Takes an operation; it comes back through `reap`, with its code, in any order. */
    void (*submit)(as_engine *engine, as_io *io, as_error *e);
    /* An operation that is done, or NULL. Never blocks. The first failure's text goes to e. */
    as_io *(*reap)(as_engine *engine, as_error *e);
    void (*close)(as_engine *engine); /* nothing may be under way; NULL is allowed */
} as_engine_type;

/* pwrite and pread by the calling thread. */
extern const as_engine_type as_engine_posix;

#endif
