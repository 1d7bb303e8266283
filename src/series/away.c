/* SPDX-License-Identifier: Apache-2.0 */
#include "series/away.h"

#include "base/sys.h"
#include "commit/folder.h"
#include "series/prune.h"

/* Who tags needs no lock: what was tagged after it was chosen comes back. */
static int put_back(as_txn *t, const char *name, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    int code = as_txn_put_back(t, name, &own);
    if (code == AS_OK) {
        as_log_say(as_txn_log(t), AS_LOG_INFO,
                   "%s: \"%s\" was to go, but it has got a tag meanwhile: it stays", as_txn_dir(t),
                   name);
    }
    return as_error_pass(e, &own);
}

/* Of those that lie in old/ now. */
static int look_again(as_txn *t, const as_names *names, as_names *gone, as_error *e)
{
    int old;
    as_error own = AS_ERROR_INIT;
    int code = as_txn_open_old(t, &old, &own);
    if (code != AS_OK) {
        if (code == AS_NOT_FOUND) { /* the disk had no room for it, and they were removed at once */
            as_error_clear(&own);
        }
        return as_error_pass(e, &own);
    }
    as_names there = AS_NAMES_INIT;
    code = as_folder_list(old, as_txn_dir(t), &there, e);
    for (size_t i = 0; i < names->count && code == AS_OK; i++) {
        const char *name = names->items[i];
        if (!as_names_find(&there, name)) {
            continue;
        }
        if (as_prune_comes_back(old, as_txn_dir(t), name)) {
            code = put_back(t, name, e);
        } else if (gone) {
            code = as_names_add(gone, name, e);
        }
    }
    as_names_free(&there);
    (void)as_sys_table.close(old);
    return code;
}

int as_away_move(as_txn *t, const as_names *names, as_names *gone, as_error *e)
{
    if (names->count == 0) {
        return AS_OK;
    }
    int code =
        as_txn_commit_folders(t, NULL, 0, (const char *const *)names->items, names->count, e);
    if (code == AS_OK) {
        code = as_txn_settle(t, e);
    }
    return code == AS_OK ? look_again(t, names, gone, e) : code;
}
