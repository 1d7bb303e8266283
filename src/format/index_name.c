/* SPDX-License-Identifier: Apache-2.0
 * Which file names from an index may be opened.
 */
#include <string.h>

#include "base/quote.h"
#include "format/index.h"

static bool is_separator(char c)
{
    return c == '/' || c == '\\';
}

/* Whether the second character is a colon: a drive on Windows. */
static bool has_drive(const char *name, size_t length)
{
    size_t i = 1;
    while (i < length && ((unsigned char)name[i] & 0xc0) == 0x80) {
        i++;
    }
    return i < length && name[i] == ':';
}

static bool has_parent_part(const char *name, size_t length)
{
    size_t begin = 0;
    for (size_t i = 0; i <= length; i++) {
        if (i == length || is_separator(name[i])) {
            if (i - begin == 2 && name[begin] == '.' && name[begin + 1] == '.') {
                return true;
            }
            begin = i + 1;
        }
    }
    return false;
}

int as_index_check_file(const char *name, size_t length, const char *extension, as_error *e)
{
    const char *reason = NULL;
    size_t tail = strlen(extension);
    if (length > 0 && is_separator(name[0])) {
        reason = "it begins at a root";
    } else if (has_drive(name, length)) {
        reason = "it begins with a drive, as Windows reads it";
    } else if (has_parent_part(name, length)) {
        reason = "it has a part \"..\"";
    } else if (length < tail || memcmp(name + length - tail, extension, tail) != 0) {
        return as_fail(e, AS_FORMAT, 0, "the file name %s is refused: it does not end in %s",
                       as_quote(name, length).text, extension);
    } else if (memchr(name, '\0', length)) {
        reason = "it holds a NUL";
    }
    if (!reason) {
        return AS_OK;
    }
    return as_fail(e, AS_FORMAT, 0,
                   "the file name %s is refused: %s, and so could lead out of the checkpoint's "
                   "folder",
                   as_quote(name, length).text, reason);
}
