/* SPDX-License-Identifier: Apache-2.0
 * How nonblocking saves end that do not simply end: cancelled by one rank or by all, once or twice,
 * in time or too late; by a close that waits for them or cancels them; and by trouble that comes
 * when allshard_isave is long back: one error on all ranks, and the old checkpoint stays. What the
 * log and the progress are told comes on the calling thread. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 4 */
/* timeout: 200 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "isave_scene.h"

enum { OLD = 85 };

static uint64_t own; /* random, of this rank alone */

/* ---- cancel ---- */

static void check_cancelled(side *x, allshard_request **request, enum ending how)
{
    FAILS(as, end_request(request, how, &own, NULL, NULL), ALLSHARD_CANCELLED, "cancelled");
    ranks_wait(world_comm());
    CHECK(!exists(x->folder, ".allshard"));
    ranks_wait(world_comm());
}

/* Each rank alone, then all, then all twice. Untested, no save can be too far for that. */
static void test_cancel(void)
{
    static const enum hold places[] = {HOLD_WRITE, HOLD_SYNC, HOLD_NOTHING};
    side a;
    open_side(&a, as, "cancelled");
    for (int who = 0; who < world_size() + 2; who++) {
        for (int old = 0; old < 2; old++) {
            allshard_save_options o = plain();
            if (old) {
                holding_turn(&a.h, OLD);
                GOOD(as, allshard_save(a.s, a.folder, &o));
            }
            holding_fill(&a.h);
            allshard_request *request = begin(&a, places[(who + old) % 3]);
            if (who == world_rank() || who >= world_size()) {
                CHECK(allshard_cancel(request) == ALLSHARD_OK);
                CHECK(who <= world_size() || allshard_cancel(request) == ALLSHARD_OK);
            }
            hold_open();
            check_cancelled(&a, &request, (enum ending)((who + old) % BY_OTHERS));
            if (old) {
                check_turned(&a, a.folder, OLD);
                remove_folder(a.folder);
            } else {
                check_nothing(a.folder);
            }
            holding_fill(&a.h);
        }
    }
    close_side(&a);
}

static void test_too_late(void)
{
    side a;
    int done = 0;
    open_side(&a, as, "late");
    allshard_request *request = begin(&a, HOLD_MOVE);
    while (ranks_max(world_comm(), hold_waiting()) == 0) { /* until the journal is written */
        GOOD(as, allshard_test(request, &done));
        CHECK(!done);
    }
    CHECK(allshard_cancel(request) == ALLSHARD_OK);
    hold_open();
    GOOD(as, end_request(&request, BY_TESTS, &own, NULL, NULL));
    check_holds(&a, a.folder);
    request = begin(&a, HOLD_NOTHING);
    while (!done) {
        GOOD(as, allshard_test(request, &done));
    }
    CHECK(allshard_cancel(request) == ALLSHARD_OK); /* it is over */
    GOOD(as, allshard_wait(&request, NULL));
    ranks_wait(world_comm());
    CHECK(!exists(a.folder, ".allshard"));
    ranks_wait(world_comm());
    close_side(&a);
}

/* ---- trouble in the background ---- */

static int64_t most_bytes(const allshard_request *request)
{
    watch w = {0};
    return watch_look(&w, request).bytes_total;
}

/* One rank may not write beyond a few bytes any more when its save is in flight. */
static void test_file_limit(void)
{
    side a;
    struct rlimit before;
    allshard_save_options o = plain();
    open_side(&a, as, "limited");
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    for (int odd = 0; odd < world_size(); odd++) {
        holding_fill(&a.h);
        holding_turn(&a.h, OLD);
        GOOD(as, allshard_save(a.s, a.folder, &o));
        holding_fill(&a.h);
        allshard_request *request = begin(&a, HOLD_WRITE);
        CHECK(most_bytes(request) > 0);
        struct rlimit limit = {world_rank() == odd ? 1 : before.rlim_cur, before.rlim_max};
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        hold_open();
        FAILS(as, end_request(&request, (enum ending)(odd % BY_OTHERS), &own, NULL, NULL),
              ALLSHARD_SYSTEM, a.folder, ".safetensors");
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(as, &e);
        CHECK_TEXT(e.rank == odd && e.sys_errno == EFBIG, "rank %d, errno %d: %s", e.rank,
                   e.sys_errno, e.text);
        CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
        check_turned(&a, a.folder, OLD);
        CHECK(!exists(a.folder, ".allshard"));
        ranks_wait(world_comm());
    }
    holding_fill(&a.h);
    allshard_request *request = begin(&a, HOLD_NOTHING);
    GOOD(as, end_request(&request, BY_TESTS, &own, NULL, NULL));
    check_holds(&a, a.folder);
    close_side(&a);
}

