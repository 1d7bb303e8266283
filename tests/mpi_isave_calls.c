/* SPDX-License-Identifier: Apache-2.0
 * What may be called while nonblocking saves are in flight, and what those calls then do: other
 * saves, loads and plans, the same state once more, declarations, frees. The background stands
 * still at a chosen call, so that "in flight" is no matter of luck. (ALLSHARD_NO_MPI: also as one
 * process.)
 */
/* ranks: 1 2 3 4 */
/* timeout: 200 */
#include <pthread.h>

#include "isave_scene.h"

enum { SEVERAL = 4, OLD = 85 };

static uint64_t own; /* random, of this rank alone */

/* ---- handles that are none ---- */

static void test_nothing(void)
{
    side a;
    allshard_request *none = NULL;
    allshard_progress p = {.size = sizeof p};
    int done = 7;
    CHECK(allshard_wait(NULL, NULL) == ALLSHARD_OK);
    CHECK(allshard_wait(&none, NULL) == ALLSHARD_OK && none == NULL);
    CHECK(allshard_test(NULL, &done) == ALLSHARD_INVALID);
    CHECK(allshard_cancel(NULL) == ALLSHARD_INVALID);
    CHECK(allshard_request_progress(NULL, &p) == ALLSHARD_INVALID);
    CHECK(allshard_trim(NULL) == ALLSHARD_INVALID);
    open_side(&a, as, "nothing");
    none = (allshard_request *)&a;
    CHECK(allshard_isave(NULL, a.folder, NULL, &none) == ALLSHARD_INVALID);
    bool last = world_rank() == world_size() - 1;
    none = (allshard_request *)&a;
    FAILS(as, allshard_isave(a.s, a.folder, NULL, last ? NULL : &none), ALLSHARD_INVALID,
          "request");
    CHECK(last || none == NULL);
    none = (allshard_request *)&a;
    FAILS(as, allshard_isave(a.s, last ? "" : a.folder, NULL, &none), ALLSHARD_INVALID,
          "directory");
    CHECK(none == NULL);
    check_nothing(a.folder);
    allshard_request *request = begin(&a, HOLD_WRITE);
    CHECK(allshard_test(request, NULL) == ALLSHARD_INVALID);
    CHECK(allshard_request_progress(request, NULL) == ALLSHARD_INVALID);
    check_in_flight(request);
    hold_open();
    GOOD(as, allshard_wait(&request, NULL));
    check_holds(&a, a.folder);
    close_side(&a);
}

/* ---- several at a time ---- */

static void test_several(void)
{
    side sides[SEVERAL];
    allshard_request *requests[SEVERAL];
    for (int i = 0; i < SEVERAL; i++) {
        char tag[32];
        (void)snprintf(tag, sizeof tag, "several-%d", i);
        open_side(&sides[i], as, tag);
        requests[i] = begin(&sides[i], i % 2 ? HOLD_WRITE : HOLD_SYNC);
    }
    for (int i = 0; i < SEVERAL; i++) {
        check_in_flight(requests[i]);
    }
    hold_open();
    /* Each rank tests them in an order of its own, and some not at all. */
    for (int i = 0; i < 20; i++) {
        int done = 0;
        GOOD(as, allshard_test(requests[pick(&own, SEVERAL)], &done));
    }
    for (int i = SEVERAL - 1; i >= 0; i--) {
        GOOD(as, end_request(&requests[i], i == 1 ? BY_WAIT : BY_TESTS, &own, NULL, NULL));
    }
    for (int i = 0; i < SEVERAL; i++) {
        check_holds(&sides[i], sides[i].folder);
        close_side(&sides[i]);
    }
}

/* Two states with one folder: the lock of the first keeps the second out. */
static void test_one_folder(void)
{
    side a;
    side b;
    allshard_save_options o = plain();
    open_side(&a, as, "one");
    open_side(&b, as, "two");
    allshard_request *request = begin(&a, HOLD_WRITE);
    allshard_request *second = request;
    FAILS(as, allshard_isave(b.s, a.folder, &o, &second), ALLSHARD_BUSY, a.folder);
    CHECK(second == NULL);
    FAILS(as, allshard_save(b.s, a.folder, &o), ALLSHARD_BUSY, a.folder);
    check_in_flight(request);
    hold_open();
    GOOD(as, allshard_wait(&request, NULL));
    check_holds(&a, a.folder);
    close_side(&a);
    close_side(&b);
}

