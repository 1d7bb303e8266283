/* SPDX-License-Identifier: Apache-2.0
 * Commit and recovery under fire: a save, and the recovery after it, are killed at every
 * call that touches the disk, and every call fails in several ways. Afterwards the folder
 * must hold exactly the old or exactly the new files, and the code must have told which.
 * With ALLSHARD_LONG=1 no combination is left out.
 */
/* timeout: 300 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "checkpoint_folder.h"
#include "commit/clean.h"
#include "commit/folder.h"
#include "commit/recover.h"
#include "commit/transaction.h"
#include "commit/view.h"
#include "disk_faults.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Long, so that no sign of life falls due in a save: its calls are the same ones each time. */
enum { LONG_LEASE_MS = 60000, SHORT_LEASE_MS = 40 };

static char root[256]; /* scratch */
static char dir[300];  /* DIR of the case at hand */
static int lease_ms = LONG_LEASE_MS;

/* ---- what is saved over what ---- */

typedef struct scene {
    const char *name;
    const char *below; /* DIR below the scratch folder */
    bool exists;       /* DIR is there before */
    file_set old_set;
    file_set new_set;
    const char *const *shards; /* of the new set, written by "ranks"; ends with NULL */
    const char *const *small;  /* of the new set, put by the main process */
} scene;

static const char *const nothing[] = {NULL};

static const char *const two_old[] = {
    "allshard.manifest.json",
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    NULL,
};
static const char *const two_shards[] = {"model-00001-of-00003.safetensors",
                                         "model-00002-of-00003.safetensors",
                                         "model-00003-of-00003.safetensors", NULL};
static const char *const two_small[] = {"config.json", "model.safetensors.index.json",
                                        "allshard.manifest.json", "tokenizer.json", NULL};
static const char *const two_new[] = {
    "allshard.manifest.json",
    "config.json",
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    NULL,
};
static const char *const same_names[] = {
    "allshard.manifest.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    NULL,
};
static const char *const same_shards[] = {"model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors", NULL};
static const char *const same_small[] = {"model.safetensors.index.json", "allshard.manifest.json",
                                         NULL};
static const char *const one_new[] = {"allshard.manifest.json", "model.safetensors", NULL};
static const char *const one_shards[] = {"model.safetensors", NULL};
static const char *const one_small[] = {"allshard.manifest.json", NULL};

static const scene scenes[] = {
    {"other shards", "a", true, {"old", two_old}, {"new", two_new}, two_shards, two_small},
    {"same names", "b", true, {"old", same_names}, {"new", same_names}, same_shards, same_small},
    {"one shard over an index",
     "c",
     true,
     {"old", same_names},
     {"new", one_new},
     one_shards,
     one_small},
    {"a new folder", "d/e/f", false, {"old", nothing}, {"new", two_new}, two_shards, two_small},
    {"an empty folder", "g", true, {"old", nothing}, {"new", one_new}, one_shards, one_small},
};

static void set_scene(const scene *s)
{
    remove_tree(root);
    must(mkdir(root, 0777) == 0, root);
    (void)snprintf(dir, sizeof dir, "%s/%s", root, s->below);
    if (s->exists) {
        must(mkdir(dir, 0777) == 0, dir);
        make_set(dir, &s->old_set);
    }
}

/* ---- one save ---- */

