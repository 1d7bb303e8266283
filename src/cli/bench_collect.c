/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_collect.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

/* A rank may sleep when the last one comes to an agreement, and leave it a millisecond later. Each
 * further one shortens that to a part. */
enum { AGREEMENTS = 4 };

int as_timing_start(as_bench *b, as_world *w, as_timing *t, as_error *e)
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

int as_timing_stop(const as_doers *d, as_timing *t, int code, as_error *e)
{
    as_usage_end(&t->usage);
    return code == AS_OK ? AS_OK : as_spread_error(d->with, code, e);
}

static double known(int64_t value, bool is_known)
{
    return is_known ? (double)value : NAN;
}

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
    put_sum(out, p->staged, t->bytes_staged);
    put_sum(out, p->snapshot, t->snapshot_bytes);
    put_sum(out, p->touched, t->touched_bytes);
    put(out, p->cached, t->plan_cached);
}

int as_collect_stats(const as_spread *with, int rank, allshard_stats *out, as_error *e)
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
        code = as_collect_stats(with, r, &stats, e);
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

int as_collect(as_bench *b, const as_doers *d, const as_timing *t, const as_places *p,
               as_sample *out, as_worker *worker, as_error *e)
{
    const as_usage *u = &t->usage;
    int64_t most[] = {(int64_t)(t->seconds * 1e9),
                      (int64_t)(t->blocking * 1e9),
                      u->peak,
                      u->peak < 0,
                      u->written < 0,
                      u->read < 0,
                      !u->peak_reset};
    int64_t sums[] = {u->processor, as_max_i64(u->written, 0), as_max_i64(u->read, 0)};
    int code = as_world_max(d->world, most, sizeof most / sizeof *most, e);
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
