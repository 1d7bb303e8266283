/* SPDX-License-Identifier: Apache-2.0 */
#include "format/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

static const as_format *const formats[] = {&as_format_safetensors};

const as_format *as_format_by_name(const char *file_name)
{
    size_t length = strlen(file_name);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        size_t extension = strlen(formats[i]->extension);
        if (length >= extension &&
            memcmp(file_name + length - extension, formats[i]->extension, extension) == 0) {
            return formats[i];
        }
    }
    return NULL;
}

void as_literal_patch(as_literal *l, uint32_t crc)
{
    for (int i = 0; i < AS_LATE_BYTES; i++) {
        l->bytes[i] = (char)(crc >> (8 * i) & 0xff);
    }
}

void as_file_layout_free(as_file_layout *l)
{
    for (size_t i = 0; i < l->literal_count; i++) {
        free(l->literals[i].bytes);
    }
    free(l->literals);
    *l = (as_file_layout){0};
}

static int read_memory(const as_source *source, uint64_t offset, void *bytes, size_t count,
                       as_error *e)
{
    if (offset > source->size || count > source->size - offset) {
        return as_fail(e, AS_FORMAT, 0, "%s: the file ends where %zu more bytes were expected",
                       source->name, count);
    }
    if (count > 0) {
        memcpy(bytes, (const char *)source->self + offset, count);
    }
    return AS_OK;
}

as_source as_source_memory(const void *bytes, size_t size, const char *name)
{
    return (as_source){.read = read_memory, .self = bytes, .size = size, .name = name};
}

static int read_file(const as_source *source, uint64_t offset, void *bytes, size_t count,
                     as_error *e)
{
    if (offset > INT64_MAX) {
        return as_fail(e, AS_FORMAT, 0, "%s: no file has an offset beyond 2^63", source->name);
    }
    return as_read_all(*(const int *)source->self, bytes, count, (int64_t)offset, source->name, e);
}

int as_source_file(as_source *out, const int *fd, const char *name, as_error *e)
{
    struct stat status;
    if (as_sys_table.fstat(*fd, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot fstat", name);
    }
    if (!S_ISREG(status.st_mode)) {
        return as_fail(e, AS_FORMAT, 0, "%s: this is %s, not a file", name,
                       S_ISDIR(status.st_mode) ? "a folder" : "a device, pipe or socket");
    }
    *out =
        (as_source){.read = read_file, .self = fd, .size = (uint64_t)status.st_size, .name = name};
    return AS_OK;
}
