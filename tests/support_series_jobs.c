/* SPDX-License-Identifier: Apache-2.0 */
#include "support_series_jobs.h"

#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/recover.h"
#include "commit/transaction.h"
#include "series/assemble.h"
#include "series/away.h"
#include "series/history.h"
#include "series/latest.h"
#include "series/prune_root.h"
#include "series/sweep.h"

#define GONE AS_GONE_PREFIX "test"

/* Long, so that no sign of life falls due: the calls are the same ones each time. */
enum { LONG_LEASE_MS = 60000 };

static int64_t lease_ms(const job *j)
{
    return j->lease_ms ? j->lease_ms : LONG_LEASE_MS;
}

/* ---- a save ---- */

static int assemble(const job *j, as_txn *t, as_error *e)
{
    json_t *checkpoint = NULL;
    as_names tags = AS_NAMES_INIT;
    int code = series_record(&j->one, &checkpoint, e);
    if (code == AS_OK && j->one.tagged) {
        code = as_names_add(&tags, SERIES_TAG, e);
    }
    if (code == AS_OK) {
        const as_assembly a = {
            .parts = 2, .name = j->one.name, .checkpoint = checkpoint, .tags = &tags};
        code = as_assemble(&a, t, e);
    }
    json_decref(checkpoint);
    as_names_free(&tags);
    return code;
}

static int let_go(const job *j, as_txn *t, as_error *e)
{
    as_members members = AS_MEMBERS_INIT;
    as_folder_pattern *pattern = NULL;
    as_prune plan = AS_PRUNE_INIT;
    as_names used = AS_NAMES_INIT;
    int code = as_folder_pattern_make(&pattern, SERIES_PATTERN, e);
    if (code == AS_OK) {
        code = as_members_read(&members, j->root, pattern, NULL, e);
    }
    if (code == AS_OK) {
        code = as_names_add(&used, j->one.name, e);
    }
    if (code == AS_OK) {
        code = as_names_add(&used, j->loaded, e);
    }
    if (code == AS_OK) {
        code = as_prune_plan(&plan, &members, &j->rules, &used, j->now_ms, e);
    }
    if (code == AS_OK) {
        code = as_prune_spare(&plan, &members, as_txn_folder(t), e);
    }
    if (code == AS_OK) {
        code = as_away_move(t, &plan.going, NULL, e);
    }
    as_names_free(&used);
    as_prune_free(&plan);
    as_members_free(&members);
    as_folder_pattern_free(pattern);
    return code;
}

/* What follows when it counts: each step may fail by itself. */
static void tidy(const job *j, as_txn *t)
{
    as_error e = AS_ERROR_INIT;
    bool any = false;
    const as_event event = {
        .kind = AS_EVENT_SAVED, .name = j->one.name, .step = j->one.step, .time_ms = j->now_ms};
    int code = as_txn_settle(t, &e);
    if (code == AS_OK) {
        (void)as_history_append(as_txn_folder(t), j->root, &event, NULL);
        (void)as_latest_set(as_txn_folder(t), j->root, j->one.name, NULL);
        (void)as_txn_set_aside(t, GONE, &any, NULL);
        code = let_go(j, t, &e);
    }
    if (code == AS_OK) {
        (void)as_txn_set_aside(t, GONE, &any, NULL);
        (void)as_sweep(j->root, GONE, 0, 2, NULL); /* as the first of two ranks does */
        (void)as_txn_finish(t, &e);
    } else {
        as_txn_abort(t);
    }
    as_error_clear(&e);
}

static int save(const job *j, as_error *e)
{
    const as_txn_options options = {.lease_ms = lease_ms(j)};
    const char *name = j->one.name;
    as_txn *t;
    int code = as_txn_begin(&t, j->root, &options, NULL, e);
    if (code != AS_OK) {
        return code;
    }
    code = series_lay_parts(as_txn_staged(t), j->root, &j->one, e);
    if (code == AS_OK) {
        code = assemble(j, t, e);
    }
    if (code == AS_OK) {
        code = as_txn_commit_folders(t, &name, 1, NULL, 0, e);
    }
    if (code != AS_OK) {
        as_txn_abort(t);
        return code;
    }
    tidy(j, t);
    return AS_OK;
}

/* ---- the others ---- */

static int prune_by(const job *j, const as_keep_rules *rules, as_error *e)
{
    const as_prune_call call = {
        .root = j->root, .pattern = SERIES_PATTERN, .rules = *rules, .now_ms = j->now_ms};
    as_members members = AS_MEMBERS_INIT;
    as_prune plan = AS_PRUNE_INIT;
    as_names gone = AS_NAMES_INIT;
    as_txn *t;
    int code = as_prune_begin(&t, &call, &members, &plan, &gone, NULL, e);
    if (t) {
        code = as_txn_finish(t, e);
    }
    as_members_free(&members);
    as_prune_free(&plan);
    as_names_free(&gone);
    return code;
}

/* A prune by a metric that no checkpoint has is refused, as a slip of a person's. Here it is meant: by
 * such a rule none is kept, and the newest good one always is. */
static int prune(const job *j, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    if (prune_by(j, &j->rules, &own) != AS_NOT_FOUND || j->rules.best == 0) {
        return as_error_pass(e, &own);
    }
    as_error_clear(&own);
    as_keep_rules without = j->rules;
    without.best = 0;
    without.last = as_keep_rules_any(&without) ? without.last : 1;
    return prune_by(j, &without, e);
}

static struct {
    const char *root;
    char name[BOOK_NAME]; /* empty: it was tagged already, or none is to be */
} to_tag;

static int (*plain_renameat)(int, const char *, int, const char *);

static int tagging_renameat(int from, const char *name, int to, const char *new_name)
{
    if (to_tag.name[0] && strcmp(name, to_tag.name) == 0) {
        to_tag.name[0] = '\0';
        series_tag(to_tag.root, name, true);
    }
    return plain_renameat(from, name, to, new_name);
}

void job_install(void)
{
    plain_renameat = as_sys_table.renameat;
    as_sys_table.renameat = tagging_renameat;
}

int job_do(const job *j, as_error *e)
{
    to_tag.root = j->root;
    memcpy(to_tag.name, j->tag, sizeof to_tag.name);
    switch (j->kind) {
    case JOB_SAVE:
        return save(j, e);
    case JOB_PRUNE:
        return prune(j, e);
    default:
        return as_recover(j->root, false, lease_ms(j), NULL, NULL, e);
    }
}

int job_do_in_child(const job *j, enum fault_mode mode, int at, int error)
{
    (void)fflush(NULL);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        as_error e = AS_ERROR_INIT;
        fault_set(mode, at, error);
        _exit(-job_do(j, &e));
    }
    int status;
    must(waitpid(child, &status, 0) == child, "waitpid");
    if (WIFSIGNALED(status)) {
        must(WTERMSIG(status) == SIGKILL, "a child died of another signal");
        return JOB_KILLED;
    }
    return -WEXITSTATUS(status);
}
