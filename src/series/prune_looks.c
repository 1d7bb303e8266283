/* SPDX-License-Identifier: Apache-2.0
 * Looks at what is about to go; apart from the plan, which touches no disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/sys.h"
#include "series/prune.h"
#include "series/tags.h"

/* Would a rename of the folder into another one be allowed? Moving it changes its "..", for which it
 * must be writable; the server of a network file system has its own mind about who may. */
static bool is_movable(int root, const struct stat *above, const char *name)
{
    struct stat status;
    if (as_sys_table.fstatat(root, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT; /* gone by itself, which is no error later either */
    }
    uid_t user = geteuid();
    bool sticky =
        (above->st_mode & S_ISVTX) && user != 0 && user != status.st_uid && user != above->st_uid;
    return status.st_dev == above->st_dev && !sticky &&
           as_sys_table.faccessat(root, name, W_OK | X_OK, AT_EACCESS) == 0;
}

int as_prune_spare(as_prune *p, const as_members *members, int root, const char *path, as_error *e)
{
    struct stat above;
    if (p->going.count == 0) {
        return AS_OK;
    }
    if (as_sys_table.fstat(root, &above) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this folder", path);
    }
    as_names going = AS_NAMES_INIT;
    int64_t bytes = 0;
    int code = AS_OK;
    for (size_t i = 0; i < members->count && code == AS_OK; i++) {
        const as_member *m = &members->items[i];
        if (p->reasons[i] != 0) {
            continue;
        }
        if (!is_movable(root, &above, m->name)) {
            p->reasons[i] = AS_KEEP_FIXED;
            continue;
        }
        code = as_names_add(&going, m->name, e);
        if (!as_add_i64(bytes, m->bytes, &bytes)) {
            bytes = INT64_MAX;
        }
    }
    if (code != AS_OK) {
        as_names_free(&going);
        return code;
    }
    as_names_free(&p->going);
    p->going = going;
    p->bytes = bytes;
    return AS_OK;
}

bool as_prune_comes_back(int folder, const char *what, const char *name)
{
    int fd = as_open(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0) {
        return errno != ENOENT;
    }
    as_error e = AS_ERROR_INIT;
    as_names tags = AS_NAMES_INIT;
    int code = as_tags_read(fd, what, &tags, &e);
    bool back = code != AS_OK || tags.count > 0;
    as_names_free(&tags);
    as_sys_table.close(fd);
    return back;
}
