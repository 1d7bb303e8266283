/* SPDX-License-Identifier: Apache-2.0
 * Which file names from an index may be opened.
 */
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "format/index.h"
#include "format/repeats.h"

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

typedef struct folded {
    const as_index *index;
    const char *names; /* file_names in small letters */
} folded;

static void folded_text(const void *list, size_t i, const char **text, size_t *length)
{
    const folded *f = list;
    *text = f->names + ((const size_t *)(const void *)f->index->files.data)[i];
    *length = strlen(*text);
}

int as_index_warn_case(const as_index *x, const char *source_name, const as_log *log, as_error *e)
{
    size_t size = x->file_names.size;
    char *names = malloc(size + 1);
    if (!names) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < size; i++) {
        char c = x->file_names.data[i];
        names[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    folded f = {.index = x, .names = names};
    uint32_t *first;
    size_t count = as_index_file_count(x);
    int code = as_repeats_find(&f, count, folded_text, &first, e);
    for (size_t i = 0; code == AS_OK && first && i < count; i++) {
        if (first[i] != i) {
            const char *a = as_index_file(x, first[i]);
            const char *b = as_index_file(x, i);
            as_log_say(log, AS_LOG_WARNING,
                       "%s: the files %s and %s differ in the case of letters only: a file system "
                       "that sees no difference holds one of them",
                       source_name, as_quote(a, strlen(a)).text, as_quote(b, strlen(b)).text);
            break;
        }
    }
    free(first);
    free(names);
    return code;
}