/* All that is not about this state goes on. */
static void test_others(void)
{
    side a;
    side b;
    side c;
    allshard_save_options o = plain();
    open_side(&a, as, "held");
    open_side(&b, as, "other");
    open_side(&c, as, "third");
    holding_turn(&a.h, OLD);
    GOOD(as, allshard_save(a.s, a.folder, &o)); /* the old checkpoint */
    holding_fill(&a.h);
    allshard_request *request = begin(&a, HOLD_WRITE);
    GOOD(as, allshard_save(b.s, b.folder, &o)); /* a save of another */
    check_in_flight(request);
    check_holds(&b, b.folder);       /* a load of another */
    check_turned(&a, a.folder, OLD); /* one of itself sees the old checkpoint */
    allshard_plan *plan = NULL;
    GOOD(as, allshard_plan_create(&plan, b.s, &o));
    CHECK(allshard_plan_tensor_count(plan) == 3);
    allshard_plan_free(plan);
    GOOD(as, allshard_plan_create(&plan, a.s, &o)); /* of the state itself, too */
    allshard_plan_free(plan);
    GOOD(as, allshard_trace_write(as, scratch_path("trace.json")));
    holding_fill(&c.h);
    allshard_request *other = begin(&c, HOLD_WRITE);
    check_in_flight(other);
    check_in_flight(request);
    hold_open();
    GOOD(as, end_request(&other, BY_OTHERS, &own, NULL, b.s));
    GOOD(as, end_request(&request, BY_WAIT, &own, NULL, NULL));
    check_holds(&a, a.folder);
    check_holds(&c, c.folder);
    GOOD(as, allshard_trace_write(as, scratch_path("trace.json")));
    close_side(&a);
    close_side(&b);
    close_side(&c);
}

/* ---- the same state once more ---- */

static void *open_later(void *unused)
{
    (void)usleep(50000);
    hold_open();
    return unused;
}

/* A second save of the state while its first is in flight. */
static void test_twice(void)
{
    side a;
    open_side(&a, as, "twice");
    const char *second_folder = strdup(scratch_path("twice-second"));
    allshard_save_options o = plain();
    o.if_busy = ALLSHARD_BUSY_REFUSE;
    allshard_request *request = begin(&a, HOLD_WRITE);
    allshard_request *second = request;
    FAILS(as, allshard_isave(a.s, second_folder, &o, &second), ALLSHARD_BUSY, "in flight");
    CHECK(second == NULL);
    check_nothing(second_folder);
    check_in_flight(request);
    for (int blocking = 0; blocking < 2; blocking++) {
        pthread_t opener;
        CHECK(pthread_create(&opener, NULL, open_later, NULL) == 0);
        o.if_busy = ALLSHARD_BUSY_WAIT;
        holding_fill(&a.h);
        if (blocking) {
            GOOD(as, allshard_save(a.s, second_folder, &o));
        } else {
            GOOD(as, allshard_isave(a.s, second_folder, &o, &second));
        }
        /* The first is over now; its request is still to be ended. */
        int done = 0;
        GOOD(as, allshard_test(request, &done));
        CHECK(done);
        GOOD(as, allshard_wait(&request, NULL));
        GOOD(as, allshard_wait(&second, NULL));
        CHECK(pthread_join(opener, NULL) == 0);
        check_holds(&a, a.folder);
        check_holds(&a, second_folder);
        remove_folder(second_folder);
        if (!blocking) {
            holding_fill(&a.h);
            request = begin(&a, HOLD_WRITE);
        }
    }
    free((void *)(uintptr_t)second_folder);
    close_side(&a);
}

