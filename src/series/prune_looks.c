/* SPDX-License-Identifier: Apache-2.0
 * Looks at what is about to go; apart from the plan, which touches no disk.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/checked.h"
#include "base/sys.h"
#include "commit/movable.h"
#include "series/prune.h"
#include "series/tags.h"

int as_prune_spare(as_prune *p, const as_members *members, int root, as_error *e)
{
    if (p->going.count == 0) {
        return AS_OK;
    }
    as_names going = AS_NAMES_INIT;
    int64_t bytes = 0;
    int code = AS_OK;
    for (size_t i = 0; i < members->count && code == AS_OK; i++) {
        const as_member *m = &members->items[i];
        if (p->reasons[i] != 0) {
            continue;
        }
        if (as_immovable(root, m->name)) {
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
    as_error_clear(&e);
    as_names_free(&tags);
    as_sys_table.close(fd);
    return back;
}
