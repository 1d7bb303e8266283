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

static double limit = 0.4; /* seconds */

/* In place of MPI's: the first nonblocking save of a context makes a communicator. */
int MPI_Comm_idup(MPI_Comm from, MPI_Comm *out, MPI_Request *request)
{
    gate_pass(CALL_TWIN);
    int result = PMPI_Comm_idup(from, out, request);
    gate_pass(CALL_TWIN);
    return result;
}

/* ---- checkpoints that can be told apart ---- */

static const model_tensor old_tensors[] = {{"old.weight", ALLSHARD_F32, 2, {20, 30}},
                                           {"old.bias", ALLSHARD_BF16, 1, {64}}};
static const model_tensor next_tensors[] = {{"next.weight", ALLSHARD_F32, 2, {40, 30}},
                                            {"next.bias", ALLSHARD_F64, 1, {99}}};
static const model model_old = {old_tensors, 2};
static const model model_next = {next_tensors, 2};

/* Is that what the folder holds, whole? By one process, without the others. */
static bool holds(const model *m)
{
    side x;
    open_side(&x, ALLSHARD_COMM_SELF, m, LAYOUT_REPLICATED, 0, 1, 0);
    bool good = load(&x) == ALLSHARD_OK && !holding_wrong(&x.h);
    CHECK(close_side(&x) == ALLSHARD_OK);
    return good;
}

static void make_old(void)
{
    side x;
    remove_tree(folder);
    open_side(&x, ALLSHARD_COMM_SELF, &model_old, LAYOUT_REPLICATED, 0, 1, 0);
    GOOD(x.as, save(&x));
    CHECK(close_side(&x) == ALLSHARD_OK);
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

static MPI_Comm others = MPI_COMM_NULL; /* all but the victim */
static int lowest;                      /* of them */
static char hosts[16][64];              /* of all ranks */

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

/* The same error on all that did not stall: who, where, and what to do. False: a rank was named
 * that did not stall, alone or too, which can only be because this machine is too busy for so short
 * a limit. */
static bool check_verdict(const side *x, int code, int victim, const char *text)
{
    allshard_error e = {.size = sizeof e};
    CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s, while rank %d stands still",
               allshard_error_name(code), victim);
    CHECK(allshard_last_error(x->as, &e) == ALLSHARD_TIMEOUT);
    int64_t wrong = e.rank != victim || strncmp(e.text, "ranks ", 6) == 0;
    if (ranks_max(others, wrong)) {
        return false;
    }
    char who[128];
    (void)snprintf(who, sizeof who, "rank %d (%s) ", victim, hosts[victim]);
    CHECK_TEXT(strstr(e.text, who) && strcmp(e.host, hosts[victim]) == 0, "%s: %s", who, e.text);
    CHECK_TEXT(!text || strstr(e.text, text), "no \"%s\" in: %s", text, e.text);
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

static void be_victim(side *x, const struct place *p)
{
    gate_set(p->call, p->at, false);
    if (p->call == CALL_NONE) {
        gate_wait("wake");
    }
    int code = act(x, p);
    gate_set(CALL_NONE, 0, false);
    if (p->act != ACT_CLOSE) {
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(x->as, &e);
        CHECK_TEXT(code == ALLSHARD_TIMEOUT && e.rank == world_rank(), "%s: %s: %s", p->name,
                   allshard_error_name(code), e.text);
        check_broken(x);
        CHECK(close_side(x) == ALLSHARD_OK);
    } else {
        CHECK_TEXT(code == ALLSHARD_OK || code == ALLSHARD_TIMEOUT, "%s",
                   allshard_error_name(code));
    }
    gate_mark("back");
}

/* False: a wrong one was named. */
static bool be_other(side *x, const struct place *p, int victim)
{
    double begin = seconds_now();
    int code = act(x, p);
    double took = seconds_now() - begin;
    CHECK_TEXT(took < 60 + limit, "%s: it took %.1f s", p->name, took);
    bool right = true;
    if (p->act == ACT_CLOSE) {
        CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s", allshard_error_name(code));
    } else {
        right = check_verdict(x, code, victim, p->text);
        check_broken(x);
        CHECK(close_side(x) == ALLSHARD_OK);
    }
    ranks_wait(others);
    if (right && saves(p) && victim != 0) {
        save_next(victim);
    } else if (world_rank() == lowest) {
        CHECK_TEXT(!right || holds(&model_old) || holds(&model_mixed), "%s: a mixture", p->name);
        gate_mark("wake");
        gate_wait("back");
    }
    return right;
}

static void check_after(const struct place *p, int victim)
{
    if (world_rank() == 0 && saves(p) && victim != 0) {
        CHECK_TEXT(holds(&model_next), "%s: rank %d came back, and the checkpoint is not the next",
                   p->name, victim);
    } else if (world_rank() == 0) {
        CHECK_TEXT(holds(p->then == NEW ? &model_mixed : &model_old),
                   "%s: not the %s checkpoint when the main process is back", p->name,
                   p->then == NEW ? "new" : "old");
    }
    if (world_rank() == 0) {
        CHECK_TEXT(!exists(folder, ".allshard"), "%s: .allshard is left", p->name);
    }
}

static bool try_place(const struct place *p, int victim)
{
    side x;
    if (world_rank() == 0) {
        make_old();
    }
    gate_round++;
    gate_set(CALL_NONE, 0, false);
    const model *m = p->act == ACT_LOAD ? &model_old : &model_mixed;
    open_side(&x, world_comm(), m, LAYOUT_COLUMNS, world_rank(), world_size(), limit);
    ranks_wait(world_comm());
    bool right = true;
    if (world_rank() == victim) {
        be_victim(&x, p);
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
    double before = limit;
    for (int i = 0; !try_place(p, victim); i++) {
        CHECK_TEXT(i < TRIES, "%s: not rank %d is named, within %g s neither", p->name, victim,
                   limit);
        limit *= 2;
    }
    limit = before;
}

/* ---- at any time ---- */

static void *stop_later(void *user)
{
    (void)usleep(*(const useconds_t *)user);
    (void)kill(getpid(), SIGSTOP);
    return NULL;
}

/* The whole process stands still, wherever it is. What it says by then may be half said: some
 * ranks may have what they need to end the call, and hear of it in the next one. */
static bool stop_at_random(int victim, unsigned microseconds, int (*how)(side *x))
{
    side x;
    int64_t pid = ranks_max(world_comm(), world_rank() == victim ? getpid() : 0);
    if (world_rank() == 0) {
        make_old();
    }
    gate_round++;
    open_side(&x, world_comm(), &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), limit);
    ranks_wait(world_comm());
    bool timed_out;
    if (world_rank() == victim) {
        pthread_t thread;
        useconds_t delay = microseconds;
        CHECK(pthread_create(&thread, NULL, stop_later, &delay) == 0);
        int code = how(&x);
        (void)pthread_join(thread, NULL);
        CHECK_TEXT(code == ALLSHARD_OK || code == ALLSHARD_TIMEOUT, "%s",
                   allshard_error_name(code));
        timed_out = code == ALLSHARD_TIMEOUT;
        gate_mark("back");
    } else {
        int code = how(&x);
        CHECK_TEXT(code == ALLSHARD_OK || code == ALLSHARD_TIMEOUT, "%s",
                   allshard_error_name(code));
        timed_out = code == ALLSHARD_TIMEOUT;
        ranks_wait(others);
        while (world_rank() == lowest && access(gate_path("back"), F_OK) != 0) {
            (void)kill((pid_t)pid, SIGCONT);
            (void)usleep(2000);
        }
    }
    timed_out = ranks_max(world_comm(), timed_out) != 0;
    int code = load(&x);
    CHECK_TEXT(code == (timed_out ? ALLSHARD_TIMEOUT : ALLSHARD_OK), "then %s",
               allshard_error_name(code));
    code = close_side(&x);
    CHECK_TEXT(code == ALLSHARD_OK, "%s", allshard_error_name(code));
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        CHECK_TEXT(holds(&model_mixed) || holds(&model_old), "stopped after %u us: a mixture",
                   microseconds);
    }
    ranks_wait(world_comm());
    return timed_out;
}

