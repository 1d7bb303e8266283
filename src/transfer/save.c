/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "commit/folder.h"
#include "commit/transaction.h"
#include "format/pattern.h"
#include "transfer/context.h"
#include "transfer/prepare.h"
#include "transfer/publish.h"

/* Staged files are opened by path on every rank; only the main process has the transaction. */
typedef struct saving {
    const as_save_call *call;
    as_prepared prepared;
    as_txn *txn;
    as_meter meter;
    as_buffer path; /* of the file opened last, for error texts */
} saving;

static bool is_main(const saving *s)
{
    return as_comm_rank(s->call->comm) == 0;
}

static int fail_staged(const char *path, as_error *e)
{
    int reason = errno;
    const char *hint =
        reason == ENOENT ? " (is the folder on a file system that all hosts share?)" : "";
    return as_fail(e, AS_SYSTEM, reason, "%s: cannot open the staged file%s", path, hint);
}

/* Until all bytes are there every writer must be able to open the file, whatever the caller wants
 * its mode to be in the end. */
static mode_t first_mode(const saving *s)
{
    return s->call->mode ? (mode_t)s->call->mode | 0600 : 0;
}

/* Makes a staged file of its full size, so that all writers can open it. */
static int create_file(const saving *s, const char *name, mode_t mode, int64_t size,
                       const void *bytes, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int fd = -1;
    int code = as_staged_path(s->call->directory, name, &path, e);
    if (code == AS_OK) {
        code = as_file_create(AT_FDCWD, path.data, mode, path.data, &fd, e);
    }
    if (code == AS_OK && as_sys_table.ftruncate(fd, (off_t)size) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot give the file its size of %lld bytes",
                       path.data, (long long)size);
    }
    if (code == AS_OK && bytes) {
        code = as_write_all(fd, bytes, (size_t)size, 0, path.data, e);
        if (code == AS_OK) {
            code = as_sync(fd, path.data, e);
        }
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_buffer_free(&path);
    return code;
}

/* The files whose headers this rank built, and the small files that fall to it. */
static int create_files(const saving *s, as_error *e)
{
    const as_plan *plan = &s->prepared.plan;
    int code = AS_OK;
    for (size_t i = 0; i < as_plan_built_count(plan) && code == AS_OK; i++) {
        const as_built_file *b = as_plan_built(plan, i);
        char *name = NULL;
        code = as_prepared_file_name(&s->prepared, b->file, &name, e);
        if (code == AS_OK) {
            code = create_file(s, name, first_mode(s), b->size, NULL, e);
        }
        free(name);
    }
    const as_state *state = s->call->state;
    for (size_t i = 0; i < as_extras_count(&s->prepared.extras) && code == AS_OK; i++) {
        const as_extra_file *x = as_extras_file(&s->prepared.extras, i);
        for (size_t k = 0; x->rank == as_comm_rank(s->call->comm) &&
                           k < as_state_file_count(state) && code == AS_OK;
             k++) {
            const as_small_file *f = as_state_file(state, k);
            if (strcmp(f->name, x->name) == 0) {
                code =
                    create_file(s, f->name, (mode_t)s->call->mode, (int64_t)f->size, f->bytes, e);
            }
        }
    }
    return code;
}

/* Opens the staged file of that number; its path is then in s->path. */
static int open_file(saving *s, int32_t file, int flags, int *fd, as_error *e)
{
    char *plain = NULL;
    int code = as_prepared_file_name(&s->prepared, file, &plain, e);
    if (code == AS_OK) {
        code = as_staged_path(s->call->directory, plain, &s->path, e);
    }
    free(plain);
    if (code != AS_OK) {
        return code;
    }
    *fd = as_open(AT_FDCWD, s->path.data, flags | O_NOFOLLOW, 0);
    return *fd < 0 ? fail_staged(s->path.data, e) : AS_OK;
}

static int open_staged(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    saving *s = user;
    int code = open_file(s, file, O_WRONLY, fd, e);
    *name = s->path.data;
    return code;
}

