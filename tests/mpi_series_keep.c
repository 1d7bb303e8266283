/* SPDX-License-Identifier: Apache-2.0
 * What a series keeps, through the public interface: runs with random rules save, blocking and not,
 * replace steps and go back; checkpoints rot and are tagged; after each run the root holds just what
 * a plain account says (support_series.h), and the newest good one is what the next run loads.
 */
/* ranks: 2 1 3 */
/* timeout: 180 */
/* long-timeout: 1800 */
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "box_support.h"
#include "support_ranks.h"
#include "support_series.h"

static allshard *as;
static allshard_state *model;
static allshard_state *optimizer;
static int64_t value; /* of the last rank, the one tensor's */
static uint64_t seed;
static book account; /* the same on all ranks */
static int64_t now_ms = INT64_C(1700000000000);
static char root[512];

typedef struct rules {
    allshard_series_options options;
    as_keep_rules keep; /* the same */
} rules;

static void declare(allshard_state **state, const char *name)
{
    static const int64_t shape[] = {1};
    GOOD(as, allshard_state_create(state, as, name));
    const allshard_tensor t = {.size = sizeof t,
                               .name = "id",
                               .dtype = ALLSHARD_I64,
                               .ndim = 1,
                               .shape = shape,
                               .data = &value};
    if (world_rank() == world_size() - 1) {
        GOOD(as, allshard_state_tensor(*state, &t));
    }
}

static rules any_rules(void)
{
    static const char *const metrics[] = {NULL, "loss", "f1"};
    rules r = {.options = {.size = sizeof r.options, .pattern = "e{epoch}_s{step}"}};
    r.keep.last = between(&seed, 0, 2) ? between(&seed, 1, 4) : 0;
    r.keep.every = between(&seed, 0, 2) ? 0 : between(&seed, 1, 40);
    r.keep.best = between(&seed, 0, 2) ? 0 : between(&seed, 1, 3);
    r.keep.metric = metrics[between(&seed, 0, 2)];
    r.keep.metric_max = between(&seed, 0, 1) != 0;
    r.options.keep_last = r.keep.last;
    r.options.keep_every = r.keep.every;
    r.options.keep_best = r.keep.best;
    r.options.metric = r.keep.metric;
    r.options.metric_max = r.keep.metric_max;
    return r;
}

/* One save, and the account of it. */
static void save(allshard_series *series, const rules *r, int64_t step, const char *loaded)
{
    static const double values[] = {1, 2, 2.5, 2.5, -INFINITY, NAN};
    static int64_t id = 1;
    static const char *const tags[] = {SERIES_TAG};
    char epoch[8];
    book_one one = {.id = id, .step = step, .time_ms = now_ms};
    int e = (int)between(&seed, 0, 1);
    (void)snprintf(epoch, sizeof epoch, "%d", e);
    (void)snprintf(one.name, sizeof one.name, "e%d_s%lld", e, (long long)step);
    id++;
    now_ms += 1000;
    if (between(&seed, 0, 2)) {
        one.metric = between(&seed, 0, 3) ? "loss" : "f1";
        one.value = values[between(&seed, 0, 5)];
    }
    one.tagged = between(&seed, 0, 7) == 0;
    value = one.id;
    allshard_state *const states[] = {model, optimizer};
    const allshard_field field = {.name = "epoch", .value = epoch};
    const allshard_checkpoint c = {.size = sizeof c,
                                   .step = step,
                                   .states = states,
                                   .state_count = 2,
                                   .fields = &field,
                                   .field_count = 1,
                                   .tags = tags,
                                   .tag_count = one.tagged,
                                   .metric = one.metric,
                                   .metric_value = one.value};
    if (between(&seed, 0, 1)) {
        GOOD(as, allshard_series_save(series, &c));
    } else {
        GOOD(as, allshard_series_isave(series, &c));
        value = -1;
    }
    const char *const used[] = {one.name, loaded, NULL};
    book_put(&account, &one);
    (void)snprintf(account.latest, sizeof account.latest, "%s", one.name);
    book_prune(&account, &r->keep, used, now_ms, false);
}

