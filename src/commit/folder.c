/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"

enum { OPEN_FOLDER = O_RDONLY | O_DIRECTORY };

/* Length of the path of the folder that holds `path[0…length)`; 0 if the path names
 * no such folder ("a", "/", "//"). Slashes at the end do not count. */
static size_t parent_length(const char *path, size_t length)
{
    while (length > 0 && path[length - 1] == '/') {
        length--;
    }
    while (length > 0 && path[length - 1] != '/') {
        length--;
    }
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    return length;
}

static char *cut(const char *path, size_t length, as_error *e)
{
    char *text = strndup(path, length);
    if (!text) {
        (void)as_fail_nomem(e);
    }
    return text;
}

int as_folder_make(const char *path, as_made *made, as_error *e)
{
    if (!*path) {
        return as_fail(e, AS_INVALID, 0, "the path of the folder is empty");
    }
    char *text = cut(path, strlen(path), e);
    if (!text) {
        return AS_NOMEM;
    }
    /* Deepest first: what is there already is not touched, and need not be writable. */
    size_t whole = strlen(text);
    size_t length = whole;
    size_t above = 0; /* of the deepest component so far under which things can be made */
    int code = AS_OK;
    while (code == AS_OK) {
        char after = text[length];
        text[length] = '\0';
        bool created = as_sys_table.mkdirat(AT_FDCWD, text, 0777) == 0;
        int reason = created ? 0 : errno;
        if (created) {
            code = as_names_add(&made->paths, text, e);
            if (code != AS_OK) {
                (void)as_sys_table.unlinkat(AT_FDCWD, text, AT_REMOVEDIR);
            }
        } else if (reason != EEXIST && reason != ENOENT && reason != EINTR) {
            code = as_fail(e, AS_SYSTEM, reason, "%s: cannot make this folder", text);
        }
        text[length] = after;
        if (code != AS_OK || reason == EINTR) {
            continue;
        }
        if (reason == ENOENT) {
            size_t shorter = parent_length(text, length);
            if (shorter == 0 || shorter == length) {
                code = as_fail(e, AS_SYSTEM, reason, "%s: cannot make this folder", path);
            } else if (shorter <= above) {
                /* Its parent is there, and yet it is as if it were not. */
                code =
                    as_fail(e, AS_SYSTEM, reason,
                            "%s: cannot make a folder in %.*s, which is a link to nothing, or on "
                            "a file system that takes no folders",
                            path, (int)shorter, text);
            }
            length = shorter;
        } else if (length == whole) {
            break;
        } else {
            above = length;
            /* One component further down. */
            while (length < whole && text[length] == '/') {
                length++;
            }
            while (length < whole && text[length] != '/') {
                length++;
            }
        }
    }
    free(text);
    return code;
}

/* fsyncs `parent`, seen from `folder`, which holds the entry of `path`. */
static int sync_parent(int folder, const char *parent, const char *path, const as_log *log,
                       as_error *e)
{
    int fd = as_open(folder, parent, OPEN_FOLDER, 0);
    if (fd < 0 && (errno == EACCES || errno == EPERM)) {
        as_log_say(
            log, AS_LOG_INFO,
            "%s: the folder above may not be opened, so it is left to the file system when a "
            "power cut can no longer take this folder away",
            path);
        return AS_OK;
    }
    if (fd < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot open the folder above", path);
    }
    as_error own = AS_ERROR_INIT;
    int code = as_folder_sync(fd, path, &own);
    (void)as_sys_table.close(fd);
    if (code != AS_OK) {
        code = as_fail(e, AS_SYSTEM, own.sys_errno, "%s: cannot fsync the folder above", path);
    }
    as_error_clear(&own);
    return code;
}

int as_made_sync(const as_made *made, const as_log *log, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < made->paths.count; i++) {
        const char *path = made->paths.items[i];
        size_t length = parent_length(path, strlen(path));
        char *parent = length ? cut(path, length, e) : cut(".", 1, e);
        if (!parent) {
            return AS_NOMEM;
        }
        code = sync_parent(AT_FDCWD, parent, path, log, e);
        free(parent);
    }
    return code;
}

int as_folder_sync_parent(int folder, const char *path, const as_log *log, as_error *e)
{
    /* Not by the path: if that is a link, the folder's entry lies elsewhere. */
    return sync_parent(folder, "..", path, log, e);
}

void as_made_undo(as_made *made)
{
    for (size_t i = made->paths.count; i-- > 0;) {
        (void)as_sys_table.unlinkat(AT_FDCWD, made->paths.items[i], AT_REMOVEDIR);
    }
    as_made_free(made);
}

