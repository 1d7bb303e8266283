/* SPDX-License-Identifier: Apache-2.0
 * Nonblocking saves give the bytes of the moment of the call: random models in random layouts with
 * random options, as a snapshot and as a stream, each compared, manifest and all, with what
 * allshard_save writes, while the weights are overwritten as soon as allshard_isave is back; how
 * they are ended is random, too. Then what statistics, progress and the kept plan tell of them.
 * ALLSHARD_SEED gives other cases, ALLSHARD_LONG=1 more of them. (ALLSHARD_NO_MPI: also as one
 * process.)
 */
/* ranks: 4 1 2 3 */
/* unshared: 4 */
/* timeout: 200 */
/* long-timeout: 3600 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "support_isave.h"
#include "support_ranks.h"
#include "support_snapshot.h"

enum { FEW = 40, FEW_SANITIZED = 12, MANY = 3000, SMALL_MEMORY = 128 << 10, MODES = 3, TEXT = 128 };

static allshard *roomy; /* a snapshot always fits */
static allshard *tight; /* it seldom does */
static uint64_t own;    /* random, of this rank alone */

/* ---- cases ---- */

typedef struct scenario {
    random_model random;
    enum layout layout;
    bool strided;
    int32_t mode; /* enum allshard_staging */
    allshard *as;
    allshard_save_options o;
    enum ending ending;
    char text[TEXT]; /* what is tested, for messages */
    char cpus[16];
} scenario;

/* A processor that this process may run on, as a list. */
static void some_processor(char *out, size_t size)
{
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    size_t cpu = 0;
    while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &set)) {
        cpu++;
    }
    (void)snprintf(out, size, "%zu", cpu);
}

/* What may differ between ranks does. */
static void choose_manners(scenario *c)
{
    static const char *const priorities[] = {NULL, "idle", "best-effort:0", "best-effort:7"};
    c->o.io_threads = pick(&own, 4);
    c->o.copy_threads = pick(&own, 4);
    c->o.io_priority = priorities[pick(&own, 4)];
    c->o.bandwidth = pick(&own, 3) ? 0 : 50000000;
    if (pick(&own, 2)) {
        some_processor(c->cpus, sizeof c->cpus);
        c->o.cpus = c->cpus;
    }
}

/* The same on all ranks, but for the manners. */
static void choose(scenario *c, int number, uint64_t *random)
{
    static const int64_t blocks[] = {64, 256, 1024, 4096, 16384};
    static const char *const sizes[] = {"2KB", "12KB", "12KB", "5GB"};
    static const char *const engines[] = {NULL, "posix", "direct", "uring"};
    static const int64_t aligns[] = {0, 0, 64, 4096};
    static const int32_t modes[] = {0, 0, 0600, 0640, 0400};
    *c = (scenario){.layout = (enum layout)(number % LAYOUT_COUNT)};
    random_model_make(&c->random, random);
    if (number < LAYOUT_COUNT * MODES) { /* each layout in each mode, odd names and all */
        c->random.m = model_mixed;
    }
    c->mode = number / LAYOUT_COUNT % MODES;
    c->strided = pick(random, 2);
    c->as = c->mode == ALLSHARD_STAGE_SNAPSHOT ? roomy
            : c->mode == ALLSHARD_STAGE_STREAM ? tight
            : pick(random, 2)                  ? tight
                                               : roomy;
    c->ending = (enum ending)pick(random, ENDINGS);
    c->o = (allshard_save_options){
        .size = sizeof c->o,
        .max_shard_size = sizes[pick(random, 4)],
        .mode = modes[pick(random, 5)],
        .block_bytes = blocks[pick(random, 5)],
        .engine = engines[pick(random, 4)],
        .align = aligns[pick(random, 4)],
        .checksum = pick(random, 4) ? ALLSHARD_CHECKSUM_DEFAULT : ALLSHARD_CHECKSUM_NONE,
        .writers_per_node = pick(random, 3),
        .creators = pick(random, 3),
        .verify_after_write = pick(random, 3) == 0,
        .staging = c->mode,
    };
    choose_manners(c);
    (void)snprintf(c->text, sizeof c->text, "case %d: %s, staging %d, blocks of %lld, ending %d",
                   number, layout_name(c->layout), (int)c->mode, (long long)c->o.block_bytes,
                   (int)c->ending);
}

/* ---- what was saved ---- */

