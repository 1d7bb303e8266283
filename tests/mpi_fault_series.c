/* SPDX-License-Identifier: Apache-2.0
 * Calls that touch the disk go wrong in saves of a series, blocking and nonblocking, new ones and
 * such that replace a checkpoint and let go of others, on the first, the middle, the last and all of
 * three ranks: all ranks get one code that tells what the root holds; the checkpoint of before stays
 * whole until the new one counts; nothing leaks; the next save is good. A sample by ALLSHARD_SEED;
 * every case with ALLSHARD_LONG=1.
 */
/* ranks: 3 */
/* timeout: 400 */
/* long-timeout: 10800 */
#include "commit/recover.h"
#include "fault_scene.h"
#include "series_run.h"

enum { BEFORE = 100, AFTER = 200, KEPT = 2 }; /* what the values tell; checkpoints that stay */

typedef struct series_scene {
    bool nonblocking;
    bool replaces; /* step 2, which is there */
} series_scene;

static const series_scene series_scenes[] = {
    {false, false}, {false, true}, {true, false}, {true, true}};
static const scene shown_scenes[] = {{"blocking, new", false, 0},
                                     {"blocking, replacing", false, 0},
                                     {"nonblocking, new", false, 0},
                                     {"nonblocking, replacing", false, 0}};

static allshard *as;
static run u;
static allshard_series *series;
static open_things baseline;
static const series_scene *trial;

static int save_values(int64_t step, int64_t values, bool nonblocking)
{
    run_fill(&u, values);
    const allshard_checkpoint c = run_checkpoint(&u, step);
    if (!nonblocking) {
        return allshard_series_save(series, &c);
    }
    int code = allshard_series_isave(series, &c);
    run_spoil(&u);
    return code == ALLSHARD_OK ? allshard_series_wait(series, NULL) : code;
}

static int64_t step_on_trial(void)
{
    return trial->replaces ? 2 : 3;
}

/* What the values of the checkpoint of a step are; 0: there is none, −1: it is neither. */
static int64_t values_of(int64_t step)
{
    run_spoil(&u);
    int code = allshard_series_load(series, step, u.states, RUN_PARTS, NULL, NULL);
    if (code == ALLSHARD_NOT_FOUND) {
        return 0;
    }
    int64_t before = ranks_sum(world_comm(), run_wrong(&u, BEFORE + step));
    int64_t after = ranks_sum(world_comm(), run_wrong(&u, AFTER + step));
    return code != ALLSHARD_OK ? -1 : before == 0 ? BEFORE + step : after == 0 ? AFTER + step : -1;
}

static void open_root(void)
{
    const allshard_series_options o = {
        .size = sizeof o, .keep_last = KEPT, .walltime = ALLSHARD_WALLTIME_OFF};
    GOOD(as, allshard_series_open(&series, as, folder, &o));
}

/* Checkpoints 1 and 2, and no 3; 1 goes when 3 comes, if this run has not loaded from it. */
static void set_root(void)
{
    GOOD(as, allshard_series_close(series));
    if (world_rank() == 0) {
        remove_tree(folder);
    }
    ranks_wait(world_comm());
    open_root();
    GOOD(as, save_values(1, BEFORE + 1, false));
    GOOD(as, save_values(2, BEFORE + 2, false));
}

static bool has_leftovers(void)
{
    char path[1024];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/.allshard", folder);
    return ranks_max(world_comm(), world_rank() == 0 && lstat(path, &status) == 0) != 0;
}

static void recover_root(const fault_case *c)
{
    as_error e = AS_ERROR_INIT;
    if (world_rank() == 0) {
        int code = as_recover(folder, false, 40, NULL, NULL, &e);
        CHECK_TEXT(code == AS_OK, "%s: recovery: %s", case_text(c), as_error_text(&e));
    }
    as_error_clear(&e);
    ranks_wait(world_comm());
}

