/* SPDX-License-Identifier: Apache-2.0
 * A save, of either kind, in which one call goes wrong, and what must be so afterwards: for the
 * programs that go through all such saves.
 */
#ifndef ALLSHARD_TESTS_FAULT_SAVES_H
#define ALLSHARD_TESTS_FAULT_SAVES_H

#include "commit/recover.h"
#include "fault_scene.h"

static allshard *as; /* kept from case to case, unless the scene is fresh */
static side new_side;
static open_things baseline;

/* What is tried: saves new_side as the scene says, and returns its outcome. Collective. */
typedef int trial(const scene *s);
static trial *save_on_trial;

static inline void open_all(const scene *s)
{
    as = open_context(s->staging);
    open_side(as, &new_side, &model_new);
}

static inline void close_all(void)
{
    close_side(&new_side);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    as = NULL;
}

/* The old checkpoint lies in the folder. */
static inline void set_folder(void)
{
    if (world_rank() == 0) {
        put_picture(folder, &old_picture);
    }
    ranks_wait(world_comm());
}

enum found { NEITHER, OLD, NEW };

/* Main process only. */
static inline enum found look(bool *leftovers)
{
    picture now;
    take_picture(folder, &now);
    enum found found = same_picture(&now, &old_picture, true)    ? OLD
                       : same_picture(&now, &new_picture, false) ? NEW
                                                                 : NEITHER;
    *leftovers = now.leftovers;
    free_picture(&now);
    return found;
}

static inline void recover(const fault_case *c)
{
    as_error e = AS_ERROR_INIT;
    int code = as_recover(folder, false, 40, NULL, NULL, &e);
    CHECK_TEXT(code == AS_OK, "%s: recovery: %s", case_text(c), as_error_text(&e));
    as_error_clear(&e);
}

/* Main process only: does the code tell the truth about the folder? */
static inline void check_folder(const fault_case *c, int code)
{
    bool leftovers;
    enum found found = look(&leftovers);
    bool gave_up = code != ALLSHARD_OK && code != ALLSHARD_PENDING && code != ALLSHARD_UNKNOWN;
    if (gave_up) {
        CHECK_TEXT(found == OLD, "%s: the save failed, and the folder holds %s", case_text(c),
                   found == NEW ? "the new one" : "neither");
        /* A file that was made, while the disk says it was not, is for the recovery to find. */
        CHECK_TEXT(!leftovers || is_lasting(c->trouble) || c->trouble->mode == FAULT_LIE,
                   "%s: .allshard is left", case_text(c));
    }
    if (code == ALLSHARD_OK) {
        CHECK_TEXT(found == NEW, "%s: the save is good, and the folder holds %s", case_text(c),
                   found == OLD ? "the old one" : "neither");
    }
    if (leftovers) {
        recover(c);
        found = look(&leftovers);
        CHECK_TEXT(!leftovers, "%s: .allshard is left by the recovery", case_text(c));
    }
    CHECK_TEXT(found == NEW || (found == OLD && code != ALLSHARD_OK && code != ALLSHARD_PENDING),
               "%s: after recovery the folder holds %s, the code was %s", case_text(c),
               found == OLD ? "the old one" : "neither", allshard_error_name(code));
}

static inline void check_next_save(const fault_case *c)
{
    GOOD(as, matrix.tried % 2 ? save_side(&new_side, c->scene->engine) : save_on_trial(c->scene));
    if (world_rank() == 0) {
        bool leftovers;
        enum found found = look(&leftovers);
        CHECK_TEXT(found == NEW && !leftovers, "%s: the next save", case_text(c));
    }
    ranks_wait(world_comm());
    if (matrix.tried % 8 == 0) {
        GOOD(as, load_side(&new_side, c->scene->engine));
        const char *wrong = holding_wrong(&new_side.h);
        CHECK_TEXT(!wrong, "%s: tensor %s after the next save", case_text(c), wrong);
    }
}

static inline void one_fault(const fault_case *c)
{
    set_folder();
    if (c->scene->fresh) {
        open_all(c->scene);
    }
    begin_case(c, "a save");
    int code = save_on_trial(c->scene);
    hit h = end_case();
    bool absorbed = is_absorbed(c);
    CHECK_TEXT(ranks_agree(world_comm(), &code, sizeof code), "%s: %s on rank %d, not on rank 0",
               case_text(c), allshard_error_name(code), world_rank());
    count_code(code, h.rank >= 0);
    if (h.rank < 0) {
        CHECK_TEXT(code == ALLSHARD_OK, "%s: %s without any fault", case_text(c),
                   allshard_error_name(code));
    } else if (absorbed) {
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(as, &e);
        CHECK_TEXT(code == ALLSHARD_OK, "%s: %s of \"%s\": %s", case_text(c),
                   fault_call_name(h.event.call), h.event.path, e.text);
    }
    if (code != ALLSHARD_OK) {
        check_error(as, code, c, &h);
    }
    if (world_rank() == 0) {
        check_folder(c, code);
    }
    ranks_wait(world_comm());
    check_next_save(c);
    if (c->scene->fresh) {
        close_all();
    }
    const char *leaked = what_leaked(&baseline);
    CHECK_TEXT(!leaked, "%s: %s", case_text(c), leaked);
}

static inline void test_scene(const scene *s)
{
    int calls[3] = {0};
    const fault_case none = {.scene = s, .trouble = &troubles[0], .victim = -1, .at = 0};
    /* Twice: what is made once and kept is made then. */
    for (int i = 0; i < 2; i++) {
        set_folder();
        if (s->fresh || i == 0) {
            open_all(s);
        }
        begin_case(&none, "a save");
        GOOD(as, save_on_trial(s));
        share_calls(fault_end(), calls);
        GOOD(as, load_side(&new_side, s->engine));
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

/* All scenes; the exit status. */
static inline int try_saves(const scene *first, size_t count, trial *save, unsigned one_in,
                            const char *what)
{
    save_on_trial = save;
    begin_matrix(first, one_in);
    for (size_t i = 0; i < count; i++) {
        if (is_wanted(i)) {
            test_scene(&first[i]);
        }
    }
    return end_matrix(what);
}

#endif
