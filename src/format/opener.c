/* SPDX-License-Identifier: Apache-2.0 */
#include "format/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/sys.h"

static int open_file(void *self, const char *name, int *fd, as_error *e)
{
    const as_disk_path *d = self;
    /* A pipe that waits for a writer would hold the caller for ever; files are not affected. */
    *fd = as_open(d->folder, name, O_RDONLY | O_NONBLOCK, 0);
    if (*fd >= 0) {
        return AS_OK;
    }
    int cause = errno;
    const char *folder = d->name ? "" : d->path;
    const char *joint = d->name ? "" : "/";
    if (cause == ENOENT || cause == ENOTDIR) {
        return as_fail(e, AS_NOT_FOUND, 0, "%s%s%s: there is no such file", folder, joint, name);
    }
    return as_fail(e, AS_SYSTEM, cause, "%s%s%s: cannot open", folder, joint, name);
}

static int visit_all(DIR *dir, const char *path, as_opener_visit visit, void *user, as_error *e)
{
    int code = AS_OK;
    while (code == AS_OK) {
        errno = 0;
        const struct dirent *entry = as_sys_table.readdir(dir);
        if (!entry) {
            return errno ? as_fail(e, AS_SYSTEM, errno, "%s: cannot list the folder", path) : AS_OK;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            code = visit(user, entry->d_name, e);
        }
    }
    return code;
}

static int list_folder(void *self, as_opener_visit visit, void *user, as_error *e)
{
    const as_disk_path *d = self;
    /* A descriptor of its own: the place in a listing belongs to the open file. */
    int fd = as_open(d->folder, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot open the folder", d->path);
    }
    DIR *dir = as_sys_table.fdopendir(fd);
    if (!dir) {
        int cause = errno;
        (void)as_sys_table.close(fd);
        return as_fail(e, AS_SYSTEM, cause, "%s: cannot list the folder", d->path);
    }
    int code = visit_all(dir, d->path, visit, user, e);
    (void)as_sys_table.closedir(dir);
    return code;
}

/* Splits path into the folder (heap) and the last part (inside *folder's own block or path). */
static int split(as_disk_path *d, char **folder, as_error *e)
{
    const char *slash = strrchr(d->path, '/');
    d->name = strdup(slash ? slash + 1 : d->path);
    *folder = as_path_folder(d->path);
    return d->name && *folder ? AS_OK : as_fail_nomem(e);
}

static int open_path(as_disk_path *d, as_error *e)
{
    struct stat status;
    if (as_sys_table.fstatat(AT_FDCWD, d->path, &status, 0) < 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? as_fail(e, AS_NOT_FOUND, 0, "%s: there is no such file or folder", d->path)
                   : as_fail(e, AS_SYSTEM, errno, "%s: cannot look at it", d->path);
    }
    if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) {
        return as_fail(e, AS_FORMAT, 0, "%s: this is neither a file nor a folder", d->path);
    }
    char *folder = NULL;
    int code = S_ISREG(status.st_mode) ? split(d, &folder, e) : AS_OK;
    if (code == AS_OK) {
        /* O_PATH: to open files in a folder needs no right to list it. */
        d->folder = as_open(AT_FDCWD, folder ? folder : d->path, O_PATH | O_DIRECTORY, 0);
        if (d->folder < 0) {
            code = as_fail(e, AS_SYSTEM, errno, "%s: cannot open the folder",
                           folder ? folder : d->path);
        }
    }
    free(folder);
    return code;
}

int as_disk_path_open(as_disk_path *self, const char *path, as_opener *out, as_error *e)
{
    *self = (as_disk_path){.folder = -1};
    self->path = strdup(path);
    int code = self->path ? open_path(self, e) : as_fail_nomem(e);
    if (code != AS_OK) {
        as_disk_path_close(self);
        return code;
    }
    *out = (as_opener){.open = open_file,
                       .list = list_folder,
                       .self = self,
                       .path = self->path,
                       .file = self->name};
    return AS_OK;
}

void as_disk_path_close(as_disk_path *self)
{
    if (self->folder >= 0) {
        (void)as_sys_table.close(self->folder);
    }
    free(self->path);
    free(self->name);
    *self = (as_disk_path){.folder = -1};
}
