/* SPDX-License-Identifier: Apache-2.0 */
#include "io/gds_engine.h"

#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/sys.h"
#include "io/gds_lane.h"
#include "io/gds_move.h"
#include "io/workers.h"

/* A thread waits while cuFile moves its bytes. */
enum { THREADS = 4 };

typedef struct gds_engine {
    as_gds_options o;
    as_engine *other;
    as_workers *workers;
    as_gds_mover mover;
    pthread_mutex_t lock; /* of the lanes */
    as_gds_lane *lanes;
    char told[320];
} gds_engine;

/* Behind the type that all engines share. */
static gds_engine *mine(const as_engine *engine)
{
    return (gds_engine *)(uintptr_t)engine; /* NOLINT(performance-no-int-to-ptr) */
}

/* ---- lanes: as many as there are threads at work in a context ---- */

static as_gds_lane *spare_lane(gds_engine *g, const as_io_device *where)
{
    (void)pthread_mutex_lock(&g->lock);
    as_gds_lane *l = g->lanes;
    while (l && (l->busy || l->context != where->context)) {
        l = l->next;
    }
    if (l) {
        l->busy = true;
    }
    (void)pthread_mutex_unlock(&g->lock);
    return l;
}

/* With the context current. */
static int take_lane(gds_engine *g, const as_io_device *where, as_gds_lane **out, as_error *e)
{
    *out = spare_lane(g, where);
    if (*out) {
        return AS_OK;
    }
    int code = as_gds_lane_open(out, g->o.cuda, where->context, e);
    if (code == AS_OK) {
        (void)pthread_mutex_lock(&g->lock);
        (*out)->busy = true;
        (*out)->next = g->lanes;
        g->lanes = *out;
        (void)pthread_mutex_unlock(&g->lock);
    }
    return code;
}

static void give_lane(gds_engine *g, as_gds_lane *l)
{
    (void)pthread_mutex_lock(&g->lock);
    l->busy = false;
    (void)pthread_mutex_unlock(&g->lock);
}

static int push(const gds_engine *g, as_cu_context context, as_error *e)
{
    as_cu_result r = g->o.cuda->context_push(context);
    return r ? as_cuda_fail(e, g->o.cuda, "cuCtxPushCurrent", r, "for GPU-direct") : AS_OK;
}

/* It is popped in any case: a failure is that of something else. */
static void pop(const gds_engine *g)
{
    as_cu_context old;
    (void)g->o.cuda->context_pop(&old);
}

static int work(void *user, as_io *io, as_error *e)
{
    gds_engine *g = user;
    as_gds_lane *lane = NULL;
    int code = push(g, io->device->context, e);
    if (code != AS_OK) {
        return code;
    }
    code = take_lane(g, io->device, &lane, e);
    if (code == AS_OK) {
        code = as_gds_move(&g->mover, lane, io, e);
        give_lane(g, lane);
    }
    pop(g);
    return code;
}

/* ---- the engine ---- */

static void close_lanes(gds_engine *g)
{
    while (g->lanes) {
        as_gds_lane *l = g->lanes;
        g->lanes = l->next;
        bool current = push(g, l->context, NULL) == AS_OK;
        as_gds_lane_close(l);
        if (current) {
            pop(g);
        }
    }
}

static void close_engine(as_engine *engine)
{
    gds_engine *g = mine(engine);
    if (!g) {
        return;
    }
    as_workers_close(g->workers);
    close_lanes(g);
    if (g->other) {
        g->o.other->close(g->other);
    }
    as_gds_mover_free(&g->mover);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
}

static int open_engine(as_engine **out, const as_engine_options *options, as_error *e)
{
    if (!options->gds) {
        return as_fail(e, AS_INTERNAL, 0, "the engine gds was opened without a device");
    }
    gds_engine *g = calloc(1, sizeof *g);
    if (!g) {
        return as_fail_nomem(e);
    }
    g->o = *options->gds;
    as_gds_mover_init(&g->mover, g->o.cuda, g->o.cufile);
    (void)pthread_mutex_init(&g->lock, NULL);
    int code = g->o.other->open(&g->other, options, e);
    if (code == AS_OK) {
        int threads = options->threads > 0 ? options->threads : THREADS;
        code = as_workers_open(&g->workers, threads, work, g, options->trace, e);
    }
    if (code != AS_OK) {
        close_engine((as_engine *)(void *)g);
        return code;
    }
    *out = (as_engine *)(void *)g;
    return AS_OK;
}

static int attach(as_engine *engine, as_io_file *file, as_error *e)
{
    const gds_engine *g = mine(engine);
    file->gds = NULL;
    return g->o.other->attach(g->other, file, e);
}

static void detach(as_engine *engine, as_io_file *file)
{
    gds_engine *g = mine(engine);
    if (file->gds) {
        bool current = push(g, g->o.context, NULL) == AS_OK;
        as_gds_file_close(&g->mover, file);
        if (current) {
            pop(g);
        }
    }
    g->o.other->detach(g->other, file);
}

/* Files are registered when the first bytes of a device go to them. */
static void open_file(gds_engine *g, as_io_file *file)
{
    as_error e = AS_ERROR_INIT;
    if (file->gds || !as_gds_mover_on(&g->mover)) {
        return;
    }
    if (push(g, g->o.context, &e) != AS_OK) {
        as_gds_mover_stop(&g->mover, as_error_text(&e));
        as_error_clear(&e);
        return;
    }
    as_gds_file_open(&g->mover, file);
    pop(g);
}

static void submit(as_engine *engine, as_io *io)
{
    gds_engine *g = mine(engine);
    if (io->device) {
        open_file(g, io->file);
        as_workers_submit(g->workers, io);
    } else {
        g->o.other->submit(g->other, io);
    }
}

static as_io *reap(as_engine *engine, as_error *e)
{
    gds_engine *g = mine(engine);
    as_io *io = as_workers_reap(g->workers, e);
    return io ? io : g->o.other->reap(g->other, e);
}

static const char *used(const as_engine *engine, const char **reason)
{
    gds_engine *g = mine(engine);
    const char *others = NULL;
    const char *name = g->o.other->used(g->other, &others);
    char text[AS_GDS_REASON];
    as_gds_mover_reason(&g->mover, text);
    bool on = as_gds_mover_on(&g->mover) && as_gds_mover_bytes(&g->mover) > 0;
    if (on) {
        (void)snprintf(g->told, sizeof g->told, "%s", text);
    } else if (as_gds_mover_on(&g->mover)) {
        (void)snprintf(g->told, sizeof g->told, "GPU-direct: no block was a device's alone%s%s",
                       others ? "; " : "", others ? others : "");
    } else {
        (void)snprintf(g->told, sizeof g->told, "GPU-direct%s: %s%s%s",
                       as_gds_mover_bytes(&g->mover) > 0 ? ", at first" : "", text,
                       others ? "; " : "", others ? others : "");
    }
    *reason = g->told[0] ? g->told : NULL;
    return on ? "gds" : name;
}

const as_engine_type as_engine_gds = {
    .name = "gds",
    .open = open_engine,
    .attach = attach,
    .detach = detach,
    .submit = submit,
    .reap = reap,
    .used = used,
    .close = close_engine,
};

bool as_gds_engine_on(const as_engine *engine)
{
    return as_gds_mover_on(&mine(engine)->mover);
}

void as_gds_engine_stop(as_engine *engine, const char *why)
{
    as_gds_mover_stop(&mine(engine)->mover, why);
}

void as_gds_engine_note(as_engine *engine, const char *text)
{
    as_gds_mover_note(&mine(engine)->mover, text);
}
