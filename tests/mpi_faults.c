/* SPDX-License-Identifier: Apache-2.0
 * System calls that fail on one rank, in the middle of a save or a load whose messages are under
 * way: all ranks return, with one error; the old checkpoint is whole, staging is gone, and the
 * next save or load is good. (ALLSHARD_NO_MPI: also as one process.)
 */
/* unshared: 4 */
/* ranks: 1 2 4 */
/* timeout: 240 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

/* ---- calls that fail ---- */

enum kind { CALL_OPEN, CALL_CREATE, CALL_PREAD, CALL_PWRITE, CALL_FSYNC, CALL_ALLOCATE, CALL_MODE };

static const char *const kind_names[] = {"open",  "create",    "pread", "pwrite",
                                         "fsync", "fallocate", "fchmod"};

static struct {
    bool on;
    enum kind kind;
    int at;      /* 1 is the first call of the kind */
    bool sticky; /* all further ones fail, too */
    int error;
    atomic_int calls; /* an engine's threads make some of them */
} fault;

static as_sys real;

static bool hits(enum kind kind)
{
    if (!fault.on || kind != fault.kind) {
        return false;
    }
    int call = atomic_fetch_add(&fault.calls, 1) + 1;
    if (call != fault.at && !(fault.sticky && call > fault.at)) {
        return false;
    }
    errno = fault.error;
    return true;
}

static int fail_openat(int folder, const char *path, int flags, mode_t mode)
{
    bool creates = (flags & O_CREAT) != 0;
    return hits(creates ? CALL_CREATE : CALL_OPEN) ? -1 : real.openat(folder, path, flags, mode);
}

static ssize_t fail_pread(int fd, void *bytes, size_t count, off_t offset)
{
    return hits(CALL_PREAD) ? -1 : real.pread(fd, bytes, count, offset);
}

static ssize_t fail_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    return hits(CALL_PWRITE) ? -1 : real.pwrite(fd, bytes, count, offset);
}

static int fail_fsync(int fd)
{
    return hits(CALL_FSYNC) ? -1 : real.fsync(fd);
}

static int fail_fallocate(int fd, int mode, off_t offset, off_t size)
{
    return hits(CALL_ALLOCATE) ? -1 : real.fallocate(fd, mode, offset, size);
}

/* What takes its place where a file system has none. */
static int fail_ftruncate(int fd, off_t size)
{
    return hits(CALL_ALLOCATE) ? -1 : real.ftruncate(fd, size);
}

static int fail_fchmod(int fd, mode_t mode)
{
    return hits(CALL_MODE) ? -1 : real.fchmod(fd, mode);
}

static void install(void)
{
    real = as_sys_table;
    as_sys_table.openat = fail_openat;
    as_sys_table.pread = fail_pread;
    as_sys_table.pwrite = fail_pwrite;
    as_sys_table.fsync = fail_fsync;
    as_sys_table.ftruncate = fail_ftruncate;
    as_sys_table.fallocate = fail_fallocate;
    as_sys_table.fchmod = fail_fchmod;
}

/* Trouble on that rank only. */
static void set_fault(int victim, enum kind kind, int at, bool sticky, int error)
{
    fault.on = world_rank() == victim;
    fault.kind = kind;
    fault.at = at;
    fault.sticky = sticky;
    fault.error = error;
    fault.calls = 0;
}

/* Ends it; was the call that was to fail made at all? The same on every rank. */
static bool end_fault(void)
{
    bool hit = fault.on && fault.calls >= fault.at;
    fault.on = false;
    return ranks_max(world_comm(), hit) != 0;
}

/* ---- two checkpoints ---- */

static const model_tensor old_tensors[] = {
    {"old.weight", ALLSHARD_F32, 2, {20, 30}},
    {"old.bias", ALLSHARD_BF16, 1, {64}},
};
static const model model_old = {old_tensors, 2};

typedef struct side {
    holding h;
    allshard_state *s;
} side;

static allshard *as;
static side old_side;
static side new_side;
static const char *folder;

static void open_side(side *x, const model *m, enum layout layout)
{
    holding_make(&x->h, m, layout, world_rank(), world_size(), true);
    GOOD(as, allshard_state_create(&x->s, as, "model"));
    holding_declare(&x->h, as, x->s);
    holding_fill(&x->h);
}

static void close_side(side *x)
{
    (void)allshard_state_free(x->s);
    holding_free(&x->h);
}

static int save(side *x, int mode)
{
    allshard_save_options o = {
        .size = sizeof o, .max_shard_size = "12KB", .block_bytes = 256, .mode = mode};
    return allshard_save(x->s, folder, &o);
}

static int load(side *x)
{
    allshard_load_options o = {.size = sizeof o, .block_bytes = 256};
    holding_clear(&x->h);
    return allshard_load(x->s, folder, &o);
}

/* Is this what the folder holds? */
static void check_holds(side *x, const char *what, enum kind kind, int at)
{
    int code = load(x);
    allshard_error e = {.size = sizeof e};
    (void)allshard_last_error(as, &e);
    CHECK_TEXT(code == ALLSHARD_OK, "%s after %s call %d failed: %s", what, kind_names[kind], at,
               e.text);
    const char *wrong = holding_wrong(&x->h);
    CHECK_TEXT(wrong == NULL, "%s after %s call %d failed: tensor %s", what, kind_names[kind], at,
               wrong);
}