/* What a rank does with its shard. */
static int write_shard(const char *name, const char *tag, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    char text[512];
    content_of(tag, name, text, sizeof text);
    int fd = -1;
    int code = as_staged_path(dir, name, &path, e);
    if (code == AS_OK) {
        code = as_file_create(AT_FDCWD, path.data, 0, path.data, &fd, e);
    }
    if (code == AS_OK) {
        code = as_write_all(fd, text, strlen(text), 0, path.data, e);
    }
    if (code == AS_OK) {
        code = as_sync(fd, path.data, e);
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_buffer_free(&path);
    return code;
}

static int write_all_files(as_txn *t, const scene *s, as_names *incoming, as_error *e)
{
    int code = AS_OK;
    for (const char *const *name = s->shards; code == AS_OK && *name; name++) {
        code = write_shard(*name, s->new_set.tag, e);
        if (code == AS_OK) {
            code = as_names_add(incoming, *name, e);
        }
    }
    for (const char *const *name = s->small; code == AS_OK && *name; name++) {
        char text[512];
        content_of(s->new_set.tag, *name, text, sizeof text);
        code = as_txn_put(t, *name, text, strlen(text), e);
        if (code == AS_OK) {
            code = as_names_add(incoming, *name, e);
        }
    }
    return code == AS_OK ? as_txn_refresh(t, e) : code;
}

/* Begin to finish. The code is the save's; *finish that of as_txn_finish. */
static int save(const scene *s, int *finish, as_error *e)
{
    const as_txn_options options = {.lease_ms = lease_ms};
    as_txn *t;
    *finish = AS_OK;
    int code = as_txn_begin(&t, dir, &options, NULL, e);
    if (code != AS_OK) {
        return code;
    }
    as_names incoming = AS_NAMES_INIT;
    as_names listing = AS_NAMES_INIT;
    as_names outgoing = AS_NAMES_INIT;
    code = write_all_files(t, s, &incoming, e);
    if (code == AS_OK) {
        code = as_txn_list(t, &listing, e);
    }
    if (code == AS_OK) {
        code = as_clean_list("model{suffix}.safetensors", &listing, &outgoing, e);
    }
    if (code == AS_OK) {
        code = as_txn_commit(t, (const char *const *)incoming.items, incoming.count,
                             (const char *const *)outgoing.items, outgoing.count, e);
    }
    if (code == AS_OK) {
        *finish = as_txn_finish(t, e);
    } else {
        as_txn_abort(t);
    }
    as_names_free(&incoming);
    as_names_free(&listing);
    as_names_free(&outgoing);
    return code;
}

/* Steps from one case to the next: all of them with ALLSHARD_LONG=1. */
static int stride(int usual)
{
    const char *text = getenv("ALLSHARD_LONG");
    return text && *text && strcmp(text, "0") != 0 ? 1 : usual;
}

static int recover(as_recover_report *report, as_error *e)
{
    return as_recover(dir, false, lease_ms, report, NULL, e);
}

/* ---- what is there now ---- */

enum found { NEITHER, OLD, NEW };

static enum found look_at_folder(const scene *s)
{
    if (holds_set(dir, &s->old_set)) {
        return OLD;
    }
    return holds_set(dir, &s->new_set) ? NEW : NEITHER;
}

/* Through a view: the list and every content. */
static bool view_holds(as_view *v, const file_set *set)
{
    as_names names = AS_NAMES_INIT;
    assert_int_equal(as_view_list(v, &names, NULL), AS_OK);
    size_t count = 0;
    bool good = true;
    for (const char *const *name = set->names; good && *name; name++, count++) {
        char text[512];
        int fd;
        content_of(set->tag, *name, text, sizeof text);
        good = count < names.count && strcmp(names.items[count], *name) == 0 &&
               as_view_open_file(v, *name, &fd, NULL) == AS_OK;
        if (good) {
            char found[512] = "";
            good = pread(fd, found, sizeof found - 1, 0) >= 0 && strcmp(found, text) == 0;
            (void)close(fd);
        }
    }
    good = good && count == names.count;
    as_names_free(&names);
    return good;
}

static enum found look_through_view(const scene *s)
{
    as_view *v;
    int code = as_view_open(&v, dir, NULL);
    if (code == AS_NOT_FOUND && !s->exists) {
        return OLD;
    }
    assert_int_equal(code, AS_OK);
    enum found found = NEITHER;
    if (view_holds(v, &s->old_set)) {
        found = OLD;
    } else if (view_holds(v, &s->new_set)) {
        found = NEW;
    }
    /* Names that were looked for in vain before the answer was clear do not matter. */
    assert_int_equal(as_view_check(v, NULL), AS_OK);
    as_view_close(v);
    return found;
}

static bool has_leftovers(void)
{
    return exists(dir, AS_META_NAME);
}

/* Runs the action in a child that is killed at call `at`. True: it was killed. */
static bool killed_at(int at, void (*action)(const scene *s), const scene *s)
{
    (void)fflush(NULL);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        fault_set(FAULT_KILL, at, 0);
        action(s);
        _exit(0);
    }
    int status;
    must(waitpid(child, &status, 0) == child, "waitpid");
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return true;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static void act_save(const scene *s)
{
    int finish;
    as_error e = AS_ERROR_INIT;
    if (save(s, &finish, &e) != AS_OK || finish != AS_OK) {
        (void)fprintf(stderr, "%s\n", as_error_text(&e));
        _exit(1);
    }
}

static void act_recover(const scene *s)
{
    (void)s;
    as_error e = AS_ERROR_INIT;
    if (recover(NULL, &e) != AS_OK) {
        (void)fprintf(stderr, "%s\n", as_error_text(&e));
        _exit(1);
    }
}

/* After a crash: what the view and a dry run say is what recovery gives. */
static enum found check_recovery(const scene *s)
{
    enum found seen = look_through_view(s);
    assert_int_not_equal(seen, NEITHER);
    as_recover_report plan = AS_RECOVER_REPORT_INIT;
    as_recover_report done = AS_RECOVER_REPORT_INIT;
    as_error e = AS_ERROR_INIT;
    bool leftovers = has_leftovers();
    int dry = as_recover(dir, true, lease_ms, &plan, NULL, &e);
    assert_int_equal(has_leftovers(), leftovers);
    assert_int_equal(look_through_view(s), seen);
    int code = recover(&done, &e);
    if (code != AS_OK && !(code == AS_NOT_FOUND && !s->exists)) {
        (void)fprintf(stderr, "recover: %s\n", as_error_text(&e));
        fail();
    }
    assert_int_equal(dry, code);
    assert_int_equal(plan.outcome, done.outcome);
    assert_int_equal(plan.incoming.count, done.incoming.count);
    assert_int_equal(plan.cleared.count, done.cleared.count);
    assert_int_equal(look_at_folder(s), seen);
    assert_false(has_leftovers());
    as_recover_report_free(&plan);
    if (code == AS_OK) {
        assert_int_equal(recover(&plan, &e), AS_OK);
        assert_int_equal(plan.outcome, AS_RECOVER_NOTHING);
        as_recover_report_free(&plan);
    }
    as_recover_report_free(&done);
    as_error_clear(&e);
    return seen;
}

/* ---- tests ---- */

static void test_plain_save(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        const scene *s = &scenes[i];
        set_scene(s);
        int before = count_descriptors();
        int finish;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(look_at_folder(s), OLD);
        assert_int_equal(save(s, &finish, &e), AS_OK);
        assert_int_equal(finish, AS_OK);
        assert_int_equal(look_at_folder(s), NEW);
        assert_false(has_leftovers());
        assert_int_equal(count_descriptors(), before);
        as_error_clear(&e);
    }
}

