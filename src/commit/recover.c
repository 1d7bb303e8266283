/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "commit/apply.h"
#include "commit/folder.h"
#include "commit/journal.h"
#include "commit/meta.h"

enum { MOST_LEFT = 1000 /* folders of old checkpoints that cannot be removed */ };

static int copy_names(const as_names *from, as_names *to, as_error *e)
{
    for (size_t i = 0; i < from->count; i++) {
        int code = as_names_add(to, from->items[i], e);
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

/* A series stages folders: each part of a checkpoint, and in that what a save of its own stages. */
enum { DEEPEST_STAGED = 8 };

/* What files hold, those below a folder, too. Only a figure for people: what cannot be looked at, and
 * what lies deeper than allshard puts it, does not count. */
static int64_t bytes_of(int folder, const char *name, const char *what, int depth)
{
    struct stat status;
    if (as_sys_table.fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return 0;
    }
    int fd;
    if (!S_ISDIR(status.st_mode) || depth >= DEEPEST_STAGED ||
        as_folder_open_at(folder, name, what, &fd, NULL) != AS_OK) {
        return S_ISREG(status.st_mode) ? status.st_size : 0;
    }
    int64_t sum = 0;
    as_names names = AS_NAMES_INIT;
    (void)as_folder_list(fd, what, &names, NULL);
    for (size_t i = 0; i < names.count; i++) {
        sum += bytes_of(fd, names.items[i], what, depth + 1);
    }
    as_names_free(&names);
    (void)as_sys_table.close(fd);
    return sum;
}

/* What lies in one of the folders of .allshard/, and the bytes of all of it. */
static int list_folder(int meta, const char *meta_path, const char *name, as_names *files,
                       int64_t *bytes, as_error *e)
{
    int fd;
    as_error own = AS_ERROR_INIT;
    int code = as_meta_open_inside(meta, meta_path, name, &fd, &own);
    if (code == AS_NOT_FOUND || code == AS_INVALID) {
        /* None, or something that is cleared away like the rest. */
        as_error_clear(&own);
        return AS_OK;
    }
    if (code == AS_OK) {
        as_names here = AS_NAMES_INIT;
        code = as_folder_list(fd, meta_path, &here, &own);
        for (size_t i = 0; code == AS_OK && i < here.count; i++) {
            *bytes += bytes_of(fd, here.items[i], meta_path, 0);
            code = as_names_add(files, here.items[i], &own);
        }
        as_names_free(&here);
        (void)as_sys_table.close(fd);
    }
    return as_error_pass(e, &own);
}

/* Old ones that were being removed. */
static bool is_gone(const char *name)
{
    return strncmp(name, AS_GONE_PREFIX, sizeof AS_GONE_PREFIX - 1) == 0;
}

/* What a save makes in .allshard/ under a fixed name. */
static bool is_known(const char *name)
{
    static const char *const known[] = {AS_LOCK_NAME, AS_NEW_NAME, AS_OLD_NAME, AS_JOURNAL_NAME};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i]) == 0) {
            return true;
        }
    }
    return is_gone(name);
}

/* What lies in .allshard/ besides lock and journal. *any: anything at all. */
static int list_leftovers(int meta, const char *meta_path, const as_names *names,
                          as_recover_report *report, bool *any, as_error *e)
{
    int code = AS_OK;
    *any = false;
    for (size_t i = 0; code == AS_OK && i < names->count; i++) {
        const char *name = names->items[i];
        *any = *any || strcmp(name, AS_LOCK_NAME) != 0;
        if (!is_known(name)) {
            code = as_names_add(&report->others, name, e);
        }
        if (code == AS_OK && (is_gone(name) || strcmp(name, AS_OLD_NAME) == 0)) {
            report->had_old = true;
            code = list_folder(meta, meta_path, name, &report->freed, &report->freed_bytes, e);
        }
    }
    /* The list is sorted. */
    report->had_staging = !report->had_old && as_names_find(names, AS_NEW_NAME);
    return code;
}

/* Drafts go before anybody looks for a journal: whoever lost the lock to us a moment ago cannot
 * rename its own any more, or has done so already, and then it is found. */
static int drop_drafts(int meta, const char *meta_path, const as_names *names, as_error *e)
{
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->items[i];
        if (strncmp(name, AS_DRAFT_PREFIX, sizeof AS_DRAFT_PREFIX - 1) == 0 &&
            as_sys_table.unlinkat(meta, name, 0) < 0 && errno != ENOENT && errno != EISDIR) {
            return as_fail(e, AS_SYSTEM, errno, "%s/%s: cannot remove this draft of a dead save",
                           meta_path, name);
        }
    }
    return AS_OK;
}

