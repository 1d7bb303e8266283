/* SPDX-License-Identifier: Apache-2.0
 * How blocks get to storage and back. An engine takes operations, works on them in
 * the background, and hands them back when they are done.
 */
#ifndef ALLSHARD_IO_ENGINE_H
#define ALLSHARD_IO_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/trace.h"
#include "device/cuda_abi.h"

/* A file that operations go to. */
typedef struct as_io_file {
    int fd;           /* through the page cache; the owner's, open until after detach */
    bool write;       /* else read */
    const char *name; /* for errors; lives until detach */
    void *engine;     /* the engine's own: O_DIRECT descriptor, place in a table, … */
    void *gds;        /* that of the engine `gds`, beside what another engine has */
} as_io_file;

/* Where the bytes of an operation lie if not in the host's memory: in what is registered with
 * cuFile (io/gds_area.h). Stays put until the operation is done. */
typedef struct as_io_device {
    as_cu_context context;
    as_cu_pointer base; /* of the registered memory */
    int64_t at;         /* of the first byte in it: its place in the file, modulo 4096 */
} as_io_device;

enum as_io_kind { AS_IO_READ, AS_IO_WRITE, AS_IO_SYNC };

typedef struct as_io {
    enum as_io_kind kind;
    int code; /* out: AS_OK or what went wrong; its text is in the error of `reap` */
    as_io_file *file;
    char *bytes; /* not written to by a write; stays put until the operation is done */
    const as_io_device
        *device;   /* not NULL: the bytes are there. The engine `gds` alone takes that */
    int64_t count; /* ≤ 1 GiB */
    int64_t offset;
    int64_t nanoseconds; /* out: from submit to its end */
    /* A read, or anything from or to a device: takes the checksum of the bytes while they are in a
     * cache. */
    bool hash;
    uint64_t sum;       /* out: it (base/checksum.h) */
    int64_t hashing;    /* out: nanoseconds that it took */
    void *owner;        /* the caller's */
    struct as_io *next; /* the engine's */
} as_io;

enum { AS_ENGINE_THREADS = 16 };

/* All borrowed while the engine is open. */
typedef struct as_engine_options {
    bool direct;          /* O_DIRECT for what is aligned */
    int64_t offset_align; /* of O_DIRECT, bytes, powers of two; 0: 4096 */
    int64_t memory_align;
    int depth;   /* operations under way at the most; 0: the engine's choice */
    int threads; /* of the engine's, if it has any, AS_ENGINE_THREADS at the most; 0: its choice */
    char *arena; /* the transfer buffers' memory, which may be registered; NULL: none */
    size_t arena_bytes;
    as_trace *trace; /* NULL: none. Threads of the engine are numbered from 1 */
    /* The kernel's own workers (io_uring) may run where the thread that opens the engine may. For
     * threads of the library: it stays with the thread, whose program may have another ring. */
    bool bind_workers;
    const struct as_gds_options *gds; /* of the engine `gds` (io/gds_engine.h), which needs them */
} as_engine_options;

typedef struct as_engine as_engine;

typedef struct as_engine_type {
    const char *name;
    int (*open)(as_engine **out, const as_engine_options *options, as_error *e);
    /* Before the first and after the last operation on a file. What does not work with O_DIRECT
     * or in the kernel's ring is done the simpler way, and remembered. */
    int (*attach)(as_engine *engine, as_io_file *file, as_error *e);
    void (*detach)(as_engine *engine, as_io_file *file);
    /* Takes an operation; it comes back through `reap`, with its code, in any order. Never waits
     * for storage as long as fewer than `depth` operations are under way. A sync covers the
     * writes that were reaped before it was submitted. */
    void (*submit)(as_engine *engine, as_io *io);
    /* An operation that is done, or NULL. Never blocks. The first failure's text goes to e. */
    as_io *(*reap)(as_engine *engine, as_error *e);
    /* What did the work so far: "uring", "direct", "posix"; *reason tells why not the one that was
     * asked for, NULL if it was. Both live as long as the engine. */
    const char *(*used)(const as_engine *engine, const char **reason);
    void (*close)(as_engine *engine); /* nothing may be under way; NULL is allowed */
} as_engine_type;

/* pwrite and pread by a thread, through the page cache. */
extern const as_engine_type as_engine_posix;
/* pwrite and pread by threads, with O_DIRECT where options.direct is on. */
extern const as_engine_type as_engine_direct;
/* io_uring, with O_DIRECT where options.direct is on. Works as `direct` does where the kernel or
 * the build has none. */
extern const as_engine_type as_engine_uring;

/* "posix", "direct", "uring"; NULL: there is no such engine. */
const as_engine_type *as_engine_by_name(const char *name);

#endif
