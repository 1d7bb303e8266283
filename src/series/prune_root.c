/* SPDX-License-Identifier: Apache-2.0 */
#include "series/prune_root.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "commit/folder.h"
#include "series/away.h"
#include "series/history.h"
#include "series/latest.h"

static int copy_names(const as_names *from, as_names *to, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; from && i < from->count && code == AS_OK; i++) {
        code = as_names_add(to, from->items[i], e);
    }
    return code;
}

/* The caller's, and what ROOT/latest leads to: whoever follows it must find something. */
static int list_used(const as_prune_call *call, as_names *out, as_error *e)
{
    int folder;
    int code = as_folder_open(call->root, &folder, e);
    if (code != AS_OK) {
        return code;
    }
    char *name = NULL;
    code = as_latest_get(folder, call->root, &name, e);
    (void)as_sys_table.close(folder);
    if (code == AS_OK && name) {
        code = as_names_add(out, name, e);
    }
    free(name);
    return code == AS_OK ? copy_names(call->in_use, out, e) : code;
}

/* What may not be moved stays, and is told with the others. */
static int spare(const as_prune_call *call, const as_members *members, as_prune *plan, as_error *e)
{
    int folder;
    int code = as_folder_open(call->root, &folder, e);
    if (code == AS_OK) {
        code = as_prune_spare(plan, members, folder, e);
        (void)as_sys_table.close(folder);
    }
    return code;
}

/* A name that is spelt wrong would let the best go. */
static int check_metric(const as_prune_call *call, const as_members *members, const as_prune *plan,
                        as_error *e)
{
    const char *metric = call->rules.metric;
    bool found = call->rules.best == 0 || !metric || plan->going.count == 0;
    for (size_t i = 0; i < members->count && !found; i++) {
        const as_member *m = &members->items[i];
        found = m->has_record && m->record.metric && strcmp(m->record.metric, metric) == 0;
    }
    return found
               ? AS_OK
               : as_fail(e, AS_NOT_FOUND, 0,
                         "%s: no checkpoint here was saved with the metric \"%s\", so that nothing "
                         "was removed; `allshard ls` shows their metrics",
                         call->root, metric);
}

int as_prune_look(const as_prune_call *call, as_members *members, as_prune *plan, const as_log *log,
                  as_error *e)
{
    as_folder_pattern *pattern = NULL;
    as_names used = AS_NAMES_INIT;
    int code = call->pattern ? as_folder_pattern_make(&pattern, call->pattern, e) : AS_OK;
    if (code == AS_OK) {
        code = list_used(call, &used, e);
    }
    if (code == AS_OK) {
        code = as_members_read(members, call->root, pattern, log, e);
    }
    if (code == AS_OK) {
        code = as_prune_plan(plan, members, &call->rules, &used, call->now_ms, e);
    }
    if (code == AS_OK) {
        code = spare(call, members, plan, e);
    }
    if (code == AS_OK) {
        code = check_metric(call, members, plan, e);
    }
    as_names_free(&used);
    as_folder_pattern_free(pattern);
    return code;
}

/* Those that are no more in the root: not what came back. */
static int list_gone(as_txn *t, const as_names *going, as_names *gone, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < going->count && code == AS_OK; i++) {
        struct stat status;
        if (as_sys_table.fstatat(as_txn_folder(t), going->items[i], &status, AT_SYMLINK_NOFOLLOW) <
            0) {
            code = as_names_add(gone, going->items[i], e);
        }
    }
    return code;
}

/* Only a note: that it cannot be written is told, no more. */
static void tell_history(const as_prune_call *call, const as_members *members, const as_names *gone,
                         const as_log *log)
{
    as_error e = AS_ERROR_INIT;
    int folder;
    int code = as_folder_open(call->root, &folder, &e);
    if (code == AS_OK) {
        for (size_t i = 0; i < gone->count && code == AS_OK; i++) {
            const as_member *m = as_members_named(members, gone->items[i]);
            char text[40];
            (void)snprintf(text, sizeof text, "%" PRId64 " bytes", m ? m->bytes : 0);
            as_event event = {
                .kind = AS_EVENT_PRUNED,
                .name = gone->items[i],
                .step = m ? m->step : -1,
                .text = text,
            };
            code = as_history_append(folder, call->root, &event, &e);
        }
        (void)as_sys_table.close(folder);
    }
    if (code != AS_OK) {
        as_log_say(log, AS_LOG_WARNING, "%s; the prune itself goes on", as_error_text(&e));
        as_error_clear(&e);
    }
}

/* A root that is not there must not come to be by that. */
static int take_root(as_txn **t, const char *root, const as_log *log, as_error *e)
{
    int folder;
    int code = as_folder_open(root, &folder, e);
    if (code != AS_OK) {
        return code;
    }
    (void)as_sys_table.close(folder);
    as_error own = AS_ERROR_INIT;
    code = as_txn_begin(t, root, NULL, log, &own);
    if (code == AS_BUSY) {
        code = as_fail(e, AS_BUSY, 0,
                       "%s: a save or another prune is at work here, so that nothing was removed; "
                       "run it again when that has ended (%s)",
                       root, as_error_text(&own));
        as_error_clear(&own);
        return code;
    }
    return as_error_pass(e, &own);
}

int as_prune_begin(as_txn **out, const as_prune_call *call, as_members *members, as_prune *plan,
                   as_names *gone, const as_log *log, as_error *e)
{
    *out = NULL;
    as_txn *t;
    int code = take_root(&t, call->root, log, e);
    if (code != AS_OK) {
        return code;
    }
    code = as_prune_look(call, members, plan, log, e);
    if (code == AS_OK && plan->going.count > 0) {
        code = as_away_move(t, &plan->going, NULL, e);
        if (code == AS_OK) {
            code = list_gone(t, &plan->going, gone, e);
        }
        if (code == AS_OK) {
            tell_history(call, members, gone, log);
            *out = t;
            return AS_OK;
        }
    }
    as_txn_abort(t);
    return code;
}
