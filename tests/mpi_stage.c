/* SPDX-License-Identifier: Apache-2.0
 * Blocks that are staged by the calling thread and written by another one: files and checksums are
 * those of a save at once, though the memory changes as soon as it is staged, with room for all
 * blocks or for one, on one thread or three. And what goes wrong on the way: storage that fails, a
 * stop, staging that fails on a rank. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 4 */
/* unshared: 3 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/handles.h"
#include "base/sys.h"
#include "io/reserve.h"
#include "support_faults.h"
#include "support_model.h"
#include "support_ranks.h"
#include "transfer/outbox.h"
#include "transfer/save.h"

enum { PAGE = 4096, MOST_NAME = 32, FAULTS = 12, STOPS = 12, LARGE = 1 << 20 };

static allshard *as;
static uint64_t seed;

static unsigned draw(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

/* ---- files ---- */

static const char *path_of(const char *kind, int32_t file)
{
    char name[MOST_NAME];
    (void)snprintf(name, sizeof name, "%s-%d", kind, (int)file);
    return scratch_path(name);
}

/* From the writer's thread, too: scratch_path is not for two. */
static int open_file(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    static _Thread_local char path[4096];
    (void)snprintf(path, sizeof path, "%s-%d", (const char *)user, (int)file);
    *name = path;
    *fd = as_open(AT_FDCWD, path, O_WRONLY, 0);
    return *fd < 0 ? as_fail(e, AS_SYSTEM, errno, "%s: cannot be opened", path) : AS_OK;
}

static void make_files(const char *kind, const as_plan *plan)
{
    for (int32_t f = 0; world_rank() == 0 && f < plan->file_count; f++) {
        int fd = open(path_of(kind, f), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && ftruncate(fd, plan->file_size[f]) == 0 && close(fd) == 0);
    }
    ranks_wait(world_comm());
}

static char *bytes_of(const char *kind, int32_t file, int64_t size)
{
    int fd = open(path_of(kind, file), O_RDONLY | O_CLOEXEC);
    char *bytes = malloc((size_t)size + 1);
    CHECK(fd >= 0 && bytes && read(fd, bytes, (size_t)size + 1) == size && close(fd) == 0);
    return bytes;
}

static void compare_files(const as_plan *plan, const char *what)
{
    ranks_wait(world_comm());
    for (int32_t f = 0; world_rank() == 0 && f < plan->file_count; f++) {
        char *saved = bytes_of("saved", f, plan->file_size[f]);
        char *staged = bytes_of("staged", f, plan->file_size[f]);
        CHECK_TEXT(memcmp(saved, staged, (size_t)plan->file_size[f]) == 0, "%s: file %d differs",
                   what, (int)f);
        free(saved);
        free(staged);
    }
    ranks_wait(world_comm());
}

static int compare_sums(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(as_block_sum));
}

static void check_sums(as_buffer *saved, as_buffer *staged)
{
    size_t count = saved->size / sizeof(as_block_sum);
    CHECK(saved->size == staged->size);
    if (count) {
        qsort(saved->data, count, sizeof(as_block_sum), compare_sums);
        qsort(staged->data, count, sizeof(as_block_sum), compare_sums);
        CHECK(memcmp(saved->data, staged->data, saved->size) == 0);
    }
}

/* ---- one save ---- */

/* The writer's thread and what it is given. */
typedef struct writing {
    as_transfer transfer;
    as_meter meter;
    as_buffer sums;
    as_outbox *box;
    as_reserve memory;
    as_arena *ring;
    int64_t bytes_per_s;
    as_write_watch watch;
    unsigned late; /* begins so many microseconds late */
    as_error error;
    int code;
    pthread_t thread;
} writing;

static void *write_thread(void *user)
{
    writing *w = user;
    struct timespec t = {.tv_nsec = w->late * 1000L};
    (void)nanosleep(&t, NULL);
    w->code = as_write_out(&w->transfer, w->box, w->bytes_per_s, &w->watch, &w->error);
    return NULL;
}

