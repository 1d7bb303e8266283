/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/path.h"
#include "base/sys.h"
#include "commit/beneath.h"
#include "commit/folder.h"
#include "commit/journal.h"
#include "commit/meta.h"

enum {
    MOST_LOOKS = 50 /* at a folder that changes each time */
};

/* What a name stood for when it was opened. */
typedef struct seen {
    size_t name; /* index in as_view.names */
    bool there;
    dev_t device;
    ino_t inode;
    int64_t size;
    struct timespec written;
} seen;

struct as_view {
    char *path;
    char *single;  /* NULL: a folder */
    bool in_place; /* .allshard/ is not looked at */
    bool links;    /* a link in place of a file is followed */
    char *meta_path;
    char *journal_path;
    int folder;
    int meta; /* .allshard/, as of the last look; -1: there was none */
    bool has_journal;
    as_journal journal;
    struct stat journal_status; /* its identity, to notice another one */
    as_names names;             /* of all that was asked for */
    as_buffer seen;             /* struct seen[] */
};

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_status(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

static void forget_journal(as_view *v)
{
    if (v->has_journal) {
        as_journal_free(&v->journal);
        v->has_journal = false;
    }
}

static void close_meta(as_view *v)
{
    if (v->meta >= 0) {
        (void)as_sys_table.close(v->meta);
        v->meta = -1;
    }
}

/* Looks at the journal anew; *changed: it is not what it was at the last look. */
static int look(as_view *v, bool *changed, as_error *e)
{
    bool had = v->has_journal;
    if (v->in_place) {
        *changed = false;
        return AS_OK;
    }
    close_meta(v);
    as_error own = AS_ERROR_INIT;
    int code = as_meta_open_to_read(v->folder, v->meta_path, &v->meta, &own);
    struct stat status;
    bool there = false;
    if (code == AS_OK) {
        there = as_sys_table.fstatat(v->meta, AS_JOURNAL_NAME, &status, AT_SYMLINK_NOFOLLOW) == 0;
        if (!there && errno != ENOENT) {
            code = as_fail(&own, AS_SYSTEM, errno, "%s: cannot stat the journal", v->journal_path);
        }
    } else if (code == AS_NOT_FOUND) {
        as_error_clear(&own);
        code = AS_OK;
    }
    if (code == AS_OK && there && had && same_status(&status, &v->journal_status)) {
        *changed = false;
        return AS_OK;
    }
    forget_journal(v);
    if (code == AS_OK && there) {
        (void)as_journal_read(v->meta, v->journal_path, &v->journal, &v->journal_status,
                              &v->has_journal, &own);
    }
    *changed = had || v->has_journal;
    return as_error_pass(e, &own);
}

/* Opens the name as the journal of the last look has it: fd, or -1 with errno. */
static int resolve(const as_view *v, const char *name)
{
    if (v->has_journal && as_journal_brings(&v->journal, name)) {
        int staging = as_open(v->meta, AS_NEW_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        if (staging >= 0) {
            int fd = as_beneath_open(staging, name, false);
            int reason = errno;
            (void)as_sys_table.close(staging);
            errno = reason;
            if (fd >= 0 || reason != ENOENT) {
                return fd;
            }
        } else if (errno != ENOENT) {
            return -1;
        }
    } else if (v->has_journal && as_journal_takes(&v->journal, name)) {
        errno = ENOENT;
        return -1;
    }
    return as_beneath_open(v->folder, name, v->links);
}

/* Takes down what the name stands for. `fd` -1: nothing. */
static int describe(const as_view *v, const char *name, int fd, seen *out, as_error *e)
{
    struct stat status;
    *out = (seen){.there = fd >= 0};
    if (fd < 0) {
        return AS_OK;
    }
    if (as_sys_table.fstat(fd, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat \"%s\"", v->path, name);
    }
    if (!S_ISREG(status.st_mode)) {
        return as_fail(e, AS_FORMAT, 0, "%s: \"%s\" is not a regular file", v->path, name);
    }
    out->device = status.st_dev;
    out->inode = status.st_ino;
    out->size = status.st_size;
    out->written = status.st_mtim;
    return AS_OK;
}

/* Opens a name at a moment at which the journal stood still. *fd -1: not there. */
static int open_still(as_view *v, const char *name, int *fd, seen *what, as_error *e)
{
    bool changed;
    int code = look(v, &changed, e);
    for (int i = 0; code == AS_OK && i < MOST_LOOKS; i++) {
        *fd = resolve(v, name);
        int reason = errno;
        bool absent = *fd < 0 && (reason == ENOENT || reason == ENOTDIR);
        if (*fd < 0 && reason == ELOOP) {
            return as_fail(e, AS_INVALID, reason,
                           "%s: \"%s\" is not opened: a link stands for a sub-folder in it, links "
                           "lead in a circle%s",
                           v->path, name,
                           v->links ? "" : ", or it is a link and ALLSHARD_LINKS is off");
        }
        if (*fd < 0 && !absent && reason != ESTALE) {
            return as_fail(e, AS_SYSTEM, reason, "%s: cannot open \"%s\"", v->path, name);
        }
        code = describe(v, name, *fd, what, e);
        if (code == AS_OK) {
            code = look(v, &changed, e);
        }
        if (code == AS_OK && !changed && (*fd >= 0 || absent)) {
            return AS_OK;
        }
        if (*fd >= 0) {
            (void)as_sys_table.close(*fd);
            *fd = -1;
        }
    }
    *fd = -1;
    return code != AS_OK
               ? code
               : as_fail(e, AS_BUSY, 0,
                         "%s: saves keep changing this folder while \"%s\" is looked for; "
                         "try again later",
                         v->path, name);
}

static int remember(as_view *v, const char *name, seen *what, as_error *e)
{
    what->name = v->names.count;
    int code = as_names_add(&v->names, name, e);
    return code == AS_OK ? as_buffer_append(&v->seen, what, sizeof *what, e) : code;
}

int as_view_open_file(as_view *v, const char *name, int *fd, as_error *e)
{
    *fd = -1;
    seen what;
    int code = as_beneath_check(&name, v->path, e);
    if (code == AS_OK && v->single && strcmp(name, v->single) != 0 &&
        strcmp(name, AS_MANIFEST_NAME) != 0) {
        return as_fail(e, AS_NOT_FOUND, 0,
                       "%s: this is one file; \"%s\" is not looked for beside it", v->path, name);
    }
    if (code == AS_OK) {
        code = open_still(v, name, fd, &what, e);
    }
    if (code == AS_OK) {
        code = remember(v, name, &what, e);
        if (code != AS_OK && *fd >= 0) {
            (void)as_sys_table.close(*fd);
            *fd = -1;
        }
    }
    if (code == AS_OK && *fd < 0) {
        code = as_fail(e, AS_NOT_FOUND, 0, "%s: there is no file \"%s\"", v->path, name);
    }
    return code;
}

int as_view_check(as_view *v, as_error *e)
{
    const seen *all = (const seen *)(const void *)v->seen.data;
    for (size_t i = 0; i < v->seen.size / sizeof *all; i++) {
        const char *name = v->names.items[all[i].name];
        int fd;
        seen now;
        int code = open_still(v, name, &fd, &now, e);
        if (code != AS_OK) {
            return code;
        }
        if (fd >= 0) {
            (void)as_sys_table.close(fd);
        }
        if (now.there != all[i].there || now.device != all[i].device || now.inode != all[i].inode ||
            now.size != all[i].size || !same_time(now.written, all[i].written)) {
            return as_fail(
                e, AS_BUSY, 0,
                "%s: a save replaced \"%s\" while the checkpoint was being read; read it "
                "again",
                v->path, name);
        }
    }
    return AS_OK;
}

void as_view_forget(as_view *v, const char *name)
{
    seen *all = (seen *)(void *)v->seen.data;
    size_t kept = 0;
    for (size_t i = 0; i < v->seen.size / sizeof *all; i++) {
        if (strcmp(v->names.items[all[i].name], name) != 0) {
            all[kept++] = all[i];
        }
    }
    v->seen.size = kept * sizeof *all;
}

/* The names as the journal of the last look has them. */
static int merge_names(const as_view *v, const as_names *plain, as_names *out, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < plain->count; i++) {
        const char *name = plain->items[i];
        bool gone = strcmp(name, AS_META_NAME) == 0 ||
                    (v->has_journal &&
                     (as_journal_takes(&v->journal, name) || as_journal_brings(&v->journal, name)));
        if (!gone) {
            code = as_names_add(out, name, e);
        }
    }
    for (size_t i = 0; code == AS_OK && v->has_journal && i < v->journal.incoming.count; i++) {
        code = as_names_add(out, v->journal.incoming.items[i], e);
    }
    as_names_sort(out);
    return code;
}

/* One try at listing a folder; *still: nothing changed meanwhile. */
static int list_once(as_view *v, as_names *out, bool *still, as_error *e)
{
    struct stat before;
    struct stat after;
    as_names plain = AS_NAMES_INIT;
    bool changed = true;
    int code = AS_OK;
    *still = false;
    if (as_sys_table.fstat(v->folder, &before) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this folder", v->path);
    }
    code = as_folder_list(v->folder, v->path, &plain, e);
    if (code == AS_OK) {
        code = look(v, &changed, e);
    }
    if (code == AS_OK && as_sys_table.fstat(v->folder, &after) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this folder", v->path);
    }
    *still = code == AS_OK && !changed && same_time(before.st_mtim, after.st_mtim) &&
             same_time(before.st_ctim, after.st_ctim);
    if (*still) {
        code = merge_names(v, &plain, out, e);
    }
    as_names_free(&plain);
    return code;
}

int as_view_list(as_view *v, as_names *out, as_error *e)
{
    if (v->single) {
        return as_names_add(out, v->single, e);
    }
    bool changed;
    int code = look(v, &changed, e);
    for (int i = 0; code == AS_OK && i < MOST_LOOKS; i++) {
        bool still;
        code = list_once(v, out, &still, e);
        if (code == AS_OK && still) {
            return AS_OK;
        }
    }
    return code != AS_OK ? code
                         : as_fail(e, AS_BUSY, 0,
                                   "%s: this folder keeps changing while it is listed; try again "
                                   "later",
                                   v->path);
}

int as_view_leftovers(as_view *v, bool *meta, bool *journal, as_error *e)
{
    bool changed;
    int code = look(v, &changed, e);
    *meta = code == AS_OK && v->meta >= 0;
    *journal = code == AS_OK && v->has_journal;
    return code;
}

const char *as_view_path(const as_view *v)
{
    return v->path;
}

const char *as_view_single(const as_view *v)
{
    return v->single;
}

static int opener_open(void *self, const char *name, int *fd, as_error *e)
{
    return as_view_open_file(self, name, fd, e);
}

static int opener_list(void *self, as_opener_visit visit, void *user, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    int code = as_view_list(self, &names, e);
    for (size_t i = 0; code == AS_OK && i < names.count; i++) {
        code = visit(user, names.items[i], e);
    }
    as_names_free(&names);
    return code;
}

as_opener as_view_opener(as_view *v)
{
    return (as_opener){
        .open = opener_open, .list = opener_list, .self = v, .path = v->path, .file = v->single};
}

/* The folder's path, for the texts about what lies in it. */
static int name_folder(as_view *v, const char *folder, as_error *e)
{
    if (asprintf(&v->meta_path, "%s/" AS_META_NAME, folder) < 0) {
        v->meta_path = NULL;
        return as_fail_nomem(e);
    }
    if (asprintf(&v->journal_path, "%s/" AS_JOURNAL_NAME, v->meta_path) < 0) {
        v->journal_path = NULL;
        return as_fail_nomem(e);
    }
    return AS_OK;
}

/* The path is a file, or a file that only the journal knows yet: the folder is the one
 * that it lies in. */
static int open_single(as_view *v, as_error *e)
{
    const char *slash = strrchr(v->path, '/');
    const char *name = slash ? slash + 1 : v->path;
    if (!*name || strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
        return as_fail(e, AS_NOT_FOUND, 0, "%s: there is no such file or folder", v->path);
    }
    char *parent = as_path_folder(v->path);
    v->single = strdup(name);
    if (!parent || !v->single || name_folder(v, parent, e) != AS_OK) {
        free(parent);
        return as_fail_nomem(e);
    }
    /* O_PATH: a folder that may not be listed can hold a file that may be read. */
    v->folder = as_open(AT_FDCWD, parent, O_PATH | O_DIRECTORY, 0);
    int reason = errno;
    free(parent);
    if (v->folder < 0) {
        return reason == ENOENT || reason == ENOTDIR
                   ? as_fail(e, AS_NOT_FOUND, 0, "%s: there is no such file or folder", v->path)
                   : as_fail(e, AS_SYSTEM, reason, "%s: cannot open the folder that it lies in",
                             v->path);
    }
    int fd;
    seen what;
    int code = open_still(v, v->single, &fd, &what, e);
    if (code == AS_OK && fd < 0) {
        code = as_fail(e, AS_NOT_FOUND, 0, "%s: there is no such file or folder", v->path);
    } else if (code == AS_OK) {
        (void)as_sys_table.close(fd);
    }
    return code;
}

static int open_path(as_view *v, as_error *e)
{
    v->folder = as_open(AT_FDCWD, v->path, O_RDONLY | O_DIRECTORY, 0);
    if (v->folder < 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? open_single(v, e)
                   : as_fail(e, AS_SYSTEM, errno, "%s: cannot open this path", v->path);
    }
    bool changed;
    int code = name_folder(v, v->path, e);
    return code == AS_OK ? look(v, &changed, e) : code;
}

static int open_view(as_view **out, const char *path, bool in_place, as_error *e)
{
    *out = NULL;
    as_view *v = calloc(1, sizeof *v);
    if (!v) {
        return as_fail_nomem(e);
    }
    v->folder = -1;
    v->meta = -1;
    v->in_place = in_place;
    const char *links = getenv("ALLSHARD_LINKS");
    v->links = !links || strcmp(links, "off") != 0;
    v->path = strdup(path);
    int code = v->path ? open_path(v, e) : as_fail_nomem(e);
    if (code != AS_OK) {
        as_view_close(v);
        return code;
    }
    *out = v;
    return AS_OK;
}

int as_view_open(as_view **out, const char *path, as_error *e)
{
    return open_view(out, path, false, e);
}

int as_view_open_in_place(as_view **out, const char *path, as_error *e)
{
    return open_view(out, path, true, e);
}

void as_view_close(as_view *v)
{
    if (!v) {
        return;
    }
    forget_journal(v);
    close_meta(v);
    if (v->folder >= 0) {
        (void)as_sys_table.close(v->folder);
    }
    as_names_free(&v->names);
    as_buffer_free(&v->seen);
    free(v->path);
    free(v->single);
    free(v->meta_path);
    free(v->journal_path);
    free(v);
}