/* What is declared meanwhile counts for the next save. */
static void test_declared(void)
{
    side a;
    open_side(&a, as, "declared");
    static float more[16];
    const int64_t shape[] = {16};
    allshard_tensor t = {.size = sizeof t, .name = "more", .dtype = ALLSHARD_F32, .ndim = 1};
    t.shape = shape;
    t.data = more;
    t.order = 100;
    GOOD(as, allshard_state_meta(a.s, "step", "before"));
    GOOD(as, allshard_state_file(a.s, "config.json", "before", 6));
    allshard_request *request = begin(&a, HOLD_WRITE);
    GOOD(as, allshard_state_meta(a.s, "step", "after"));
    GOOD(as, allshard_state_file(a.s, "config.json", "after", 5));
    GOOD(as, allshard_state_file(a.s, "new.json", "new", 3));
    GOOD(as, allshard_state_tensor(a.s, &t));
    hold_open();
    GOOD(as, end_request(&request, BY_SOME, &own, NULL, NULL));
    ranks_wait(world_comm());
    const char *index = "model.safetensors.index.json";
    CHECK(strcmp(read_text(a.folder, "config.json"), "before") == 0);
    CHECK(!exists(a.folder, "new.json"));
    CHECK(strstr(read_text(a.folder, index), "before") &&
          !strstr(read_text(a.folder, index), "more"));
    ranks_wait(world_comm());
    holding_fill(&a.h);
    request = begin(&a, HOLD_NOTHING);
    GOOD(as, end_request(&request, BY_SOME, &own, NULL, NULL));
    ranks_wait(world_comm());
    CHECK(strcmp(read_text(a.folder, "config.json"), "after") == 0);
    CHECK(strcmp(read_text(a.folder, "new.json"), "new") == 0);
    CHECK(strstr(read_text(a.folder, index), "after") &&
          strstr(read_text(a.folder, index), "more"));
    check_holds(&a, a.folder);
    close_side(&a);
}

static void test_free(void)
{
    side a;
    open_side(&a, as, "freed");
    allshard_request *request = begin(&a, HOLD_SYNC);
    CHECK(allshard_state_free(a.s) == ALLSHARD_BUSY);
    check_in_flight(request);
    hold_open();
    GOOD(as, end_request(&request, BY_TESTS, &own, NULL, NULL));
    check_holds(&a, a.folder);
    close_side(&a);
}

/* Once a save is over on a rank, waiting for it asks for nobody; not even where calls are checked. */
static void test_one_by_one(void)
{
    allshard *mine = as;
    side a;
    allshard_options options = {.size = sizeof options, .check_calls = 1};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    open_side(&a, as, "one-by-one");
    for (int turn = 0; turn < 2; turn++) {
        allshard_request *request = begin(&a, HOLD_NOTHING);
        int done = 0;
        while (!done) {
            GOOD(as, allshard_test(request, &done));
        }
        for (int rank = 0; rank < world_size(); rank++) {
            if (world_rank() == rank) {
                GOOD(as, allshard_wait(&request, NULL));
            }
            ranks_wait(world_comm());
        }
        check_holds(&a, a.folder);
    }
    /* Some ranks have ended the first save when all begin the second, the others have not. */
    side b;
    open_side(&b, as, "another");
    for (int other = 0; other < 2; other++) {
        side *next = other ? &b : &a;
        holding_fill(&a.h);
        allshard_request *first = begin(&a, HOLD_NOTHING);
        int done = 0;
        while (!done) {
            GOOD(as, allshard_test(first, &done));
        }
        if (world_rank() % 2) {
            GOOD(as, allshard_wait(&first, NULL));
        }
        holding_fill(&next->h);
        allshard_request *second = begin(next, HOLD_NOTHING);
        GOOD(as, allshard_wait(&first, NULL));
        GOOD(as, allshard_wait(&second, NULL));
        check_holds(next, next->folder);
    }
    close_side(&b);
    close_side(&a);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    as = mine;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 200);
    own = seed_of_test() + 1000 * (uint64_t)(world_rank() + 1);
    hold_install();
    allshard_options options = {.size = sizeof options, .trace = 1};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    test_nothing();
    test_several();
    test_one_folder();
    test_others();
    test_twice();
    test_declared();
    test_free();
    test_one_by_one();
    CHECK_TEXT(ranks_max(world_comm(), hold_calls()) > 0, "the background was not seen");
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
