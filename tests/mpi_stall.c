/* SPDX-License-Identifier: Apache-2.0
 * A rank that stands still, in every place of a save, a load and a close: the others name it and
 * return, their context is good for closing only, the folder holds what it should; the rank that
 * comes back says the same and touches nothing any more, not even the save that another job has
 * begun meanwhile. A slow rank is no stalled one. On one rank, and without MPI, nobody waits.
 */
/* ranks: 1 2 3 5 */
/* unshared: 3 */
/* timeout: 300 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "stall_scene.h"
#include "stall_waker.h"
#include "support_gate.h"

/* ---- one rank: nobody waits ---- */

static void check_alone(void)
{
    side x;
    gate_set(CALL_NONE, 0, false);
    gate_slow_us = 2000;
    open_side(&x, world_comm(), &model_mixed, LAYOUT_WHOLE, 0, 1, 0.01);
    GOOD(x.as, save(&x));
    GOOD(x.as, load(&x));
    CHECK(holding_wrong(&x.h) == NULL && close_side(&x) == ALLSHARD_OK);
    gate_slow_us = 0;
}

#ifndef ALLSHARD_NO_MPI

/* In place of MPI's: the first nonblocking save of a context makes a communicator. By which of the
 * two is its own affair, but none may wait. */
int MPI_Comm_dup(MPI_Comm from, MPI_Comm *out)
{
    gate_pass(CALL_TWIN);
    return PMPI_Comm_dup(from, out);
}

int MPI_Comm_idup(MPI_Comm from, MPI_Comm *out, MPI_Request *request)
{
    gate_pass(CALL_TWIN);
    int result = PMPI_Comm_idup(from, out, request);
    gate_pass(CALL_TWIN);
    return result;
}

/* ---- the places ---- */

enum act { ACT_SAVE, ACT_ISAVE, ACT_LOAD, ACT_CLOSE };
enum who { ANYONE, MAIN };
enum then { OLD, NEW }; /* checkpoint of the folder when a main process that stalled is back */

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): the order in which a row is read */
static const struct place {
    const char *name;
    enum act act;
    enum call call;
    int at;
    enum who who;
    enum then then;
    const char *text; /* of the error; NULL: any */
    bool brief;       /* also on other numbers than 3, and without shared memory */
} places[] = {
    {"before a save", ACT_SAVE, CALL_NONE, 0, ANYONE, OLD, "did not come to allshard_save", true},
    {"creating a file", ACT_SAVE, CALL_CREATE, 1, ANYONE, OLD, "allshard_save", true},
    {"opening a file to write", ACT_SAVE, CALL_WRITER, 1, ANYONE, OLD, "allshard_save", false},
    {"the first pwrite", ACT_SAVE, CALL_PWRITE, 1, ANYONE, OLD, "allshard_save", false},
    {"a later pwrite", ACT_SAVE, CALL_PWRITE, 4, ANYONE, OLD, "storage", true},
    {"an fsync", ACT_SAVE, CALL_FSYNC, 2, ANYONE, OLD, "allshard_save", false},
    {"creating the manifest", ACT_SAVE, CALL_MANIFEST, 1, MAIN, OLD, "allshard verify", true},
    {"the journal", ACT_SAVE, CALL_JOURNAL, 1, MAIN, NEW, "allshard verify", false},
    {"a renaming", ACT_SAVE, CALL_MOVE, 2, MAIN, NEW, "allshard verify", true},
    {"before a nonblocking save", ACT_ISAVE, CALL_NONE, 0, ANYONE, OLD,
     "did not come to allshard_isave", false},
    {"making a communicator", ACT_ISAVE, CALL_TWIN, 1, ANYONE, OLD, "allshard_isave", true},
    {"a communicator half made", ACT_ISAVE, CALL_TWIN, 2, ANYONE, OLD, "allshard_isave", false},
    {"a file of a nonblocking save", ACT_ISAVE, CALL_CREATE, 1, ANYONE, OLD, "allshard_isave",
     false},
    {"opening its file to write", ACT_ISAVE, CALL_WRITER, 1, ANYONE, OLD, "storage", true},
    {"its pwrite", ACT_ISAVE, CALL_PWRITE, 4, ANYONE, OLD, "storage", true},
    {"its fsync", ACT_ISAVE, CALL_FSYNC, 2, ANYONE, OLD, "allshard_wait", false},
    {"its manifest", ACT_ISAVE, CALL_MANIFEST, 1, MAIN, OLD, "allshard verify", true},
    {"its journal", ACT_ISAVE, CALL_JOURNAL, 1, MAIN, NEW, "allshard verify", false},
    {"its renaming", ACT_ISAVE, CALL_MOVE, 2, MAIN, NEW, "allshard verify", true},
    {"before a load", ACT_LOAD, CALL_NONE, 0, ANYONE, OLD, "did not come to allshard_load", false},
    {"opening a file to read", ACT_LOAD, CALL_OPEN, 1, ANYONE, OLD, "allshard_load", false},
    {"the first pread", ACT_LOAD, CALL_PREAD, 1, ANYONE, OLD, "allshard_load", false},
    {"a later pread", ACT_LOAD, CALL_PREAD, 2, ANYONE, OLD, "allshard_load", true},
    {"before the end", ACT_CLOSE, CALL_NONE, 0, ANYONE, OLD, NULL, true},
};

