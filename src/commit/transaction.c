/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/transaction.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "commit/apply.h"
#include "commit/decide.h"
#include "commit/folder.h"
#include "commit/journal.h"
#include "commit/lock.h"
#include "commit/meta.h"
#include "commit/recover.h"
#include "commit/transaction_parts.h"

enum {
    MOST_TRIES = 20 /* of making a folder that another save, giving up, takes away again */
};

static void close_if_open(int fd)
{
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
}

static void free_txn(as_txn *t)
{
    close_if_open(t->staged);
    close_if_open(t->folder);
    as_made_free(&t->made);
    free(t->dir);
    free(t);
}

static void warn(as_txn *t, as_error *e, const char *then)
{
    as_log_say(&t->log, AS_LOG_WARNING, "%s; %s", as_error_text(e), then);
    as_error_clear(e);
}

static const char next_save[] = "the next save or `allshard recover` clears it away";

/* Gives up the lock and frees. Trouble with it is told, not returned: the save's own
 * outcome is settled by now. */
static void end(as_txn *t)
{
    as_error own = AS_ERROR_INIT;
    if (as_lock_release(t->lock, t->folder, &own) != AS_OK) {
        warn(t, &own, next_save);
    } else if (!t->inner && (t->state == AS_TXN_COMMITTED || t->state == AS_TXN_SETTLED)) {
        /* Only so that no power cut shows .allshard/ again. */
        (void)as_folder_sync(t->folder, t->dir, NULL);
    }
    if (t->state == AS_TXN_OPEN) {
        as_made_undo(&t->made);
    }
    free_txn(t);
}

/* Makes and opens DIR and takes its lock. */
static int enter(as_txn *t, int64_t lease_ms, const as_tick *tick, as_error *e)
{
    int code = AS_OK;
    for (int i = 0; i < MOST_TRIES; i++) {
        as_error own = AS_ERROR_INIT;
        code = as_folder_make(t->dir, &t->made, &own);
        if (code == AS_OK) {
            code = as_folder_open(t->dir, &t->folder, &own);
        }
        if (code == AS_OK) {
            code = as_lock_take_ticking(&t->lock, t->folder, t->dir, lease_ms, tick, &t->log, &own);
        }
        if (code == AS_OK) {
            return AS_OK;
        }
        bool vanished = code == AS_NOT_FOUND || (code == AS_SYSTEM && own.sys_errno == ENOENT);
        close_if_open(t->folder);
        t->folder = -1;
        if (!vanished || i + 1 == MOST_TRIES) {
            return as_error_pass(e, &own);
        }
        as_error_clear(&own);
    }
    return code;
}

static int make_staging(as_txn *t, as_error *e)
{
    int code = as_meta_make_inside(t->lock->meta, t->lock->meta_path, AS_NEW_NAME, NULL, e);
    if (code == AS_OK) {
        code = as_meta_open_inside(t->lock->meta, t->lock->meta_path, AS_NEW_NAME, &t->staged, e);
    }
    if (code == AS_OK) {
        as_meta_let_in(t->lock->meta, t->mode);
        as_meta_let_in(t->staged, t->mode);
    }
    return code;
}

int as_txn_begin(as_txn **out, const char *dir, const as_txn_options *options, const as_log *log,
                 as_error *e)
{
    static const as_txn_options defaults = {0};
    const as_txn_options *o = options ? options : &defaults;
    *out = NULL;
    as_txn *t = calloc(1, sizeof *t);
    if (!t) {
        return as_fail_nomem(e);
    }
    t->folder = -1;
    t->staged = -1;
    t->mode = o->mode;
    t->inner = o->inner;
    t->log = log ? *log : (as_log){0};
    t->state = AS_TXN_OPEN;
    t->dir = strdup(dir);
    int code = t->dir ? enter(t, o->lease_ms, &o->tick, e) : as_fail_nomem(e);
    if (code == AS_OK) {
        code = as_recover_held(t->lock, t->folder, t->dir, NULL, &t->log, e);
        if (code != AS_OK) {
            /* What the dead save left must stay as it is. */
            end(t);
            return code;
        }
        code = make_staging(t, e);
    }
    if (code != AS_OK) {
        as_txn_abort(t);
        return code;
    }
    *out = t;
    return AS_OK;
}

