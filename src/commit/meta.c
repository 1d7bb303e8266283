/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sys.h"
#include "commit/folder.h"

/* Writable for the group only where the folder around it is: with a generous umask the group
 * could else plant files that end up in a DIR which it may only read. Never for everybody. */
static int mode_inside(int around, const char *path, mode_t *mode, as_error *e)
{
    struct stat status;
    *mode = 0;
    if (as_sys_table.fstat(around, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat the folder around it", path);
    }
    *mode = 0755 | (status.st_mode & S_IWGRP);
    return AS_OK;
}

int as_meta_make(int folder, const char *meta_path, as_error *e)
{
    mode_t mode;
    int code = mode_inside(folder, meta_path, &mode, e);
    if (code == AS_OK && as_sys_table.mkdirat(folder, AS_META_NAME, mode) < 0 && errno != EEXIST) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot make this folder", meta_path);
    }
    return code;
}

/* Whose it is and what to do about it. */
static int refuse(const char *meta_path, const struct stat *meta, as_error *e)
{
    return as_fail(e, AS_INVALID, 0,
                   "%s: this folder, made by user %u, lies in a folder that others may write to, "
                   "so its files cannot be trusted. Nothing was changed. If it is the "
                   "leftover of a save that you know, let that user run `allshard recover`; else "
                   "look at it, remove it and run again",
                   meta_path, (unsigned)meta->st_uid);
}

/* Servers may know this user by another number (root as nobody): is what we make here of the same
 * owner as the folder? Only asked when it would else be refused. */
static bool owner_by_trial(int meta, uid_t owner)
{
    char name[64];
    (void)snprintf(name, sizeof name, "owner-%ld-%" PRId64, (long)getpid(), as_clock());
    int fd = as_open(meta, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return false;
    }
    struct stat status;
    bool same = as_sys_table.fstat(fd, &status) == 0 && status.st_uid == owner;
    (void)as_sys_table.close(fd);
    (void)as_sys_table.unlinkat(meta, name, 0);
    return same;
}

/* May somebody else's folder be that of a stranger who cannot do as much to DIR (`around`) itself? Where DIR has the
 * sticky bit, and others may write to it, they can make a .allshard/, but touch nothing else. Where
 * everybody may write to it without that bit, they can do anything to DIR, so that a reader gains
 * nothing by looking away; but what is ours is not written into their folders. */
static bool is_in_doubt(const struct stat *meta, const struct stat *around, bool to_write)
{
    bool sticky = (around->st_mode & S_ISVTX) && (around->st_mode & (S_IWGRP | S_IWOTH));
    return (sticky || (to_write && (around->st_mode & S_IWOTH))) && meta->st_uid != around->st_uid;
}

static int check_owner(int folder, int fd, const char *meta_path, bool to_write, as_error *e)
{
    struct stat meta;
    struct stat around;
    if (as_sys_table.fstat(fd, &meta) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this folder", meta_path);
    }
    if (meta.st_uid == geteuid() || meta.st_uid == 0) {
        return AS_OK;
    }
    if (as_sys_table.fstat(folder, &around) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat the folder around it", meta_path);
    }
    if (is_in_doubt(&meta, &around, to_write) && !(to_write && owner_by_trial(fd, meta.st_uid))) {
        return refuse(meta_path, &meta, e);
    }
    return AS_OK;
}

static int open_meta(int folder, const char *meta_path, bool to_write, int *fd, as_error *e)
{
    int code = as_folder_open_at(folder, AS_META_NAME, meta_path, fd, e);
    if (code == AS_OK) {
        code = check_owner(folder, *fd, meta_path, to_write, e);
        if (code != AS_OK) {
            (void)as_sys_table.close(*fd);
            *fd = -1;
        }
    }
    return code;
}

int as_meta_open(int folder, const char *meta_path, int *fd, as_error *e)
{
    return open_meta(folder, meta_path, true, fd, e);
}

int as_meta_open_to_read(int folder, const char *meta_path, int *fd, as_error *e)
{
    return open_meta(folder, meta_path, false, fd, e);
}

int as_meta_make_inside(int meta, const char *meta_path, const char *name, bool *made, as_error *e)
{
    mode_t mode;
    int code = mode_inside(meta, meta_path, &mode, e);
    if (code != AS_OK) {
        return code;
    }
    bool good = as_sys_table.mkdirat(meta, name, mode) == 0;
    if (made) {
        *made = good;
    }
    return good || (made && errno == EEXIST)
               ? AS_OK
               : as_fail(e, AS_SYSTEM, errno, "%s/%s: cannot make this folder", meta_path, name);
}

void as_meta_let_in(int folder, mode_t mode)
{
    struct stat status;
    mode_t readers = mode & (S_IRGRP | S_IROTH);
    mode_t more = readers | readers >> 2; /* and to search it */
    if (more && as_sys_table.fstat(folder, &status) == 0 && (status.st_mode & more) != more) {
        (void)as_sys_table.fchmod(folder, (status.st_mode & 07777) | more);
    }
}

int as_meta_open_inside(int meta, const char *meta_path, const char *name, int *fd, as_error *e)
{
    char *what;
    if (asprintf(&what, "%s/%s", meta_path, name) < 0) {
        return as_fail_nomem(e);
    }
    int code = as_folder_open_at(meta, name, what, fd, e);
    free(what);
    return code;
}
