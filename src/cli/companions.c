/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/companions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/quote.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "series/shards.h"
#include "series/tags.h"
#include "commit/folder.h"
#include "commit/view.h"

static const int64_t largest = INT64_C(512) << 20;

static bool ends_in(const char *name, const char *tail)
{
    size_t length = strlen(name);
    size_t tail_length = strlen(tail);
    return length >= tail_length && strcmp(name + length - tail_length, tail) == 0;
}

bool as_companion_name(const char *name)
{
    static const char *const weights[] = {
        ".safetensors", ".index.json", ".bin",  ".pt", ".pth",  ".h5",
        ".gguf",        ".msgpack",    ".onnx", ".ot", ".ckpt",
    };
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        if (ends_in(name, weights[i])) {
            return false;
        }
    }
    return name[0] != '.' && strcmp(name, AS_MANIFEST_NAME) != 0 && strcmp(name, AS_TAGS_NAME) != 0;
}

/* Reads an open file and gives it to the state. */
static int add_open_file(as_spread *s, const char *path, const char *name, int fd, bool *added,
                         as_error *e)
{
    struct stat status;
    if (as_sys_table.fstat(fd, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s/%s: cannot be looked at", path, name);
    }
    if (status.st_size > largest) {
        as_say_warning(&s->tool->out,
                       "%s/%s has %s and is no weight file that is known: it was left out; copy it "
                       "yourself if it belongs to the model",
                       path, name, as_human_bytes(status.st_size).text);
        return AS_OK;
    }
    size_t size = (size_t)status.st_size;
    char *bytes = malloc(size + 1);
    int code = bytes ? as_read_all(fd, bytes, size, 0, name, e) : as_fail_nomem(e);
    if (code == AS_OK) {
        code = allshard_state_file(s->state, name, bytes, size);
        if (code != AS_OK) {
            code = as_spread_error(s, code, e);
        }
    }
    free(bytes);
    *added = code == AS_OK;
    return code;
}

static int add_file(as_spread *s, as_view *v, const char *path, const char *name, bool *added,
                    as_error *e)
{
    int fd = -1;
    as_error why = AS_ERROR_INIT;
    if (!as_utf8_valid(name, strlen(name))) {
        as_say_warning(&s->tool->out, "%s: the name of the file %s is not UTF-8: it was left out",
                       path, as_quote(name, strlen(name)).text);
        return AS_OK;
    }
    int code = as_shard_open(v, name, &fd, &why);
    if (code == AS_NOT_FOUND) {
        as_say_warning(&s->tool->out, "%s/%s is a link to nothing: it was left out", path, name);
    }
    if (code == AS_NOT_FOUND || code == AS_FORMAT) { /* FORMAT: a folder, a device */
        as_error_clear(&why);
        return AS_OK;
    }
    if (code != AS_OK) {
        return as_error_pass(e, &why);
    }
    code = add_open_file(s, path, name, fd, added, e);
    (void)as_sys_table.close(fd);
    return code;
}

int as_companions_add(as_spread *s, const char *path, int *count, as_error *e)
{
    *count = 0;
    as_view *v = NULL;
    int code = as_view_open(&v, path, e);
    if (code != AS_OK) {
        return code;
    }
    as_names names = AS_NAMES_INIT;
    if (!as_view_single(v)) {
        code = as_view_list(v, &names, e);
    }
    for (size_t i = 0; i < names.count && code == AS_OK; i++) {
        if (as_companion_name(names.items[i])) {
            bool added = false;
            code = add_file(s, v, path, names.items[i], &added, e);
            *count += added;
        }
    }
    as_names_free(&names);
    as_view_close(v);
    return code;
}
