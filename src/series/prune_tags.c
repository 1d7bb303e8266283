/* SPDX-License-Identifier: Apache-2.0
 * The last look at what is about to go; apart from the plan, which touches no disk.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/sys.h"
#include "series/prune.h"
#include "series/tags.h"

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
