/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_report.h"

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* A value that is missing for lack of memory makes its object NULL, and so on upwards. */
static void put(json_t **object, const char *key, json_t *value)
{
    if (!*object) {
        json_decref(value);
    } else if (!value || json_object_set_new(*object, key, value) != 0) {
        json_decref(*object);
        *object = NULL;
    }
}

static json_t *text(const char *string)
{
    return as_json_text(string, strlen(string));
}

static json_t *metric(const as_sample *samples, size_t count, enum as_metric m, double *scratch)
{
    as_summary s = as_summarize(samples, count, m, scratch);
    json_t *all = json_array();
    for (size_t i = 0; i < count && all; i++) {
        if (json_array_append_new(all, number(samples[i].value[m])) != 0) {
            json_decref(all);
            all = NULL;
        }
    }
    json_t *object = json_object();
    put(&object, "median", number(s.median));
    put(&object, "min", number(s.least));
    put(&object, "q1", number(s.quarter));
    put(&object, "q3", number(s.three_quarters));
    put(&object, "max", number(s.most));
    put(&object, "samples", all);
    return object;
}

/* Which of the groups a run has; of its first turn, where little is compared. */
static bool is_wanted(const as_bench *b, enum as_metric m, bool first_turn)
{
    if (m >= AS_M_COPY_GIB_S) {
        bool flight = m >= AS_M_FLIGHT_BLOCKING_S && m < AS_M_LOOP_PER_S;
        return b->nonblocking && (flight || !first_turn);
    }
    if (m >= AS_M_DIRECT_GIB_S) {
        return b->baseline && !first_turn;
    }
    return m < AS_M_LOAD_GIB_S || !b->nonblocking;
}

/* All groups of metrics; of the first turn as plain numbers. */
static void put_groups(json_t **object, const as_bench *b, const as_bench_layout *l,
                       bool first_turn, double *scratch)
{
    for (int m = 0; m < AS_METRIC_COUNT;) {
        const char *group = as_metric_group((enum as_metric)m);
        json_t *members = json_object();
        bool wanted = is_wanted(b, (enum as_metric)m, first_turn);
        for (; m < AS_METRIC_COUNT && strcmp(as_metric_group((enum as_metric)m), group) == 0; m++) {
            put(&members, as_metric_key((enum as_metric)m),
                first_turn ? number(l->first.value[m])
                           : metric(l->samples, b->repeat, (enum as_metric)m, scratch));
        }
        if (wanted) {
            put(object, group, members);
        } else {
            json_decref(members);
        }
    }
}

static json_t *layout_json(const as_bench *b, const as_bench_layout *l, double *scratch)
{
    json_t *first = json_object();
    put_groups(&first, b, l, true, scratch);
    json_t *object = json_object();
    put(&object, "layout", text(l->name));
    put(&object, "checkpoint_bytes", json_integer(l->bytes));
    put(&object, "shards", json_integer(l->files));
    put(&object, "engine", text(l->saved.engine));
    put(&object, "engine_reason", text(l->saved.reason));
    put(&object, "load_engine", text(l->loaded.engine));
    put(&object, "load_engine_reason", text(l->loaded.reason));
    put(&object, "verified_loads",
        json_integer((json_int_t)(b->repeat + 1) * (b->nonblocking ? 2 : 1)));
    if (b->nonblocking) {
        put(&object, "staging", text(l->stream ? "stream" : "snapshot"));
        put(&object, "staging_reason", text(l->staging_reason));
        put(&object, "nonblocking_engine", text(l->flown.engine));
        put(&object, "nonblocking_engine_reason", text(l->flown.reason));
    }
    put(&object, "first", first);
    put_groups(&object, b, l, false, scratch);
    if (b->baseline) {
        put(&object, "plain_direct_refused", json_boolean(l->direct_refused));
        put(&object, "plain_read_direct", json_boolean(!l->direct_read_refused));
    }
    return object;
}

static json_t *options_json(const as_bench *b)
{
    const allshard_save_options *s = &b->save;
    json_t *object = json_object();
    put(&object, "engine", text(s->engine ? s->engine : "auto"));
    put(&object, "align", json_integer(s->align));
    put(&object, "checksum", text(s->checksum == ALLSHARD_CHECKSUM_NONE ? "none" : "xxh3"));
    put(&object, "verify_after_write", json_boolean(s->verify_after_write));
    put(&object, "check", json_boolean(b->load_checksum != ALLSHARD_CHECKSUM_NONE));
    put(&object, "max_shard_size", text(s->max_shard_size ? s->max_shard_size : "5GB"));
    put(&object, "block_size", json_integer(s->block_bytes));
    put(&object, "memory", json_integer(b->memory));
    put(&object, "writers_per_node", json_integer(s->writers_per_node));
    put(&object, "creators", json_integer(s->creators));
    put(&object, "stripe_count", json_integer(s->stripe_count));
    put(&object, "stripe_size", json_integer(s->stripe_bytes));
    if (b->nonblocking) {
        static const char *const staging[] = {"auto", "snapshot", "stream"};
        const char *cpus = s->cpus ? s->cpus : b->cpus.background;
        put(&object, "staging", text(staging[s->staging]));
        put(&object, "snapshot_memory", json_integer(b->snapshot_memory));
        put(&object, "loop_cpu", b->cpus.loop >= 0 ? json_integer(b->cpus.loop) : json_null());
        put(&object, "cpus", cpus ? text(cpus) : json_null());
        put(&object, "io_threads", json_integer(s->io_threads));
        put(&object, "copy_threads", json_integer(s->copy_threads));
        put(&object, "io_priority", s->io_priority ? text(s->io_priority) : json_null());
        put(&object, "bandwidth", json_integer(s->bandwidth));
    }
    return object;
}

int as_bench_json(const as_bench *b, as_error *e)
{
    double *scratch = calloc(b->repeat, sizeof *scratch);
    if (!scratch) {
        return as_fail_nomem(e);
    }
    int ranks = b->tool->world.size;
    json_t *layouts = json_array();
    for (size_t i = 0; i < b->layout_count && layouts; i++) {
        if (json_array_append_new(layouts, layout_json(b, &b->layouts[i], scratch)) != 0) {
            json_decref(layouts);
            layouts = NULL;
        }
    }
    free(scratch);
    json_t *object = json_object();
    put(&object, "version", text(allshard_version()));
    put(&object, "directory", text(b->directory));
    put(&object, "file_system", text(b->on.name));
    put(&object, "model", text(b->model));
    put(&object, "tensors", json_integer((json_int_t)as_tensors_count(&b->tensors)));
    put(&object, "tensor_bytes", json_integer(b->stored_bytes));
    put(&object, "memory_bytes", json_integer(b->tensors.bytes));
    put(&object, "casts", as_casts_json(&b->casts, &b->tensors));
    put(&object, "ranks", json_integer(ranks));
    put(&object, "load_ranks", json_integer(b->load_ranks > 0 ? b->load_ranks : ranks));
    put(&object, "hosts", json_integer(b->hosts));
    put(&object, "repeat", json_integer((json_int_t)b->repeat));
    put(&object, "device", b->memory_of.name[0] ? text(b->memory_of.name) : json_null());
    put(&object, "nonblocking", json_boolean(b->nonblocking));
    put(&object, "caches", text(as_bench_chill_text(b)));
    put(&object, "peak_reset", json_boolean(b->peak_reset));
    put(&object, "options", options_json(b));
    put(&object, "layouts", layouts);
    b->tool->result = object;
    return object ? AS_OK : as_fail_nomem(e);
}