/* ---- slow, but at work ---- */

static void check_slow(void)
{
    side x;
    double before = limit;
    bool good = false;
    block = 8192; /* or there is no end to it */
    for (int i = 0; !good; i++) {
        CHECK_TEXT(i < TRIES, "a slow rank is taken for a stalled one, at %g s too", limit);
        if (world_rank() == 0) {
            make_old();
        }
        open_side(&x, world_comm(), &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(),
                  limit);
        gate_slow_us = (int)(limit * 1e6 / 4);
        double begin = seconds_now();
        int code = save(&x);
        double took = seconds_now() - begin;
        gate_slow_us = 0;
        good = ranks_max(world_comm(), code != ALLSHARD_OK) == 0;
        CHECK_TEXT(!good || took > 2 * limit, "it took %.1f s: nothing was slow", took);
        good = good && load(&x) == ALLSHARD_OK && !holding_wrong(&x.h);
        (void)close_side(&x);
        ranks_wait(world_comm());
        limit *= 2;
    }
    limit = before;
    block = 256;
}

/* Stalled when the others have their checkpoint: they learn of it in the next call. */
static void check_clean(void)
{
    side x;
    if (world_rank() == 0) {
        make_old();
    }
    gate_round++;
    open_side(&x, world_comm(), &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), limit);
    ranks_wait(world_comm());
    gate_set(world_rank() == 0 ? CALL_CLEAN : CALL_NONE, 1, false);
    GOOD(x.as, save(&x));
    gate_set(CALL_NONE, 0, false);
    if (world_rank() != 0) {
        int code = load(&x);
        (void)check_verdict(&x, code, 0, "did not come to allshard_load");
        ranks_wait(others);
        if (world_rank() == lowest) {
            CHECK(holds(&model_mixed));
            gate_mark("wake");
        }
    } else {
        CHECK(load(&x) == ALLSHARD_TIMEOUT);
    }
    CHECK(close_side(&x) == ALLSHARD_OK);
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        CHECK(holds(&model_mixed) && !exists(folder, ".allshard"));
    }
    ranks_wait(world_comm());
}

static void choose_victim(int victim)
{
    if (others != MPI_COMM_NULL) {
        (void)MPI_Comm_free(&others);
    }
    (void)MPI_Comm_split(MPI_COMM_WORLD, world_rank() == victim ? MPI_UNDEFINED : 0, world_rank(),
                         &others);
    lowest = victim == 0 ? 1 : 0;
}

static void check_ranks(void)
{
    int last = world_size() - 1;
    const int victims[] = {0, world_size() / 2, last};
    const char *share = getenv("ALLSHARD_SHARE");
    bool brief = world_size() != 3 || (share && strcmp(share, "off") == 0);
    int cases = 0;
    int stops = 0;
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
        (void)printf("%d stalls named, and %d stopped processes\n", cases, stops);
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
