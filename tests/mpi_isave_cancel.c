/* SPDX-License-Identifier: Apache-2.0
 * Nonblocking saves that are cancelled, or whose context is closed, while a thread in the background
 * stands still before its n-th call that touches the disk, on each of three ranks, and at random:
 * the outcome is ALLSHARD_CANCELLED, and the folder holds what it held before, bit for bit, or the
 * save is good and complete; nothing is left in the folder, no descriptor, thread, communicator or
 * request; the next save is good. A sample by ALLSHARD_SEED; every case with ALLSHARD_LONG=1.
 */
/* ranks: 3 1 */
/* timeout: 300 */
/* long-timeout: 7200 */
#include <limits.h>

#include "fault_saves.h"

enum deed {
    CANCEL_HERE,  /* by the rank that stands still */
    CANCEL_THERE, /* by another */
    CLOSE_CANCEL, /* allshard_close, with cancel_on_close */
    CLOSE_WAIT,   /* allshard_close, without */
    SAVE_AGAIN,   /* allshard_save of the same state, which waits; then cancelled, too late */
    DEEDS
};

static const char *const deed_names[DEEDS] = {"cancelled", "cancelled by another rank",
                                              "closed, cancelling", "closed, waiting",
                                              "saved again"};

static const scene cancel_scenes[] = {
    {"posix", false, ALLSHARD_STAGE_SNAPSHOT},
    {"posix", false, ALLSHARD_STAGE_STREAM},
    {NULL, false, ALLSHARD_STAGE_SNAPSHOT},
};

/* A call before allshard_isave returns is held for no longer: there is nobody who could cancel. */
static const double hold_seconds = 0.02;

typedef struct cancel_case {
    const scene *scene;
    int victim;
    int at;
    enum deed deed;
} cancel_case;

static struct {
    int tried, cancelled, good, held;
} tally;

static int case_number;
static bool held_here;          /* when it was cancelled or closed */
static open_things open_before; /* of a context with a state */
static open_things none_before; /* without */

static const char *text_of(const cancel_case *c)
{
    static char text[200];
    (void)snprintf(text, sizeof text, "%s, rank %d, call %d: %s", scene_text(c->scene), c->victim,
                   c->at, deed_names[c->deed]);
    return text;
}

static allshard_request *begin(const scene *s)
{
    allshard_save_options o = side_options(s->engine);
    allshard_request *request = NULL;
    o.staging = s->staging;
    GOOD(as, allshard_isave(new_side.s, folder, &o, &request));
    CHECK(request != NULL);
    return request;
}

static void rest(void)
{
    enum { REST_NS = 100000 };
    (void)nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
}

/* By this the rank that is to cancel knows that the other stands still. */
static const char *mark(void)
{
    char name[64];
    (void)snprintf(name, sizeof name, "held-%d", case_number);
    return scratch_path(name);
}

