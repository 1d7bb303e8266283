/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/staged.h"

#include <errno.h>
#include <fcntl.h>

#include "base/sys.h"
#include "commit/folder.h"
#include "commit/meta.h"

int as_staged_folder(const char *dir, as_buffer *out, as_error *e)
{
    out->size = 0;
    return as_buffer_format(out, e, "%s/" AS_META_NAME "/" AS_NEW_NAME, dir);
}

int as_staged_path(const char *dir, const char *name, as_buffer *out, as_error *e)
{
    int code = as_name_check(name, e);
    out->size = 0;
    if (code == AS_OK) {
        code = as_buffer_format(out, e, "%s/" AS_META_NAME "/" AS_NEW_NAME "/%s", dir, name);
    }
    return code;
}

int as_staged_open(const char *dir, int *staged, as_error *e)
{
    int folder = -1;
    int meta = -1;
    as_buffer path = AS_BUFFER_INIT;
    *staged = -1;
    int code = as_buffer_format(&path, e, "%s/" AS_META_NAME, dir);
    if (code == AS_OK) {
        code = as_folder_open(dir, &folder, e);
    }
    if (code == AS_OK) {
        code = as_meta_open(folder, path.data, &meta, e);
    }
    if (code == AS_OK) {
        code = as_meta_open_inside(meta, path.data, AS_NEW_NAME, staged, e);
    }
    if (meta >= 0) {
        (void)as_sys_table.close(meta);
    }
    if (folder >= 0) {
        (void)as_sys_table.close(folder);
    }
    as_buffer_free(&path);
    return code;
}

int as_staged_create_file(int staged, const char *name, mode_t mode, const char *path, int *fd,
                          as_error *e)
{
    int code = as_name_check(name, e);
    return code == AS_OK ? as_file_create(staged, name, mode, path, fd, e) : code;
}

/* What was opened must be a file of its own: somebody who can write to staging could have
 * replaced it by another name of a file that only we may write to. */
static int check_file(int fd, const char *path, as_error *e)
{
    struct stat status;
    if (as_sys_table.fstat(fd, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat the staged file", path);
    }
    if (!S_ISREG(status.st_mode) || status.st_nlink > 1) {
        return as_fail(e, AS_INVALID, 0,
                       "%s: this is not the file that the save made, but %s; is another program at "
                       "work in the folder?",
                       path, S_ISREG(status.st_mode) ? "a hard link" : "something else");
    }
    /* O_NONBLOCK was for named pipes; io_uring would refuse to wait for the disk. */
    if (fcntl(fd, F_SETFL, 0) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot set the flags of the staged file", path);
    }
    return AS_OK;
}

int as_staged_open_file(int staged, const char *name, int flags, const char *path, int *fd,
                        as_error *e)
{
    int code = as_name_check(name, e);
    if (code != AS_OK) {
        return code;
    }
    *fd = as_open(staged, name, flags | O_NOFOLLOW | O_NONBLOCK, 0);
    if (*fd < 0) {
        return as_fail(e, errno == ELOOP ? AS_INVALID : AS_SYSTEM, errno,
                       "%s: cannot open the staged file%s", path,
                       errno == ELOOP    ? ", a link lies there"
                       : errno == ENOENT ? " (is the folder on a file system that all hosts share?)"
                                         : "");
    }
    code = check_file(*fd, path, e);
    if (code != AS_OK) {
        (void)as_sys_table.close(*fd);
        *fd = -1;
    }
    return code;
}
