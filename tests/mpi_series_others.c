/* SPDX-License-Identifier: Apache-2.0
 * Saves of a series beside what others do to its root. Where somebody holds it for a moment, as
 * `allshard prune` does, they wait and succeed. Where `latest` cannot be set, what it leads to stays.
 */
/* ranks: 1 3 */
/* timeout: 60 */
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "box_support.h"
#include "commit/transaction.h"
#include "support_ranks.h"

static char root[512];
static as_txn *held;

/* Lets go of the root a moment later; nothing depends on how long that takes. */
static void *release(void *none)
{
    const struct timespec moment = {.tv_nsec = 300000000};
    (void)nanosleep(&moment, NULL);
    as_txn_abort(held);
    return none;
}

static void save_beside_another(allshard *as, allshard_series *series, allshard_state *model,
                                int64_t step, bool nonblocking)
{
    pthread_t thread = 0;
    as_error e = AS_ERROR_INIT;
    allshard_state *const states[] = {model};
    const allshard_checkpoint c = {
        .size = sizeof c, .step = step, .states = states, .state_count = 1};
    ranks_scene(nonblocking ? "a nonblocking save" : "a blocking save");
    if (world_rank() == 0) {
        CHECK_TEXT(as_txn_begin(&held, root, NULL, NULL, &e) == AS_OK, "%s", as_error_text(&e));
        CHECK(pthread_create(&thread, NULL, release, NULL) == 0);
    }
    if (nonblocking) {
        GOOD(as, allshard_series_isave(series, &c));
        GOOD(as, allshard_series_wait(series, NULL));
    } else {
        GOOD(as, allshard_series_save(series, &c));
    }
    if (world_rank() == 0) {
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

static bool is_there(const char *name)
{
    char path[600];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    return stat(path, &status) == 0;
}

static void latest_leads_to_something(allshard *as, allshard_series *series, allshard_state *model)
{
    char path[600];
    allshard_state *const states[] = {model};
    allshard_checkpoint c = {.size = sizeof c, .states = states, .state_count = 1};
    ranks_scene("latest cannot be set");
    (void)snprintf(path, sizeof path, "%s/.latest.new", root); /* where its draft would be */
    CHECK(world_rank() != 0 || mkdir(path, 0777) == 0);
    for (c.step = 3; c.step <= 5; c.step++) {
        GOOD(as, allshard_series_save(series, &c));
    }
    ranks_wait(world_comm());
    CHECK(is_there("latest") && is_there("checkpoint-2"));
    CHECK(!is_there("checkpoint-3") && is_there("checkpoint-5"));
    ranks_wait(world_comm());
    CHECK(world_rank() != 0 || rmdir(path) == 0);
    c.step = 6;
    GOOD(as, allshard_series_save(series, &c));
    c.step = 7;
    GOOD(as, allshard_series_save(series, &c));
    CHECK(is_there("latest") && !is_there("checkpoint-2") && is_there("checkpoint-7"));
    ranks_wait(world_comm());
}

int main(int argc, char **argv)
{
    static const int64_t shape[] = {1};
    int64_t value = 7;
    const allshard_series_options o = {.size = sizeof o, .keep_last = 1};
    allshard *as = NULL;
    allshard_state *model = NULL;
    allshard_series *series = NULL;
    ranks_start(&argc, &argv, 50);
    (void)snprintf(root, sizeof root, "%s", scratch_path("run"));
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&model, as, "model"));
    const allshard_tensor t = {.size = sizeof t,
                               .name = "id",
                               .dtype = ALLSHARD_I64,
                               .ndim = 1,
                               .shape = shape,
                               .data = &value};
    if (world_rank() == 0) {
        GOOD(as, allshard_state_tensor(model, &t));
    }
    GOOD(as, allshard_series_open(&series, as, root, &o));
    save_beside_another(as, series, model, 1, false);
    save_beside_another(as, series, model, 2, true);
    latest_leads_to_something(as, series, model);
    allshard_loaded from = {.size = sizeof from};
    allshard_state *const states[] = {model};
    GOOD(as, allshard_series_load(series, ALLSHARD_NEWEST, states, 1, NULL, &from));
    CHECK(from.step == 7);
    GOOD(as, allshard_series_close(series));
    GOOD(as, allshard_state_free(model));
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