/* RANDOM_STOPS of each kind of save. */
enum { PLACES = sizeof places / sizeof places[0], RANDOM_STOPS = 6, TRIES = 4 };

static char said[1024];    /* the last verdict that told nothing */
static char hosts[16][64]; /* of all ranks */

/* ---- what each rank does ---- */

/* What the others do while the victim stands still: give up, and save something else. */
static void save_next(int victim)
{
    int rank = 0;
    int size = 0;
    side x;
    (void)MPI_Comm_rank(others, &rank);
    (void)MPI_Comm_size(others, &size);
    ranks_wait(others);
    if (rank == 0) {
        CHECK_TEXT(holds(&model_old), "victim %d: not the old checkpoint", victim);
        CHECK_TEXT(!exists(folder, ".allshard"), "victim %d: .allshard is left", victim);
    }
    ranks_wait(others);
    open_side(&x, others, &model_next, LAYOUT_FLAT, rank, size, 0);
    gate_set(rank == 0 ? CALL_JOURNAL : CALL_NONE, 1, true);
    GOOD(x.as, save(&x));
    gate_set(CALL_NONE, 0, false);
    CHECK(close_side(&x) == ALLSHARD_OK);
}

/* The same error on all that did not stall: who, where, and what to do. False: somebody was slow. A
 * rank was named that did not stall, alone or too; or the victim was when it had not stood still for
 * so long, or where it did not. `stood`: seconds, when the call returned. */
static bool check_verdict(const side *x, int code, int victim, double stood, const char *text)
{
    allshard_error e = {.size = sizeof e};
    CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s, while rank %d stands still",
               allshard_error_name(code), victim);
    CHECK(allshard_last_error(x->as, &e) == ALLSHARD_TIMEOUT);
    int64_t wrong = e.rank != victim || strncmp(e.text, "ranks ", 6) == 0 || stood < limit / 2 ||
                    (text && !strstr(e.text, text));
    if (ranks_max(others, wrong)) {
        (void)snprintf(said, sizeof said, "%s", e.text);
        return false;
    }
    char who[128];
    (void)snprintf(who, sizeof who, "rank %d (%s) ", victim, hosts[victim]);
    CHECK_TEXT(strstr(e.text, who) && strcmp(e.host, hosts[victim]) == 0, "%s: %s", who, e.text);
    CHECK_TEXT(ranks_agree(others, e.text, strlen(e.text)), "other ranks say other than: %s",
               e.text);
    return true;
}