/* Tests until the save is over or it is this rank's turn. The code, once it is over. */
static int test_until(const cancel_case *c, allshard_request *request, bool *over)
{
    bool mine = c->victim == world_rank();
    int canceller = c->deed == CANCEL_THERE ? (c->victim + 1) % world_size() : c->victim;
    int code = ALLSHARD_OK;
    int done = 0;
    /* The others go on testing until the end, or they have closed or saved before the one came. */
    int tests = c->deed == CANCEL_HERE || c->deed == CANCEL_THERE || mine ? INT_MAX : 20;
    for (int i = 0; i < tests && !done; i++) {
        code = allshard_test(request, &done);
        if (mine && fault_is_held()) {
            if (c->deed != CANCEL_THERE) {
                break;
            }
            int fd = open(mark(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            must(fd >= 0 && close(fd) == 0, "mark");
        }
        if (canceller == world_rank() && !mine && access(mark(), F_OK) == 0) {
            break;
        }
        rest();
    }
    *over = done != 0;
    return code;
}

/* Main process only. */
static void check_outcome(const cancel_case *c, int code, bool may_be_told_good)
{
    bool leftovers;
    enum found found = look(&leftovers);
    CHECK_TEXT(!leftovers, "%s: %s, and .allshard is left", text_of(c), allshard_error_name(code));
    CHECK_TEXT(code == ALLSHARD_OK || code == ALLSHARD_CANCELLED, "%s: %s", text_of(c),
               allshard_error_name(code));
    bool right =
        code == ALLSHARD_OK ? found == NEW || (may_be_told_good && found == OLD) : found == OLD;
    CHECK_TEXT(right, "%s: %s, and the folder holds %s", text_of(c), allshard_error_name(code),
               found == NEW   ? "the new one"
               : found == OLD ? "the old one"
                              : "neither");
    tally.good += found == NEW;
    tally.cancelled += found == OLD;
}

static void open_for(const cancel_case *c)
{
    allshard_options options = context_options(c->scene->staging);
    options.cancel_on_close = c->deed == CLOSE_CANCEL;
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    open_side(as, &new_side, &model_new);
}

/* The state is freed after the context, which had to end its save. */
static int close_in_flight(void)
{
    int code = allshard_close(as);
    as = NULL;
    close_side(&new_side);
    return code;
}

static int end_case_of(const cancel_case *c, allshard_request *request)
{
    bool over;
    int tested = test_until(c, request, &over);
    held_here = fault_is_held();
    if (c->deed == CANCEL_HERE || c->deed == CANCEL_THERE) {
        if (!over) {
            CHECK(allshard_cancel(request) == ALLSHARD_OK);
        }
        fault_release();
    }
    if (c->deed == CLOSE_CANCEL || c->deed == CLOSE_WAIT) {
        return close_in_flight();
    }
    if (c->deed == SAVE_AGAIN) {
        holding_fill(&new_side.h);
        GOOD(as, save_side(&new_side, c->scene->engine));
        (void)allshard_cancel(request);
    }
    int code = allshard_wait(&request, NULL);
    CHECK_TEXT(!over || code == tested, "%s: allshard_test: %s, allshard_wait: %s", text_of(c),
               allshard_error_name(tested), allshard_error_name(code));
    return code;
}

static void one_case(const cancel_case *c)
{
    bool closes = c->deed == CLOSE_CANCEL || c->deed == CLOSE_WAIT;
    case_number++;
    set_folder();
    ranks_scene("%s", text_of(c));
    ranks_again();
    if (!as) {
        open_for(c);
    }
    const fault_rule hold = {.counted = FAULT_ANY_CALL,
                             .hit = FAULT_ANY_CALL,
                             .first = c->at,
                             .last = c->at,
                             .mode = c->victim == world_rank() ? FAULT_HOLD : FAULT_NONE,
                             .amount = hold_seconds};
    fault_begin(&hold, 1);
    allshard_request *request = begin(c->scene);
    spoil_side(&new_side);
    int code = end_case_of(c, request);
    (void)fault_end();
    CHECK_TEXT(ranks_agree(world_comm(), &code, sizeof code), "%s: %s on rank %d, not on rank 0",
               text_of(c), allshard_error_name(code), world_rank());
    if (c->deed == CLOSE_WAIT || c->deed == SAVE_AGAIN) {
        CHECK_TEXT(code == ALLSHARD_OK, "%s: %s", text_of(c), allshard_error_name(code));
    }
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        check_outcome(c, code, c->deed == CLOSE_CANCEL);
        (void)unlink(mark());
    }
    tally.tried++;
    tally.held += ranks_max(world_comm(), held_here) > 0;
    const char *leaked = what_leaked(closes ? &none_before : &open_before);
    CHECK_TEXT(!leaked, "%s: %s", text_of(c), leaked);
    if (!closes) {
        holding_fill(&new_side.h);
        GOOD(as, save_side(&new_side, c->scene->engine));
        bool leftovers = false;
        CHECK_TEXT(world_rank() != 0 || (look(&leftovers) == NEW && !leftovers),
                   "%s: the next save", text_of(c));
    }
    ranks_wait(world_comm());
}

static void measure(const scene *s, int *calls)
{
    none_before = count_open();
    const cancel_case plain = {.scene = s, .deed = CLOSE_WAIT};
    open_for(&plain);
    for (int i = 0; i < 2; i++) {
        set_folder();
        fault_set(FAULT_NONE, 1, 0);
        allshard_request *request = begin(s);
        GOOD(as, allshard_wait(&request, NULL));
        share_calls(fault_end(), calls);
        GOOD(as, save_side(&new_side, s->engine));
    }
    open_before = count_open();
}

static bool is_tried(const cancel_case *c)
{
    const fault_case like = {
        .scene = c->scene, .trouble = &troubles[c->deed], .victim = c->victim, .at = c->at};
    return is_chosen(&like);
}

static void test_deeds(const scene *s, enum deed from, enum deed to, const int *calls)
{
    for (int victim = 0; victim < world_size(); victim++) {
        for (int at = 1; at <= calls[victim] + 2; at++) {
            for (int deed = (int)from; deed < (int)to; deed++) {
                cancel_case c = {s, victim, at, (enum deed)deed};
                bool alone = world_size() == 1 && c.deed == CANCEL_THERE;
                if (is_tried(&c) && !alone) {
                    one_case(&c);
                }
            }
        }
    }
}

static void test_one_scene(const scene *s)
{
    int calls[3] = {0};
    measure(s, calls);
    for (int i = 0; i < 2; i++) { /* those that close need a context of their own */
        if (i > 0) {
            close_all();
        }
        test_deeds(s, i ? CLOSE_CANCEL : CANCEL_HERE, i ? SAVE_AGAIN : CLOSE_CANCEL, calls);
    }
    open_all(s);
    test_deeds(s, SAVE_AGAIN, DEEDS, calls);
    close_all();
    if (world_rank() == 0) {
        (void)printf(
            "%s: %d, %d, %d calls; by now %d saves cancelled or closed, %d of them while a "
            "thread stood still: %d cancelled, %d good\n",
            scene_text(s), calls[0], calls[1], calls[2], tally.tried, tally.held, tally.cancelled,
            tally.good);
        (void)fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, CASE_SECONDS);
    CHECK(world_size() <= 3);
    begin_matrix(cancel_scenes, is_sanitized() ? 120 : 20);
    for (size_t i = 0; i < COUNT(cancel_scenes); i++) {
        test_one_scene(&cancel_scenes[i]);
    }
    CHECK(world_rank() != 0 || (tally.cancelled > 0 && tally.good > 0));
    return end_pictures();
}
