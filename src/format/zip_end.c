/* SPDX-License-Identifier: Apache-2.0 */
#include "format/zip_end.h"

#include <stdlib.h>

#include "base/checked.h"
#include "format/zip.h"

/* Where an end with a comment could begin. */
enum { SEARCHED = AS_ZIP_END_BYTES + AS_ZIP_MOST_16 };

#define LONGEST_DIRECTORY (UINT64_C(128) << 20)

int as_zip_refuse(const as_source *source, as_error *e, const char *reason)
{
    return as_fail(e, AS_FORMAT, 0, "%s: not a zip file that can be read safely: %s", source->name,
                   reason);
}

/* There is no end record where it must be: says whether one lies elsewhere. */
static int refuse_end(const as_source *source, as_error *e)
{
    size_t count = source->size < SEARCHED ? (size_t)source->size : SEARCHED;
    char *bytes = malloc(count + 1);
    if (!bytes) {
        return as_fail_nomem(e);
    }
    int code = source->read(source, source->size - count, bytes, count, e);
    bool found = false;
    for (size_t i = 0; code == AS_OK && !found && i + 4 <= count; i++) {
        found = as_zip_get_32(bytes, i) == AS_ZIP_END;
    }
    free(bytes);
    if (code != AS_OK) {
        return code;
    }
    return as_zip_refuse(
        source, e,
        found ? "its end has a comment, or other bytes follow, which hide from some "
                "readers what others see"
              : "it has no end record: it was cut short, or is something else. Fetch or "
                "save it again");
}

/* The zip64 end, if its locator lies before the end record at `end`; *limit: where the directory
 * must end. */
static int read_end_64(const as_source *source, uint64_t end, as_zip_directory *d, bool *found,
                       uint64_t *limit, as_error *e)
{
    unsigned char locator[AS_ZIP_LOCATOR_64_BYTES];
    unsigned char bytes[AS_ZIP_END_64_BYTES];
    *found = false;
    *limit = end;
    if (end < sizeof locator) {
        return AS_OK;
    }
    int code = source->read(source, end - sizeof locator, locator, sizeof locator, e);
    if (code != AS_OK || as_zip_get_32(locator, 0) != AS_ZIP_LOCATOR_64) {
        return code;
    }
    uint64_t at = end - sizeof locator;
    if (as_zip_get_32(locator, 4) != 0 || as_zip_get_32(locator, 16) != 1) {
        return as_zip_refuse(source, e, "it is one of several disks");
    }
    if (at < sizeof bytes || as_zip_get_64(locator, 8) != at - sizeof bytes) {
        return as_zip_refuse(source, e, "its zip64 end does not lie where the locator has it");
    }
    at -= sizeof bytes;
    code = source->read(source, at, bytes, sizeof bytes, e);
    if (code != AS_OK) {
        return code;
    }
    if (as_zip_get_32(bytes, 0) != AS_ZIP_END_64 || as_zip_get_64(bytes, 4) != sizeof bytes - 12) {
        return as_zip_refuse(source, e, "its zip64 end is damaged");
    }
    d->count = as_zip_get_64(bytes, 32);
    d->size = as_zip_get_64(bytes, 40);
    d->begin = as_zip_get_64(bytes, 48);
    if (as_zip_get_32(bytes, 16) != 0 || as_zip_get_32(bytes, 20) != 0 ||
        as_zip_get_64(bytes, 24) != d->count) {
        return as_zip_refuse(source, e, "it is one of several disks");
    }
    *found = true;
    *limit = at;
    return AS_OK;
}

int as_zip_read_end(const as_source *source, as_zip_directory *d, as_error *e)
{
    unsigned char bytes[AS_ZIP_END_BYTES];
    if (source->size < sizeof bytes) {
        return as_zip_refuse(source, e, "it is too short. Fetch or save it again");
    }
    uint64_t at = source->size - sizeof bytes;
    int code = source->read(source, at, bytes, sizeof bytes, e);
    if (code != AS_OK) {
        return code;
    }
    if (as_zip_get_32(bytes, 0) != AS_ZIP_END || as_zip_get_16(bytes, 20) != 0) {
        return refuse_end(source, e);
    }
    bool wide;
    uint64_t limit;
    code = read_end_64(source, at, d, &wide, &limit, e);
    if (code != AS_OK) {
        return code;
    }
    uint32_t count = as_zip_get_16(bytes, 10);
    uint32_t size = as_zip_get_32(bytes, 12);
    uint32_t begin = as_zip_get_32(bytes, 16);
    if (as_zip_get_16(bytes, 4) != 0 || as_zip_get_16(bytes, 6) != 0 ||
        as_zip_get_16(bytes, 8) != count) {
        return as_zip_refuse(source, e, "it is one of several disks");
    }
    if (!wide) {
        *d = (as_zip_directory){.begin = begin, .size = size, .count = count};
    } else if ((count != AS_ZIP_MOST_16 && count != d->count) ||
               (size != AS_ZIP_MOST_32 && size != d->size) ||
               (begin != AS_ZIP_MOST_32 && begin != d->begin)) {
        return as_zip_refuse(source, e, "its two end records disagree");
    }
    uint64_t end;
    if (!as_add_u64(d->begin, d->size, &end) || end != limit) {
        return as_zip_refuse(
            source, e,
            "its directory does not lie where the end record has it; bytes may have been "
            "put before the zip file or into it");
    }
    if (d->size / AS_ZIP_CENTRAL_BYTES < d->count) {
        return as_zip_refuse(source, e, "its directory is too short for its records");
    }
    if (d->size > LONGEST_DIRECTORY) {
        return as_fail(e, AS_LIMIT, 0,
                       "%s: the zip file's directory has %llu bytes; 128 MiB is "
                       "the most",
                       source->name, (unsigned long long)d->size);
    }
    return AS_OK;
}
