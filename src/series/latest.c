/* SPDX-License-Identifier: Apache-2.0 */
#include "series/latest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "commit/names.h"

/* Made under the lock of the root, so that one name will do; hidden, so that nobody takes it for a
 * checkpoint. */
static const char draft[] = ".latest.new";

enum { LARGEST_FILE = 256 }; /* bytes: the longest name and a newline */

static bool is_name(const char *name)
{
    return as_name_is_plain(name) && name[0] != '.';
}

/* The name in a text file; NULL: it is no such text. */
static int read_text(int root, const char *path, char **name, as_error *e)
{
    as_buffer bytes = AS_BUFFER_INIT;
    as_error own = AS_ERROR_INIT;
    bool found = false;
    int code = as_file_read(root, AS_LATEST_NAME, LARGEST_FILE, path, &bytes, NULL, &found, &own);
    if (code == AS_INVALID || code == AS_LIMIT) {
        as_error_clear(&own); /* a folder, or a longer file */
    }
    bool line = found && bytes.size > 1 && bytes.data[bytes.size - 1] == '\n' &&
                !memchr(bytes.data, '\0', bytes.size);
    if (line) {
        bytes.data[bytes.size - 1] = '\0';
        if (is_name(bytes.data) && !strchr(bytes.data, '\n')) {
            *name = strdup(bytes.data);
            if (!*name) {
                (void)as_fail_nomem(&own);
            }
        }
    }
    as_buffer_free(&bytes);
    return as_error_pass(e, &own);
}

/* What lies there: *name as as_latest_get, *ours whether it may be replaced or removed, or is not
 * there at all. */
static int look(int root, const char *path, char **name, bool *ours, as_error *e)
{
    char target[LARGEST_FILE];
    *name = NULL;
    ssize_t length = as_sys_table.readlinkat(root, AS_LATEST_NAME, target, sizeof target);
    if (length < 0 && errno == EINVAL) {
        int code = read_text(root, path, name, e);
        *ours = *name != NULL;
        return code;
    }
    *ours = true;
    if (length < 0 && errno != ENOENT) {
        return as_fail(e, AS_SYSTEM, errno, "%s/" AS_LATEST_NAME ": cannot read this link", path);
    }
    if (length > 0 && (size_t)length < sizeof target) {
        target[length] = '\0';
        if (is_name(target)) {
            *name = strdup(target);
            return *name ? AS_OK : as_fail_nomem(e);
        }
    }
    return AS_OK;
}

int as_latest_get(int root, const char *path, char **name, as_error *e)
{
    bool ours;
    return look(root, path, name, &ours, e);
}

/* Under the name of the draft: a link, or a file where there can be none. */
static int make(int root, const char *path, const char *name, as_error *e)
{
    if (as_sys_table.unlinkat(root, draft, 0) < 0 && errno != ENOENT) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot remove \"%s\"", path, draft);
    }
    if (as_sys_table.symlinkat(name, root, draft) == 0) {
        return AS_OK;
    }
    if (errno != EPERM && errno != ENOSYS && errno != EOPNOTSUPP && errno != EINVAL) {
        return as_fail(e, AS_SYSTEM, errno, "%s/" AS_LATEST_NAME ": cannot make this link", path);
    }
    as_buffer text = AS_BUFFER_INIT;
    int code = as_buffer_format(&text, e, "%s\n", name);
    if (code == AS_OK) {
        code = as_file_put(root, draft, 0, path, text.data, text.size, e);
    }
    as_buffer_free(&text);
    return code;
}

int as_latest_set(int root, const char *path, const char *name, as_error *e)
{
    char *before;
    bool ours;
    if (name && !is_name(name)) {
        return as_fail(e, AS_INVALID, 0,
                       "%s/" AS_LATEST_NAME ": \"%s\" cannot be the name of a checkpoint", path,
                       name);
    }
    int code = look(root, path, &before, &ours, e);
    free(before);
    if (code == AS_OK && !ours) {
        code = as_fail(e, AS_INVALID, 0,
                       "%s/" AS_LATEST_NAME ": a folder or a file of somebody's lies where the "
                       "link to the newest checkpoint belongs; rename it",
                       path);
    }
    if (code != AS_OK) {
        return code;
    }
    if (!name) {
        if (as_sys_table.unlinkat(root, AS_LATEST_NAME, 0) < 0 && errno != ENOENT) {
            return as_fail(e, AS_SYSTEM, errno, "%s/" AS_LATEST_NAME ": cannot remove this link",
                           path);
        }
        return as_folder_sync(root, path, e);
    }
    code = make(root, path, name, e);
    if (code == AS_OK && as_sys_table.renameat(root, draft, root, AS_LATEST_NAME) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s/" AS_LATEST_NAME ": cannot put the new link there",
                       path);
        (void)as_sys_table.unlinkat(root, draft, 0);
    }
    return code == AS_OK ? as_folder_sync(root, path, e) : code;
}
