/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sys.h"
#include "io/engine.h"

struct as_engine {
    as_io *done; /* finished, not reaped yet */
    as_error error;
};

static int open_engine(as_engine **out, const as_engine_options *options, as_error *e)
{
    (void)options;
    *out = calloc(1, sizeof **out);
    if (!*out) {
        return as_fail_nomem(e);
    }
    (*out)->error = AS_ERROR_INIT;
    return AS_OK;
}

static int attach(as_engine *engine, as_io_file *file, as_error *e)
{
    (void)engine;
    (void)file;
    (void)e;
    return AS_OK;
}

static void detach(as_engine *engine, as_io_file *file)
{
    (void)engine;
    (void)file;
}

static int work(as_io *io, as_error *e)
{
    const as_io_file *f = io->file;
    switch (io->kind) {
    case AS_IO_READ:
        return as_read_all(f->fd, io->bytes, (size_t)io->count, io->offset, f->name, e);
    case AS_IO_WRITE:
        return as_write_all(f->fd, io->bytes, (size_t)io->count, io->offset, f->name, e);
    default:
        return as_sync(f->fd, f->name, e);
    }
}

static void submit(as_engine *engine, as_io *io)
{
    int64_t begin = as_clock();
    io->code = work(io, &engine->error);
    io->nanoseconds = as_clock() - begin;
    io->next = engine->done;
    engine->done = io;
}

static as_io *reap(as_engine *engine, as_error *e)
{
    as_io *io = engine->done;
    if (io) {
        engine->done = io->next;
    }
    if (engine->error.code != AS_OK) {
        (void)as_error_pass(e, &engine->error);
    }
    return io;
}

static const char *used(const as_engine *engine, const char **reason)
{
    (void)engine;
    *reason = NULL;
    return "posix";
}

static void close_engine(as_engine *engine)
{
    if (engine) {
        as_error_clear(&engine->error);
    }
    free(engine);
}

const as_engine_type as_engine_posix = {
    .name = "posix",
    .open = open_engine,
    .attach = attach,
    .detach = detach,
    .submit = submit,
    .reap = reap,
    .used = used,
    .close = close_engine,
};
