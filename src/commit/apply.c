/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/sys.h"
#include "commit/folder.h"
#include "commit/meta.h"

typedef struct places {
    int folder;      /* DIR */
    int staged;      /* .allshard/new; -1 if it is gone */
    int old;         /* .allshard/old; -1: the disk has no room for it */
    bool again;      /* old/ is there from an earlier time: it was cut off */
    const char *dir; /* for texts */
    as_lock *lock;
} places;

enum presence { ABSENT, GOOD, WRONG };

/* Is the file there, with this size, or the folder? */
static int find_entry(const as_journal *j, size_t i, int folder, const char *dir,
                      enum presence *found, as_error *e)
{
    struct stat status;
    const char *name = j->incoming.items[i];
    *found = ABSENT;
    if (folder < 0) {
        return AS_OK;
    }
    if (as_sys_table.fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? AS_OK
                               : as_fail(e, AS_SYSTEM, errno, "%s: cannot stat \"%s\"", dir, name);
    }
    bool good = j->folders ? S_ISDIR(status.st_mode)
                           : S_ISREG(status.st_mode) && status.st_size == j->sizes[i];
    *found = good ? GOOD : WRONG;
    return AS_OK;
}

int as_name_is_folder(int folder, const char *dir, const char *name, bool *there, bool *is_folder,
                      as_error *e)
{
    struct stat status;
    *there = false;
    *is_folder = false;
    if (as_sys_table.fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? AS_OK
                               : as_fail(e, AS_SYSTEM, errno, "%s: cannot stat \"%s\"", dir, name);
    }
    *there = true;
    *is_folder = S_ISDIR(status.st_mode);
    return AS_OK;
}

/* The journal promises what is not to be had. */
static int broken_promise(const as_journal *j, size_t i, const char *dir, enum presence found,
                          as_error *e)
{
    char promised[64] = "as a folder";
    if (!j->folders) {
        (void)snprintf(promised, sizeof promised, "with %lld bytes", (long long)j->sizes[i]);
    }
    return as_fail(e, AS_FORMAT, 0,
                   "%s: the journal of a save promises \"%s\" %s, but %s. Nothing "
                   "was changed. Check the storage; then see with `allshard verify` whether "
                   "the checkpoint is good without it, and if it is, remove %s/" AS_META_NAME,
                   dir, j->incoming.items[i], promised,
                   found == ABSENT ? "it lies neither there nor in " AS_META_NAME "/" AS_NEW_NAME
                   : j->folders    ? "something else lies there"
                                   : "the file has another size",
                   dir);
}

/* Before the first move: is all that is promised there? What lies in staging has not moved
 * in yet, so only without it can the one in DIR be it. */
static int check_incoming(const as_journal *j, const places *p, as_error *e)
{
    for (size_t i = 0; i < j->incoming.count; i++) {
        enum presence found;
        int code = find_entry(j, i, p->staged, p->dir, &found, e);
        if (code == AS_OK && found == ABSENT) {
            code = find_entry(j, i, p->folder, p->dir, &found, e);
        }
        if (code == AS_OK && found != GOOD) {
            code = broken_promise(j, i, p->dir, found, e);
        }
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

/* Freeing large files takes long: the lock must look alive meanwhile, and whoever lost it
 * must not remove what is another's by now. */
static int keep_lock(void *self, as_error *e)
{
    return as_lock_refresh(self, false, e);
}

static bool is_full(int sys_errno)
{
    return sys_errno == ENOSPC || sys_errno == EDQUOT;
}

/* The old file's name goes; its bytes are freed later, which can take seconds. Where there is not
 * even room for a name it is removed at once: it is of no use any more, since the journal counts. */
static int move_away(const as_journal *j, const places *p, const char *name, as_error *e)
{
    if (p->old >= 0 && p->again && !j->folders) {
        /* A power cut can leave a rename half done, with both names; and of two names of one
         * file rename(2) takes none away. A folder never has two names. */
        (void)as_sys_table.unlinkat(p->old, name, 0);
    }
    bool moved = p->old >= 0 && as_sys_table.renameat(p->folder, name, p->old, name) == 0;
    if (!moved && p->old >= 0 && !is_full(errno)) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot move \"%s\" out of the way", p->dir, name);
    }
    if (!moved && j->folders) {
        const as_tick tick = {.call = keep_lock, .self = p->lock};
        return as_tree_remove(p->folder, name, p->dir, &tick, e);
    }
    if (!moved && as_sys_table.unlinkat(p->folder, name, 0) < 0 && errno != ENOENT) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot remove the old file \"%s\"", p->dir, name);
    }
    return AS_OK;
}

/* Whether the new file of that name still waits in staging. */
static int is_staged(const places *p, const char *name, bool *staged, as_error *e)
{
    bool is_folder;
    *staged = false;
    return p->staged < 0 ? AS_OK
                         : as_name_is_folder(p->staged, p->dir, name, staged, &is_folder, e);
}

/* Is the file there that has to go, or a folder in its place? Or the other way about? */
static int check_outgoing(const as_journal *j, const places *p, const char *name, bool *there,
                          as_error *e)
{
    bool is_folder;
    int code = as_name_is_folder(p->folder, p->dir, name, there, &is_folder, e);
    if (code == AS_OK && *there && is_folder != j->folders) {
        code = as_fail(
            e, AS_INVALID, 0, "%s: \"%s\" is %s should go; move it away and run `allshard recover`",
            p->dir, name, is_folder ? "a folder where a file" : "no folder, where a checkpoint's");
    }
    return code;
}