static void check_tidy(const char *what, enum kind kind, int at)
{
    ranks_wait(world_comm());
    CHECK_TEXT(!exists(folder, ".allshard"), "%s: .allshard is left after %s call %d failed", what,
               kind_names[kind], at);
    ranks_wait(world_comm());
}

static int next_call(int at)
{
    return at < (is_sanitized() ? 2 : 5) ? at + 1 : 2 * at;
}

/* ---- saves ---- */

/* One failed call in a save over the old checkpoint. False: there are not so many calls. */
static bool try_save(int victim, enum kind kind, int at, bool sticky, int error, int mode)
{
    set_fault(victim, kind, at, sticky, error);
    double start = seconds_now();
    int code = save(&new_side, mode);
    double took = seconds_now() - start;
    bool hit = end_fault();
    CHECK_TEXT(took < 60, "a save that fails took %.0f s", took);
    if (code == ALLSHARD_OK) {
        /* Not so many calls, or one after the outcome was settled. */
        check_holds(&new_side, "new", kind, at);
    } else if (code == ALLSHARD_SYSTEM) {
        FAILS(as, code, ALLSHARD_SYSTEM, strerror(error));
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(as, &e);
        CHECK_TEXT(e.rank == victim && e.sys_errno == error, "rank %d, errno %d: %s", e.rank,
                   e.sys_errno, e.text);
        CHECK(strstr(e.text, folder) != NULL);
        check_tidy("a failed save", kind, at);
        check_holds(&old_side, "old", kind, at);
    } else {
        /* Only around the journal, by the main process. */
        CHECK_TEXT(victim == 0 && (code == ALLSHARD_PENDING || code == ALLSHARD_UNKNOWN), "%s",
                   allshard_error_name(code));
        FAILS(as, code, code, folder);
        check_holds(code == ALLSHARD_PENDING || load(&old_side) != ALLSHARD_OK ? &new_side
                                                                               : &old_side,
                    "pending", kind, at);
    }
    holding_fill(&new_side.h);
    GOOD(as, save(&new_side, 0));
    check_holds(&new_side, "the next save", kind, at);
    check_tidy("the next save", kind, at);
    holding_fill(&old_side.h);
    holding_fill(&new_side.h);
    GOOD(as, save(&old_side, 0));
    return hit;
}

static int test_saves(int victim)
{
    static const struct {
        enum kind kind;
        bool sticky;
        int error;
        int mode;
    } troubles[] = {
        {CALL_PWRITE, false, EIO, 0},      {CALL_PWRITE, true, ENOSPC, 0},
        {CALL_FSYNC, false, EIO, 0},       {CALL_ALLOCATE, false, EFBIG, 0},
        {CALL_ALLOCATE, false, ENOSPC, 0}, {CALL_CREATE, false, ENOSPC, 0},
        {CALL_OPEN, false, EMFILE, 0},     {CALL_MODE, false, EPERM, 0444},
    };
    int saves = 0;
    for (size_t i = 0; i < sizeof troubles / sizeof troubles[0]; i++) {
        for (int at = 1;; at = next_call(at), saves++) {
            if (!try_save(victim, troubles[i].kind, at, troubles[i].sticky, troubles[i].error,
                          troubles[i].mode)) {
                break;
            }
        }
    }
    return saves;
}

/* ---- loads ---- */

static int test_loads(int victim)
{
    static const enum kind kinds[] = {CALL_OPEN, CALL_PREAD};
    int loads = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int at = 1;; at = next_call(at), loads++) {
            set_fault(victim, kinds[i], at, false, EIO);
            double start = seconds_now();
            int code = load(&new_side);
            double took = seconds_now() - start;
            bool hit = end_fault();
            CHECK_TEXT(took < 60, "a load that fails took %.0f s", took);
            if (code == ALLSHARD_OK && hit) {
                /* A look that only serves to choose an engine. */
                const char *wrong = holding_wrong(&new_side.h);
                CHECK_TEXT(kinds[i] == CALL_OPEN && !wrong, "%s call %d failed, the load did not",
                           kind_names[kinds[i]], at);
                continue;
            }
            if (code == ALLSHARD_OK) {
                break;
            }
            CHECK(hit);
            FAILS(as, code, ALLSHARD_SYSTEM, strerror(EIO), folder);
            check_holds(&new_side, "the next load", kinds[i], at);
        }
    }
    return loads;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 900);
    install();
    int saves = 0;
    int loads = 0;
    folder = strdup(scratch_path("folder"));
    /* Four buffers, and all the model's columns between each other: messages are always under
     * way. */
    allshard_options options = {.size = sizeof options, .memory = 1};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    open_side(&old_side, &model_old, LAYOUT_FLAT);
    open_side(&new_side, &model_mixed, LAYOUT_COLUMNS);
    GOOD(as, save(&old_side, 0));
    int descriptors = count_descriptors();
    for (int victim = 0; victim < world_size(); victim += victim == 0 ? world_size() - 1 : 1) {
        saves += test_saves(victim);
        if (world_size() == 1) {
            break;
        }
    }
    GOOD(as, save(&new_side, 0));
    for (int victim = 0; victim < world_size(); victim++) {
        loads += test_loads(victim);
    }
    CHECK_TEXT(count_descriptors() <= descriptors + 2, "%d descriptors, %d before",
               count_descriptors(), descriptors);
    close_side(&old_side);
    close_side(&new_side);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    if (world_rank() == 0) {
        (void)printf("%d saves and %d loads failed as they should\n", saves, loads);
    }
    free((void *)(uintptr_t)folder);
    return ranks_end();
}
