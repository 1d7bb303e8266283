/* SPDX-License-Identifier: Apache-2.0
 * A series from its opening to its end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "commit/recover.h"
#include "series/parts.h"
#include "transfer/arguments.h"

static int copy_text(char **out, const char *text, as_error *e)
{
    *out = text ? strdup(text) : NULL;
    return text && !*out ? as_fail_nomem(e) : AS_OK;
}

/* The program may go to another folder. */
static int copy_root(char **out, const char *root, as_error *e)
{
    if (*root == '/') {
        return copy_text(out, root, e);
    }
    char *here = getcwd(NULL, 0);
    if (!here) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot tell the folder that this path begins in",
                       root);
    }
    if (asprintf(out, "%s%s%s", here, strcmp(here, "/") == 0 ? "" : "/", root) < 0) {
        *out = NULL;
        (void)as_fail_nomem(e);
    }
    free(here);
    return *out ? AS_OK : AS_NOMEM;
}

static int64_t bits_of(double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Does everybody open the same series? Collective. */
static int compare(as_comm *c, const char *root, const as_series_options *o, as_error *e)
{
    as_argument arguments[] = {
        as_argument_text("root", root),
        as_argument_text("pattern", o->pattern),
        as_argument_number("keep_last", o->keep.last),
        as_argument_number("keep_every", o->keep.every),
        as_argument_number("keep_best", o->keep.best),
        as_argument_text("metric", o->keep.metric),
        as_argument_number("metric_max", o->keep.metric_max),
        as_argument_number("keep_seconds", bits_of(o->keep.seconds)),
    };
    return as_arguments_agree(c, arguments, sizeof arguments / sizeof *arguments, e);
}

/* A root that was there already needs no right to write to what is above it. */
static int make_root(const as_series *r, as_error *e)
{
    as_made made = {.paths = AS_NAMES_INIT};
    int code = as_folder_make(r->root, &made, e);
    if (code == AS_OK) {
        code = as_made_sync(&made, &r->session->log, e);
    }
    as_made_free(&made);
    return code;
}

/* That somebody saves there just now is for the saves of this one to find out. */
static int tidy_root(const as_series *r, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    if (as_recover(r->root, false, 0, NULL, &r->session->log, &own) == AS_BUSY) {
        as_log_say(&r->session->log, AS_LOG_INFO, "%s", as_error_text(&own));
        as_error_clear(&own);
    }
    return as_error_pass(e, &own);
}

/* Where what goes is removed: another place for each series that is open. */
static void name_gone(as_series *r)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(r->gone, sizeof r->gone, AS_GONE_PREFIX "%" PRIx64 "-%lx",
                   (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec, (long)getpid());
}

/* What each rank has for itself. */
static int fill(as_series *r, const char *root, const as_series_options *o, as_error *e)
{
    int code = copy_root(&r->root, root, e);
    if (code == AS_OK) {
        code = copy_text(&r->metric, o->keep.metric, e);
    }
    r->keep = o->keep;
    r->keep.metric = r->metric;
    if (code == AS_OK) {
        code = as_folder_pattern_make(&r->pattern, o->pattern, e);
    }
    if (code == AS_OK) {
        code = as_background_open(&r->background, e);
    }
    if (code == AS_OK) {
        r->log = as_background_log(r->background);
    }
    return code;
}

static void free_series(as_series *r)
{
    if (!r) {
        return;
    }
    as_background_close(r->background);
    if (r->lost && r->comm) {
        as_comm_give_up(r->comm);
    } else {
        as_comm_free(r->comm);
    }
    as_saving_free(&r->saving);
    as_folder_pattern_free(r->pattern);
    as_names_free(&r->in_use);
    as_members_free(&r->seen);
    as_plan_cache_clear(&r->ranks_plans);
    if (r->has_ranks_state) {
        as_state_free(&r->ranks_state);
    }
    as_fields_free(&r->loaded_fields);
    free(r->loaded_rank_state);
    free(r->loaded_name);
    free(r->failed_name);
    free(r->failed_text);
    free(r->parent);
    free(r->metric);
    free(r->root);
    free(r);
}

int as_series_open(as_series **out, as_session *session, const char *root,
                   const as_series_options *options, as_error *e)
{
    *out = NULL;
    as_comm *c = session->comm;
    as_series *r = calloc(1, sizeof *r);
    if (!root || !*root) {
        (void)as_fail(e, AS_INVALID, 0, "no root is given for the series");
    } else if (!r) {
        (void)as_fail_nomem(e);
    } else if (e->code == AS_OK) {
        *r = (as_series){.session = session,
                         .rank = as_comm_rank(c),
                         .ranks = as_comm_size(c),
                         .is_main = as_comm_rank(c) == 0};
        r->saving.error = AS_ERROR_INIT;
        (void)fill(r, root, options, e);
    }
    int code = compare(c, root, options, e);
    if (code != AS_OK || !r) { /* without memory for it the ranks have agreed on that */
        free_series(r);
        return code;
    }
    if (r->is_main) {
        name_gone(r);
        if (make_root(r, e) == AS_OK) {
            (void)tidy_root(r, e);
        }
    }
    code = as_comm_agree(c, e);
    if (code == AS_OK) {
        code = as_comm_bcast(c, 0, r->gone, sizeof r->gone, e);
    }
    if (code == AS_OK) {
        code = as_comm_twin(&r->comm, c, e);
    }
    if (code != AS_OK) {
        free_series(r);
        return code;
    }
    *out = r;
    return AS_OK;
}

const char *as_series_root(const as_series *r)
{
    return r->root;
}

void as_series_close(as_series *r)
{
    if (r) {
        as_background_wait(r->background);
        as_background_tell(r->background, &r->session->log);
        r->lost = r->lost || as_comm_verdict(r->session->comm) != NULL;
    }
    free_series(r);
}

void as_series_note_event(as_series *r, const as_log *log, const as_event *event)
{
    int folder;
    as_error own = AS_ERROR_INIT;
    if (as_folder_open(r->root, &folder, &own) == AS_OK) {
        (void)as_history_append(folder, r->root, event, &own);
        (void)as_sys_table.close(folder);
    }
    if (own.code != AS_OK) {
        /* Who may only read loads all the same, each time. */
        bool refused =
            event->kind == AS_EVENT_LOADED && (own.sys_errno == EROFS || own.sys_errno == EACCES);
        as_log_say(log, refused ? AS_LOG_DEBUG : AS_LOG_WARNING,
                   "the series goes on without a line in its history: %s", as_error_text(&own));
    }
    as_error_clear(&own);
}