static as_transfer transfer_of(const as_plan *plan, const allshard_state *s, as_meter *meter,
                               char *files)
{
    return (as_transfer){.comm = as->session.comm,
                         .state = &s->state,
                         .plan = plan,
                         .engine = draw(2) ? &as_engine_posix : &as_engine_uring,
                         .memory = 64 << 10,
                         .meter = meter,
                         .open_file = open_file,
                         .user = files};
}

static void writing_open(writing *w, const as_plan *plan, const allshard_state *s, bool stream)
{
    static char files[4096];
    (void)snprintf(files, sizeof files, "%s", scratch_path("staged"));
    *w = (writing){.error = AS_ERROR_INIT, .sums = AS_BUFFER_INIT};
    w->transfer = transfer_of(plan, s, &w->meter, files);
    w->transfer.comm = NULL; /* it must not be used */
    w->transfer.engine_options.direct = draw(2);
    w->transfer.checksums = &w->sums;
    size_t bytes = (size_t)as_outbox_snapshot_bytes(plan);
    size_t least = (size_t)as_outbox_stream_bytes(plan);
    CHECK(bytes >= least && bytes % PAGE == 0 && least % PAGE == 0);
    if (stream) { /* the smallest, or some more */
        bytes = draw(2) ? least : least + draw(4) * PAGE;
    }
    as_error e = AS_ERROR_INIT;
    /* Some ranks do not share theirs. */
    CHECK((draw(4) && as_arena_may_share(as->session.comm)
               ? as_reserve_fit_shared(&w->memory, bytes + 1, 1, NULL, &e)
               : as_reserve_fit(&w->memory, bytes + 1, 1, NULL, &e)) == AS_OK);
    memset(w->memory.base, 0xee, bytes);
    CHECK(as_arena_open_over(&w->ring, as->session.comm, w->memory.base,
                             w->memory.shared ? &w->memory.file : NULL, draw(1 << 20),
                             &e) == AS_OK);
    CHECK(least == 0 || as_outbox_open(&w->box, plan, w->memory.base, least - 1, &e) == AS_LIMIT);
    as_error_clear(&e);
    CHECK(as_outbox_open(&w->box, plan, w->memory.base, bytes, &e) == AS_OK);
    w->late = draw(3) ? 0 : draw(3000);
}

static void writing_begin(writing *w)
{
    CHECK(pthread_create(&w->thread, NULL, write_thread, w) == 0);
}

static void writing_end(writing *w)
{
    CHECK(pthread_join(w->thread, NULL) == 0);
    CHECK(w->code == w->error.code);
}

static void writing_close(writing *w)
{
    as_outbox_close(w->box);
    as_buffer_free(&w->sums);
    as_error_clear(&w->error);
    as_arena_close(w->ring);
    as_reserve_free(&w->memory);
}

/* The plan of a save, and its files by as_transfer_save. */
static void save(as_plan *plan, const allshard_state *s, int64_t block_bytes, as_buffer *sums)
{
    static char files[4096];
    as_error e = AS_ERROR_INIT;
    char *pattern = NULL;
    as_save_call call = {.session = &as->session,
                         .state = &s->state,
                         .directory = scratch_path("none"),
                         .max_shard_size = block_bytes < LARGE ? "12KB" : "6MB",
                         .block_bytes = block_bytes};
    CHECK(as_save_plan(&call, plan, &pattern, &e) == AS_OK);
    make_files("saved", plan);
    (void)snprintf(files, sizeof files, "%s", scratch_path("saved"));
    as_meter meter = {0};
    as_transfer t = transfer_of(plan, s, &meter, files);
    t.checksums = sums;
    CHECK_TEXT(as_transfer_save(&t, &e) == AS_OK, "%s", as_error_text(&e));
    free(pattern);
}

static int fail_tick(void *user, as_error *e)
{
    int *left = user;
    return (*left)-- > 0 ? AS_OK : as_fail(e, AS_BUSY, 0, "the lock is lost");
}

/* `late`: staging fails on the last rank after so many turns, if it takes as many; −1: it does
 * not. */