static int move_out(const as_journal *j, const places *p, as_error *e)
{
    for (size_t i = 0; i < j->outgoing.count; i++) {
        const char *name = j->outgoing.items[i];
        bool old_one = true;
        (void)as_lock_tick(p->lock, NULL); /* the journal is written: nothing stops the moves */
        int code = AS_OK;
        if (as_journal_brings(j, name)) {
            /* Once the new file has moved in, the name is not the old one's any more. */
            code = is_staged(p, name, &old_one, e);
        }
        bool there = false;
        if (code == AS_OK && old_one) {
            code = check_outgoing(j, p, name, &there, e);
        }
        if (code == AS_OK && there) {
            code = move_away(j, p, name, e);
        }
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

static int move_in(const as_journal *j, const places *p, as_error *e)
{
    for (size_t i = 0; i < j->incoming.count; i++) {
        const char *name = j->incoming.items[i];
        bool staged;
        (void)as_lock_tick(p->lock, NULL);
        int code = is_staged(p, name, &staged, e);
        if (code == AS_OK && staged &&
            as_sys_table.renameat(p->staged, name, p->folder, name) < 0) {
            code =
                as_fail(e, AS_SYSTEM, errno, "%s: cannot move \"%s\" into its place", p->dir, name);
        }
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

static int make_old(places *p, const as_lock *lock, as_error *e)
{
    bool made = false;
    as_error own = AS_ERROR_INIT;
    if (as_meta_make_inside(lock->meta, lock->meta_path, AS_OLD_NAME, &made, &own) == AS_OK) {
        p->again = !made;
        return as_meta_open_inside(lock->meta, lock->meta_path, AS_OLD_NAME, &p->old, e);
    }
    if (is_full(own.sys_errno)) {
        as_error_clear(&own);
    }
    return as_error_pass(e, &own);
}

/* No folder is no error: then nothing waits there any more. */
static int open_staged(int meta, const char *meta_path, int *staged, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    if (as_meta_open_inside(meta, meta_path, AS_NEW_NAME, staged, &own) == AS_NOT_FOUND) {
        as_error_clear(&own);
    }
    return as_error_pass(e, &own);
}

int as_apply_check(const as_journal *j, int meta, const char *meta_path, int folder,
                   const char *dir, as_error *e)
{
    places p = {.folder = folder, .staged = -1, .old = -1, .dir = dir};
    int code = open_staged(meta, meta_path, &p.staged, e);
    if (code == AS_OK) {
        code = check_incoming(j, &p, e);
    }
    for (size_t i = 0; code == AS_OK && i < j->outgoing.count; i++) {
        bool there;
        code = check_outgoing(j, &p, j->outgoing.items[i], &there, e);
    }
    if (p.staged >= 0) {
        (void)as_sys_table.close(p.staged);
    }
    return code;
}

int as_apply(const as_journal *j, as_lock *lock, int folder, const char *dir, as_error *e)
{
    places p = {.folder = folder, .staged = -1, .old = -1, .dir = dir, .lock = lock};
    int code = open_staged(lock->meta, lock->meta_path, &p.staged, e);
    if (code == AS_OK) {
        code = check_incoming(j, &p, e);
    }
    code = code == AS_OK ? make_old(&p, lock, e) : code;
    if (code == AS_OK) {
        code = move_out(j, &p, e);
    }
    if (code == AS_OK) {
        code = move_in(j, &p, e);
    }
    (void)as_lock_tick(lock, NULL);
    if (code == AS_OK) {
        code = as_folder_sync(folder, dir, e);
    }
    if (p.old >= 0) {
        (void)as_sys_table.close(p.old);
    }
    if (p.staged >= 0) {
        (void)as_sys_table.close(p.staged);
    }
    return code;
}

int as_apply_end(as_lock *lock, as_error *e)
{
    if (as_sys_table.unlinkat(lock->meta, AS_JOURNAL_NAME, 0) < 0 && errno != ENOENT) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot remove the journal", lock->meta_path);
    }
    return as_folder_sync(lock->meta, lock->meta_path, e);
}

int as_meta_clear(as_lock *lock, as_error *e)
{
    int code = as_lock_refresh(lock, true, e);
    if (code == AS_OK) {
        code = as_folder_sync(lock->meta, lock->meta_path, e);
    }
    as_names names = AS_NAMES_INIT;
    if (code == AS_OK) {
        code = as_folder_list(lock->meta, lock->meta_path, &names, e);
    }
    const as_tick tick = {.call = keep_lock, .self = lock};
    /* What cannot be removed keeps nothing else; a lost lock does. */
    for (size_t i = 0; code != AS_BUSY && i < names.count; i++) {
        as_error own = AS_ERROR_INIT;
        if (strcmp(names.items[i], AS_LOCK_NAME) != 0) {
            int one = as_tree_remove(lock->meta, names.items[i], lock->meta_path, &tick, &own);
            code = code == AS_OK || one == AS_BUSY ? one : code;
            (void)as_error_pass(e, &own);
        }
    }
    as_names_free(&names);
    return code;
}
