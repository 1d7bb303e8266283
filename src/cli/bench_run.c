/* SPDX-License-Identifier: Apache-2.0
 * The repetitions: ours and the plain loops by turns, so that both meet the same minutes of a
 * machine whose speed changes from hour to hour.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/checked.h"
#include "cli/bench.h"
#include "cli/bench_measure.h"
#include "cli/bench_state.h"

volatile sig_atomic_t as_bench_stopped;

static const double gib = 1024.0 * 1024.0 * 1024.0;
static const double gb = 1e9;

/* Between two things that are measured. */
static int step(as_bench *b, as_error *e)
{
    as_progress_update(b->steps_done++, b->steps, &b->progress);
    int64_t stopped = as_bench_stopped;
    int code = as_world_max(&b->tool->world, &stopped, 1, e);
    if (code == AS_OK && stopped) {
        code = as_fail(e, AS_SYSTEM, 0, "stopped by a signal; the benchmark's files are removed");
    }
    return code;
}

/* --------------------------------------------------------------- ours: one turn */

static void rate(as_bench_layout *l, as_sample *s)
{
    double *v = s->value;
    double bytes = (double)l->bytes;
    v[AS_M_SAVE_GIB_S] = bytes / gib / v[AS_M_SAVE_DURABLE_S];
    v[AS_M_SAVE_CPU_S_PER_GB] = v[AS_M_SAVE_CPU_S] / (bytes / gb);
    v[AS_M_SAVE_WRITTEN_RATIO] = v[AS_M_SAVE_WRITTEN] / bytes;
    v[AS_M_LOAD_GIB_S] = bytes / gib / v[AS_M_LOAD_S];
    v[AS_M_LOAD_CPU_S_PER_GB] = v[AS_M_LOAD_CPU_S] / (bytes / gb);
    v[AS_M_LOAD_READ_RATIO] = v[AS_M_LOAD_READ] / bytes;
}

static void count_files(as_bench_layout *l, const as_buffer *files)
{
    const as_bench_file *file = (const void *)files->data;
    l->bytes = 0;
    l->files = 0;
    for (size_t i = 0; i < files->size / sizeof *file; i++) {
        l->bytes += file[i].bytes;
        l->files += file[i].tensors;
    }
}

static int save(as_bench *b, as_bench_layout *l, as_bench_state *s, const char *name,
                as_buffer *files, as_sample *out, as_error *e)
{
    int code = step(b, e);
    code = code == AS_OK ? as_measure_save(b, l, s, name, out, e) : code;
    code =
        code == AS_OK ? as_bench_folder_files(&b->folder, &b->tool->world, name, files, e) : code;
    if (code == AS_OK) {
        count_files(l, files);
        rate(l, out);
    }
    return code;
}

static int chill(as_bench *b, const char *name, const as_buffer *files, as_error *e)
{
    int done = 0;
    /* The caches are those of a host. */
    int ways = b->first_of_host ? AS_CHILL_FILES | AS_CHILL_SYSTEM : 0;
    int code = as_bench_chill(&b->folder, &b->tool->world, name, files, ways, &done, e);
    b->chilled &= done;
    return code;
}

/* Ranks that do not load sleep in the agreement, which looks at its messages once a millisecond,
 * until the others come to it. */
static int load(as_bench *b, as_bench_layout *l, as_bench_state *s, const char *name,
                as_sample *out, as_error *e)
{
    if (b->loaders.here) {
        as_bench_state_spoil(s);
        if (as_measure_load(b, l, s, name, out, e) == AS_OK) {
            rate(l, out);
            (void)as_bench_state_check(s, e);
        }
    }
    return as_world_agree(&b->tool->world, e);
}

/* ------------------------------------------------------------ theirs: one turn */

static void put_plain(as_sample *s, enum as_metric rate, enum as_metric seconds,
                      const as_plain_result *r)
{
    if (!r->refused) {
        s->value[rate] = (double)r->bytes / gib / r->seconds;
        s->value[seconds] = r->seconds;
    }
}

/* By the ranks that load; the others sleep, as in a load. All learn whether O_DIRECT was refused. */
static int read_plainly(as_bench *b, const char *name, const as_buffer *files, bool direct,
                        as_plain_result *r, as_error *e)
{
    if (b->loaders.here) {
        (void)as_plain_read(&b->plain, &b->folder, &b->loaders.world, name, files, direct, r, e);
    }
    int code = as_world_agree(&b->tool->world, e);
    int64_t refused = b->loaders.here && r->refused;
    code = code == AS_OK ? as_world_max(&b->tool->world, &refused, 1, e) : code;
    r->refused = refused != 0;
    return code;
}

static int plain_read(as_bench *b, as_bench_layout *l, const char *name, const as_buffer *files,
                      as_sample *out, as_error *e)
{
    as_plain_result r = {.refused = true};
    int code = step(b, e);
    for (int direct = !l->direct_read_refused; code == AS_OK && r.refused && direct >= 0;
         direct--) {
        l->direct_read_refused = !direct;
        code = chill(b, name, files, e);
        code = code == AS_OK ? read_plainly(b, name, files, direct, &r, e) : code;
    }
    if (code == AS_OK) {
        put_plain(out, AS_M_READ_GIB_S, AS_M_READ_S, &r);
    }
    return code;
}

static int plain_write(as_bench *b, as_bench_layout *l, bool direct, as_plain_result *r,
                       as_error *e)
{
    int code = step(b, e);
    code = code == AS_OK ? as_bench_settle(&b->folder, &b->tool->world, e) : code;
    return code == AS_OK
               ? as_plain_write(&b->plain, &b->folder, &b->tool->world, l->bytes, direct, r, e)
               : code;
}

