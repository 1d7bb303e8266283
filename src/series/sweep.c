/* SPDX-License-Identifier: Apache-2.0 */
#include "series/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/hash.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "commit/meta.h"
#include "commit/names.h"

typedef struct sweep {
    const char *root; /* for texts */
    int rank;
    int ranks;
} sweep;

/* A folder of ours inside an open one; *fd -1: it is gone, as others are at work here, too. */
static int open_inside(const sweep *s, int folder, const char *name, int *fd, as_error *e)
{
    *fd = as_open(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    return *fd >= 0 || errno == ENOENT || errno == ENOTDIR || errno == ELOOP
               ? AS_OK
               : as_fail(e, AS_SYSTEM, errno, "%s/" AS_META_NAME ": cannot open \"%s\"", s->root,
                         name);
}

static bool is_mine(const sweep *s, const char *name)
{
    return as_hash_owner(as_hash_bytes(name, strlen(name)), s->ranks) == s->rank;
}

/* Removes its share of the files. Folders below it, which no checkpoint of ours has, stay. */
static int sweep_checkpoint(const sweep *s, int fd, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    int code = as_folder_list(fd, s->root, &names, e);
    for (size_t i = 0; i < names.count && code == AS_OK; i++) {
        if (is_mine(s, names.items[i]) && as_sys_table.unlinkat(fd, names.items[i], 0) < 0 &&
            errno != ENOENT && errno != EISDIR && errno != EPERM) {
            code = as_fail(e, AS_SYSTEM, errno, "%s/" AS_META_NAME ": cannot remove \"%s\"",
                           s->root, names.items[i]);
        }
    }
    as_names_free(&names);
    return code;
}

/* All checkpoints in a folder that was set aside. */
static int sweep_folder(const sweep *s, int folder, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    int code = as_folder_list(folder, s->root, &names, e);
    for (size_t i = 0; i < names.count && code == AS_OK; i++) {
        int fd;
        code = open_inside(s, folder, names.items[i], &fd, e);
        if (code == AS_OK && fd >= 0) {
            code = sweep_checkpoint(s, fd, e);
            (void)as_sys_table.close(fd);
        }
    }
    as_names_free(&names);
    return code;
}

static int sweep_meta(const sweep *s, int meta, const char *gone, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    int code = as_folder_list(meta, s->root, &names, e);
    for (size_t i = 0; i < names.count && code == AS_OK; i++) {
        int fd = -1;
        if (strncmp(names.items[i], gone, strlen(gone)) == 0) {
            code = open_inside(s, meta, names.items[i], &fd, e);
        }
        if (code == AS_OK && fd >= 0) {
            code = sweep_folder(s, fd, e);
            (void)as_sys_table.close(fd);
        }
    }
    as_names_free(&names);
    return code;
}

int as_sweep(const char *root, const char *gone, int rank, int ranks, as_error *e)
{
    const sweep s = {.root = root, .rank = rank, .ranks = ranks};
    int folder;
    int meta = -1;
    as_error own = AS_ERROR_INIT;
    int code = as_folder_open(root, &folder, &own);
    if (code == AS_OK) {
        code = as_meta_open(folder, root, &meta, &own);
        (void)as_sys_table.close(folder);
    }
    if (code == AS_OK) {
        code = sweep_meta(&s, meta, gone, &own);
        (void)as_sys_table.close(meta);
    }
    if (code == AS_NOT_FOUND) {
        as_error_clear(&own);
    }
    return as_error_pass(e, &own);
}
