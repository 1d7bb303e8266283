/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/movable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

/* What stat does not tell: another place of the same file system mounted here, and chattr. Kernels
 * and file systems that do not know leave the bits out. */
static const char *look_deeper(int root, const char *name)
{
    struct statx status;
    if (as_sys_table.statx(root, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &status) != 0) {
        return NULL;
    }
    unsigned long long set = status.stx_attributes & status.stx_attributes_mask;
    if (set & STATX_ATTR_MOUNT_ROOT) {
        return "something is mounted there";
    }
    return (set & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0
               ? "it has the attribute immutable or append-only (chattr)"
               : NULL;
}

/* Moving a folder into another one changes its "..", for which it must be writable; the server of a
 * network file system has its own mind about who may. */
const char *as_immovable(int root, const char *name)
{
    struct stat above;
    struct stat status;
    if (as_sys_table.fstat(root, &above) < 0) {
        return NULL; /* what follows meets that, too */
    }
    if (as_sys_table.fstatat(root, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? NULL : "it cannot be looked at";
    }
    uid_t user = geteuid();
    if ((above.st_mode & S_ISVTX) && user != 0 && user != status.st_uid && user != above.st_uid) {
        return "it is another user's, and the folder that it lies in has the sticky bit";
    }
    if (status.st_dev != above.st_dev) {
        return "something is mounted there";
    }
    if (as_sys_table.faccessat(root, name, W_OK | X_OK, AT_EACCESS) != 0) {
        return "this user may not write to it (chmod a-w protects a folder so)";
    }
    return look_deeper(root, name);
}