static int stage(const writing *w, const allshard_state *s, int threads, int late)
{
    as_error e = AS_ERROR_INIT;
    as_meter meter = {0};
    as_transfer t = transfer_of(w->transfer.plan, s, &meter, NULL);
    t.open_file = NULL;
    t.engine = NULL;
    t.checksums = NULL;
    t.ring = w->ring;
    int left = late;
    if (late >= 0 && world_rank() == world_size() - 1) {
        t.tick = fail_tick;
        t.user = &left;
    }
    int code = as_stage_blocks(&t, w->box, threads, &e);
    CHECK(ranks_agree(world_comm(), &code, sizeof code));
    CHECK_TEXT(code == AS_OK || (late >= 0 && code == AS_BUSY), "%s", as_error_text(&e));
    as_error_clear(&e);
    return code;
}

/* That this rank writes: each counts once more, when its file is there. */
static int64_t own_blocks(const as_plan *plan)
{
    as_block_walk walk = as_block_walk_begin(plan, 0);
    as_block block;
    int64_t count = 0;
    while (as_block_walk_next(&walk, &block)) {
        count++;
    }
    return count;
}

static void go(holding *h, const allshard_state *s, int64_t block_bytes, bool stream, int threads,
               const char *what)
{
    as_plan plan = {0};
    as_buffer sums = AS_BUFFER_INIT;
    writing w;
    holding_fill(h);
    save(&plan, s, block_bytes, &sums);
    make_files("staged", &plan);
    writing_open(&w, &plan, s, stream);
    if (stream) {
        writing_begin(&w);
    }
    (void)stage(&w, s, threads, -1);
    holding_clear(h);
    if (!stream) {
        writing_begin(&w);
    }
    writing_end(&w);
    CHECK_TEXT(w.code == AS_OK, "%s: %s", what, as_error_text(&w.error));
    CHECK(w.watch.bytes == plan.own_bytes && w.meter.tally.bytes_written == plan.own_bytes);
    CHECK(w.watch.operations == w.meter.tally.operations + own_blocks(&plan) && !w.watch.storing);
    compare_files(&plan, what);
    check_sums(&sums, &w.sums);
    writing_close(&w);
    as_buffer_free(&sums);
    as_plan_free(&plan);
}

/* ---- trouble ---- */

static void check_failed(const writing *w, int expected, const char *what)
{
    CHECK_TEXT(w->code == AS_OK || w->code == expected, "%s: %s", what, as_error_text(&w->error));
}

/* A call of the writer's fails on a rank: there alone, and nobody waits for it. */
static void fail_storage(const as_plan *plan, const allshard_state *s, unsigned number)
{
    static const enum fault_call calls[] = {ON_PWRITE, ON_FSYNC, ON_OPEN};
    writing w;
    bool mine = (int)number % world_size() == world_rank();
    writing_open(&w, plan, s, number % 2);
    w.transfer.engine = &as_engine_posix;
    w.transfer.engine_options.direct = false;
    fault_rule rule = {.counted = FAULT_BIT(calls[number % 3]),
                       .hit = FAULT_BIT(calls[number % 3]),
                       .first = 1 + (int)(number / 3),
                       .last = 1 + (int)(number / 3),
                       .mode = FAULT_FAIL,
                       .error = EIO};
    if (number % 2 == 0) {
        (void)stage(&w, s, 1, -1);
    }
    fault_begin(&rule, mine ? 1 : 0);
    writing_begin(&w);
    if (number % 2) {
        (void)stage(&w, s, 1, -1);
    }
    writing_end(&w);
    (void)fault_end();
    bool hit = mine && fault_first_hit()->happened;
    CHECK_TEXT(w.code == (hit ? AS_SYSTEM : AS_OK), "fault %u: %s", number,
               as_error_text(&w.error));
    writing_close(&w);
}

