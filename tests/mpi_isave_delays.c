/* SPDX-License-Identifier: Apache-2.0
 * Weights that are overwritten while a nonblocking save is in flight: the checkpoint is that of the
 * moment of the call, bit for bit as allshard_save writes it, whatever is late. System calls of all
 * threads take random times, ranks come to each call at random times and test at random; snapshots
 * and streams, all layouts and engines, 1 to 4 ranks, over the checkpoint of the round before.
 * ALLSHARD_SEED chooses; 100 rounds with ALLSHARD_LONG=1.
 */
/* ranks: 4 2 */
/* timeout: 300 */
/* long-timeout: 3600 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "support_faults.h"
#include "support_model.h"
#include "support_ranks.h"
#include "support_snapshot.h"

enum { ROUNDS = 26, SANITIZED_ROUNDS = 8, LONG_ROUNDS = 100, HANG_SECONDS = 240 };

static const char *folder;    /* where nonblocking saves go */
static const char *reference; /* and what they must be like */
static uint64_t all;          /* random, the same on all ranks */
static uint64_t own;          /* random, of this rank */

static uint64_t next(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static int pick(uint64_t *state, int below)
{
    return (int)(next(state) >> 33) % below;
}

static void nap(int most_us)
{
    (void)usleep((useconds_t)pick(&own, most_us));
}

typedef struct round {
    int number;
    allshard_comm comm;
    int ranks;
    enum layout layout;
    allshard_options context;
    allshard_save_options save;
    double most; /* seconds that a call is late */
} round;

static round choose_round(int number)
{
    static const char *const engines[] = {"posix", "direct", "uring", NULL};
    static const int blocks[] = {512, 1024, 4096, 1 << 20};
    static const int limits[] = {4096, 12288, 32768}; /* a block takes a page */
    static const double delays[] = {0.0003, 0.001, 0.004};
    round r = {.number = number, .ranks = 1 + pick(&all, world_size())};
    r.layout = (enum layout)pick(&all, LAYOUT_COUNT);
    bool stream = pick(&all, 2) != 0;
    r.save = (allshard_save_options){
        .size = sizeof r.save,
        .max_shard_size = pick(&all, 3) ? "12KB" : "50KB",
        .block_bytes = blocks[pick(&all, stream ? 2 : 4)],
        .engine = engines[pick(&all, 4)],
        .align = pick(&all, 4) ? 0 : 4096,
        .checksum = pick(&all, 5) ? ALLSHARD_CHECKSUM_DEFAULT : ALLSHARD_CHECKSUM_NONE,
        .writers_per_node = pick(&all, 4) ? 0 : 1,
        .verify_after_write = pick(&all, 4) == 0,
        .staging = stream ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT,
    };
    r.context = (allshard_options){.size = sizeof r.context, .memory = pick(&all, 2)};
    if (stream) {
        int limit = limits[pick(&all, 3)];
        /* Reading back takes two whole blocks. */
        r.context.snapshot_memory = r.save.verify_after_write ? limits[2] : limit;
    }
    r.most = delays[pick(&all, 3)];
    /* What follows may differ between ranks. */
    r.save.io_threads = pick(&own, 4);
    r.save.copy_threads = pick(&own, 4);
    r.save.bandwidth = pick(&own, 4) ? 0 : 1 << 20;
    return r;
}

/* The weights of this round; and anything else. */
static void fill(holding *h, int number)
{
    holding_fill(h);
    for (size_t i = 0; i < h->count; i++) {
        for (size_t k = 0; k < h->pieces[i].bytes; k++) {
            h->pieces[i].memory[k] ^= (unsigned char)(number * 37 + 11);
        }
    }
}

static void spoil(holding *h)
{
    int value = pick(&own, 256);
    for (size_t i = 0; i < h->count; i++) {
        memset(h->pieces[i].memory, value, h->pieces[i].bytes);
    }
}

static void tell(const round *r)
{
    if (world_rank() == 0) {
        const allshard_save_options *o = &r->save;
        (void)printf("round %d: %d ranks, %s, %s, %s of %lld bytes, blocks of %lld, align %lld, "
                     "%d writers, checksum %d, read back %d\n",
                     r->number, r->ranks, layout_name(r->layout), o->engine ? o->engine : "auto",
                     o->staging == ALLSHARD_STAGE_STREAM ? "stream" : "snapshot",
                     (long long)r->context.snapshot_memory, (long long)o->block_bytes,
                     (long long)o->align, o->writers_per_node, o->checksum, o->verify_after_write);
        (void)fflush(stdout);
    }
}

static void compare(const round *r)
{
    snapshot found;
    snapshot expected;
    CHECK(snapshot_take(&found, folder) && snapshot_take(&expected, reference));
    snapshot_forget_time(&found);
    snapshot_forget_time(&expected);
    CHECK_TEXT(snapshot_same(&found, &expected), "round %d: there is %s", r->number,
               snapshot_difference(&found, &expected));
    snapshot_free(&found);
    snapshot_free(&expected);
}

/* Until it is over or this rank has had enough; the weights change all the time. */
static void go_on(holding *h, allshard_request *request)
{
    int tests = pick(&own, 3) ? INT32_MAX : pick(&own, 20);
    int over = 0;
    for (int i = 0; i < tests && !over; i++) {
        allshard_progress p = {.size = sizeof p};
        spoil(h);
        int code = allshard_test(request, &over);
        CHECK_TEXT(code == ALLSHARD_OK, "%s", allshard_error_name(code));
        CHECK(allshard_request_progress(request, &p) == ALLSHARD_OK);
        CHECK(p.bytes_written <= p.bytes_total && (!over || p.phase == ALLSHARD_OVER));
        nap(4000);
    }
}

static void save_disturbed(const round *r, allshard *as, allshard_state *s, holding *h)
{
    allshard_request *request = NULL;
    allshard_stats stats = {.size = sizeof stats};
    const fault_rule late = {.counted = FAULT_ANY_CALL,
                             .hit = FAULT_ANY_CALL,
                             .first = 1,
                             .last = INT32_MAX,
                             .mode = FAULT_JITTER,
                             .error = world_rank(),
                             .amount = r->most};
    fill(h, r->number);
    fault_begin(&late, 1);
    nap(5000);
    GOOD(as, allshard_isave(s, folder, &r->save, &request));
    spoil(h);
    nap(3000);
    go_on(h, request);
    spoil(h);
    GOOD(as, allshard_wait(&request, &stats));
    (void)fault_end();
    CHECK(!request && stats.operation == ALLSHARD_ISAVE && stats.staging == r->save.staging);
}

static void save_plainly(const round *r, allshard *as, allshard_state *s, holding *h)
{
    allshard_save_options o = r->save;
    o.staging = 0;
    o.io_threads = 0;
    o.copy_threads = 0;
    o.bandwidth = 0;
    if (world_rank() == 0) {
        remove_tree(reference);
    }
    fill(h, r->number);
    GOOD(as, allshard_save(s, reference, &o));
}

static void run(const round *r)
{
    char number[32];
    allshard *as = NULL;
    allshard_state *s = NULL;
    holding h;
    bool first = pick(&all, 2) != 0; /* the plan is cached then */
    (void)snprintf(number, sizeof number, "{\"round\": %d}", r->number);
    CHECK(allshard_open(&as, r->comm, &r->context) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_make(&h, &model_mixed, r->layout, world_rank(), r->ranks, true);
    holding_declare(&h, as, s);
    GOOD(as, allshard_state_file(s, "config.json", number, strlen(number)));
    GOOD(as, allshard_state_meta(s, "round", number));
    if (first) {
        save_plainly(r, as, s, &h);
    }
    save_disturbed(r, as, s, &h);
    if (!first) {
        save_plainly(r, as, s, &h);
    }
    (void)allshard_state_free(s);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    holding_free(&h);
    if (world_rank() == 0) {
        compare(r);
    }
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, HANG_SECONDS);
    const char *seed = getenv("ALLSHARD_SEED");
    const char *given = getenv("ALLSHARD_LONG");
    bool lengthy = given && *given && strcmp(given, "0") != 0;
    int rounds = lengthy ? LONG_ROUNDS : is_sanitized() ? SANITIZED_ROUNDS : ROUNDS;
    all = seed && *seed ? strtoull(seed, NULL, 10) : 1;
    own = all * 1009 + (uint64_t)world_rank();
    folder = strdup(scratch_path("folder"));
    reference = strdup(scratch_path("reference"));
    fault_install();
    int streams = 0;
    double start = seconds_now();
    for (int i = 0; i < rounds; i++) {
        round r = choose_round(i);
        ranks_again();
        ranks_scene("round %d", i);
        tell(&r);
        ranks_first(r.ranks, &r.comm);
        if (world_rank() < r.ranks) {
            run(&r);
        } else {
            (void)pick(&all, 2); /* as `run` does */
        }
        ranks_free(&r.comm);
        ranks_wait(world_comm());
        streams += r.save.staging == ALLSHARD_STAGE_STREAM;
    }
    if (world_rank() == 0) {
        (void)printf("%d nonblocking saves while the weights changed, %d of them streams, %.0f s\n",
                     rounds, streams, seconds_now() - start);
    }
    free((void *)(uintptr_t)folder);
    free((void *)(uintptr_t)reference);
    return ranks_end();
}