static void test_foreign_files_stay(void **state)
{
    (void)state;
    const scene *s = &scenes[0];
    static const char *const foreign[] = {"README.md", "model-1-of-2.safetensors",
                                          "model-00001-of-00002.safetensors.bak",
                                          "other.safetensors", NULL};
    const file_set foreign_set = {"mine", foreign};
    set_scene(s);
    make_set(dir, &foreign_set);
    int finish;
    assert_int_equal(save(s, &finish, NULL), AS_OK);
    for (size_t i = 0; foreign[i]; i++) {
        char text[512];
        content_of("mine", foreign[i], text, sizeof text);
        const char *now = read_text(dir, foreign[i]);
        assert_non_null(now);
        assert_string_equal(now, text);
    }
    assert_false(exists(dir, "model-00001-of-00002.safetensors"));
    assert_false(exists(dir, "model.safetensors"));
}

static void test_killed_save(void **state)
{
    (void)state;
    int kills = 0;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        const scene *s = &scenes[i];
        enum found last = OLD;
        int at = 1;
        for (;; at++) {
            set_scene(s);
            if (!killed_at(at, act_save, s)) {
                break;
            }
            kills++;
            enum found now = check_recovery(s);
            /* There is one moment that counts. */
            assert_true(now >= last);
            last = now;
        }
        assert_int_equal(last, NEW);
        assert_int_equal(look_at_folder(s), NEW);
    }
    print_message("saves killed: %d\n", kills);
}

