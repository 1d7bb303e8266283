/* SPDX-License-Identifier: Apache-2.0
 * What comes between the commits of one transaction.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/sys.h"
#include "commit/apply.h"
#include "commit/folder.h"
#include "commit/meta.h"
#include "commit/movable.h"
#include "commit/transaction_parts.h"

enum { MOST_TRIES = 1000 };

static int check_settled(const as_txn *t, as_error *e)
{
    return t->state == AS_TXN_SETTLED
               ? AS_OK
               : as_fail(e, AS_INTERNAL, 0, "%s: what a save took out was touched before its end",
                         t->dir);
}

int as_txn_check_name(as_txn *t, const char *name, bool folder, bool *there, as_error *e)
{
    bool is_folder = false;
    *there = false;
    int code = as_name_check(name, e);
    if (code == AS_OK) {
        code = as_name_is_folder(t->folder, t->dir, name, there, &is_folder, e);
    }
    if (code != AS_OK || !*there) {
        return code;
    }
    if (is_folder == folder) {
        const char *why = folder ? as_immovable(t->folder, name) : NULL;
        return why ? as_fail(
                         e, AS_INVALID, 0,
                         "%s: \"%s\" has to be replaced or removed, but it cannot be moved: %s; "
                         "change that, or save elsewhere or under another name",
                         t->dir, name, why)
                   : AS_OK;
    }
    return folder ? as_fail(e, AS_INVALID, 0,
                            "%s: \"%s\" is no folder, but a checkpoint of that name has to be put "
                            "there or removed; move it away or save elsewhere",
                            t->dir, name)
                  : as_fail(e, AS_INVALID, 0,
                            "%s: \"%s\" is a folder, but the save has to put or remove a file of "
                            "that name; move the folder away or save elsewhere",
                            t->dir, name);
}

int as_txn_set_aside(as_txn *t, const char *name, bool *any, as_error *e)
{
    char to[128];
    *any = false;
    int code = check_settled(t, e);
    if (code != AS_OK) {
        return code;
    }
    if (as_sys_table.unlinkat(t->lock->meta, AS_OLD_NAME, AT_REMOVEDIR) == 0) {
        return AS_OK; /* nothing was in it */
    }
    int failure = ENOTEMPTY; /* one of that name may be there that could not be removed */
    for (int i = 0; i < MOST_TRIES && (failure == ENOTEMPTY || failure == EEXIST); i++) {
        (void)snprintf(to, sizeof to, "%s-%d", name, t->set_aside++);
        if (as_sys_table.renameat(t->lock->meta, AS_OLD_NAME, t->lock->meta, to) == 0) {
            *any = true;
            return AS_OK;
        }
        failure = errno;
    }
    return failure == ENOENT ? AS_OK
                             : as_fail(e, AS_SYSTEM, failure,
                                       "%s/" AS_OLD_NAME ": cannot rename it", t->lock->meta_path);
}

int as_txn_open_old(as_txn *t, int *fd, as_error *e)
{
    *fd = -1;
    int code = check_settled(t, e);
    return code == AS_OK
               ? as_meta_open_inside(t->lock->meta, t->lock->meta_path, AS_OLD_NAME, fd, e)
               : code;
}

int as_txn_put_back(as_txn *t, const char *name, as_error *e)
{
    int old;
    bool there;
    int code = as_txn_open_old(t, &old, e);
    if (code != AS_OK) {
        return code;
    }
    code = as_txn_check_name(t, name, true, &there, e);
    if (code == AS_OK && there) {
        code = as_fail(e, AS_SYSTEM, EEXIST, "%s: cannot put \"%s\" back, there is a new one",
                       t->dir, name);
    }
    if (code == AS_OK && as_sys_table.renameat(old, name, t->folder, name) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot put \"%s\" back", t->dir, name);
    }
    if (code == AS_OK) {
        code = as_folder_sync(t->folder, t->dir, e);
    }
    (void)as_sys_table.close(old);
    return code;
}

const char *as_txn_dir(const as_txn *t)
{
    return t->dir;
}

int as_txn_folder(const as_txn *t)
{
    return t->folder;
}

int as_txn_staged(const as_txn *t)
{
    return t->staged;
}

const as_log *as_txn_log(const as_txn *t)
{
    return &t->log;
}
