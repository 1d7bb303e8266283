/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

#include "base/quote.h"
#include "base/sys.h"
#include "commit/folder.h"

/* The path's next part, up to a slash or the end. */
static size_t part_length(const char *part)
{
    return strcspn(part, "/");
}

static const char *next_part(const char *part)
{
    part += part_length(part);
    return part + strspn(part, "/");
}

static bool is_meta(const char *part)
{
    size_t length = part_length(part);
    return length == sizeof AS_META_NAME - 1 && strncasecmp(part, AS_META_NAME, length) == 0;
}

int as_beneath_check(const char **name, const char *what, as_error *e)
{
    const char *at = *name;
    while (at[0] == '.' && at[1] == '/') {
        at = next_part(at);
    }
    bool good = at[0] && at[0] != '/';
    for (const char *part = at; good && *part; part = next_part(part)) {
        good = !(part_length(part) == 2 && part[0] == '.' && part[1] == '.');
    }
    if (!good) {
        return as_fail(e, AS_INVALID, 0, "%s: the file name %s leads out of the folder", what,
                       as_quote(*name, strlen(*name)).text);
    }
    if (is_meta(at)) {
        return as_fail(e, AS_INVALID, 0,
                       "%s: the file name %s lies where unfinished saves are kept; no checkpoint "
                       "has files there",
                       what, as_quote(*name, strlen(*name)).text);
    }
    *name = at;
    return AS_OK;
}

/* Goes into the sub-folder that `part` begins with; closes `folder` if it is `own`. A descriptor,
 * or -1 with errno. */
static int enter(int folder, const char *part, bool own)
{
    char name[256];
    size_t length = part_length(part);
    int fd = -1;
    int reason = ENAMETOOLONG;
    if (length < sizeof name) {
        memcpy(name, part, length);
        name[length] = '\0';
        fd = as_open(folder, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
        reason = errno;
    }
    struct stat status;
    /* O_DIRECTORY says of a link what it says of a file. */
    if (fd < 0 && reason == ENOTDIR &&
        as_sys_table.fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(status.st_mode)) {
        reason = ELOOP;
    }
    if (own) {
        (void)as_sys_table.close(folder);
    }
    errno = reason;
    return fd;
}

static int open_last(int folder, const char *name, bool links)
{
    /* O_NONBLOCK: what is a file now may be a pipe in a moment. */
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (links ? 0 : O_NOFOLLOW);
    struct stat status;
    if (as_sys_table.fstatat(folder, name, &status, links ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
        return -1;
    }
    if (S_ISLNK(status.st_mode)) {
        errno = ELOOP;
        return -1;
    }
    return as_open(folder, name, S_ISREG(status.st_mode) ? flags : O_PATH, 0);
}

int as_beneath_open(int folder, const char *name, bool links)
{
    int at = folder;
    const char *part = name;
    while (part[part_length(part)]) {
        if (!(part_length(part) == 1 && part[0] == '.')) {
            at = enter(at, part, at != folder);
        }
        if (at < 0) {
            return -1;
        }
        part = next_part(part);
    }
    int fd = -1;
    if (*part) {
        fd = open_last(at, part, links);
    } else {
        errno = ENOTDIR; /* "a/": a folder at the best */
    }
    int reason = errno;
    if (at != folder) {
        (void)as_sys_table.close(at);
    }
    errno = reason;
    return fd;
}