/* The next save needs no recovery of its own. */
static void test_save_after_kill(void **state)
{
    (void)state;
    int kills = 0;
    const scene *s = &scenes[0];
    for (int at = 1;; at++) {
        set_scene(s);
        if (!killed_at(at, act_save, s)) {
            break;
        }
        kills++;
        int finish;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(save(s, &finish, &e), AS_OK);
        assert_int_equal(finish, AS_OK);
        assert_int_equal(look_at_folder(s), NEW);
        assert_false(has_leftovers());
        as_error_clear(&e);
    }
    print_message("saves after a kill: %d\n", kills);
}

static void test_killed_recovery(void **state)
{
    (void)state;
    int kills = 0;
    for (size_t i = 0; i < 3; i++) {
        const scene *s = &scenes[i];
        /* Some steps of the save, others in each scene; all steps of the recovery. */
        for (int at = 1 + (int)i;; at += stride(29)) {
            set_scene(s);
            if (!killed_at(at, act_save, s)) {
                break;
            }
            enum found truth = look_through_view(s);
            for (int step = 1;; step++) {
                if (!killed_at(step, act_recover, s)) {
                    break;
                }
                kills++;
                assert_int_equal(look_through_view(s), truth);
                /* From the same start each time: the rest of the work is not lost, so begin anew. */
                set_scene(s);
                assert_true(killed_at(at, act_save, s));
            }
            assert_int_equal(look_at_folder(s), truth);
            assert_false(has_leftovers());
        }
    }
    print_message("recoveries killed: %d\n", kills);
}

/* Kill upon kill, without a fresh start: each recovery gets one step further. */
static void test_recovery_killed_again_and_again(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    int kills = 0;
    for (int at = 1;; at += stride(13)) {
        set_scene(s);
        if (!killed_at(at, act_save, s)) {
            break;
        }
        enum found truth = look_through_view(s);
        for (int step = 1; killed_at(step, act_recover, s); step++) {
            kills++;
            assert_int_equal(look_through_view(s), truth);
        }
        assert_int_equal(look_at_folder(s), truth);
        assert_false(has_leftovers());
    }
    print_message("recoveries killed in a row: %d\n", kills);
}

/* Does the code tell the truth about what recovery will find? */
static void check_told(const scene *s, int code)
{
    enum found now = check_recovery(s);
    switch (code) {
    case AS_OK:
    case AS_PENDING:
        assert_int_equal(now, NEW);
        break;
    case AS_UNKNOWN:
        break;
    default:
        assert_int_equal(now, OLD);
    }
}

typedef struct tally {
    int faults, ok, failed, pending, unknown;
} tally;

static void count_code(tally *t, int code)
{
    t->faults++;
    t->ok += code == AS_OK;
    t->pending += code == AS_PENDING;
    t->unknown += code == AS_UNKNOWN;
    t->failed += code != AS_OK && code != AS_PENDING && code != AS_UNKNOWN;
}

