/* SPDX-License-Identifier: Apache-2.0
 * The engines by name. Which of their parts does the work is settled when they open, and
 * may change when something is refused.
 */
#include <stdlib.h>
#include <string.h>

#include "io/direct.h"
#include "io/engine.h"
#include "io/posix.h"
#include "io/uring.h"

struct as_engine {
    as_direct *direct;
    as_uring *ring;  /* or: */
    as_posix *posix; /* one of the two */
};

static void close_engine(as_engine *engine)
{
    if (!engine) {
        return;
    }
    as_uring_close(engine->ring);
    as_posix_close(engine->posix);
    as_direct_close(engine->direct);
    free(engine);
}

static int open_parts(as_engine **out, const as_engine_options *options, bool direct, bool ring,
                      as_error *e)
{
    as_engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        return as_fail_nomem(e);
    }
    int code = as_direct_open(&engine->direct, options, direct, e);
    if (code == AS_OK && ring) {
        code = as_uring_open(&engine->ring, options, engine->direct, e);
    }
    if (code == AS_OK && !engine->ring) {
        code = as_posix_open(&engine->posix, options, engine->direct, e);
    }
    if (code != AS_OK) {
        close_engine(engine);
        return code;
    }
    *out = engine;
    return AS_OK;
}

static int open_posix(as_engine **out, const as_engine_options *options, as_error *e)
{
    return open_parts(out, options, false, false, e);
}

static int open_direct(as_engine **out, const as_engine_options *options, as_error *e)
{
    return open_parts(out, options, options->direct, false, e);
}

static int open_uring(as_engine **out, const as_engine_options *options, as_error *e)
{
    return open_parts(out, options, options->direct, true, e);
}

static int attach(as_engine *engine, as_io_file *file, as_error *e)
{
    return as_direct_attach(engine->direct, file, e);
}

static void detach(as_engine *engine, as_io_file *file)
{
    (void)engine;
    as_direct_detach(file);
}

static void submit(as_engine *engine, as_io *io)
{
    if (engine->ring) {
        as_uring_submit(engine->ring, io);
    } else {
        as_posix_submit(engine->posix, io);
    }
}

static as_io *reap(as_engine *engine, as_error *e)
{
    return engine->ring ? as_uring_reap(engine->ring, e) : as_posix_reap(engine->posix, e);
}

static const char *used(const as_engine *engine, const char **reason)
{
    bool direct = as_direct_used(engine->direct, reason);
    if (engine->ring && as_uring_alive(engine->ring)) {
        return "uring";
    }
    return direct ? "direct" : "posix";
}

const as_engine_type as_engine_posix = {
    .name = "posix",
    .open = open_posix,
    .attach = attach,
    .detach = detach,
    .submit = submit,
    .reap = reap,
    .used = used,
    .close = close_engine,
};

const as_engine_type as_engine_direct = {
    .name = "direct",
    .open = open_direct,
    .attach = attach,
    .detach = detach,
    .submit = submit,
    .reap = reap,
    .used = used,
    .close = close_engine,
};

const as_engine_type as_engine_uring = {
    .name = "uring",
    .open = open_uring,
    .attach = attach,
    .detach = detach,
    .submit = submit,
    .reap = reap,
    .used = used,
    .close = close_engine,
};

const as_engine_type *as_engine_by_name(const char *name)
{
    static const as_engine_type *const all[] = {&as_engine_posix, &as_engine_direct,
                                                &as_engine_uring};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}