/* The folder goes while the save is in flight. */
static void test_folder_gone(void)
{
    side a;
    open_side(&a, as, "gone");
    allshard_request *request = begin(&a, HOLD_SYNC);
    remove_folder(a.folder);
    hold_open();
    int code = end_request(&request, BY_SOME, &own, NULL, NULL);
    CHECK(code != ALLSHARD_OK && code != ALLSHARD_INTERNAL);
    FAILS(as, code, code, a.folder);
    check_nothing(a.folder);
    holding_fill(&a.h);
    request = begin(&a, HOLD_NOTHING);
    GOOD(as, end_request(&request, BY_TESTS, &own, NULL, NULL));
    check_holds(&a, a.folder);
    close_side(&a);
}

/* The main process removes the old files for longer than the limit, while the others wait for it in
 * the next call, or are long back and silent: nobody has stalled. */
static void test_slow_clean(void)
{
    enum { REMOVAL_US = 200000 };
    allshard *mine = as;
    side a;
    allshard_options options = {.size = sizeof options, .timeout_s = 0.6};
    allshard_save_options o = plain();
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    open_side(&a, as, "slow");
    GOOD(as, allshard_save(a.s, a.folder, &o));
    for (int silent = 0; silent < 2; silent++) {
        holding_fill(&a.h);
        allshard_request *request = begin(&a, HOLD_NOTHING);
        ranks_wait(world_comm());
        hold_slow_down(REMOVAL_US);
        GOOD(as, allshard_wait(&request, NULL));
        if (silent) { /* else the others come to the load and wait there */
            ranks_wait(world_comm());
        }
        hold_slow_down(0);
        check_holds(&a, a.folder);
    }
    close_side(&a);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    as = mine;
}

/* ---- close, and who is told where ---- */

static pthread_t caller;
static atomic_int elsewhere; /* calls of the log or of progress in another thread */
static atomic_int told;

static void count_log(int level, const char *text, void *user)
{
    (void)level, (void)text, (void)user;
    atomic_fetch_add(&told, 1);
    atomic_fetch_add(&elsewhere, !pthread_equal(pthread_self(), caller));
}

static void count_progress(int64_t done, int64_t total, void *user)
{
    CHECK(done <= total);
    count_log(0, "", user);
}

/* Two saves in flight when the context is closed: never tested, they cannot be over. That one rank
 * wants them cancelled is enough. */
static void close_with(bool cancel)
{
    allshard *mine = as;
    allshard_options options = {.size = sizeof options,
                                .log = count_log,
                                .progress = count_progress,
                                .cancel_on_close = cancel && world_rank() == world_size() - 1};
    side x[2];
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    for (int i = 0; i < 2; i++) {
        open_side(&x[i], as, i ? "closed-b" : "closed-a");
        (void)begin(&x[i], HOLD_WRITE);
    }
    hold_open();
    int code = allshard_close(as);
    CHECK_TEXT(code == ALLSHARD_OK, "closed with %s", allshard_error_name(code));
    as = mine;
    for (int i = 0; i < 2; i++) {
        if (!cancel) {
            side again;
            open_side(&again, as, i ? "closed-b" : "closed-a");
            check_holds(&again, again.folder);
            close_side(&again);
        } else {
            check_nothing(x[i].folder);
        }
        remove_folder(x[i].folder);
        CHECK(allshard_state_free(x[i].s) == ALLSHARD_OK); /* which the close left */
        free_side(&x[i]);
    }
}

static void test_close(void)
{
    close_with(false);
    close_with(true);
}

static void test_log(void)
{
    allshard *mine = as;
    allshard_options options = {
        .size = sizeof options, .log = count_log, .progress = count_progress};
    side a;
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    open_side(&a, as, "logged");
    atomic_store(&told, 0);
    for (int i = 0; i < 3; i++) {
        holding_fill(&a.h);
        allshard_request *request = begin(&a, HOLD_WRITE);
        if (i == 1) {
            CHECK(allshard_cancel(request) == ALLSHARD_OK);
        }
        hold_open();
        int code = end_request(&request, BY_TESTS, &own, NULL, NULL);
        CHECK(code == (i == 1 ? ALLSHARD_CANCELLED : ALLSHARD_OK));
    }
    CHECK_TEXT(atomic_load(&told) > 0, "the log does not tell of the cancelled save");
    close_side(&a);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    CHECK_TEXT(atomic_load(&elsewhere) == 0, "%d calls came in other threads",
               atomic_load(&elsewhere));
    as = mine;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 200);
    caller = pthread_self();
    own = seed_of_test() + 1000 * (uint64_t)(world_rank() + 1);
    hold_install();
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_cancel();
    test_too_late();
    test_file_limit();
    test_folder_gone();
    if (world_size() == 2) { /* it takes its time */
        test_slow_clean();
    }
    test_close();
    test_log();
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
