/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/decide.h"

#include <errno.h>

#include "base/buffer.h"
#include "base/sys.h"
#include "commit/apply.h"
#include "commit/folder.h"

/* Whether the save counts cannot be told: why, and what became of the attempt to settle it. */
static int leave_unknown(const char *dir, as_error *e, as_error *own)
{
    as_error both = AS_ERROR_INIT;
    int code = as_fail(&both, AS_UNKNOWN, 0,
                       "%s: the journal could neither be made durable (%s) nor be taken away (%s). "
                       "Whether the save counts shows when the storage works again: run `allshard "
                       "recover %s` then; it gives the old checkpoint or the new one, whole",
                       dir, as_error_text(e), as_error_text(own), dir);
    both.sys_errno = e->sys_errno;
    as_error_clear(own);
    as_error_move(e, &both);
    return code;
}

/* Takes away a journal that may or may not have become durable. AS_UNKNOWN if that cannot be made
 * sure; so too if the lock is lost, for what lies there is another's to judge. */
static int withdraw(as_lock *lock, const char *dir, bool *unknown, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    if (as_lock_refresh(lock, true, &own) == AS_OK && as_apply_end(lock, &own) == AS_OK) {
        return e->code;
    }
    *unknown = true;
    return leave_unknown(dir, e, &own);
}

/* The rename of the draft is the moment that counts. Whoever breaks the lock removes all drafts
 * before it looks for a journal (recover.c): after that this rename fails, and before that the
 * breaker finds the journal and carries it out. */
static int rename_draft(as_lock *lock, const char *dir, bool *unknown, as_error *e)
{
    lock->deaf = true;
    if (as_sys_table.renameat(lock->meta, lock->draft, lock->meta, AS_JOURNAL_NAME) < 0) {
        int reason = errno;
        if (reason == ENOENT && as_lock_refresh(lock, true, e) == AS_BUSY) {
            return AS_BUSY;
        }
        (void)as_fail(e, AS_SYSTEM, reason, "%s/%s: cannot rename the journal", lock->meta_path,
                      lock->draft);
        return withdraw(lock, dir, unknown, e);
    }
    return as_folder_sync(lock->meta, lock->meta_path, e) == AS_OK
               ? AS_OK
               : withdraw(lock, dir, unknown, e);
}

int as_decide(const as_journal *j, as_lock *lock, const char *dir, mode_t mode, bool *unknown,
              as_error *e)
{
    *unknown = false;
    as_buffer bytes = AS_BUFFER_INIT;
    as_buffer path = AS_BUFFER_INIT;
    int code = as_journal_to_bytes(j, &bytes, e);
    if (code == AS_OK) {
        code = as_buffer_format(&path, e, "%s/%s", lock->meta_path, lock->draft);
    }
    if (code == AS_OK) {
        code = as_file_put(lock->meta, lock->draft, mode, path.data, bytes.data, bytes.size, e);
        /* Last look: after too long a standstill the folder may be another's. */
        if (code == AS_OK) {
            code = as_lock_guard(lock, e);
            code = code == AS_OK ? rename_draft(lock, dir, unknown, e) : code;
            if (code != AS_OK) {
                as_lock_unguard(lock);
                (void)as_sys_table.unlinkat(lock->meta, lock->draft, 0);
            }
        }
    }
    as_buffer_free(&path);
    as_buffer_free(&bytes);
    return code;
}
