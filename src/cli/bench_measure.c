/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_measure.h"

#include "cli/bench_collect.h"

static const as_places save_places = {
    AS_PLACES_COMMON(SAVE),       .seconds = AS_M_SAVE_DURABLE_S, .blocking = AS_M_SAVE_BLOCKING_S,
    .counts = AS_M_SAVE_COUNTS_S, .clean = AS_M_SAVE_CLEAN_S,     .written = AS_M_SAVE_WRITTEN,
    .staged = AS_METRIC_COUNT,    .snapshot = AS_METRIC_COUNT,    .touched = AS_METRIC_COUNT,
};

static const as_places load_places = {
    AS_PLACES_COMMON(LOAD),    .seconds = AS_M_LOAD_S,      .blocking = AS_METRIC_COUNT,
    .counts = AS_METRIC_COUNT, .clean = AS_METRIC_COUNT,    .written = AS_METRIC_COUNT,
    .staged = AS_METRIC_COUNT, .snapshot = AS_METRIC_COUNT, .touched = AS_METRIC_COUNT,
};

int as_measure_path(const as_bench *b, as_world *w, const char *name, as_buffer *out, as_error *e)
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
    int code = as_measure_path(b, all.world, name, &path, e);
    code = code == AS_OK ? as_timing_start(b, all.world, &t, e) : code;
    if (code == AS_OK) {
        code = allshard_save(s->state, path.data, &b->save);
        t.blocking = as_seconds() - t.begin;
        code = as_timing_stop(&all, &t, code, e);
    }
    as_buffer_free(&path);
    if (code != AS_OK) {
        return code;
    }
    allshard_stats own;
    (void)as_collect_stats(all.with, all.world->rank, &own, e);
    t.seconds = t.blocking - own.clean_s;
    code = as_world_agree(all.world, e);
    return code == AS_OK ? as_collect(b, &all, &t, &save_places, out, &l->saved, e) : code;
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
    int code = as_measure_path(b, loaders.world, name, &path, e);
    code = code == AS_OK ? as_timing_start(b, loaders.world, &t, e) : code;
    if (code == AS_OK) {
        code = allshard_load(s->state, path.data, &load);
        t.seconds = t.blocking = as_seconds() - t.begin;
        code = as_timing_stop(&loaders, &t, code, e);
    }
    as_buffer_free(&path);
    return code == AS_OK ? as_collect(b, &loaders, &t, &load_places, out, &l->loaded, e) : code;
}