static int read_journal(int meta, const char *meta_path, as_journal *j, bool *found, as_error *e)
{
    char *what;
    if (asprintf(&what, "%s/" AS_JOURNAL_NAME, meta_path) < 0) {
        return as_fail_nomem(e);
    }
    int code = as_journal_read(meta, what, j, NULL, found, e);
    free(what);
    return code;
}

/* Fills the report from what is there; nothing is changed but, under the lock, drafts removed. */
static int examine(int meta, const char *meta_path, bool locked, as_journal *j,
                   as_recover_report *report, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    bool found = false;
    int code = as_folder_list(meta, meta_path, &names, e);
    if (code == AS_OK && locked) {
        code = drop_drafts(meta, meta_path, &names, e);
    }
    bool any = false;
    if (code == AS_OK) {
        code = read_journal(meta, meta_path, j, &found, e);
    }
    if (code == AS_OK) {
        code = list_leftovers(meta, meta_path, &names, report, &any, e);
    }
    if (code == AS_OK && found) {
        report->outcome = AS_RECOVER_FINISHED;
        code = copy_names(&j->incoming, &report->incoming, e);
        code = code == AS_OK ? copy_names(&j->outgoing, &report->outgoing, e) : code;
    } else if (code == AS_OK) {
        report->outcome = any || report->had_owner ? AS_RECOVER_CLEARED : AS_RECOVER_NOTHING;
        if (as_names_find(&names, AS_NEW_NAME)) {
            code = list_folder(meta, meta_path, AS_NEW_NAME, &report->cleared,
                               &report->cleared_bytes, e);
        }
    }
    as_names_free(&names);
    return code;
}

void as_recover_report_free(as_recover_report *report)
{
    as_names_free(&report->incoming);
    as_names_free(&report->outgoing);
    as_names_free(&report->cleared);
    as_names_free(&report->freed);
    as_names_free(&report->others);
    *report = AS_RECOVER_REPORT_INIT;
}

/* Hands the report to the caller, or drops it. */
static void deliver(as_recover_report *from, as_recover_report *to, int code)
{
    if (to && code == AS_OK) {
        as_recover_report_free(to);
        *to = *from;
        *from = AS_RECOVER_REPORT_INIT;
    }
    as_recover_report_free(from);
}

static int finish_save(const as_journal *j, as_lock *lock, int folder, const char *dir, as_error *e)
{
    int code = as_lock_guard(lock, e);
    if (code != AS_OK) {
        return code;
    }
    /* The save may have been killed before its journal was durable: a power cut between
     * the moves must not find them without it. */
    code = as_folder_sync(lock->meta, lock->meta_path, e);
    if (code == AS_OK) {
        code = as_apply_check(j, lock->meta, lock->meta_path, folder, dir, e);
    }
    if (code == AS_OK) {
        code = as_apply(j, lock, folder, dir, e);
    }
    if (code == AS_OK) {
        code = as_apply_end(lock, e);
    }
    as_lock_unguard(lock);
    return code;
}

/* A place of its own for what went, where no later commit meets it. */
static bool put_old_aside(const as_lock *lock)
{
    for (int i = 0; i < MOST_LEFT; i++) {
        char name[sizeof AS_GONE_PREFIX + 24];
        (void)snprintf(name, sizeof name, AS_GONE_PREFIX "left-%d", i);
        if (as_sys_table.renameat(lock->meta, AS_OLD_NAME, lock->meta, name) == 0 ||
            errno == ENOENT) {
            return true;
        }
        if (errno != ENOTEMPTY && errno != EEXIST) {
            return false;
        }
    }
    return false;
}

/* Is all that is left what went, set aside? */
static bool only_gone_is_left(const as_lock *lock)
{
    as_names names = AS_NAMES_INIT;
    bool only =
        put_old_aside(lock) && as_folder_list(lock->meta, lock->meta_path, &names, NULL) == AS_OK;
    for (size_t i = 0; i < names.count; i++) {
        only = only && (is_gone(names.items[i]) || strcmp(names.items[i], AS_LOCK_NAME) == 0);
    }
    as_names_free(&names);
    return only;
}

/* An old checkpoint in which there is something that this user may not remove, or a mount, must not
 * hold up every save to come: unless somebody asked for just that it stays, with a warning. */
static int clear(as_lock *lock, bool must, const as_log *log, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    int code = as_meta_clear(lock, &own);
    bool refused = code == AS_LIMIT ||
                   (code == AS_SYSTEM && (own.sys_errno == EACCES || own.sys_errno == EPERM ||
                                          own.sys_errno == EBUSY || own.sys_errno == ENOTEMPTY));
    if (refused && !must && only_gone_is_left(lock)) {
        as_log_say(
            log, AS_LOG_WARNING,
            "%s; a checkpoint that was let go of lies there, and uses space until you remove "
            "it by hand; all else goes on",
            as_error_text(&own));
        as_error_clear(&own);
    }
    return as_error_pass(e, &own);
}