void as_made_free(as_made *made)
{
    as_names_free(&made->paths);
}

int as_folder_open(const char *path, int *fd, as_error *e)
{
    *fd = as_open(AT_FDCWD, path, OPEN_FOLDER, 0);
    if (*fd >= 0) {
        return AS_OK;
    }
    if (errno == ENOENT) {
        struct stat status;
        bool link = as_sys_table.fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
        return as_fail(e, AS_NOT_FOUND, 0, "%s: %s", path,
                       link ? "this is a link to nothing" : "there is no such folder");
    }
    if (errno == ENOTDIR) {
        return as_fail(e, AS_INVALID, 0, "%s: this is not a folder", path);
    }
    return as_fail(e, AS_SYSTEM, errno, "%s: cannot open this folder", path);
}

/* May more people write to `inner` than to `outer`? Who may write to a folder may move and remove
 * all that is in it, unless it has the sticky bit. */
static int check_modes(int outer, int inner, const char *what, as_error *e)
{
    struct stat out;
    struct stat in;
    if (as_sys_table.fstat(outer, &out) < 0 || as_sys_table.fstat(inner, &in) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this folder", what);
    }
    bool sticky = out.st_mode & S_ISVTX;
    /* Where the file system knows no modes, both are open to everybody, without a sticky bit. */
    if ((in.st_mode & S_IWOTH) && (sticky || !(out.st_mode & S_IWOTH))) {
        return as_fail(e, AS_INVALID, 0,
                       "%s: everybody may write to this folder, so what lies in it may be "
                       "anybody's; look at it, then take the right away (chmod o-w) or remove the "
                       "folder, and run again",
                       what);
    }
    return AS_OK;
}

int as_folder_open_at(int folder, const char *name, const char *what, int *fd, as_error *e)
{
    *fd = as_open(folder, name, OPEN_FOLDER | O_NOFOLLOW, 0);
    if (*fd >= 0) {
        int code = check_modes(folder, *fd, what, e);
        if (code != AS_OK) {
            (void)as_sys_table.close(*fd);
            *fd = -1;
        }
        return code;
    }
    if (errno == ENOENT) {
        return as_fail(e, AS_NOT_FOUND, 0, "%s: there is no such folder", what);
    }
    if (errno == ENOTDIR || errno == ELOOP) {
        return as_fail(
            e, AS_INVALID, 0,
            "%s: a link or a file lies where allshard keeps a folder; look at it, remove "
            "it and run again",
            what);
    }
    return as_fail(e, AS_SYSTEM, errno, "%s: cannot open this folder", what);
}

int as_folder_sync(int fd, const char *what, as_error *e)
{
    int result;
    do {
        result = as_sys_table.fsync(fd);
    } while (result < 0 && errno == EINTR);
    if (result == 0 || errno == EINVAL || errno == ENOTSUP) {
        return AS_OK;
    }
    return as_fail(e, AS_SYSTEM, errno, "%s: cannot fsync this folder", what);
}

int as_folder_list(int fd, const char *what, as_names *out, as_error *e)
{
    /* A description of its own: reading moves its position, and closedir closes it. */
    int own = as_open(fd, ".", OPEN_FOLDER, 0);
    if (own < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot open this folder", what);
    }
    DIR *dir = as_sys_table.fdopendir(own);
    if (!dir) {
        int reason = errno;
        (void)as_sys_table.close(own);
        return as_fail(e, AS_SYSTEM, reason, "%s: cannot list this folder", what);
    }
    int code = AS_OK;
    while (code == AS_OK) {
        errno = 0;
        const struct dirent *entry = as_sys_table.readdir(dir);
        if (!entry) {
            if (errno) {
                code = as_fail(e, AS_SYSTEM, errno, "%s: cannot list this folder", what);
            }
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            code = as_names_add(out, entry->d_name, e);
        }
    }
    (void)as_sys_table.closedir(dir);
    as_names_sort(out);
    return code;
}

/* Deeper trees than this are none of allshard's making. */
enum { DEEPEST_TREE = 64 };

/* What is mounted in a tree is somebody's whom its removal is no business of. */
static int check_mount(int folder, int inner, const char *name, const char *what, as_error *e)
{
    struct stat out;
    struct stat in;
    struct statx more;
    if (as_sys_table.fstat(folder, &out) < 0 || as_sys_table.fstat(inner, &in) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this folder", what);
    }
    /* Another place of the same file system has the same st_dev; older kernels do not tell more. */
    bool is_mount = as_sys_table.statx(inner, "", AT_EMPTY_PATH, STATX_TYPE, &more) == 0 &&
                    (more.stx_attributes & more.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT);
    return is_mount || in.st_dev != out.st_dev
               ? as_fail(e, AS_SYSTEM, EBUSY,
                         "%s: something is mounted at \"%s\" in what is to be removed; unmount it",
                         what, name)
               : AS_OK;
}