/* Calls number 1, 2, 3 … go wrong in the given way until a save has fewer calls. */
static void fail_everywhere(const scene *s, enum fault_mode mode, int error, tally *t)
{
    int descriptors = count_descriptors();
    /* A lock that could not be removed is emptied, and to be waited for. */
    lease_ms = SHORT_LEASE_MS;
    for (int at = 1;; at++) {
        set_scene(s);
        as_error e = AS_ERROR_INIT;
        int finish;
        fault_set(mode, at, error);
        int code = save(s, &finish, &e);
        int calls = fault_end();
        if (calls < at) {
            assert_int_equal(code, AS_OK);
            as_error_clear(&e);
            break;
        }
        count_code(t, code);
        assert_int_equal(count_descriptors(), descriptors);
        if (code != AS_OK) {
            assert_int_equal(e.code, code);
            assert_true(strlen(as_error_text(&e)) > 10);
        } else {
            assert_true(finish == AS_OK || finish == AS_PENDING);
        }
        bool gave_up = code != AS_OK && code != AS_PENDING && code != AS_UNKNOWN;
        if (mode == FAULT_FAIL && gave_up) {
            /* Only one call failed: everything could be put back, at once. */
            assert_int_equal(look_at_folder(s), OLD);
            assert_false(has_leftovers());
            assert_int_equal(access(dir, F_OK) == 0, s->exists);
        }
        if (code == AS_OK && finish == AS_OK && mode == FAULT_FAIL) {
            assert_int_equal(look_at_folder(s), NEW);
        }
        as_error_clear(&e);
        check_told(s, code);
    }
    lease_ms = LONG_LEASE_MS;
}

static void print_tally(const char *what, const tally *t)
{
    print_message("%s: %d faults: %d saves all the same, %d failed, %d pending, %d unknown\n", what,
                  t->faults, t->ok, t->failed, t->pending, t->unknown);
}

static void test_each_call_fails(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EACCES};
    tally t = {0};
    for (size_t i = 0; i < COUNT(scenes); i++) {
        fail_everywhere(&scenes[i], FAULT_FAIL, errors[i % COUNT(errors)], &t);
    }
    fail_everywhere(&scenes[0], FAULT_FAIL, ENOSPC, &t);
    print_tally("one call fails", &t);
    assert_true(t.failed > 0 && t.pending > 0 && t.ok > 0);
}

static void test_each_call_lies(void **state)
{
    (void)state;
    tally t = {0};
    fail_everywhere(&scenes[0], FAULT_LIE, EIO, &t);
    fail_everywhere(&scenes[3], FAULT_LIE, EIO, &t);
    print_tally("one call is made, but reported as failed", &t);
    assert_true(t.failed > 0 && t.pending > 0);
}

static void test_dead_disk(void **state)
{
    (void)state;
    tally t = {0};
    fail_everywhere(&scenes[0], FAULT_DEAD_DISK, EIO, &t);
    fail_everywhere(&scenes[3], FAULT_DEAD_DISK, EROFS, &t);
    print_tally("nothing can be changed from then on", &t);
    assert_true(t.failed > 0 && t.pending > 0 && t.unknown > 0);
}

static void test_full_disk(void **state)
{
    (void)state;
    tally t = {0};
    fail_everywhere(&scenes[0], FAULT_FULL_DISK, ENOSPC, &t);
    fail_everywhere(&scenes[4], FAULT_FULL_DISK, EDQUOT, &t);
    print_tally("no space from then on", &t);
    assert_true(t.failed > 0);
}

/* Every call of a recovery fails once: a code, and the next recovery does it. */
static void test_failing_recovery(void **state)
{
    (void)state;
    int faults = 0;
    const scene *s = &scenes[0];
    for (int at = 1;; at += stride(13)) {
        set_scene(s);
        if (!killed_at(at, act_save, s)) {
            break;
        }
        enum found truth = look_through_view(s);
        int descriptors = count_descriptors();
        lease_ms = SHORT_LEASE_MS;
        for (int step = 1;; step++) {
            as_error e = AS_ERROR_INIT;
            fault_set(FAULT_FAIL, step, EIO);
            int code = recover(NULL, &e);
            int calls = fault_end();
            assert_int_equal(count_descriptors(), descriptors);
            assert_int_equal(look_through_view(s), truth);
            assert_int_equal(e.code, code);
            as_error_clear(&e);
            if (calls < step) {
                assert_int_equal(code, AS_OK);
                break;
            }
            faults++;
            if (code == AS_OK && !has_leftovers()) {
                lease_ms = LONG_LEASE_MS;
                set_scene(s);
                assert_true(killed_at(at, act_save, s));
                lease_ms = SHORT_LEASE_MS;
            }
        }
        (void)check_recovery(s);
        lease_ms = LONG_LEASE_MS;
    }
    print_message("recoveries with a failing call: %d\n", faults);
}