/* Every further collective call ends at once with the same text; local ones work. */
static void check_broken(side *x)
{
    allshard_error e = {.size = sizeof e};
    allshard_plan *plan = NULL;
    allshard_state *s = NULL;
    (void)allshard_last_error(x->as, &e);
    char *text = strdup(e.text);
    double begin = seconds_now();
    CHECK(text && save(x) == ALLSHARD_TIMEOUT && load(x) == ALLSHARD_TIMEOUT);
    CHECK(allshard_plan_create(&plan, x->s, NULL) == ALLSHARD_TIMEOUT && !plan);
    CHECK(allshard_trace_write(x->as, scratch_path("trace")) == ALLSHARD_TIMEOUT);
    CHECK(allshard_last_error(x->as, &e) == ALLSHARD_TIMEOUT && strcmp(e.text, text) == 0);
    CHECK(seconds_now() - begin < limit + 10);
    CHECK(allshard_state_create(&s, x->as, "other") == ALLSHARD_OK);
    (void)allshard_state_free(s);
    free(text);
}

static bool saves(const struct place *p)
{
    return p->act == ACT_SAVE || p->act == ACT_ISAVE;
}

static int act(side *x, const struct place *p)
{
    return p->act == ACT_SAVE    ? save(x)
           : p->act == ACT_ISAVE ? isave(x)
           : p->act == ACT_LOAD  ? load(x)
                                 : close_side(x);
}

/* False: another one was named. */
static bool be_victim(side *x, const struct place *p)
{
    bool right = true;
    gate_set(p->call, p->at, false);
    if (p->call == CALL_NONE) {
        gate_mark("there");
        gate_wait("wake");
    }
    int code = act(x, p);
    gate_set(CALL_NONE, 0, false);
    if (p->act != ACT_CLOSE) {
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(x->as, &e);
        CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s: %s", allshard_error_name(code), e.text);
        right = e.rank == world_rank();
        check_broken(x);
        CHECK(close_side(x) == ALLSHARD_OK);
    } else {
        CHECK_TEXT(code == ALLSHARD_OK || code == ALLSHARD_TIMEOUT, "%s",
                   allshard_error_name(code));
    }
    gate_mark("back");
    return right;
}

/* False: as check_verdict. */
static bool be_other(side *x, const struct place *p, int victim)
{
    begin_waker(0);
    int code = act(x, p);
    double stood = gate_age("there");
    bool right = true;
    ranks_wait(others);
    end_waker(victim);
    if (p->act == ACT_CLOSE) {
        CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s", allshard_error_name(code));
    } else {
        right = check_verdict(x, code, victim, stood, p->text);
        check_broken(x);
        CHECK(close_side(x) == ALLSHARD_OK);
    }
    ranks_wait(others);
    if (right && saves(p) && victim != 0) {
        save_next(victim);
    } else if (world_rank() == lowest) {
        CHECK_TEXT(!right || holds(&model_old) || holds(&model_mixed), "a mixture");
        gate_mark("wake");
        gate_wait("back");
    }
    return right;
}

static void check_after(const struct place *p, int victim)
{
    if (world_rank() == 0 && saves(p) && victim != 0) {
        CHECK_TEXT(holds(&model_next), "rank %d came back, and the checkpoint is not the next",
                   victim);
    } else if (world_rank() == 0) {
        CHECK_TEXT(holds(p->then == NEW ? &model_mixed : &model_old),
                   "not the %s checkpoint when the main process is back",
                   p->then == NEW ? "new" : "old");
    }
    if (world_rank() == 0) {
        CHECK(!exists(folder, ".allshard"));
    }
}

static bool try_place(const struct place *p, int victim)
{
    side x;
    begin_scene();
    ranks_scene("%s, rank %d, %g s", p->name, victim, limit);
    if (world_rank() == 0) {
        make_old();
    }
    const model *m = p->act == ACT_LOAD ? &model_old : &model_mixed;
    open_side(&x, world_comm(), m, LAYOUT_COLUMNS, world_rank(), world_size(), limit);
    ranks_wait(world_comm());
    bool right = true;
    if (world_rank() == victim) {
        right = be_victim(&x, p);
    } else {
        right = be_other(&x, p, victim);
    }
    right = ranks_max(world_comm(), !right) == 0;
    if (right) {
        check_after(p, victim);
    }
    ranks_wait(world_comm());
    return right;
}

