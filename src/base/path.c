/* SPDX-License-Identifier: Apache-2.0 */
#include "base/path.h"

#include <string.h>

char *as_path_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
}