/* Files of a mode that keeps their owner out get it only when they are written. Collective. */
static int settle_modes(saving *s, as_error *e)
{
    const as_plan *plan = &s->prepared.plan;
    int code = AS_OK;
    for (size_t i = 0; i < as_plan_built_count(plan) && code == AS_OK; i++) {
        int fd = -1;
        code = open_file(s, as_plan_built(plan, i)->file, O_RDONLY, &fd, e);
        if (code == AS_OK && as_sys_table.fchmod(fd, (mode_t)s->call->mode) < 0) {
            code = as_fail(e, AS_SYSTEM, errno, "%s: cannot give this file the mode %04o",
                           s->path.data, (unsigned)s->call->mode);
        }
        if (code == AS_OK) {
            code = as_sync(fd, s->path.data, e);
        }
        if (fd >= 0) {
            (void)as_sys_table.close(fd);
        }
    }
    return as_comm_agree(s->call->comm, e);
}

static int refresh_lock(void *user, as_error *e)
{
    saving *s = user;
    return as_txn_refresh(s->txn, e);
}

static int transfer_bytes(saving *s, as_error *e)
{
    as_transfer t = {
        .comm = s->call->comm,
        .state = s->call->state,
        .plan = &s->prepared.plan,
        .engine = &as_engine_posix,
        .memory = s->call->memory,
        .meter = &s->meter,
        .open_file = open_staged,
        .tick = s->txn ? refresh_lock : NULL,
        .user = s,
        .progress = s->call->progress,
        .progress_user = s->call->progress_user,
    };
    int code = as_transfer_save(&t, e);
    bool settled = first_mode(s) == (mode_t)s->call->mode;
    return code == AS_OK && !settled ? settle_modes(s, e) : code;
}

static int begin(saving *s, as_error *e)
{
    if (is_main(s)) {
        as_txn_options options = {.mode = (mode_t)s->call->mode};
        (void)as_txn_begin(&s->txn, s->call->directory, &options, s->call->log, e);
    }
    int code = as_comm_agree(s->call->comm, e);
    if (code == AS_OK) {
        (void)create_files(s, e);
        code = as_comm_agree(s->call->comm, e);
    }
    return code;
}

/* Index, manifest and journal: the main process makes the save count. */
static int commit(saving *s, as_error *e)
{
    as_publication p = {.comm = s->call->comm,
                        .state = s->call->state,
                        .prepared = &s->prepared,
                        .txn = s->txn,
                        .directory = s->call->directory,
                        .mode = s->call->mode,
                        .log = s->call->log};
    int code = as_publish(&p, e);
    if (code == AS_OK && is_main(s)) {
        (void)as_publication_commit(&p, e);
    }
    as_publication_free(&p);
    return code == AS_OK ? as_comm_agree(s->call->comm, e) : code;
}

/* After the ranks have learned the outcome: the old files' bytes are freed. The save counts
 * whatever happens here, so a fault is told, not returned: all ranks return the same code. */
static void finish(saving *s)
{
    as_error e = AS_ERROR_INIT;
    if (as_txn_finish(s->txn, &e) != AS_OK) {
        as_log_say(s->call->log, AS_LOG_WARNING,
                   "the save is complete, but its leftovers wait for `allshard recover`: %s",
                   as_error_text(&e));
    }
    s->txn = NULL;
    as_error_clear(&e);
}

int as_save_run(const as_save_call *call, as_error *e)
{
    saving s = {.call = call};
    int code = as_prepare(&s.prepared, call, e);
    if (code == AS_OK) {
        code = begin(&s, e);
    }
    if (code == AS_OK) {
        code = transfer_bytes(&s, e);
    }
    if (code == AS_OK) {
        code = commit(&s, e);
    }
    if (code == AS_OK && s.txn) {
        finish(&s);
    }
    as_txn_abort(s.txn);
    as_buffer_free(&s.path);
    as_prepared_free(&s.prepared);
    return code;
}
