/* SPDX-License-Identifier: Apache-2.0
 * A run from layout to layout, and what comes before and after: room, folder, contexts. The turns
 * that are made with each layout are in bench_turns.c.
 */
#include <stdio.h>
#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/checked.h"
#include "cli/bench.h"
#include "cli/bench_nonblocking.h"
#include "cli/bench_state.h"
#include "cli/bench_turns.h"

/* The pieces of this rank as `layout` spreads them. Collective. */
static int make_state(as_bench *b, const as_layout *layout, const as_spread *with, bool here,
                      as_bench_state *s, as_error *e)
{
    *s = (as_bench_state){.tensors = &b->tensors,
                          .layout = layout,
                          .casts = &b->casts,
                          .where = &b->memory_of,
                          .rank = b->tool->world.rank};
    if (here) {
        (void)as_bench_state_make(s, with->context, b->save.align, e);
    }
    return as_world_agree(&b->tool->world, e);
}

/* What was saved makes room for what others load, on those too that have nothing more to do. */
static int make_load_state(as_bench *b, as_bench_layout *l, as_bench_state *s, as_error *e)
{
    as_bench_state_free(s);
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
    int code = as_world_agree(&b->tool->world, e);
    return code == AS_OK ? make_state(b, &l->load_layout, b->loaders.with, b->loaders.here, s, e)
                         : code;
}

/* All saves before all loads: dropping caches before a load would make the next save read what it
 * needs of the file system and of the program, which no save of a running job has to. */
static int run_blocking(const as_turns *t, as_error *e)
{
    int code = as_turns_of_saves(t, e);
    if (code == AS_OK && t->bench->loaders.apart) {
        code = make_load_state(t->bench, t->layout, t->state, e);
    }
    return code == AS_OK ? as_turns_of_loads(t, e) : code;
}

static int run_layout(as_bench *b, size_t number, as_error *e)
{
    as_bench_layout *l = &b->layouts[number];
    as_bench_state state;
    as_buffer files = AS_BUFFER_INIT;
    char name[256];
    (void)snprintf(name, sizeof name, "%zu.%.200s", number + 1, l->name);
    as_turns turns = {.bench = b, .layout = l, .state = &state, .name = name, .files = &files};
    int code = make_state(b, &l->layout, &b->spread, true, &state, e);
    if (code == AS_OK) {
        code = b->nonblocking ? as_turns_nonblocking(&turns, e) : run_blocking(&turns, e);
    }
    if (code == AS_OK && !b->keep) {
        code = as_turns_clear(&turns, e);
    }
    as_bench_state_free(&state);
    as_buffer_free(&files);
    return code;
}

/* -------------------------------------------------------------- before and after */

enum { DEFAULT_POOL = 64 << 20, SLACK = 32 << 20 };

/* The most that one layout spreads to this rank, for the saves or for the loads. */
static int64_t most_pieces(const as_bench *b, bool loads)
{
    int rank = b->tool->world.rank;
    int64_t most = 0;
    for (size_t i = 0; i < b->layout_count && (!loads || rank < b->load_ranks); i++) {
        const as_bench_layout *l = &b->layouts[i];
        const as_layout *held = loads ? &l->load_layout : &l->layout;
        most = as_max_i64(most, as_bench_state_bytes(&b->tensors, held, rank));
    }
    return most;
}

/* At one time there is one checkpoint on disk, or plain files of its size, besides those of other
 * layouts that are kept; and in memory what one layout spreads, for the saves or for the loads. Ranks
 * that load with a context of their own keep a pool for each of the two. */
static int check_room(as_bench *b, as_error *e)
{
    int64_t pools = b->tool->world.rank < b->load_ranks ? 2 : 1;
    int64_t pool = b->memory > 0 ? b->memory : DEFAULT_POOL;
    int64_t count = b->keep ? (int64_t)b->layout_count : 1;
    int64_t disk = INT64_MAX;
    if (!as_mul_i64(b->stored_bytes + b->stored_bytes / 128 + SLACK, count, &disk)) {
        disk = INT64_MAX;
    }
    int code = AS_OK;
    int phases = b->load_ranks > 0 ? 2 : 1; /* saves, and loads that hold something else */
    for (int phase = 0; phase < phases && code == AS_OK; phase++) {
        int64_t memory = INT64_MAX;
        int64_t pieces = most_pieces(b, phase == 1);
        int64_t copies = b->nonblocking ? as_nonblocking_memory(b, pieces) : 0;
        if (!as_mul_i64(pool, pools, &memory) || !as_add_i64(memory, pieces, &memory) ||
            !as_add_i64(memory, copies, &memory) ||
            !as_add_i64(memory, AS_PLAIN_STEP + SLACK, &memory)) {
            memory = INT64_MAX;
        }
        code = as_bench_room(&b->tool->world, &b->on, b->directory, memory, disk, e);
    }
    return code;
}

static int open_all(as_bench *b, as_error *e)
{
    as_world *w = &b->tool->world;
    int code = as_bench_folder_make(&b->folder, w, b->directory, e);
    if (code != AS_OK) {
        return code;
    }
    (void)as_bench_place_look(b->folder.fd, b->directory, &b->on, e);
    (void)as_plain_open(&b->plain, w->rank, e);
    code = as_world_agree(w, e);
    code = code == AS_OK ? as_world_hosts(w, &b->hosts, &b->first_of_host, e) : code;
    code = code == AS_OK ? check_room(b, e) : code;
    code = code == AS_OK ? as_bench_memory_open(&b->memory_of, b->device, w, e) : code;
    if (code == AS_OK && b->nonblocking) {
        code = as_bench_cpus_choose(&b->cpus, w, b->save.cpus, e);
    }
    allshard_options options = {
        .size = sizeof options,
        .log = as_output_log,
        .log_user = &b->tool->out,
        .memory = b->memory,
        .snapshot_memory = b->snapshot_memory,
        .trace = b->trace != NULL,
    };
    code = code == AS_OK ? as_spread_start(&b->spread, b->tool, NULL, &options, e) : code;
    return code == AS_OK
               ? as_bench_loaders_open(&b->loaders, b->load_ranks, b->tool, &b->spread, &options, e)
               : code;
}

int as_bench_run(as_bench *b, as_error *e)
{
    b->chilled = b->nonblocking ? 0 : AS_CHILL_FILES | AS_CHILL_SYSTEM;
    b->peak_reset = true;
    b->steps = (int64_t)b->layout_count * (b->nonblocking
                                               ? as_nonblocking_steps(b)
                                               : (int64_t)(2 + b->repeat * (b->baseline ? 5 : 2)));
    int code = open_all(b, e);
    as_progress_begin(&b->progress, &b->tool->out, "measuring");
    for (size_t i = 0; i < b->layout_count && code == AS_OK; i++) {
        code = run_layout(b, i, e);
    }
    as_progress_end(&b->progress);
    if (code == AS_OK && b->trace) {
        code = allshard_trace_write(b->spread.context, b->trace);
        code = code == AS_OK ? AS_OK : as_spread_error(&b->spread, code, e);
    }
    as_bench_loaders_close(&b->loaders);
    as_spread_close(&b->spread);
    as_plain_close(&b->plain);
    as_bench_memory_close(&b->memory_of);
    (void)as_bench_folder_end(&b->folder, &b->tool->world, b->keep && code == AS_OK, e);
    return e->code;
}