/* The order of DESIGN section 6, call by call. */
static void test_order_of_calls(void **state)
{
    (void)state;
    const scene *s = &scenes[3];
    set_scene(s);
    char *text = NULL;
    size_t size = 0;
    fault.trace = open_memstream(&text, &size);
    must(fault.trace != NULL, "open_memstream");
    int finish;
    assert_int_equal(save(s, &finish, NULL), AS_OK);
    (void)fclose(fault.trace);
    fault.trace = NULL;
    static const char *const order[] = {
        "fsync model-00001-of-00003.safetensors\n",
        "fsync config.json\n",
        "fsync allshard.manifest.json\n",
        "fsync new\n",
        "fsync .allshard\n",
        "fsync f\n", /* DIR */
        "fsync d\n", /* what was made above it */
        "fsync e\n",
        "fsync journal.tmp\n",
        "rename .allshard/journal.tmp journal\n",
        "fsync .allshard\n",
        "rename new/model-00001-of-00003.safetensors ",
        "rename new/allshard.manifest.json ",
        "rename new/model.safetensors.index.json ",
        "fsync f\n",
        "unlink .allshard/journal\n",
        "fsync .allshard\n",
        "unlink .allshard/old\n",
        "unlink .allshard/lock\n",
        "unlink f/.allshard\n",
        "fsync f\n",
    };
    const char *at = text;
    for (size_t i = 0; at && i < COUNT(order); i++) {
        const char *next = strstr(at, order[i]);
        if (!next) {
            (void)fprintf(stderr, "\"%s\" is not where it belongs in:\n%s", order[i], text);
            fail();
        }
        at = next ? next + strlen(order[i]) : NULL;
    }
    free(text);

    /* Over an old checkpoint: the old index is the first to go. */
    set_scene(&scenes[0]);
    fault.trace = open_memstream(&text, &size);
    must(fault.trace != NULL, "open_memstream");
    assert_int_equal(save(&scenes[0], &finish, NULL), AS_OK);
    (void)fclose(fault.trace);
    fault.trace = NULL;
    at = strstr(text, "rename a/");
    assert_non_null(at);
    assert_memory_equal(at, "rename a/model.safetensors.index.json ", 38);
    free(text);
}

static void test_abort(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        const scene *s = &scenes[i];
        set_scene(s);
        as_txn *t;
        as_error e = AS_ERROR_INIT;
        as_names incoming = AS_NAMES_INIT;
        assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, &e), AS_OK);
        assert_int_equal(write_all_files(t, s, &incoming, &e), AS_OK);
        as_txn_abort(t);
        assert_int_equal(look_at_folder(s), OLD);
        assert_false(has_leftovers());
        assert_int_equal(access(dir, F_OK) == 0, s->exists);
        as_names_free(&incoming);
    }
    char above[300];
    (void)snprintf(above, sizeof above, "%s/d", root);
    assert_int_not_equal(access(above, F_OK), 0);
}