static void check_place(const struct place *p, int victim)
{
    bool writes = p->call == CALL_WRITER || p->call == CALL_PWRITE || p->call == CALL_FSYNC;
    if (p->act == ACT_ISAVE && writes && limit < LONGER) { /* than the thread's looks are apart */
        limit = LONGER;
    }
    for (int i = 0; !try_place(p, victim); i++) {
        CHECK_TEXT(i < TRIES, "not rank %d is named for what it did, within %g s neither: %s",
                   victim, limit, said);
        be_patient();
    }
    be_quick();
}

/* ---- at any time ---- */

static void *stop_later(void *user)
{
    (void)usleep(*(const useconds_t *)user);
    (void)kill(getpid(), SIGSTOP);
    return NULL;
}

/* The whole process stands still, wherever it is. What it says by then may be half said: some
 * ranks may have what they need to end the call, and hear of it in the next one. False: a rank was
 * named when all were at work again. */
static bool try_stop(int victim, unsigned microseconds, int (*how)(side *x), bool *timed_out)
{
    side x;
    int64_t pid = ranks_max(world_comm(), world_rank() == victim ? getpid() : 0);
    int code;
    begin_scene();
    ranks_scene("%s stopped after %u us, rank %d, %g s", how == save ? "a save" : "an isave",
                microseconds, victim, limit);
    if (world_rank() == 0) {
        make_old();
    }
    open_side(&x, world_comm(), &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), limit);
    ranks_wait(world_comm());
    if (world_rank() == victim) {
        pthread_t thread;
        useconds_t delay = microseconds;
        CHECK(pthread_create(&thread, NULL, stop_later, &delay) == 0);
        code = how(&x);
        (void)pthread_join(thread, NULL);
        gate_mark("back");
    } else {
        begin_waker((pid_t)pid);
        code = how(&x);
        ranks_wait(others);
        end_waker(victim);
    }
    CHECK_TEXT(code == ALLSHARD_OK || code == ALLSHARD_TIMEOUT, "%s", allshard_error_name(code));
    *timed_out = ranks_max(world_comm(), code == ALLSHARD_TIMEOUT) != 0;
    code = load(&x);
    bool slow = !*timed_out && code == ALLSHARD_TIMEOUT;
    CHECK_TEXT(slow || code == (*timed_out ? ALLSHARD_TIMEOUT : ALLSHARD_OK), "then %s",
               allshard_error_name(code));
    code = close_side(&x);
    slow = slow || (!*timed_out && code == ALLSHARD_TIMEOUT);
    CHECK_TEXT(slow || code == ALLSHARD_OK, "%s", allshard_error_name(code));
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        CHECK_TEXT(holds(&model_mixed) || holds(&model_old), "a mixture");
    }
    return ranks_max(world_comm(), slow) == 0;
}

/* Did a rank give up? */
static bool stop_at_random(int victim, unsigned microseconds, int (*how)(side *x))
{
    bool timed_out = false;
    for (int i = 0; !try_stop(victim, microseconds, how, &timed_out); i++) {
        CHECK_TEXT(i < TRIES, "a rank at work is taken for a stalled one, at %g s too", limit);
        be_patient();
    }
    be_quick();
    return timed_out;
}

/* ---- slow, but at work ---- */

static bool try_slow(void)
{
    side x;
    begin_scene();
    ranks_scene("slow, but at work, %g s", limit);
    if (world_rank() == 0) {
        make_old();
    }
    open_side(&x, world_comm(), &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), limit);
    gate_slow_us = (int)(limit * 1e6 / 4);
    double begin = seconds_now();
    int code = save(&x);
    double took = seconds_now() - begin;
    gate_slow_us = 0;
    bool good = ranks_max(world_comm(), code != ALLSHARD_OK) == 0;
    CHECK_TEXT(!good || took > 2 * limit, "it took %.1f s: nothing was slow", took);
    good = good && load(&x) == ALLSHARD_OK && !holding_wrong(&x.h);
    (void)close_side(&x);
    return ranks_max(world_comm(), !good) == 0; /* before anybody makes another folder */
}

