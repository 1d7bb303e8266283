/* SPDX-License-Identifier: Apache-2.0
 * Ranks that test nonblocking saves each in its own time: one at a time while the others are away
 * from MPI, also where what a rank reports of its blocks takes long messages; each rank another save
 * first; and while the others wait with a limit. Whatever a test waited for would come no more: then
 * the program hangs. And a save whose pace is slower than the limit.
 */
/* ranks: 2 3 */
/* timeout: 120 */
#include <fcntl.h>

#include "isave_scene.h"

enum { TESTS = 3, NAP_US = 300 };

static void mark(const char *what, int number)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s-%d", what, number);
    int fd = open(scratch_path(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
}

static bool is_marked(const char *what, int number)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s-%d", what, number);
    return access(scratch_path(name), F_OK) == 0;
}

/* No rank enters MPI but the one whose turn it is. */
static void end_in_turns(allshard_request *request)
{
    int over = 0; /* ranks that are through */
    bool told = false;
    for (int turn = 0; over < world_size(); turn++) {
        if (turn % world_size() == world_rank()) {
            int done = 0;
            for (int i = 0; i < TESTS; i++) {
                GOOD(as, allshard_test(request, &done));
            }
            if (done && !told) {
                mark("over", world_rank());
                told = true;
            }
            (void)usleep(NAP_US); /* the background's turn */
            mark("turn", turn);
        }
        while (!is_marked("turn", turn)) {
            (void)usleep(NAP_US);
        }
        over = 0;
        for (int r = 0; r < world_size(); r++) {
            over += is_marked("over", r);
        }
    }
}

/* So many blocks of a rank that what it tells of them does not leave with the message's head. */
static void test_turns(void)
{
    static const model_tensor tensors[] = {{"many.blocks", ALLSHARD_U8, 2, {1024, 1024}}};
    static const model m = {tensors, 1};
    side a = {.m = m, .folder = strdup(scratch_path("turns"))};
    allshard_save_options o = plain();
    allshard_request *request = NULL;
    o.max_shard_size = NULL;
    o.block_bytes = 256;
    holding_make(&a.h, &a.m, LAYOUT_FSDP, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&a.s, as, "model"));
    holding_declare(&a.h, as, a.s);
    holding_fill(&a.h);
    GOOD(as, allshard_isave(a.s, a.folder, &o, &request));
    ranks_wait(world_comm());
    end_in_turns(request);
    GOOD(as, allshard_wait(&request, NULL));
    check_holds(&a, a.folder);
    close_side(&a);
}

/* Even ranks ask for the one until it is over, odd ones for the other. */
static void test_crossed(void)
{
    side sides[2];
    allshard_request *requests[2];
    for (int i = 0; i < 2; i++) {
        open_side(&sides[i], as, i ? "crossed-b" : "crossed-a");
        requests[i] = begin(&sides[i], HOLD_WRITE);
    }
    ranks_wait(world_comm());
    hold_open();
    for (int i = 0; i < 2; i++) {
        int done = 0;
        while (!done) {
            GOOD(as, allshard_test(requests[(world_rank() + i) % 2], &done));
            (void)usleep(NAP_US);
        }
    }
    for (int i = 0; i < 2; i++) {
        GOOD(as, allshard_wait(&requests[i], NULL));
        check_holds(&sides[i], sides[i].folder);
        close_side(&sides[i]);
    }
}

/* While some wait for longer than the limit, the others do nothing but test: none has stalled. */
static void test_signs(void)
{
    enum { TIMES = 150, STEP_US = 20000 };
    allshard *mine = as;
    side a;
    allshard_options options = {.size = sizeof options, .timeout_s = 1.2};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    for (int waits = 0; waits < 2; waits++) {
        open_side(&a, as, waits ? "signs-b" : "signs-a");
        bool tests = world_rank() % 2 != waits;
        allshard_request *request = begin(&a, tests ? HOLD_WRITE : HOLD_NOTHING);
        for (int i = 0; tests && i < TIMES; i++) {
            int done = 1;
            GOOD(as, allshard_test(request, &done));
            CHECK(!done);
            (void)usleep(STEP_US);
        }
        hold_open();
        GOOD(as, allshard_wait(&request, NULL));
        check_holds(&a, a.folder);
        close_side(&a);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    as = mine;
}

/* A stream whose pace lets a block go less often than the limit: nothing has stalled. */
static void test_slow_pace(void)
{
    enum { BLOCK = 64 << 10, BLOCKS = 3 };
    const model_tensor tensor = {"slow", ALLSHARD_U8, 2, {(int64_t)BLOCKS * world_size(), BLOCK}};
    allshard *mine = as;
    allshard_options options = {
        .size = sizeof options, .timeout_s = 0.8, .snapshot_memory = BLOCK + 2 * 4096};
    side a = {.m = {&tensor, 1}, .folder = strdup(scratch_path("slow"))};
    allshard_save_options o = plain();
    allshard_request *request = NULL;
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    o.max_shard_size = NULL;
    o.block_bytes = BLOCK;
    o.staging = ALLSHARD_STAGE_STREAM;
    o.bandwidth = BLOCK;
    holding_make(&a.h, &a.m, LAYOUT_FSDP, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&a.s, as, "model"));
    holding_declare(&a.h, as, a.s);
    holding_fill(&a.h);
    GOOD(as, allshard_isave(a.s, a.folder, &o, &request));
    holding_clear(&a.h);
    GOOD(as, allshard_wait(&request, NULL));
    check_holds(&a, a.folder);
    close_side(&a);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    as = mine;
}

int main(int argc, char **argv)
{
    /* Where one process may not read another's memory, long messages need both of them. */
    CHECK(setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0) == 0);
    ranks_start(&argc, &argv, 120);
    hold_install();
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_turns();
    test_crossed();
    test_signs();
    test_slow_pace();
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
