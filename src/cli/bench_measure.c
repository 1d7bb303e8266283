/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "cli/bench_usage.h"

/* What one rank sees of one call. */
typedef struct as_timing {
    as_usage usage;
    double begin;
    double call; /* seconds of the call */
} as_timing;

/* A rank may sleep when the last one comes to an agreement, and leave it a millisecond later. Each
 * further one shortens that to a part. */
enum { AGREEMENTS = 4 };

/* The ranks that save or load, `w`, leave this at about the same time, and nothing of before is left
 * to be done. */
static int start(as_bench *b, as_world *w, as_timing *t, as_error *e)
{
    int code = as_bench_settle(&b->folder, w, e);
    if (code != AS_OK) {
        return code;
    }
    as_usage_begin(&t->usage);
    for (int i = 0; i < AGREEMENTS && code == AS_OK; i++) {
        code = as_world_agree(w, e);
    }
    t->begin = as_seconds();
    return code;
}

static int stop(const as_spread *with, as_timing *t, int code, as_error *e)
{
    t->call = as_seconds() - t->begin;
    as_usage_end(&t->usage);
    return code == AS_OK ? AS_OK : as_spread_error(with, code, e);
}

static double known(int64_t value, bool is_known)
{
    return is_known ? (double)value : NAN;
}

/* Metrics of a save and, in the same places, of a load. */
typedef struct as_places {
    enum as_metric seconds, blocking, counts, plan, cached, begin, transfer, copy, checksum, io,
        sync, wait, commit, clean, processor, written, read, peak, sent, shared, uncopied;
} as_places;

static const as_places save_places = {
    .seconds = AS_M_SAVE_DURABLE_S,
    .blocking = AS_M_SAVE_BLOCKING_S,
    .counts = AS_M_SAVE_COUNTS_S,
    .plan = AS_M_SAVE_PLAN_S,
    .cached = AS_M_SAVE_PLAN_CACHED,
    .begin = AS_M_SAVE_BEGIN_S,
    .transfer = AS_M_SAVE_TRANSFER_S,
    .copy = AS_M_SAVE_COPY_S,
    .checksum = AS_M_SAVE_CHECKSUM_S,
    .io = AS_M_SAVE_IO_S,
    .sync = AS_M_SAVE_SYNC_S,
    .wait = AS_M_SAVE_WAIT_S,
    .commit = AS_M_SAVE_COMMIT_S,
    .clean = AS_M_SAVE_CLEAN_S,
    .processor = AS_M_SAVE_CPU_S,
    .written = AS_M_SAVE_WRITTEN,
    .read = AS_M_SAVE_READ,
    .peak = AS_M_SAVE_PEAK,
    .sent = AS_M_SAVE_SENT,
    .shared = AS_M_SAVE_SHARED,
    .uncopied = AS_M_SAVE_UNCOPIED,
};

static const as_places load_places = {
    .seconds = AS_M_LOAD_S,
    .blocking = AS_METRIC_COUNT,
    .counts = AS_METRIC_COUNT,
    .plan = AS_M_LOAD_PLAN_S,
    .cached = AS_M_LOAD_PLAN_CACHED,
    .begin = AS_M_LOAD_BEGIN_S,
    .transfer = AS_M_LOAD_TRANSFER_S,
    .copy = AS_M_LOAD_COPY_S,
    .checksum = AS_M_LOAD_CHECKSUM_S,
    .io = AS_M_LOAD_IO_S,
    .sync = AS_M_LOAD_SYNC_S,
    .wait = AS_M_LOAD_WAIT_S,
    .commit = AS_M_LOAD_COMMIT_S,
    .clean = AS_METRIC_COUNT,
    .processor = AS_M_LOAD_CPU_S,
    .written = AS_METRIC_COUNT,
    .read = AS_M_LOAD_READ,
    .peak = AS_M_LOAD_PEAK,
    .sent = AS_M_LOAD_SENT,
    .shared = AS_M_LOAD_SHARED,
    .uncopied = AS_M_LOAD_UNCOPIED,
};

static void put(as_sample *s, enum as_metric m, double value)
{
    if (m != AS_METRIC_COUNT) {
        s->value[m] = value;
    }
}

static void put_most(as_sample *s, enum as_metric m, double value)
{
    if (m != AS_METRIC_COUNT && !(s->value[m] >= value)) {
        s->value[m] = value;
    }
}

static void put_sum(as_sample *s, enum as_metric m, int64_t value)
{
    if (m != AS_METRIC_COUNT) {
        s->value[m] = (isnan(s->value[m]) ? 0 : s->value[m]) + (double)value;
    }
}

/* What the library tells of one rank. */
static void add_stats(const allshard_stats *t, const as_places *p, as_sample *out)
{
    put_most(out, p->counts, t->durable_s);
    put_most(out, p->plan, t->plan_s);
    put_most(out, p->begin, t->begin_s);
    put_most(out, p->transfer, t->transfer_s);
    put_most(out, p->copy, t->copy_s);
    put_most(out, p->checksum, t->checksum_s);
    put_most(out, p->io, t->io_s);
    put_most(out, p->sync, t->sync_s);
    put_most(out, p->wait, t->wait_s);
    put_most(out, p->commit, t->commit_s);
    put_most(out, p->clean, t->clean_s);
    put_sum(out, p->sent, t->bytes_sent);
    put_sum(out, p->shared, t->bytes_shared);
    put_sum(out, p->uncopied, t->bytes_direct);
    put(out, p->cached, t->plan_cached);
}