static int plain_writes(as_bench *b, as_bench_layout *l, as_sample *out, as_error *e)
{
    as_plain_result direct = {.refused = true};
    as_plain_result buffered = {.refused = true};
    int code = plain_write(b, l, true, &direct, e);
    code = code == AS_OK ? plain_write(b, l, false, &buffered, e) : code;
    if (code == AS_OK) {
        l->direct_refused = direct.refused;
        put_plain(out, AS_M_DIRECT_GIB_S, AS_M_DIRECT_S, &direct);
        put_plain(out, AS_M_BUFFERED_GIB_S, AS_M_BUFFERED_S, &buffered);
    }
    return code;
}

/* ------------------------------------------------------------------ all turns */

/* Outside the clock: each save meets an empty folder. */
static int remove_old(as_bench *b, const char *name, as_error *e)
{
    return as_bench_folder_remove(&b->folder, &b->tool->world, name, e);
}

static int turn_of_saves(as_bench *b, as_bench_layout *l, as_bench_state *s, const char *name,
                         as_buffer *files, as_sample *out, as_error *e)
{
    as_sample_init(out);
    int code = remove_old(b, name, e);
    code = code == AS_OK && b->baseline ? plain_writes(b, l, out, e) : code;
    code = code == AS_OK ? save(b, l, s, name, files, out, e) : code;
    double better = fmax(out->value[AS_M_DIRECT_GIB_S], out->value[AS_M_BUFFERED_GIB_S]);
    out->value[AS_M_WRITE_RATIO] = out->value[AS_M_SAVE_GIB_S] / better;
    return code;
}

static int turn_of_loads(as_bench *b, as_bench_layout *l, as_bench_state *s, const char *name,
                         const as_buffer *files, as_sample *out, as_error *e)
{
    int code = b->baseline ? plain_read(b, l, name, files, out, e) : AS_OK;
    code = code == AS_OK ? step(b, e) : code;
    code = code == AS_OK ? chill(b, name, files, e) : code;
    code = code == AS_OK ? load(b, l, s, name, out, e) : code;
    out->value[AS_M_READ_RATIO] = out->value[AS_M_LOAD_GIB_S] / out->value[AS_M_READ_GIB_S];
    return code;
}

/* The first one finds plan, buffers and pages of the program new to it, and does not count. */
static int all_saves(as_bench *b, as_bench_layout *l, as_bench_state *s, const char *name,
                     as_buffer *files, as_error *e)
{
    as_sample_init(&l->first);
    int code = save(b, l, s, name, files, &l->first, e);
    for (size_t r = 0; r < b->repeat && code == AS_OK; r++) {
        code = turn_of_saves(b, l, s, name, files, &l->samples[r], e);
    }
    return code;
}

static int all_loads(as_bench *b, as_bench_layout *l, as_bench_state *s, const char *name,
                     const as_buffer *files, as_error *e)
{
    int code = step(b, e);
    code = code == AS_OK ? chill(b, name, files, e) : code;
    code = code == AS_OK ? load(b, l, s, name, &l->first, e) : code;
    for (size_t r = 0; r < b->repeat && code == AS_OK; r++) {
        code = turn_of_loads(b, l, s, name, files, &l->samples[r], e);
    }
    return code;
}

/* The pieces of this rank as `layout` spreads them. Collective. */
static int make_state(as_bench *b, const as_layout *layout, const as_spread *with, bool here,
                      as_bench_state *s, as_error *e)
{
    *s = (as_bench_state){
        .tensors = &b->tensors, .layout = layout, .casts = &b->casts, .rank = b->tool->world.rank};
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
static int run_layout(as_bench *b, size_t number, as_error *e)
{
    as_bench_layout *l = &b->layouts[number];
    as_bench_state state;
    as_buffer files = AS_BUFFER_INIT;
    char name[256];
    (void)snprintf(name, sizeof name, "%zu.%.200s", number + 1, l->name);
    int code = make_state(b, &l->layout, &b->spread, true, &state, e);
    code = code == AS_OK ? all_saves(b, l, &state, name, &files, e) : code;
    if (code == AS_OK && b->loaders.apart) {
        code = make_load_state(b, l, &state, e);
    }
    code = code == AS_OK ? all_loads(b, l, &state, name, &files, e) : code;
    if (code == AS_OK && !b->keep) {
        code = remove_old(b, name, e);
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
        if (!as_mul_i64(pool, pools, &memory) ||
            !as_add_i64(memory, most_pieces(b, phase == 1), &memory) ||
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
    allshard_options options = {
        .size = sizeof options,
        .log = as_output_log,
        .log_user = &b->tool->out,
        .memory = b->memory,
        .trace = b->trace != NULL,
    };
    code = code == AS_OK ? as_spread_start(&b->spread, b->tool, NULL, &options, e) : code;
    return code == AS_OK
               ? as_bench_loaders_open(&b->loaders, b->load_ranks, b->tool, &b->spread, &options, e)
               : code;
}

int as_bench_run(as_bench *b, as_error *e)
{
    b->chilled = AS_CHILL_FILES | AS_CHILL_SYSTEM;
    b->peak_reset = true;
    b->steps = (int64_t)(b->layout_count * (2 + b->repeat * (b->baseline ? 5 : 2)));
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
    (void)as_bench_folder_end(&b->folder, &b->tool->world, b->keep && code == AS_OK, e);
    return e->code;
}