static void compare_folders(const scenario *c, const char *expected, const char *found)
{
    if (world_rank() == 0) {
        snapshot a;
        snapshot b;
        struct stat status[2];
        CHECK(snapshot_take(&a, expected) && snapshot_take(&b, found));
        CHECK_TEXT(a.count > 1, "%s: nothing is in %s", c->text, expected);
        for (size_t i = 0; i < a.count && i < b.count; i++) {
            char path[2][1024];
            (void)snprintf(path[0], sizeof path[0], "%s/%s", expected, a.files[i].name);
            (void)snprintf(path[1], sizeof path[1], "%s/%s", found, b.files[i].name);
            must(stat(path[0], &status[0]) == 0 && stat(path[1], &status[1]) == 0, path[1]);
            CHECK_TEXT(status[0].st_mode == status[1].st_mode, "%s: mode of %s is %o", c->text,
                       path[1], status[1].st_mode);
        }
        snapshot_forget_time(&a);
        snapshot_forget_time(&b);
        CHECK_TEXT(snapshot_same(&b, &a), "%s: %s", c->text, snapshot_difference(&b, &a));
        snapshot_free(&a);
        snapshot_free(&b);
        remove_tree(expected);
    }
    ranks_wait(world_comm());
}

/* What the statistics of a save that is over must say beside those of allshard_save. */
static void check_stats(const scenario *c, const allshard_stats *s, const allshard_stats *plain)
{
    CHECK(s->operation == ALLSHARD_ISAVE && s->rank == world_rank() && s->ranks == world_size());
    CHECK(s->staging == ALLSHARD_STAGE_SNAPSHOT || s->staging == ALLSHARD_STAGE_STREAM);
    CHECK_TEXT(c->mode == ALLSHARD_STAGE_AUTO || s->staging == c->mode, "%s: staged as %d", c->text,
               s->staging);
    CHECK(ranks_agree(world_comm(), &s->staging, sizeof s->staging));
    CHECK(s->staging_reason && *s->staging_reason && s->engine && s->engine_reason);
    CHECK_TEXT(s->bytes_written == plain->bytes_written, "%s: %lld bytes in place of %lld", c->text,
               (long long)s->bytes_written, (long long)plain->bytes_written);
    CHECK_TEXT(s->bytes_staged == s->bytes_written, "%s: %lld of %lld bytes staged", c->text,
               (long long)s->bytes_staged, (long long)s->bytes_written);
    CHECK(s->staging != ALLSHARD_STAGE_SNAPSHOT || s->snapshot_bytes >= s->bytes_staged);
    CHECK_TEXT(c->as != tight || s->snapshot_bytes <= SMALL_MEMORY, "%s: %lld bytes of memory",
               c->text, (long long)s->snapshot_bytes);
    CHECK(s->touched_bytes >= 0 && s->touched_bytes <= s->snapshot_bytes);
    CHECK(s->plan_cached == 1 && s->plan_steps == 0);
    CHECK_TEXT(s->staged_s > 0 && s->staged_s <= s->blocking_s && s->blocking_s <= s->total_s,
               "%s: staged %g, blocking %g, total %g", c->text, s->staged_s, s->blocking_s,
               s->total_s);
    CHECK_TEXT(s->background_s >= 0 && s->staged_s + s->background_s <= s->total_s + 1e-6 &&
                   s->durable_s > 0 && s->durable_s <= s->total_s,
               "%s: staged %g, background %g, durable %g, total %g", c->text, s->staged_s,
               s->background_s, s->durable_s, s->total_s);
}

/* The main process knows of all ranks, the others of themselves. */
static void check_all_told(const allshard *as, int64_t bytes)
{
    int64_t sum = ranks_sum(world_comm(), bytes);
    for (int r = 0; r < world_size(); r++) {
        allshard_stats s = {.size = sizeof s};
        int code = allshard_get_stats(as, r, &s);
        if (world_rank() != 0) {
            CHECK((code == ALLSHARD_OK) == (r == world_rank()));
            continue;
        }
        CHECK(code == ALLSHARD_OK && s.operation == ALLSHARD_ISAVE && s.rank == r);
        CHECK(s.staged_s > 0 && s.bytes_staged == s.bytes_written);
        sum -= s.bytes_written;
    }
    CHECK_TEXT(world_rank() != 0 || sum == 0, "%lld bytes are not told of", (long long)sum);
}

static int64_t streams;

