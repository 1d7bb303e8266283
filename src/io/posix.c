/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/sys.h"
#include "io/engine.h"

struct as_engine {
    as_io *done; /* finished, not reaped yet */
};

static int open_engine(as_engine **out, as_error *e)
{
    *out = calloc(1, sizeof **out);
    return *out ? AS_OK : as_fail_nomem(e);
}

static void submit(as_engine *engine, as_io *io, as_error *e)
{
    io->code = io->write
                   ? as_write_all(io->fd, io->bytes, (size_t)io->count, io->offset, io->what, e)
                   : as_read_all(io->fd, io->bytes, (size_t)io->count, io->offset, io->what, e);
    io->next = engine->done;
    engine->done = io;
}

static as_io *reap(as_engine *engine, as_error *e)
{
    (void)e; /* submit has told */
    as_io *io = engine->done;
    if (io) {
        engine->done = io->next;
    }
    return io;
}

static void close_engine(as_engine *engine)
{
    free(engine);
}

const as_engine_type as_engine_posix = {
    .name = "posix",
    .open = open_engine,
    .submit = submit,
    .reap = reap,
    .close = close_engine,
};