/* Does the code tell the truth about the root? */
static void check_root(const fault_case *c, int code)
{
    bool leftovers = has_leftovers();
    bool gave_up = code != ALLSHARD_OK && code != ALLSHARD_PENDING && code != ALLSHARD_UNKNOWN;
    int64_t step = step_on_trial();
    CHECK_TEXT(!gave_up || !leftovers || is_lasting(c->trouble) || c->trouble->mode == FAULT_LIE,
               "%s: .allshard is left", case_text(c));
    if (leftovers) {
        recover_root(c);
        CHECK_TEXT(!has_leftovers(), "%s: .allshard is left by the recovery", case_text(c));
    }
    int64_t found = values_of(step);
    int64_t old = trial->replaces ? BEFORE + step : 0;
    CHECK_TEXT(found == AFTER + step || found == old, "%s: %s, and step %lld holds neither",
               case_text(c), allshard_error_name(code), (long long)step);
    CHECK_TEXT(!gave_up || found == old, "%s: the save failed, and counts", case_text(c));
    CHECK_TEXT((code != ALLSHARD_OK && code != ALLSHARD_PENDING) || found == AFTER + step,
               "%s: the save is good, and does not count", case_text(c));
    CHECK_TEXT(trial->replaces || values_of(2) == BEFORE + 2, "%s: step 2", case_text(c));
    int64_t first = values_of(1);
    CHECK_TEXT(first == BEFORE + 1 || (first == 0 && found == AFTER + 3), "%s: step 1 is %lld",
               case_text(c), (long long)first);
}

static void one_fault(const fault_case *c)
{
    set_root();
    begin_case(c, "a save of a series");
    int code = save_values(step_on_trial(), AFTER + step_on_trial(), trial->nonblocking);
    /* What is removed in the background is part of it. */
    allshard_series *closing = series;
    series = NULL;
    int closed = allshard_series_close(closing);
    hit h = end_case();
    CHECK_TEXT(closed == ALLSHARD_OK, "%s: closing: %s", case_text(c), allshard_error_name(closed));
    CHECK_TEXT(ranks_agree(world_comm(), &code, sizeof code), "%s: %s on rank %d, not on rank 0",
               case_text(c), allshard_error_name(code), world_rank());
    count_code(code, h.rank >= 0);
    CHECK_TEXT(h.rank >= 0 || code == ALLSHARD_OK, "%s: %s without any fault", case_text(c),
               allshard_error_name(code));
    if (h.rank >= 0 && is_absorbed(c)) {
        CHECK_TEXT(code == ALLSHARD_OK, "%s: %s of \"%s\": %s", case_text(c),
                   fault_call_name(h.event.call), h.event.path, allshard_error_name(code));
    }
    open_root();
    check_root(c, code);
    GOOD(as, save_values(3, AFTER + 3, (matrix.tried & 1) != 0));
    CHECK_TEXT(values_of(3) == AFTER + 3, "%s: the next save", case_text(c));
    const char *leaked = what_leaked(&baseline);
    CHECK_TEXT(!leaked, "%s: %s", case_text(c), leaked);
}

static void test_scene(size_t number)
{
    int calls[3] = {0};
    const fault_case none = {
        .scene = &shown_scenes[number], .trouble = &troubles[0], .victim = -1, .at = 0};
    trial = &series_scenes[number];
    for (int i = 0; i < 2; i++) {
        set_root();
        begin_case(&none, "a save of a series");
        GOOD(as, save_values(step_on_trial(), AFTER + step_on_trial(), trial->nonblocking));
        GOOD(as, allshard_series_close(series));
        share_calls(fault_end(), calls);
        open_root();
        CHECK(values_of(step_on_trial()) == AFTER + step_on_trial());
        GOOD(as, save_values(3, AFTER + 3, true)); /* what is made once and kept is made */
    }
    baseline = count_open();
    double start = seconds_now();
    int tried = matrix.tried;
    try_all(&shown_scenes[number], calls, one_fault);
    end_scene(&shown_scenes[number], calls, tried, start);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, CASE_SECONDS);
    CHECK(world_size() <= 3);
    begin_matrix(shown_scenes, is_sanitized() ? 8000 : 1000);
    free((void *)(uintptr_t)folder);
    folder = strdup(scratch_path("series"));
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    run_open(&u, as, world_rank(), world_size());
    open_root();
    for (size_t i = 0; i < COUNT(series_scenes); i++) {
        if (is_wanted(i)) {
            test_scene(i);
        }
    }
    GOOD(as, allshard_series_close(series));
    run_close(&u);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return end_matrix("saves of a series");
}
