/* SPDX-License-Identifier: Apache-2.0
 * Saves of made-up checkpoints over others, to be disturbed by the tests of the commit room:
 * one process plays the main process and all ranks.
 */
#ifndef ALLSHARD_TESTS_SAVE_SCENE_H
#define ALLSHARD_TESTS_SAVE_SCENE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/clean.h"
#include "commit/folder.h"
#include "commit/recover.h"
#include "commit/transaction.h"
#include "commit/view.h"
#include "support_faults.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Long, so that no sign of life falls due in a save: its calls are the same ones each time. */
enum { LONG_LEASE_MS = 60000, SHORT_LEASE_MS = 40 };

static char root[256]; /* scratch */
static char dir[300];  /* DIR of the case at hand */
static int lease_ms = LONG_LEASE_MS;

/* ---- what is saved over what ---- */

typedef struct scene {
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
    {"a", true, {"old", two_old}, {"new", two_new}, two_shards, two_small},
    {"b", true, {"old", same_names}, {"new", same_names}, same_shards, same_small},
    {"c", true, {"old", same_names}, {"new", one_new}, one_shards, one_small},
    {"d/e/f", false, {"old", nothing}, {"new", two_new}, two_shards, two_small},
    {"g", true, {"old", nothing}, {"new", one_new}, one_shards, one_small},
};

static inline void set_scene(const scene *s)
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
static inline int write_shard(const char *name, const char *tag, as_error *e)
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

static inline int write_all_files(as_txn *t, const scene *s, as_names *incoming, as_error *e)
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
static inline int save(const scene *s, int *finish, as_error *e)
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
static inline int stride(int usual)
{
    const char *text = getenv("ALLSHARD_LONG");
    return text && *text && strcmp(text, "0") != 0 ? 1 : usual;
}

static inline int recover(as_recover_report *report, as_error *e)
{
    return as_recover(dir, false, lease_ms, report, NULL, e);
}

/* ---- what is there now ---- */

enum found { NEITHER, OLD, NEW };

static inline enum found look_at_folder(const scene *s)
{
    if (holds_set(dir, &s->old_set)) {
        return OLD;
    }
    return holds_set(dir, &s->new_set) ? NEW : NEITHER;
}

/* Through a view: the list and every content. */
static inline bool view_holds(as_view *v, const file_set *set)
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

static inline enum found look_through_view(const scene *s)
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

static inline bool has_leftovers(void)
{
    return exists(dir, AS_META_NAME);
}

/* Runs the action in a child that is killed at call `at`. True: it was killed. */
static inline bool killed_at(int at, void (*action)(const scene *s), const scene *s)
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

static inline void act_save(const scene *s)
{
    int finish;
    as_error e = AS_ERROR_INIT;
    if (save(s, &finish, &e) != AS_OK || finish != AS_OK) {
        (void)fprintf(stderr, "%s\n", as_error_text(&e));
        _exit(1);
    }
}

static inline void act_recover(const scene *s)
{
    (void)s;
    as_error e = AS_ERROR_INIT;
    if (recover(NULL, &e) != AS_OK) {
        (void)fprintf(stderr, "%s\n", as_error_text(&e));
        _exit(1);
    }
}

/* After a crash: what the view and a dry run say is what recovery gives. */
static inline enum found check_recovery(const scene *s)
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

static inline int set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "%s", scratch_folder());
    fault_install();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

#endif
