/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_nonblocking.h"

#include "base/checked.h"
#include "cli/bench_flight.h"

static const double gib = 1024.0 * 1024.0 * 1024.0;
static const double gb = 1e9;

int64_t as_nonblocking_steps(const as_bench *b)
{
    return 2 + 3 * (int64_t)b->repeat;
}

int64_t as_nonblocking_memory(const as_bench *b, int64_t pieces)
{
    int64_t share = as_max_i64(pieces, as_ceil_div(b->stored_bytes, b->tool->world.size));
    int64_t snapshot = b->snapshot_memory > 0 ? as_min_i64(b->snapshot_memory, share) : share;
    return as_add_i64(share, snapshot, &share) ? share : INT64_MAX;
}

/* What a nonblocking save has of one layout, from the first turn to the last. */
struct hangar {
    as_flight flight;
    as_plain_target target;
};

/* Outside of all clocks. */
static int verify(const as_turns *t, as_error *e)
{
    as_sample unused;
    as_sample_init(&unused);
    return as_turns_load(t, &unused, e);
}

static int copy(const as_turns *t, const struct hangar *h, as_sample *out, as_error *e)
{
    as_plain_result r;
    int code = as_turns_step(t->bench, e);
    code =
        code == AS_OK ? as_plain_copy(&t->bench->tool->world, t->state, &h->target, &r, e) : code;
    if (code == AS_OK) {
        out->value[AS_M_COPY_S] = r.seconds;
        out->value[AS_M_COPY_CPU_S] = r.processor;
        out->value[AS_M_COPY_GIB_S] = (double)r.bytes / gib / r.seconds;
    }
    return code;
}

/* The loop alone comes next to the save, before anything is loaded. */
static int fly(const as_turns *t, struct hangar *h, bool first, as_sample *out, as_error *e)
{
    double *v = out->value;
    int code = as_turns_step(t->bench, e);
    code = code == AS_OK ? as_flight_save(t, &h->flight, first, out, e) : code;
    code = code == AS_OK ? as_flight_alone(t, &h->flight, out, e) : code;
    code = code == AS_OK ? as_turns_look(t, e) : code;
    v[AS_M_FLIGHT_CPU_S_PER_GB] = v[AS_M_FLIGHT_CPU_S] / ((double)t->layout->bytes / gb);
    v[AS_M_FLIGHT_WRITTEN_RATIO] = v[AS_M_FLIGHT_WRITTEN] / (double)t->layout->bytes;
    return code == AS_OK ? verify(t, e) : code;
}

static int save(const as_turns *t, as_sample *out, as_error *e)
{
    int code = as_turns_clear(t, e);
    code = code == AS_OK ? as_turns_save(t, out, e) : code;
    return code == AS_OK ? verify(t, e) : code;
}

static int turn(const as_turns *t, struct hangar *h, as_sample *out, as_error *e)
{
    double *v = out->value;
    as_sample_init(out);
    int code = as_turns_clear(t, e);
    code = code == AS_OK ? copy(t, h, out, e) : code;
    code = code == AS_OK ? fly(t, h, false, out, e) : code;
    code = code == AS_OK ? save(t, out, e) : code;
    v[AS_M_BLOCKING_RATIO] = v[AS_M_FLIGHT_BLOCKING_S] / v[AS_M_COPY_S];
    v[AS_M_STAGED_CPU_RATIO] = v[AS_M_FLIGHT_STAGED_CPU_S] / v[AS_M_COPY_CPU_S];
    v[AS_M_DURABLE_RATIO] = v[AS_M_FLIGHT_DURABLE_S] / v[AS_M_SAVE_DURABLE_S];
    v[AS_M_LOOP_LOSS] = 100 * (1 - v[AS_M_LOOP_PER_S] / v[AS_M_LOOP_ALONE_PER_S]);
    v[AS_M_LOOP_CPU_LOSS] = 100 * (1 - v[AS_M_LOOP_PER_CPU_S] / v[AS_M_LOOP_ALONE_PER_CPU_S]);
    return code;
}

/* The weights are overwritten while the first save is in flight: what is loaded and compared then
 * must be what they were when it began. Plan, buffers and memory are new to it. */
static int first_turn(const as_turns *t, struct hangar *h, as_error *e)
{
    as_sample *first = &t->layout->first;
    as_sample_init(first);
    int code = fly(t, h, true, first, e);
    return code == AS_OK ? save(t, first, e) : code;
}

/* Memory for what this rank writes, as the plan has it. */
static int open_target(const as_turns *t, struct hangar *h, as_error *e)
{
    as_bench *b = t->bench;
    as_world *w = &b->tool->world;
    allshard_plan *plan = NULL;
    int code = allshard_plan_create(&plan, t->state->state, &b->save);
    if (code != AS_OK) {
        return as_spread_error(&b->spread, code, e);
    }
    int64_t bytes = allshard_plan_writer_bytes(plan, w->rank);
    allshard_plan_free(plan);
    (void)as_plain_target_open(&h->target, &b->memory_of, bytes, e);
    return as_world_agree(w, e);
}

int as_turns_nonblocking(const as_turns *t, as_error *e)
{
    struct hangar h = {0};
    (void)as_bench_loop_open(&h.flight.loop, e);
    int code = as_world_agree(&t->bench->tool->world, e);
    code = code == AS_OK ? first_turn(t, &h, e) : code;
    code = code == AS_OK ? open_target(t, &h, e) : code;
    for (size_t r = 0; r < t->bench->repeat && code == AS_OK; r++) {
        code = turn(t, &h, &t->layout->samples[r], e);
    }
    as_plain_target_close(&h.target, &t->bench->memory_of);
    as_bench_loop_close(&h.flight.loop);
    return code;
}