int as_txn_put(as_txn *t, const char *name, const void *bytes, size_t count, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int code = as_staged_path(t->dir, name, &path, e);
    if (code == AS_OK) {
        code = as_lock_tick(t->lock, e);
    }
    if (code == AS_OK) {
        code = as_file_put(t->staged, name, t->mode, path.data, bytes, count, e);
    }
    as_buffer_free(&path);
    return code;
}

int as_txn_create(as_txn *t, const char *name, int *fd, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int code = as_staged_path(t->dir, name, &path, e);
    if (code == AS_OK) {
        code = as_staged_create_file(t->staged, name, t->mode, path.data, fd, e);
    }
    as_buffer_free(&path);
    return code;
}

int as_txn_open(as_txn *t, const char *name, int *fd, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int code = as_staged_path(t->dir, name, &path, e);
    if (code == AS_OK) {
        code = as_staged_open_file(t->staged, name, O_RDONLY, path.data, fd, e);
    }
    as_buffer_free(&path);
    return code;
}

int as_txn_staged_size(as_txn *t, const char *name, int64_t *size, as_error *e)
{
    struct stat status;
    int code = as_name_check(name, e);
    if (code != AS_OK) {
        return code;
    }
    if (as_sys_table.fstatat(t->staged, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return as_fail(e, AS_SYSTEM, errno,
                       "%s/" AS_NEW_NAME ": cannot stat the staged file \"%s\"", t->lock->meta_path,
                       name);
    }
    if (!S_ISREG(status.st_mode)) {
        return as_fail(e, AS_INVALID, 0, "%s/" AS_NEW_NAME ": \"%s\" is not a regular file",
                       t->lock->meta_path, name);
    }
    *size = status.st_size;
    return AS_OK;
}

int as_txn_list(as_txn *t, as_names *out, as_error *e)
{
    as_names all = AS_NAMES_INIT;
    int code = as_folder_list(t->folder, t->dir, &all, e);
    for (size_t i = 0; code == AS_OK && i < all.count; i++) {
        if (strcmp(all.items[i], AS_META_NAME) != 0) {
            code = as_names_add(out, all.items[i], e);
        }
    }
    as_names_free(&all);
    return code;
}

int as_txn_read(as_txn *t, const char *name, uint64_t limit, as_buffer *out, bool *found,
                as_error *e)
{
    char *what;
    if (asprintf(&what, "%s/%s", t->dir, name) < 0) {
        return as_fail_nomem(e);
    }
    int code = as_file_read(t->folder, name, limit, what, out, NULL, found, e);
    free(what);
    return code;
}

int as_txn_refresh(as_txn *t, as_error *e)
{
    return as_lock_refresh(t->lock, false, e);
}

/* A growing list of borrowed names. */
static int add_pointer(as_buffer *list, const char *name, as_error *e)
{
    return as_buffer_append(list, &name, sizeof name, e);
}

/* Adds `name` to the outgoing ones if it is in DIR; the other of file and folder is an error. */
static int add_if_there(as_txn *t, const char *name, bool folders, as_buffer *list, as_error *e)
{
    bool there = false;
    int code = as_txn_check_name(t, name, folders, &there, e);
    return code == AS_OK && there ? add_pointer(list, name, e) : code;
}

static int check_staged(as_txn *t, const char *name, bool folder, int64_t *size, as_error *e)
{
    if (!folder) {
        return as_txn_staged_size(t, name, size, e);
    }
    bool there = false;
    bool is_folder = false;
    *size = 0;
    int code = as_name_check(name, e);
    if (code == AS_OK) {
        code = as_name_is_folder(t->staged, t->lock->meta_path, name, &there, &is_folder, e);
    }
    if (code == AS_OK && !is_folder) {
        code = as_fail(e, AS_SYSTEM, there ? ENOTDIR : ENOENT,
                       "%s/" AS_NEW_NAME ": \"%s\" is not the folder that the save made",
                       t->lock->meta_path, name);
    }
    return code;
}

/* Checks every name and builds the journal; changes nothing. */
static int draft_journal(as_txn *t, bool folders, const char *const *incoming,
                         size_t incoming_count, const char *const *outgoing, size_t outgoing_count,
                         as_journal *j, as_error *e)
{
    int64_t *sizes = calloc(incoming_count ? incoming_count : 1, sizeof *sizes);
    if (!sizes) {
        return as_fail_nomem(e);
    }
    as_buffer list = AS_BUFFER_INIT;
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < incoming_count; i++) {
        code = check_staged(t, incoming[i], folders, &sizes[i], e);
    }
    for (size_t i = 0; code == AS_OK && i < outgoing_count; i++) {
        code = add_if_there(t, outgoing[i], folders, &list, e);
    }
    /* Files that are replaced make room first: renaming over them would free their blocks on
     * the spot, which can take seconds per GiB. */
    for (size_t i = 0; code == AS_OK && i < incoming_count; i++) {
        code = add_if_there(t, incoming[i], folders, &list, e);
    }
    if (code == AS_OK) {
        code =
            as_journal_make(j, incoming, sizes, incoming_count,
                            (const char *const *)(void *)list.data, list.size / sizeof(char *), e);
        j->folders = folders;
    }
    as_buffer_free(&list);
    free(sizes);
    return code;
}