/* What must be refused before anything changes. */
static void test_refused(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    set_scene(s);
    char path[512];
    (void)snprintf(path, sizeof path, "%s/extra", dir);
    must(mkdir(path, 0777) == 0, path);
    (void)snprintf(path, sizeof path, "%s/extra/kept", dir);
    must(mkdir(path, 0777) == 0, path);
    as_txn *t;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, &e), AS_OK);
    assert_int_equal(as_txn_put(t, "extra", "x", 1, &e), AS_OK);
    assert_int_equal(as_txn_put(t, "a", "x", 1, &e), AS_OK);
    static const struct {
        const char *in;
        const char *out;
        int code;
        const char *tells;
    } cases[] = {
        {"extra", "model-00001-of-00002.safetensors", AS_INVALID, "\"extra\" is a folder"},
        {"a", "extra", AS_INVALID, "\"extra\" is a folder"},
        {"missing", "a", AS_SYSTEM, "\"missing\""},
        {"../a", "a", AS_INVALID, "\"../a\""},
        {"a", ".allshard", AS_INVALID, "\".allshard\""},
        {"a", "..", AS_INVALID, "\"..\""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int code = as_txn_commit(t, &cases[i].in, 1, &cases[i].out, 1, &e);
        assert_int_equal(code, cases[i].code);
        assert_non_null(strstr(as_error_text(&e), cases[i].tells));
        assert_false(exists(dir, AS_META_NAME "/" AS_JOURNAL_NAME));
        as_error_clear(&e);
    }
    assert_int_equal(as_txn_put(t, "a/b", "x", 1, &e), AS_INVALID);
    as_error_clear(&e);
    assert_int_equal(as_txn_put(t, ".allshard", "x", 1, &e), AS_INVALID);
    as_error_clear(&e);
    as_txn_abort(t);
    assert_true(exists(dir, "extra/kept"));
    assert_false(exists(dir, "a"));
    assert_false(has_leftovers());
}

/* A link in the place of .allshard/ or of a file is not followed. */
static void test_links(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    set_scene(s);
    char path[512];
    char outside[512];
    (void)snprintf(outside, sizeof outside, "%s/outside", root);
    must(mkdir(outside, 0777) == 0, outside);
    write_text(outside, "precious", "mine");
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME, dir);
    must(symlink(outside, path) == 0, path);
    int finish;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(save(s, &finish, &e), AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "remove it"));
    as_error_clear(&e);
    assert_int_equal(recover(NULL, NULL), AS_INVALID);
    must(unlink(path) == 0, path);

    /* Leftovers with a link in them, and a checkpoint file that is a link. */
    must(mkdir(path, 0777) == 0, path);
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/new", dir);
    must(symlink(outside, path) == 0, path);
    (void)snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    must(unlink(path) == 0, path);
    char target[600];
    (void)snprintf(target, sizeof target, "%s/precious", outside);
    must(symlink(target, path) == 0, path);
    assert_int_equal(save(s, &finish, &e), AS_OK);
    assert_int_equal(look_at_folder(s), NEW);
    assert_string_equal(read_text(outside, "precious"), "mine");
    as_error_clear(&e);
}

/* A journal that was damaged, or whose files are gone: everything is kept. */
static void test_damaged_journal(void **state)
{
    (void)state;
    const scene *s = &scenes[0];
    int at = 1;
    do {
        set_scene(s);
        assert_true(killed_at(at++, act_save, s));
    } while (!exists(dir, AS_META_NAME "/" AS_JOURNAL_NAME));
    const char *journal = read_text(dir, AS_META_NAME "/" AS_JOURNAL_NAME);
    assert_non_null(journal);
    char *kept = strdup(journal);
    assert_non_null(kept);
    char *damaged = strdup(journal);
    assert_non_null(damaged);
    damaged[30] ^= 1;
    write_text(dir, AS_META_NAME "/" AS_JOURNAL_NAME, damaged);
    as_error e = AS_ERROR_INIT;
    assert_int_equal(recover(NULL, &e), AS_FORMAT);
    assert_non_null(strstr(as_error_text(&e), AS_META_NAME "/" AS_JOURNAL_NAME));
    as_error_clear(&e);
    assert_int_equal(look_at_folder(s), OLD);
    assert_true(exists(dir, AS_META_NAME "/new/model-00001-of-00003.safetensors"));
    int finish;
    assert_int_equal(save(s, &finish, NULL), AS_FORMAT);
    assert_true(exists(dir, AS_META_NAME "/new/model-00001-of-00003.safetensors"));
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, &e), AS_FORMAT);
    as_error_clear(&e);

    write_text(dir, AS_META_NAME "/" AS_JOURNAL_NAME, kept);
    write_text(dir, AS_META_NAME "/new/config.json", "shorter");
    assert_int_equal(recover(NULL, &e), AS_FORMAT);
    assert_non_null(strstr(as_error_text(&e), "config.json"));
    as_error_clear(&e);
    assert_int_equal(look_at_folder(s), OLD);
    write_text(dir, AS_META_NAME "/new/config.json", "new:config.json");
    assert_int_equal(recover(NULL, &e), AS_OK);
    assert_int_equal(look_at_folder(s), NEW);
    free(kept);
    free(damaged);
}

