/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_turns.h"

#include <math.h>

#include "cli/bench_measure.h"

volatile sig_atomic_t as_bench_stopped;

static const double gib = 1024.0 * 1024.0 * 1024.0;
static const double gb = 1e9;

int as_turns_step(as_bench *b, as_error *e)
{
    as_progress_update(b->steps_done++, b->steps, &b->progress);
    int64_t stopped = as_bench_stopped;
    int code = as_world_max(&b->tool->world, &stopped, 1, e);
    if (code == AS_OK && stopped) {
        code = as_fail(e, AS_SYSTEM, 0, "stopped by a signal; the benchmark's files are removed");
    }
    return code;
}

int as_turns_clear(const as_turns *t, as_error *e)
{
    return as_bench_folder_remove(&t->bench->folder, &t->bench->tool->world, t->name, e);
}

/* --------------------------------------------------------------- ours: one turn */

static void rate(const as_bench_layout *l, as_sample *s)
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

int as_turns_look(const as_turns *t, as_error *e)
{
    as_bench *b = t->bench;
    int code = as_bench_folder_files(&b->folder, &b->tool->world, t->name, t->files, e);
    const as_bench_file *file = (const void *)t->files->data;
    t->layout->bytes = 0;
    t->layout->files = 0;
    for (size_t i = 0; i < t->files->size / sizeof *file && code == AS_OK; i++) {
        t->layout->bytes += file[i].bytes;
        t->layout->files += file[i].tensors;
    }
    return code;
}

int as_turns_save(const as_turns *t, as_sample *out, as_error *e)
{
    int code = as_turns_step(t->bench, e);
    code = code == AS_OK ? as_measure_save(t->bench, t->layout, t->state, t->name, out, e) : code;
    code = code == AS_OK ? as_turns_look(t, e) : code;
    if (code == AS_OK) {
        rate(t->layout, out);
    }
    return code;
}

/* Ranks that do not load sleep in the agreement, which looks at its messages once a millisecond,
 * until the others come to it. */
int as_turns_load(const as_turns *t, as_sample *out, as_error *e)
{
    if (t->bench->loaders.here) {
        if (as_bench_state_spoil(t->state, e) == AS_OK &&
            as_measure_load(t->bench, t->layout, t->state, t->name, out, e) == AS_OK) {
            rate(t->layout, out);
            (void)as_bench_state_check(t->state, e);
        }
    }
    return as_world_agree(&t->bench->tool->world, e);
}

static int chill(const as_turns *t, as_error *e)
{
    as_bench *b = t->bench;
    int done = 0;
    /* The caches are those of a host. */
    int ways = b->first_of_host ? AS_CHILL_FILES | AS_CHILL_SYSTEM : 0;
    int code = as_bench_chill(&b->folder, &b->tool->world, t->name, t->files, ways, &done, e);
    b->chilled &= done;
    return code;
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
static int read_plainly(const as_turns *t, bool direct, as_plain_result *r, as_error *e)
{
    as_bench *b = t->bench;
    if (b->loaders.here) {
        (void)as_plain_read(&b->plain, &b->folder, &b->loaders.world, t->name, t->files, direct, r,
                            e);
    }
    int code = as_world_agree(&b->tool->world, e);
    int64_t refused = b->loaders.here && r->refused;
    code = code == AS_OK ? as_world_max(&b->tool->world, &refused, 1, e) : code;
    r->refused = refused != 0;
    return code;
}

static int plain_read(const as_turns *t, as_sample *out, as_error *e)
{
    as_bench_layout *l = t->layout;
    as_plain_result r = {.refused = true};
    int code = as_turns_step(t->bench, e);
    for (int direct = !l->direct_read_refused; code == AS_OK && r.refused && direct >= 0;
         direct--) {
        l->direct_read_refused = !direct;
        code = chill(t, e);
        code = code == AS_OK ? read_plainly(t, direct, &r, e) : code;
    }
    if (code == AS_OK) {
        put_plain(out, AS_M_READ_GIB_S, AS_M_READ_S, &r);
    }
    return code;
}

static int plain_write(const as_turns *t, bool direct, as_plain_result *r, as_error *e)
{
    as_bench *b = t->bench;
    as_world *w = &b->tool->world;
    int code = as_turns_step(b, e);
    code = code == AS_OK ? as_bench_settle(&b->folder, w, e) : code;
    return code == AS_OK ? as_plain_write(&b->plain, &b->folder, w, t->layout->bytes, direct, r, e)
                         : code;
}

static int plain_writes(const as_turns *t, as_sample *out, as_error *e)
{
    as_plain_result direct = {.refused = true};
    as_plain_result buffered = {.refused = true};
    int code = plain_write(t, true, &direct, e);
    code = code == AS_OK ? plain_write(t, false, &buffered, e) : code;
    if (code == AS_OK) {
        t->layout->direct_refused = direct.refused;
        put_plain(out, AS_M_DIRECT_GIB_S, AS_M_DIRECT_S, &direct);
        put_plain(out, AS_M_BUFFERED_GIB_S, AS_M_BUFFERED_S, &buffered);
    }
    return code;
}

/* ------------------------------------------------------------------ all turns */

static int turn_of_saves(const as_turns *t, as_sample *out, as_error *e)
{
    as_sample_init(out);
    int code = as_turns_clear(t, e);
    code = code == AS_OK && t->bench->baseline ? plain_writes(t, out, e) : code;
    code = code == AS_OK ? as_turns_save(t, out, e) : code;
    double better = fmax(out->value[AS_M_DIRECT_GIB_S], out->value[AS_M_BUFFERED_GIB_S]);
    out->value[AS_M_WRITE_RATIO] = out->value[AS_M_SAVE_GIB_S] / better;
    return code;
}

static int cold_load(const as_turns *t, as_sample *out, as_error *e)
{
    int code = as_turns_step(t->bench, e);
    code = code == AS_OK ? chill(t, e) : code;
    return code == AS_OK ? as_turns_load(t, out, e) : code;
}

static int turn_of_loads(const as_turns *t, as_sample *out, as_error *e)
{
    int code = t->bench->baseline ? plain_read(t, out, e) : AS_OK;
    code = code == AS_OK ? cold_load(t, out, e) : code;
    out->value[AS_M_READ_RATIO] = out->value[AS_M_LOAD_GIB_S] / out->value[AS_M_READ_GIB_S];
    return code;
}

/* The first one finds plan, buffers and pages of the program new to it, and does not count. */
int as_turns_of_saves(const as_turns *t, as_error *e)
{
    as_sample_init(&t->layout->first);
    int code = as_turns_save(t, &t->layout->first, e);
    for (size_t r = 0; r < t->bench->repeat && code == AS_OK; r++) {
        code = turn_of_saves(t, &t->layout->samples[r], e);
    }
    return code;
}

int as_turns_of_loads(const as_turns *t, as_error *e)
{
    int code = cold_load(t, &t->layout->first, e);
    for (size_t r = 0; r < t->bench->repeat && code == AS_OK; r++) {
        code = turn_of_loads(t, &t->layout->samples[r], e);
    }
    return code;
}