/* Names of the staged files, of .allshard/, of what is in it, and of DIR and what was made above. */
static int sync_names(as_txn *t, as_error *e)
{
    as_buffer staged = AS_BUFFER_INIT;
    int code = as_staged_folder(t->dir, &staged, e);
    if (code == AS_OK) {
        code = as_folder_sync(t->staged, staged.data, e);
    }
    as_buffer_free(&staged);
    if (code == AS_OK) {
        code = as_lock_tick(t->lock, e);
    }
    if (code == AS_OK) {
        code = as_folder_sync(t->lock->meta, t->lock->meta_path, e);
    }
    if (code == AS_OK) {
        code = as_lock_tick(t->lock, e);
    }
    if (code == AS_OK) {
        code = as_folder_sync(t->folder, t->dir, e);
    }
    if (code == AS_OK) {
        code = as_lock_tick(t->lock, e);
    }
    if (code != AS_OK) {
        return code;
    }
    return t->made.paths.count ? as_made_sync(&t->made, &t->log, e)
                               : as_folder_sync_parent(t->folder, t->dir, &t->log, e);
}

/* Where flock does not work, the lock may have been broken since the last look: then the breaker
 * carries the journal out, and two at once would stumble over each other. */
static int apply_journal(as_txn *t, const as_journal *j, as_error *e)
{
    int code = t->lock->guarded ? AS_OK : as_lock_refresh(t->lock, true, e);
    return code == AS_OK ? as_apply(j, t->lock, t->folder, t->dir, e) : code;
}

/* Nobody needs to know how far it got. */
static int commit_inner(as_txn *t, const as_journal *j, as_error *e)
{
    t->lock->deaf = true;
    int code = as_apply(j, t->lock, t->folder, t->dir, e);
    t->state = code == AS_OK ? AS_TXN_COMMITTED : t->state;
    return code;
}

/* Steps 3 to 5 of a commit. `e` holds no error yet. */
static int commit(as_txn *t, const as_journal *j, as_error *e)
{
    bool unknown = false;
    int code = sync_names(t, e);
    if (code == AS_OK) {
        mode_t mode =
            t->mode ? t->mode | S_IRUSR | S_IWUSR : 0; /* recovery must be able to read it */
        code = as_decide(j, t->lock, t->dir, mode, &unknown, e);
    }
    if (code != AS_OK) {
        t->state = unknown ? AS_TXN_LEFT : t->state;
        return code;
    }
    as_error own = AS_ERROR_INIT;
    code = apply_journal(t, j, &own);
    as_lock_unguard(t->lock);
    if (code == AS_OK) {
        t->state = AS_TXN_COMMITTED;
        return AS_OK;
    }
    t->state = AS_TXN_LEFT;
    code =
        as_fail(e, AS_PENDING, 0,
                "%s: the new checkpoint is durable and counts, but it could not be moved into its "
                "place (%s); remove the cause and run `allshard recover %s`",
                t->dir, as_error_text(&own), t->dir);
    e->sys_errno = own.sys_errno;
    as_error_clear(&own);
    return code;
}

