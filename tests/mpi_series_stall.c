/* SPDX-License-Identifier: Apache-2.0
 * A rank that stalls in a save of a series, or a disk that does: all ranks give up with one code,
 * nothing hangs, also not the closing, and the root holds the checkpoint of before, or the new one.
 */
/* ranks: 3 */
/* timeout: 120 */
#include <time.h>

#include "series_run.h"
#include "support_faults.h"

enum { LIMIT = 1, LIMIT_SANITIZED = 2, TIMES = 4 /* seconds, and how much longer stalls are */ };

static const char *root;

typedef struct stalled {
    const char *what;
    const char *rule; /* on rank 0; NULL: the last rank comes late */
    bool nonblocking;
} stalled;

/* Renames: of a part's files, when they are put into one folder; the link comes after the commit. */
static const stalled cases[] = {
    {"the last rank does not come", NULL, false},
    {"the disk stalls before the commit of a nonblocking save", "call=renameat,nth=14,do=stall",
     true},
    {"the disk stalls after the commit", "call=symlinkat,nth=1,do=stall", false},
    {"the disk stalls after the commit of a nonblocking save", "call=symlinkat,nth=1,do=stall",
     true},
};

static allshard_series *open_series(allshard *as)
{
    const allshard_series_options o = {.size = sizeof o, .walltime = ALLSHARD_WALLTIME_OFF};
    allshard_series *r = NULL;
    GOOD(as, allshard_series_open(&r, as, root, &o));
    return r;
}

static int save(const run *u, allshard_series *r, int64_t step, bool nonblocking)
{
    const allshard_checkpoint c = run_checkpoint(u, step);
    int code = nonblocking ? allshard_series_isave(r, &c) : allshard_series_save(r, &c);
    return code == ALLSHARD_OK && nonblocking ? allshard_series_wait(r, NULL) : code;
}

static void one_stall(const stalled *s, int64_t step)
{
    int limit = is_sanitized() ? LIMIT_SANITIZED : LIMIT;
    const allshard_options o = {.size = sizeof o, .timeout_s = limit};
    allshard *as = NULL;
    run u;
    ranks_scene("%s", s->what);
    CHECK(allshard_open(&as, world_comm(), &o) == ALLSHARD_OK);
    run_open(&u, as, world_rank(), world_size());
    allshard_series *r = open_series(as);
    run_fill(&u, step);
    if (s->rule) {
        fault_rule rules[FAULT_MOST_RULES];
        char text[80];
        int count = 0;
        (void)snprintf(text, sizeof text, "%s:%d", s->rule, TIMES * limit);
        CHECK(!fault_read(text, world_rank(), rules, &count));
        fault_begin(rules, world_rank() == 0 ? count : 0);
    } else if (world_rank() == world_size() - 1) {
        (void)nanosleep(&(struct timespec){.tv_sec = TIMES * limit}, NULL);
    }
    int code = save(&u, r, step, s->nonblocking);
    CHECK(ranks_agree(world_comm(), &code, sizeof code));
    CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s: %s", s->what, allshard_error_name(code));
    (void)allshard_series_close(r);
    if (s->rule) {
        (void)fault_end();
    }
    run_close(&u);
    (void)allshard_close(as);
    ranks_wait(world_comm());
}

/* Its step; whole, whatever it is. */
static int64_t newest(void)
{
    allshard *as = NULL;
    run u;
    allshard_loaded loaded = {.size = sizeof loaded};
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    run_open(&u, as, world_rank(), world_size());
    allshard_series *r = open_series(as);
    GOOD(as, allshard_series_load(r, ALLSHARD_NEWEST, u.states, RUN_PARTS, NULL, &loaded));
    int64_t step = loaded.step;
    CHECK(loaded.passed == 0 && run_wrong(&u, step) == 0);
    GOOD(as, allshard_series_close(r));
    run_close(&u);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return step;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 60);
    root = strdup(scratch_path("series"));
    fault_install();
    allshard *as = NULL;
    run u;
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    run_open(&u, as, world_rank(), world_size());
    allshard_series *r = open_series(as);
    run_fill(&u, 1);
    GOOD(as, save(&u, r, 1, false));
    GOOD(as, allshard_series_close(r));
    run_close(&u);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    int64_t before = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ranks_again();
        one_stall(&cases[i], (int64_t)i + 2);
        int64_t now = newest();
        CHECK_TEXT(now == before || now == (int64_t)i + 2, "%s: step %lld", cases[i].what,
                   (long long)now);
        CHECK_TEXT(cases[i].rule || now == before, "%s: it counts", cases[i].what);
        before = now;
    }
    free((void *)(uintptr_t)root);
    return ranks_end();
}