static void run(scenario *c)
{
    holding h;
    allshard_state *s;
    allshard *as = c->as;
    allshard_stats plain = {.size = sizeof plain};
    allshard_stats stats = {.size = sizeof stats};
    const char *expected = scratch_path("expected");
    const char *found = scratch_path("found");
    holding_make(&h, &c->random.m, c->layout, world_rank(), world_size(), c->strided);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    GOOD(as, allshard_state_meta(s, "case", c->text));
    if (world_rank() == world_size() - 1) {
        GOOD(as, allshard_state_file(s, "config.json", c->text, strlen(c->text)));
    }
    holding_fill(&h);
    GOOD(as, allshard_save(s, expected, &c->o));
    CHECK(allshard_get_stats(as, world_rank(), &plain) == ALLSHARD_OK);

    allshard_request *request = NULL;
    GOOD(as, allshard_isave(s, found, &c->o, &request));
    holding_clear(&h); /* from now on the weights are others */
    CHECK(request != NULL);
    GOOD(as, end_request(&request, c->ending, &own, &stats, s));
    allshard_stats told = {.size = sizeof told};
    CHECK(allshard_get_stats(as, world_rank(), &told) == ALLSHARD_OK);
    CHECK(told.operation == ALLSHARD_ISAVE && told.staging == stats.staging &&
          told.bytes_written == stats.bytes_written && told.blocking_s == stats.blocking_s &&
          told.total_s == stats.total_s && told.touched_bytes == stats.touched_bytes);
    check_all_told(as, stats.bytes_written);
    check_stats(c, &stats, &plain);
    streams += stats.staging == ALLSHARD_STAGE_STREAM;
    ranks_wait(world_comm());
    compare_folders(c, expected, found);
    (void)allshard_state_free(s);
    holding_free(&h);
}

static int test_bytes(void)
{
    const char *text = getenv("ALLSHARD_LONG");
    int count = text && *text ? MANY : is_sanitized() ? FEW_SANITIZED : FEW;
    uint64_t random = seed_of_test();
    int step = is_sanitized() ? 5 : 1; /* layouts and modes all the same */
    for (int i = 0; i < count; i++) {
        scenario c;
        choose(&c, i * step, &random);
        run(&c);
    }
    return count;
}

/* ---- one state, many saves ---- */

/* Each save has the bytes of its own moment; the plan, the memory and its pages serve again. */
static void test_again(void)
{
    enum { SAVES = 6, TRIMMED = 4 };
    holding h;
    allshard_state *s;
    const char *folder = scratch_path("again");
    allshard_save_options o = {.size = sizeof o, .max_shard_size = "12KB", .block_bytes = 1024};
    holding_make(&h, &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), false);
    GOOD(roomy, allshard_state_create(&s, roomy, "model"));
    holding_declare(&h, roomy, s);
    CHECK(allshard_trim(roomy) == ALLSHARD_OK);
    for (int i = 1; i <= SAVES; i++) {
        allshard_request *request = NULL;
        allshard_stats stats = {.size = sizeof stats};
        holding_fill(&h);
        holding_turn(&h, i);
        GOOD(roomy, allshard_isave(s, folder, &o, &request));
        holding_turn(&h, i + 100);
        GOOD(roomy, end_request(&request, i % 2 ? BY_WAIT : BY_TESTS, &own, &stats, s));
        CHECK(stats.plan_cached == (i > 1) && (stats.plan_steps == 0) == (i > 1));
        bool fresh = i == 1 || i == TRIMMED;
        CHECK_TEXT((stats.touched_bytes > 0) == (fresh && stats.bytes_staged > 0),
                   "save %d had %lld bytes from the system", i, (long long)stats.touched_bytes);
        holding_clear(&h);
        GOOD(roomy, allshard_load(s, folder, NULL));
        holding_turn(&h, i);
        const char *wrong = holding_wrong(&h);
        CHECK_TEXT(!wrong, "save %d: tensor %s is not that of the moment", i, wrong ? wrong : "");
        if (i + 1 == TRIMMED) {
            CHECK(allshard_trim(roomy) == ALLSHARD_OK);
            CHECK(allshard_trim(roomy) == ALLSHARD_OK);
        }
    }
    (void)allshard_state_free(s);
    holding_free(&h);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 3600);
    own = seed_of_test() + 1000 * (uint64_t)(world_rank() + 1);
    allshard_options options = {.size = sizeof options};
    CHECK(allshard_open(&roomy, world_comm(), &options) == ALLSHARD_OK);
    options.snapshot_memory = SMALL_MEMORY;
    CHECK(allshard_open(&tight, world_comm(), &options) == ALLSHARD_OK);
    int cases = test_bytes();
    CHECK_TEXT(streams > 0, "no case was a stream");
    test_again();
    CHECK(allshard_close(tight) == ALLSHARD_OK && allshard_close(roomy) == ALLSHARD_OK);
    if (world_rank() == 0) {
        (void)printf("%d cases, %lld of them streams\n", cases, (long long)streams);
    }
    return ranks_end();
}
