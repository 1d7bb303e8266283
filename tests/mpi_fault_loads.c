/* SPDX-License-Identifier: Apache-2.0
 * Every call that touches the disk in a load goes wrong in every way, on the first, the middle, the
 * last and all of three ranks, with each engine: all ranks return one code; what is good has the
 * right bytes; the text names rank, file and cause; nothing leaks or changes on disk; the next load
 * is good. A sample by ALLSHARD_SEED; every case with ALLSHARD_LONG=1.
 */
/* ranks: 3 */
/* timeout: 600 */
/* sanitize: no */
/* long-timeout: 7200 */
#include "fault_scene.h"

static allshard *as; /* kept from case to case, unless the scene is fresh */
static side loaded;
static open_things baseline;
static picture saved; /* on rank 0 */

static void open_all(void)
{
    as = open_context(0);
    open_side(as, &loaded, &model_new);
}

static void close_all(void)
{
    close_side(&loaded);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    as = NULL;
}

static void check_bytes(const fault_case *c, const char *what)
{
    const char *wrong = holding_wrong(&loaded.h);
    CHECK_TEXT(!wrong, "%s: tensor %s is wrong after %s", case_text(c), wrong, what);
}

static void check_unchanged(const fault_case *c)
{
    picture now;
    take_picture(folder, &now);
    CHECK_TEXT(!now.leftovers && same_picture(&now, &saved, true), "%s: the folder has changed",
               case_text(c));
    free_picture(&now);
}

static void one_fault(const fault_case *c)
{
    if (c->scene->fresh) {
        open_all();
    }
    begin_case(c, "a load");
    int code = load_side(&loaded, c->scene->engine);
    hit h = end_case();
    bool absorbed = is_absorbed(c);
    CHECK_TEXT(ranks_agree(world_comm(), &code, sizeof code), "%s: %s on rank %d, not on rank 0",
               case_text(c), allshard_error_name(code), world_rank());
    count_code(code, h.rank >= 0);
    if (code == ALLSHARD_OK) {
        check_bytes(c, "the load");
    } else {
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(as, &e);
        CHECK_TEXT(h.rank >= 0, "%s: without any fault: %s", case_text(c), e.text);
        CHECK_TEXT(!absorbed, "%s: %s of \"%s\": %s", case_text(c), fault_call_name(h.event.call),
                   h.event.path, e.text);
        check_error(as, code, c, &h);
    }
    GOOD(as, load_side(&loaded, c->scene->engine));
    check_bytes(c, "the next load");
    if (world_rank() == 0) {
        check_unchanged(c);
    }
    if (c->scene->fresh) {
        close_all();
    }
    const char *leaked = what_leaked(&baseline);
    CHECK_TEXT(!leaked, "%s: %s", case_text(c), leaked);
}

static void test_scene(const scene *s)
{
    int calls[3] = {0};
    const fault_case none = {.scene = s, .trouble = &troubles[0], .victim = -1, .at = 0};
    /* Twice: what is made once and kept is made then. */
    for (int i = 0; i < 2; i++) {
        if (s->fresh || i == 0) {
            open_all();
        }
        begin_case(&none, "a load");
        GOOD(as, load_side(&loaded, s->engine));
        share_calls(fault_end(), calls);
        if (s->fresh) {
            close_all();
        }
    }
    baseline = count_open();
    double start = seconds_now();
    int tried = matrix.tried;
    try_all(s, calls, one_fault);
    end_scene(s, calls, tried, start);
    if (!s->fresh) {
        close_all();
    }
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, CASE_SECONDS);
    CHECK(world_size() == 3);
    begin_matrix(scenes, is_sanitized() ? 90 : 12);
    if (world_rank() == 0) {
        take_picture(folder, &saved);
    }
    for (size_t i = 0; i < COUNT(scenes); i++) {
        if (is_wanted(i)) {
            test_scene(&scenes[i]);
        }
    }
    free_picture(&saved);
    return end_matrix("loads");
}