int as_recover_held(as_lock *lock, int folder, const char *dir, as_recover_report *report,
                    const as_log *log, as_error *e)
{
    as_recover_report own = {.had_owner = lock->broke_stale, .owner = lock->before};
    as_journal j = AS_JOURNAL_INIT;
    int code = examine(lock->meta, lock->meta_path, true, &j, &own, e);
    if (code == AS_OK && own.outcome == AS_RECOVER_FINISHED) {
        code = finish_save(&j, lock, folder, dir, e);
        if (code == AS_OK) {
            as_log_say(log, AS_LOG_WARNING,
                       "%s: finished a save that had been cut off: %zu files in, %zu out", dir,
                       own.incoming.count, own.outgoing.count);
        }
    }
    if (code == AS_OK && own.outcome != AS_RECOVER_NOTHING) {
        code = clear(lock, report != NULL, log, e);
    }
    if (code == AS_OK && own.outcome == AS_RECOVER_CLEARED) {
        /* Empty folders, of one who just comes or goes, are no news. */
        bool news = own.had_owner || own.had_old || own.cleared.count > 0;
        as_log_say(log, news ? AS_LOG_WARNING : AS_LOG_DEBUG,
                   own.had_old ? "%s: removed what a complete save had left (old files: %zu)"
                               : "%s: cleared away what an unfinished save had left (staged "
                                 "files: %zu)",
                   dir, own.had_old ? own.freed.count : own.cleared.count);
    }
    as_journal_free(&j);
    deliver(&own, report, code);
    return code;
}

static int look_only(int meta, int folder, const char *dir, int64_t lease_ms,
                     as_recover_report *report, const as_log *log, as_error *e)
{
    as_recover_report own = AS_RECOVER_REPORT_INIT;
    as_journal j = AS_JOURNAL_INIT;
    char *meta_path;
    if (asprintf(&meta_path, "%s/" AS_META_NAME, dir) < 0) {
        return as_fail_nomem(e);
    }
    int code = as_lock_look(folder, dir, lease_ms, log, &own.had_owner, &own.owner, e);
    if (code == AS_OK) {
        code = examine(meta, meta_path, false, &j, &own, e);
    }
    if (code == AS_OK && own.outcome == AS_RECOVER_FINISHED) {
        code = as_apply_check(&j, meta, meta_path, folder, dir, e);
    }
    if (code == AS_OK && own.outcome == AS_RECOVER_NOTHING) {
        /* The empty folder itself. */
        own.outcome = AS_RECOVER_CLEARED;
    }
    as_journal_free(&j);
    free(meta_path);
    deliver(&own, report, code);
    return code;
}

static int recover_locked(int folder, const char *dir, int64_t lease_ms, as_recover_report *report,
                          const as_log *log, as_error *e)
{
    as_lock *lock;
    int code = as_lock_take(&lock, folder, dir, lease_ms, log, e);
    if (code != AS_OK) {
        return code;
    }
    as_recover_report own = AS_RECOVER_REPORT_INIT;
    code = as_recover_held(lock, folder, dir, report ? &own : NULL, log, e);
    int released = as_lock_release(lock, folder, e);
    code = code == AS_OK ? released : code;
    if (code == AS_OK) {
        code = as_folder_sync(folder, dir, e);
    }
    if (own.outcome == AS_RECOVER_NOTHING) {
        own.outcome = AS_RECOVER_CLEARED;
    }
    deliver(&own, report, code);
    return code;
}

int as_recover(const char *dir, bool dry_run, int64_t lease_ms, as_recover_report *report,
               const as_log *log, as_error *e)
{
    int folder;
    int code = as_folder_open(dir, &folder, e);
    if (code != AS_OK) {
        return code;
    }
    char *meta_path = NULL;
    if (asprintf(&meta_path, "%s/" AS_META_NAME, dir) < 0) {
        (void)as_sys_table.close(folder);
        return as_fail_nomem(e);
    }
    int meta;
    as_error own = AS_ERROR_INIT;
    code = as_meta_open(folder, meta_path, &meta, &own);
    free(meta_path);
    if (code == AS_NOT_FOUND) {
        as_error_clear(&own);
        as_recover_report nothing = AS_RECOVER_REPORT_INIT;
        deliver(&nothing, report, AS_OK);
    } else if (code == AS_OK) {
        if (dry_run) {
            (void)look_only(meta, folder, dir, lease_ms, report, log, &own);
        } else {
            (void)recover_locked(folder, dir, lease_ms, report, log, &own);
        }
        (void)as_sys_table.close(meta);
    }
    (void)as_sys_table.close(folder);
    return as_error_pass(e, &own);
}