/* The stop comes at any time, on some rank. */
static void stop(const as_plan *plan, const allshard_state *s, unsigned number)
{
    writing w;
    bool mine = ((int)draw(2) + world_rank()) % 2 || number % 3 == 0;
    unsigned when = draw(1500);
    writing_open(&w, plan, s, number % 2);
    w.bytes_per_s = number % 4 < 2 ? 200000 : 0;
    if (mine && number % 3 == 0) {
        w.watch.stop = 1;
    }
    if (number % 2 == 0) {
        (void)stage(&w, s, 2, -1);
    }
    writing_begin(&w);
    if (mine && number % 3) {
        struct timespec t = {.tv_nsec = when * 1000L};
        (void)nanosleep(&t, NULL);
        w.watch.stop = 1;
    }
    if (number % 2) {
        (void)stage(&w, s, 2, -1);
    }
    writing_end(&w);
    check_failed(&w, AS_CANCELLED, "stop");
    CHECK(w.code == AS_OK || mine);
    CHECK(w.code == AS_CANCELLED || number % 3 || !mine);
    writing_close(&w);
}

/* Staging fails on a rank: on all, and every writer ends. */
static void fail_staging(const as_plan *plan, const allshard_state *s, unsigned number)
{
    writing w;
    writing_open(&w, plan, s, true);
    writing_begin(&w);
    (void)stage(&w, s, 1 + (int)number % 3, (int)draw(6));
    writing_end(&w);
    check_failed(&w, AS_CANCELLED, "staging that failed");
    writing_close(&w);
}

/* Nothing is staged at all. */
static void abandon(const as_plan *plan, const allshard_state *s)
{
    writing w;
    writing_open(&w, plan, s, true);
    writing_begin(&w);
    as_outbox_abandon(w.box);
    writing_end(&w);
    check_failed(&w, AS_CANCELLED, "abandoned");
    CHECK(plan->own_bytes == 0 || w.code == AS_CANCELLED);
    writing_close(&w);
}

static void run_trouble(holding *h, const allshard_state *s)
{
    as_plan plan = {0};
    as_buffer sums = AS_BUFFER_INIT;
    holding_fill(h);
    save(&plan, s, 512, &sums);
    make_files("staged", &plan);
    for (unsigned i = 0; i < FAULTS; i++) {
        fail_storage(&plan, s, i);
    }
    for (unsigned i = 0; i < STOPS; i++) {
        stop(&plan, s, i);
    }
    for (unsigned i = 0; i < 6; i++) {
        fail_staging(&plan, s, i);
    }
    abandon(&plan, s);
    as_buffer_free(&sums);
    as_plan_free(&plan);
}

/* Tensors of which whole blocks of a few MiB are made, so that these come together in parts. */
static const model_tensor large_tensors[] = {{"rows", ALLSHARD_F32, 2, {700, 1024}},
                                             {"some", ALLSHARD_BF16, 2, {1100, 900}},
                                             {"few", ALLSHARD_F32, 1, {777}},
                                             {"flat", ALLSHARD_U8, 1, {1500001}}};
static const model model_large = {large_tensors, 4};

/* With room for all and for one, on one thread and three; the number of saves. */
static int run_layout(const model *m, enum layout layout, int64_t block_bytes)
{
    holding h;
    allshard_state *s = NULL;
    holding_make(&h, m, layout, world_rank(), world_size(), true);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    for (int way = 0; way < 4; way++) {
        char what[64];
        (void)snprintf(what, sizeof what, "%s, blocks of %lld, way %d", layout_name(layout),
                       (long long)block_bytes, way);
        go(&h, s, block_bytes, way % 2, way < 2 ? 1 : 3, what);
    }
    if (layout % 3 == 0 && m == &model_mixed) {
        run_trouble(&h, s);
    }
    (void)allshard_state_free(s);
    holding_free(&h);
    return 4;
}

int main(int argc, char **argv)
{
    static const int64_t sizes[] = {1024, 4096, 192, 16384};
    ranks_start(&argc, &argv, 300);
    fault_install();
    const char *given = getenv("ALLSHARD_SEED");
    seed = given ? strtoull(given, NULL, 10) : 1;
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    int saves = 0;
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        saves += run_layout(&model_mixed, (enum layout)layout, sizes[draw(4)]);
    }
    saves += run_layout(&model_large, LAYOUT_COLUMNS, 2 * LARGE);
    saves += run_layout(&model_large, LAYOUT_FSDP, LARGE);
    if (world_rank() == 0) {
        (void)printf("%d saves\n", saves);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