/* The step that a run goes on from, which is that of the newest good one. */
static int64_t load(allshard_series *series, char loaded[BOOK_NAME])
{
    allshard_state *const states[] = {model, optimizer};
    allshard_loaded from = {.size = sizeof from};
    const book_one *newest = book_newest(&account);
    int code = allshard_series_load(series, ALLSHARD_NEWEST, states, 2, NULL, &from);
    (void)snprintf(loaded, BOOK_NAME, "%s", newest ? newest->name : "none");
    if (!newest) {
        CHECK(code == (account.count ? ALLSHARD_CORRUPT : ALLSHARD_NOT_FOUND));
        return 0;
    }
    GOOD(as, code);
    CHECK_TEXT(strcmp(from.name, newest->name) == 0, "%s, not %s", from.name, newest->name);
    CHECK(from.step == newest->step);
    CHECK(world_rank() != world_size() - 1 || value == newest->id);
    return from.step;
}

/* What others do to it between two runs. */
static void disturb(void)
{
    for (int64_t i = between(&seed, 0, 2); i > 0 && account.count > 0; i--) {
        book_one *one = &account.items[between(&seed, 0, (int64_t)account.count - 1)];
        bool rots = between(&seed, 0, 1) != 0 && !one->damaged;
        if (rots) {
            one->damaged = true;
        } else {
            one->tagged = !one->tagged;
        }
        if (world_rank() == 0 && rots) {
            series_damage(root, one->name);
        } else if (world_rank() == 0) {
            series_tag(root, one->name, one->tagged);
        }
    }
    ranks_wait(world_comm());
}

static void one_run(int number)
{
    allshard_series *series = NULL;
    char loaded[BOOK_NAME];
    rules r = any_rules();
    ranks_scene("run %d", number);
    GOOD(as, allshard_series_open(&series, as, root, &r.options));
    int64_t step = load(series, loaded);
    if (step > 0 && between(&seed, 0, 5) == 0) {
        step = between(&seed, 0, step); /* it goes back */
    }
    for (int64_t i = between(&seed, 1, 6); i > 0 && account.count < BOOK_MOST; i--) {
        step += between(&seed, 0, 7) ? between(&seed, 1, 12) : 0;
        save(series, &r, step, loaded);
    }
    GOOD(as, allshard_series_close(series));
    if (world_rank() == 0) {
        const char *wrong = book_compare(&account, root);
        if (wrong) {
            book_print(&account);
        }
        CHECK_TEXT(!wrong, "%s; last %lld, every %lld, best %lld %s %s, loaded %s", wrong,
                   (long long)r.keep.last, (long long)r.keep.every, (long long)r.keep.best,
                   r.keep.metric ? r.keep.metric : "any", r.keep.metric_max ? "max" : "min",
                   loaded);
    }
    ranks_wait(world_comm());
}

int main(int argc, char **argv)
{
    const char *text = getenv("ALLSHARD_SEED");
    const char *more = getenv("ALLSHARD_LONG");
    bool is_long = more && *more && strcmp(more, "0") != 0;
    int runs = is_long ? 1000 : getenv("ALLSHARD_SANITIZE") ? 12 : 40;
    seed = text && *text ? strtoull(text, NULL, 0) : 7;
    ranks_start(&argc, &argv, 170);
    if (world_rank() == 0) {
        printf("seed %llu, %d runs\n", (unsigned long long)seed, runs);
    }
    (void)snprintf(root, sizeof root, "%s", scratch_path("run"));
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    declare(&model, "model");
    declare(&optimizer, "optimizer");
    for (int i = 1; i <= runs; i++) {
        if (account.count > BOOK_MOST / 2) { /* damaged and tagged ones, mostly: a new root */
            account = (book){.count = 0};
            (void)snprintf(root, sizeof root, "%s-%d", scratch_path("run"), i);
        }
        one_run(i);
        disturb();
    }
    GOOD(as, allshard_state_free(model));
    GOOD(as, allshard_state_free(optimizer));
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