static mode_t mode_of(const char *name)
{
    char path[512];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    must(stat(path, &status) == 0, path);
    return status.st_mode & 07777;
}

static void test_modes(void **state)
{
    (void)state;
    static const struct {
        mode_t umask, asked, got;
    } cases[] = {{022, 0, 0644}, {077, 0, 0600}, {0, 0, 0666}, {077, 0644, 0644}, {0, 0440, 0440}};
    const char *const name = "config.json";
    for (size_t i = 0; i < COUNT(cases); i++) {
        set_scene(&scenes[4]);
        mode_t before = umask(cases[i].umask);
        const as_txn_options options = {.mode = cases[i].asked};
        as_txn *t;
        assert_int_equal(as_txn_begin(&t, dir, &options, NULL, NULL), AS_OK);
        assert_int_equal(mode_of(AS_META_NAME) & 002, 0);
        assert_int_equal(as_txn_put(t, name, "{}", 2, NULL), AS_OK);
        assert_int_equal(as_txn_commit(t, &name, 1, NULL, 0, NULL), AS_OK);
        assert_int_equal(as_txn_finish(t, NULL), AS_OK);
        (void)umask(before);
        assert_int_equal(mode_of(name), cases[i].got);
    }
}

static void test_second_save_is_busy(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    set_scene(s);
    as_txn *t;
    as_txn *other;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, &e), AS_OK);
    assert_int_equal(as_txn_begin(&other, dir, NULL, NULL, &e), AS_BUSY);
    assert_null(other);
    as_error_clear(&e);
    assert_int_equal(recover(NULL, &e), AS_BUSY);
    as_error_clear(&e);
    assert_int_equal(as_recover(dir, true, lease_ms, NULL, NULL, &e), AS_BUSY);
    as_error_clear(&e);
    as_buffer bytes = AS_BUFFER_INIT;
    bool found;
    assert_int_equal(as_txn_read(t, "model.safetensors.index.json", 4096, &bytes, &found, &e),
                     AS_OK);
    assert_true(found);
    assert_int_equal(bytes.size, strlen("old:model.safetensors.index.json"));
    as_buffer_free(&bytes);
    assert_int_equal(as_txn_read(t, "none", 4096, &bytes, &found, &e), AS_OK);
    assert_false(found);
    as_txn_abort(t);
    assert_int_equal(look_at_folder(s), OLD);
    assert_int_equal(recover(NULL, &e), AS_OK);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "%s", scratch_folder());
    fault_install();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_save),
        cmocka_unit_test(test_foreign_files_stay),
        cmocka_unit_test(test_order_of_calls),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_second_save_is_busy),
        cmocka_unit_test(test_killed_save),
        cmocka_unit_test(test_save_after_kill),
        cmocka_unit_test(test_killed_recovery),
        cmocka_unit_test(test_recovery_killed_again_and_again),
        cmocka_unit_test(test_damaged_journal),
        cmocka_unit_test(test_each_call_fails),
        cmocka_unit_test(test_each_call_lies),
        cmocka_unit_test(test_dead_disk),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failing_recovery),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