static int get_stats(const as_spread *with, int rank, allshard_stats *out, as_error *e)
{
    *out = (allshard_stats){.size = sizeof *out};
    int code = allshard_get_stats(with->context, rank, out);
    return code == AS_OK ? AS_OK
                         : as_fail(e, code, 0, "the library keeps no figures of rank %d: %s", rank,
                                   as_code_text(code));
}

/* Rank 0. The engine is told of all ranks: one that fell back is what to look at. */
static int look_at_all(const as_spread *with, int ranks, const as_places *p, as_sample *out,
                       as_worker *worker, as_error *e)
{
    int code = AS_OK;
    for (int r = 0; r < ranks && code == AS_OK; r++) {
        allshard_stats stats;
        code = get_stats(with, r, &stats, e);
        if (code != AS_OK) {
            return code;
        }
        add_stats(&stats, p, out);
        const char *engine = stats.engine ? stats.engine : "";
        const char *reason = stats.engine_reason ? stats.engine_reason : "";
        if (r == 0) {
            (void)snprintf(worker->engine, sizeof worker->engine, "%s", engine);
            (void)snprintf(worker->reason, sizeof worker->reason, "%s", reason);
        } else if (*engine && strcmp(worker->engine, engine) != 0) {
            (void)snprintf(worker->engine, sizeof worker->engine, "mixed");
            (void)snprintf(worker->reason, sizeof worker->reason, "rank %d: %s: %.180s", r, engine,
                           reason);
        }
    }
    return code;
}

/* Ranks that did something together, and the context that they did it with. */
typedef struct as_doers {
    as_world *world;
    const as_spread *with;
} as_doers;

/* All of them learn what took longest, and the sums. Collective over them. */
static int collect(as_bench *b, const as_doers *d, const as_timing *t, const as_places *p,
                   as_sample *out, as_worker *worker, as_error *e)
{
    const as_usage *u = &t->usage;
    allshard_stats own;
    (void)get_stats(d->with, d->world->rank, &own, e);
    int code = as_world_agree(d->world, e);
    if (code != AS_OK) {
        return code;
    }
    double durable = t->call - (p->clean == AS_METRIC_COUNT ? 0 : own.clean_s);
    int64_t most[] = {(int64_t)(durable * 1e9),
                      (int64_t)(t->call * 1e9),
                      u->peak,
                      u->peak < 0,
                      u->written < 0,
                      u->read < 0,
                      !u->peak_reset};
    int64_t sums[] = {u->processor, as_max_i64(u->written, 0), as_max_i64(u->read, 0)};
    code = as_world_max(d->world, most, sizeof most / sizeof *most, e);
    code = code == AS_OK ? as_world_sum(d->world, sums, sizeof sums / sizeof *sums, e) : code;
    if (code != AS_OK) {
        return code;
    }
    put(out, p->seconds, (double)most[0] * 1e-9);
    put(out, p->blocking, (double)most[1] * 1e-9);
    put(out, p->peak, known(most[2], !most[3]));
    /* Of a save that wrote nothing the kernel counts nothing, such as on tmpfs. */
    bool counts = p->written == AS_METRIC_COUNT || sums[1] > 0;
    put(out, p->written, known(sums[1], !most[4] && counts));
    put(out, p->read, known(sums[2], !most[5] && counts));
    put(out, p->processor, (double)sums[0] * 1e-9);
    b->peak_reset = b->peak_reset && !most[6];
    if (d->world->rank == 0) {
        (void)look_at_all(d->with, d->world->size, p, out, worker, e);
    }
    return as_world_agree(d->world, e);
}

static int path_of(const as_bench *b, as_world *w, const char *name, as_buffer *out, as_error *e)
{
    (void)as_buffer_format(out, e, "%s/%s", b->folder.path, name);
    return as_world_agree(w, e);
}

int as_measure_save(as_bench *b, as_bench_layout *l, const as_bench_state *s, const char *name,
                    as_sample *out, as_error *e)
{
    as_doers all = {&b->tool->world, &b->spread};
    as_timing t;
    as_buffer path = AS_BUFFER_INIT;
    int code = path_of(b, all.world, name, &path, e);
    code = code == AS_OK ? start(b, all.world, &t, e) : code;
    if (code == AS_OK) {
        code = stop(all.with, &t, allshard_save(s->state, path.data, &b->save), e);
    }
    as_buffer_free(&path);
    return code == AS_OK ? collect(b, &all, &t, &save_places, out, &l->saved, e) : code;
}

int as_measure_load(as_bench *b, as_bench_layout *l, const as_bench_state *s, const char *name,
                    as_sample *out, as_error *e)
{
    as_doers loaders = {&b->loaders.world, b->loaders.with};
    as_timing t;
    as_buffer path = AS_BUFFER_INIT;
    allshard_load_options load = {
        .size = sizeof load,
        .block_bytes = b->save.block_bytes,
        .engine = b->save.engine,
        .checksum = b->load_checksum,
    };
    int code = path_of(b, loaders.world, name, &path, e);
    code = code == AS_OK ? start(b, loaders.world, &t, e) : code;
    if (code == AS_OK) {
        code = stop(loaders.with, &t, allshard_load(s->state, path.data, &load), e);
    }
    as_buffer_free(&path);
    return code == AS_OK ? collect(b, &loaders, &t, &load_places, out, &l->loaded, e) : code;
}