static int remove_below(int folder, const char *name, const char *what, const as_tick *tick,
                        int depth, as_error *e)
{
    if (tick) {
        int code = tick->call(tick->self, e);
        if (code != AS_OK) {
            return code;
        }
    }
    if (as_sys_table.unlinkat(folder, name, 0) == 0 || errno == ENOENT) {
        return AS_OK;
    }
    /* Linux says EISDIR for a folder, POSIX EPERM. */
    if (errno != EISDIR && errno != EPERM) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot remove \"%s\"", what, name);
    }
    int reason = errno;
    int fd = as_open(folder, name, OPEN_FOLDER | O_NOFOLLOW, 0);
    if (fd < 0) {
        return as_fail(e, AS_SYSTEM, errno == ENOTDIR ? reason : errno, "%s: cannot remove \"%s\"",
                       what, name);
    }
    if (depth >= DEEPEST_TREE) {
        (void)as_sys_table.close(fd);
        return as_fail(e, AS_LIMIT, 0,
                       "%s: folders lie too deep in each other to be removed; "
                       "remove them by hand",
                       what);
    }
    as_names names = AS_NAMES_INIT;
    int code = check_mount(folder, fd, name, what, e);
    code = code == AS_OK ? as_folder_list(fd, what, &names, e) : code;
    for (size_t i = 0; code == AS_OK && i < names.count; i++) {
        code = remove_below(fd, names.items[i], what, tick, depth + 1, e);
    }
    as_names_free(&names);
    (void)as_sys_table.close(fd);
    if (code == AS_OK && as_sys_table.unlinkat(folder, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot remove the folder \"%s\"", what, name);
    }
    return code;
}

int as_tree_remove(int folder, const char *name, const char *what, const as_tick *tick, as_error *e)
{
    return remove_below(folder, name, what, tick, 0, e);
}

int as_file_create(int folder, const char *name, mode_t mode, const char *what, int *fd,
                   as_error *e)
{
    *fd = as_open(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode ? mode : 0666);
    if (*fd < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot create this file", what);
    }
    if (mode && as_sys_table.fchmod(*fd, mode) < 0) {
        int reason = errno;
        (void)as_sys_table.close(*fd);
        (void)as_sys_table.unlinkat(folder, name, 0);
        *fd = -1;
        return as_fail(e, AS_SYSTEM, reason, "%s: cannot give this file the mode %04o", what,
                       (unsigned)mode);
    }
    return AS_OK;
}

int as_file_put(int folder, const char *name, mode_t mode, const char *what, const void *bytes,
                size_t count, as_error *e)
{
    int fd;
    int code = as_file_create(folder, name, mode, what, &fd, e);
    if (code != AS_OK) {
        return code;
    }
    code = as_write_all(fd, bytes, count, 0, what, e);
    if (code == AS_OK) {
        code = as_sync(fd, what, e);
    }
    (void)as_sys_table.close(fd);
    if (code != AS_OK) {
        (void)as_sys_table.unlinkat(folder, name, 0);
    }
    return code;
}

int as_file_read(int folder, const char *name, uint64_t limit, const char *what, as_buffer *out,
                 struct stat *status, bool *found, as_error *e)
{
    *found = false;
    /* O_NONBLOCK: somebody's named pipe must not make us wait. */
    int fd = as_open(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0) {
        if (errno == ENOENT) {
            return AS_OK;
        }
        if (errno == ELOOP) {
            return as_fail(e, AS_INVALID, 0, "%s: this is a link, not a file", what);
        }
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot open this file", what);
    }
    struct stat now;
    int code = AS_OK;
    void *place = NULL;
    if (as_sys_table.fstat(fd, &now) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this file", what);
    } else if (!S_ISREG(now.st_mode)) {
        code = as_fail(e, AS_INVALID, 0, "%s: this is not a regular file", what);
    } else if ((uint64_t)now.st_size > limit) {
        code = as_fail(e, AS_LIMIT, 0, "%s: %lld bytes are more than such a file can have", what,
                       (long long)now.st_size);
    } else {
        code = as_buffer_extend(out, (size_t)now.st_size, &place, e);
    }
    if (code == AS_OK) {
        code = as_read_all(fd, place, (size_t)now.st_size, 0, what, e);
    }
    if (code == AS_OK && status) {
        *status = now;
    }
    *found = code == AS_OK;
    (void)as_sys_table.close(fd);
    return code;
}