/* A file that is gone because the folder is another's by now: tell that. */
static int explain_loss(as_txn *t, int code, as_error *e)
{
    as_error lost = AS_ERROR_INIT;
    if (code != AS_OK && code != AS_BUSY && code != AS_PENDING && code != AS_UNKNOWN &&
        as_lock_refresh(t->lock, true, &lost) == AS_BUSY) {
        as_error_move(e, &lost);
        return AS_BUSY;
    }
    as_error_clear(&lost);
    return code;
}

static int commit_all(as_txn *t, bool folders, const char *const *incoming, size_t incoming_count,
                      const char *const *outgoing, size_t outgoing_count, as_error *e)
{
    if (t->state != AS_TXN_OPEN && t->state != AS_TXN_SETTLED) {
        return as_fail(e, AS_INTERNAL, 0, "%s: a save was committed twice", t->dir);
    }
    as_error own = AS_ERROR_INIT;
    as_journal j = AS_JOURNAL_INIT;
    int code = as_lock_refresh(t->lock, true, &own);
    if (code == AS_OK) {
        code =
            draft_journal(t, folders, incoming, incoming_count, outgoing, outgoing_count, &j, &own);
    }
    if (code == AS_OK) {
        code = t->inner ? commit_inner(t, &j, &own) : commit(t, &j, &own);
    }
    as_journal_free(&j);
    code = explain_loss(t, code, &own);
    (void)as_error_pass(e, &own);
    return code;
}

int as_txn_commit(as_txn *t, const char *const *incoming, size_t incoming_count,
                  const char *const *outgoing, size_t outgoing_count, as_error *e)
{
    return commit_all(t, false, incoming, incoming_count, outgoing, outgoing_count, e);
}

int as_txn_commit_folders(as_txn *t, const char *const *incoming, size_t incoming_count,
                          const char *const *outgoing, size_t outgoing_count, as_error *e)
{
    return commit_all(t, true, incoming, incoming_count, outgoing, outgoing_count, e);
}

int as_txn_settle(as_txn *t, as_error *e)
{
    if (t->state != AS_TXN_COMMITTED) {
        return as_fail(e, AS_INTERNAL, 0, "%s: a save was finished before its commit", t->dir);
    }
    if (t->inner) {
        t->state = AS_TXN_SETTLED;
        return AS_OK;
    }
    as_error own = AS_ERROR_INIT;
    int code = as_lock_guard(t->lock, &own);
    t->state = AS_TXN_LEFT;
    if (code == AS_BUSY) {
        return as_error_pass(e, &own);
    }
    if (code == AS_OK) {
        code = as_apply_end(t->lock, &own);
        as_lock_unguard(t->lock);
    }
    if (code == AS_OK) {
        t->state = AS_TXN_SETTLED;
        return AS_OK;
    }
    code = as_fail(e, AS_PENDING, 0,
                   "%s: the new checkpoint is durable and in its place, but the journal is still "
                   "there (%s); remove the cause and run `allshard recover %s`",
                   t->dir, as_error_text(&own), t->dir);
    as_error_clear(&own);
    return code;
}

int as_txn_finish(as_txn *t, as_error *e)
{
    if (t->state != AS_TXN_COMMITTED && t->state != AS_TXN_SETTLED) {
        int code = as_fail(e, AS_INTERNAL, 0, "%s: a save was finished before its commit", t->dir);
        as_txn_abort(t);
        return code;
    }
    as_error own = AS_ERROR_INIT;
    int code = t->state == AS_TXN_COMMITTED ? as_txn_settle(t, &own) : AS_OK;
    if (code == AS_BUSY) {
        /* Whoever took the folder over has finished this save before its own. */
        warn(t, &own, "the save itself is complete");
        end(t);
        return AS_OK;
    }
    if (code != AS_OK) {
        end(t);
        return as_error_pass(e, &own);
    }
    if (as_meta_clear(t->lock, &own) != AS_OK) {
        warn(t, &own, next_save);
    }
    end(t);
    return AS_OK;
}

void as_txn_abort(as_txn *t)
{
    if (!t) {
        return;
    }
    if (t->lock) {
        t->lock->deaf = true;
    }
    as_error own = AS_ERROR_INIT;
    bool clear = t->state == AS_TXN_OPEN || t->state == AS_TXN_SETTLED;
    if (clear && t->lock && as_meta_clear(t->lock, &own) != AS_OK) {
        warn(t, &own, next_save);
    }
    end(t);
}