static void check_slow(void)
{
    block = 8192; /* or there is no end to it */
    for (int i = 0; !try_slow(); i++) {
        CHECK_TEXT(i < TRIES, "a slow rank is taken for a stalled one, at %g s too", limit);
        be_patient();
    }
    be_quick();
    block = 256;
}

/* Stalled when the others have their checkpoint: they learn of it in the next call. False: as
 * check_verdict. */
static bool try_clean(void)
{
    side x;
    begin_scene();
    ranks_scene("cleaning, rank 0, %g s", limit);
    if (world_rank() == 0) {
        make_old();
    }
    open_side(&x, world_comm(), &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), limit);
    ranks_wait(world_comm());
    bool right;
    gate_set(world_rank() == 0 ? CALL_CLEAN : CALL_NONE, 1, false);
    if (world_rank() != 0) {
        begin_waker(0);
        int code = save(&x);
        right = ranks_max(others, code != ALLSHARD_OK) == 0;
        code = load(&x);
        double stood = gate_age("there");
        ranks_wait(others);
        end_waker(0);
        right = right && check_verdict(&x, code, 0, stood, "did not come to allshard_load");
        ranks_wait(others);
        if (world_rank() == lowest) {
            CHECK(!right || holds(&model_mixed));
            gate_mark("wake");
        }
    } else {
        right = save(&x) == ALLSHARD_OK;
        gate_set(CALL_NONE, 0, false);
        CHECK(load(&x) == ALLSHARD_TIMEOUT);
    }
    CHECK(close_side(&x) == ALLSHARD_OK);
    right = ranks_max(world_comm(), !right) == 0;
    if (world_rank() == 0 && right) {
        CHECK(holds(&model_mixed) && !exists(folder, ".allshard"));
    }
    ranks_wait(world_comm());
    return right;
}

static void check_clean(void)
{
    for (int i = 0; !try_clean(); i++) {
        CHECK_TEXT(i < TRIES, "rank 0 is not named, within %g s neither: %s", limit, said);
        be_patient();
    }
    be_quick();
}

static void check_ranks(void)
{
    int last = world_size() - 1;
    const int victims[] = {0, world_size() / 2, last};
    const char *share = getenv("ALLSHARD_SHARE");
    bool brief = world_size() != 3 || (share && strcmp(share, "off") == 0);
    int cases = 0;
    int stops = 0;
    gate_idle = let_leave;
    char own[64] = "";
    (void)gethostname(own, sizeof own - 1);
    (void)MPI_Allgather(own, sizeof own, MPI_BYTE, hosts, sizeof own, MPI_BYTE, MPI_COMM_WORLD);
    for (int v = 0; v < 3; v += brief ? 2 : 1) {
        choose_victim(victims[v]);
        for (int i = 0; i < PLACES; i++) {
            const struct place *p = &places[i];
            if ((p->who == ANYONE || v == 0) && ((!brief && v != 1) || p->brief)) {
                check_place(p, victims[v]);
                cases++;
            }
        }
        if (v == 0) {
            check_clean();
            cases++;
        }
        for (int i = 0; i < RANDOM_STOPS / 3; i++) {
            stops += stop_at_random(victims[v], (unsigned)(700 + (i * 3 + v) * 2100), save);
            stops += stop_at_random(victims[v], (unsigned)(900 + (i * 3 + v) * 2300), isave);
        }
    }
    check_slow();
    if (world_rank() == 0) {
        (void)printf("%d stalls named, and %d stopped processes; %d tries with more time\n", cases,
                     stops, anew);
    }
    if (others != MPI_COMM_NULL) {
        (void)MPI_Comm_free(&others);
    }
}

#endif

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 280);
    gate_install();
    folder = strdup(scratch_path("folder"));
    if (world_size() == 1) {
        check_alone();
    }
#ifndef ALLSHARD_NO_MPI
    else {
        check_ranks();
    }
#endif
    free((void *)(uintptr_t)folder);
    return ranks_end();
}
