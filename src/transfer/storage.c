/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/sys.h"
#include "commit/transaction.h"
#include "io/stripes.h"

static int share(as_engine_choice *choice, as_session *s, as_error *e)
{
    int code = as_comm_agree(s->comm, e);
    return code == AS_OK ? as_comm_bcast(s->comm, 0, choice, sizeof *choice, e) : code;
}

/* One device is probed once for writing with one engine. */
static int probe_once(as_engine_choice *out, as_session *s, const char *folder, const char *engine,
                      as_error *e)
{
    struct stat status;
    const char *name = engine ? engine : "auto";
    if (as_sys_table.fstatat(AT_FDCWD, folder, &status, 0) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot be looked at", folder);
    }
    as_probed *p = &s->probed;
    if (p->known && p->device == status.st_dev && strcmp(p->asked, name) == 0) {
        *out = p->choice;
        return AS_OK;
    }
    int code = as_probe_folder(folder, engine, true, out, e);
    if (code == AS_OK && strlen(name) < sizeof p->asked) {
        *p = (as_probed){.known = true, .device = status.st_dev, .choice = *out};
        memcpy(p->asked, name, strlen(name) + 1);
    }
    return code;
}

static int set_stripes(const as_save_call *call, const char *folder, as_error *e)
{
    if (call->stripe_count == 0 && call->stripe_bytes == 0) {
        return AS_OK;
    }
    as_stripes stripes = {.count = call->stripe_count, .bytes = call->stripe_bytes};
    as_stripes now;
    bool is_lustre = false;
    int fd = as_open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot be opened", folder);
    }
    int code = as_stripes_read(fd, folder, &is_lustre, &now, e);
    if (code == AS_OK) {
        /* Nothing is known of a folder that was never given stripes: 0, the default. */
        stripes.count = stripes.count ? stripes.count : now.count;
        stripes.bytes = stripes.bytes ? stripes.bytes : now.bytes;
        code = as_stripes_set(fd, folder, stripes, &is_lustre, e);
    }
    if (code == AS_OK && !is_lustre && !call->session->told_stripes) {
        call->session->told_stripes = true; /* once, and not by every save */
        as_log_say(&call->session->log, AS_LOG_WARNING,
                   "%s is not on Lustre: the stripes that were asked for mean nothing there",
                   call->directory);
    }
    (void)as_sys_table.close(fd);
    return code;
}

int as_storage_for_save(as_engine_choice *out, const as_save_call *call, as_error *e)
{
    as_session *s = call->session;
    memset(out, 0, sizeof *out);
    if (as_comm_rank(s->comm) == 0 && e->code == AS_OK) {
        as_buffer folder = AS_BUFFER_INIT;
        int code = as_staged_folder(call->directory, &folder, e);
        if (code == AS_OK) {
            code = set_stripes(call, folder.data, e);
        }
        if (code == AS_OK) {
            (void)probe_once(out, s, folder.data, call->engine, e);
        }
        as_buffer_free(&folder);
    }
    return share(out, s, e);
}

/* Reading what is in memory already costs no storage at all. */
static bool is_cached(const as_opener *opener, const char *name)
{
    int fd = -1;
    struct stat status;
    as_error trouble = AS_ERROR_INIT; /* whoever reads the file tells it */
    bool cached = opener->open(opener->self, name, &fd, &trouble) == AS_OK &&
                  as_sys_table.fstat(fd, &status) == 0 && as_probe_cached(fd, status.st_size);
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_error_clear(&trouble);
    return cached;
}

int as_storage_for_load(as_engine_choice *out, as_session *s, const char *engine, const char *path,
                        const as_opener *opener, const char *first, const char *last, as_error *e)
{
    memset(out, 0, sizeof *out);
    if (as_comm_rank(s->comm) == 0 && e->code == AS_OK) {
        struct stat status;
        bool is_folder =
            as_sys_table.fstatat(AT_FDCWD, path, &status, 0) == 0 && S_ISDIR(status.st_mode);
        char *folder = is_folder ? strdup(path) : as_path_folder(path);
        int code = folder ? as_probe_folder(folder, engine, false, out, e) : as_fail_nomem(e);
        if (code == AS_OK && first && last && (!engine || strcmp(engine, "auto") == 0) &&
            is_cached(opener, first) && is_cached(opener, last)) {
            out->direct = false;
            out->gds = AS_GDS_OFF;
            (void)snprintf(out->engine, sizeof out->engine, "posix");
            (void)snprintf(out->reason, sizeof out->reason, "the files lie in the page cache");
        }
        free(folder);
    }
    return share(out, s, e);
}

void as_storage_explain(as_meter *m, const as_engine_choice *choice)
{
    if (m->engine[0] && !m->engine_reason[0]) {
        as_meter_reason(m, choice->reason);
    }
}
