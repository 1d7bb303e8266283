/* SPDX-License-Identifier: Apache-2.0 */
#include "format/zip_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/crc32.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "format/zip.h"
#include "format/zip_end.h"

enum {
    FLAGS_KNOWN = AS_ZIP_FLAG_DESCRIPTOR | AS_ZIP_FLAG_UTF8 | 0x0006, /* 1, 2: of compressors */
    FLAG_ENCRYPTED = 0x2041, /* bits 0, 6, 13: plain, strong, masked directory */
    LOCAL_PIECE = 1024,      /* read at once of a local header: more than most of them have */
};

/* One record as its central header has it. */
typedef struct central {
    uint64_t size;
    uint64_t packed;
    uint64_t header;
    uint32_t crc;
    uint32_t flags;
    uint32_t method;
    const char *name;
    uint32_t name_length;
} central;

static int refuse_record(const as_source *source, const central *c, as_error *e, const char *reason)
{
    return as_fail(e, AS_FORMAT, 0, "%s: record %s of the zip file %s", source->name,
                   as_quote(c->name, c->name_length).text, reason);
}

int as_zip_sniff(const as_source *source, bool *is_zip, as_error *e)
{
    unsigned char bytes[4];
    *is_zip = false;
    if (source->size < sizeof bytes) {
        return AS_OK;
    }
    int code = source->read(source, 0, bytes, sizeof bytes, e);
    *is_zip = code == AS_OK && as_zip_get_32(bytes, 0) == AS_ZIP_LOCAL;
    return code;
}

/* Takes what has no room in 32 bits from the extra fields: those of size, packed, header (in this
 * order) that are not NULL. */
static int read_extra(const as_source *source, const central *c, const char *extra, size_t length,
                      uint64_t *const wanted[3], as_error *e)
{
    bool found = false;
    bool need = wanted[0] || wanted[1] || wanted[2];
    size_t at = 0;
    while (length - at >= 4) {
        uint32_t id = as_zip_get_16(extra, at);
        size_t count = as_zip_get_16(extra, at + 2);
        at += 4;
        if (count > length - at) {
            return refuse_record(source, c, e, "has a broken extra field");
        }
        if (id == AS_ZIP_EXTRA_64) {
            if (found) {
                return refuse_record(source, c, e, "has two zip64 fields");
            }
            found = true;
            size_t used = 0;
            for (int i = 0; i < 3; i++) {
                if (wanted[i] && count - used < 8) {
                    return refuse_record(source, c, e, "has a zip64 field that is too short");
                }
                if (wanted[i]) {
                    *wanted[i] = as_zip_get_64(extra, at + used);
                    used += 8;
                }
            }
        }
        at += count;
    }
    if (at != length) {
        return refuse_record(source, c, e, "has a broken extra field");
    }
    if (need && !found) {
        return refuse_record(source, c, e, "lacks its zip64 field");
    }
    return AS_OK;
}

static const char *name_fault(const char *name, size_t length)
{
    if (length == 0) {
        return "has no name";
    }
    if (memchr(name, '\0', length) || !as_utf8_valid(name, length)) {
        return "has a name that is not UTF-8 text";
    }
    if (memchr(name, '\\', length)) {
        return "has a backslash in its name, which is a separator on some systems";
    }
    if (name[length - 1] == '/') {
        return "is a folder, which neither torch nor DDUF has";
    }
    for (size_t at = 0; at <= length;) {
        const char *slash = at < length ? memchr(name + at, '/', length - at) : NULL;
        size_t part = slash ? (size_t)(slash - name) - at : length - at;
        if (part == 0 || (part <= 2 && memcmp(name + at, "..", part) == 0)) {
            return "has a name that leads elsewhere";
        }
        at += part + 1;
    }
    return length >= 2 && name[1] == ':' ? "has a name with a drive" : NULL;
}

/* One central header at `at` of the directory; *taken: its bytes. */
static int read_central(const as_source *source, const char *bytes, size_t left, central *c,
                        size_t *taken, as_error *e)
{
    if (left < AS_ZIP_CENTRAL_BYTES || as_zip_get_32(bytes, 0) != AS_ZIP_CENTRAL) {
        return as_zip_refuse(source, e, "its directory is damaged");
    }
    size_t extra = as_zip_get_16(bytes, 30);
    *c = (central){.flags = as_zip_get_16(bytes, 8),
                   .method = as_zip_get_16(bytes, 10),
                   .crc = as_zip_get_32(bytes, 16),
                   .packed = as_zip_get_32(bytes, 20),
                   .size = as_zip_get_32(bytes, 24),
                   .name_length = as_zip_get_16(bytes, 28),
                   .header = as_zip_get_32(bytes, 42),
                   .name = bytes + AS_ZIP_CENTRAL_BYTES};
    *taken = AS_ZIP_CENTRAL_BYTES + c->name_length + extra + as_zip_get_16(bytes, 32);
    if (*taken > left) {
        return as_zip_refuse(source, e, "its directory is damaged");
    }
    const char *fault = name_fault(c->name, c->name_length);
    fault = fault                                 ? fault
            : as_zip_get_16(bytes, 32) != 0       ? "has a comment"
            : as_zip_get_16(bytes, 34) != 0       ? "lies on another disk"
            : (c->flags & FLAG_ENCRYPTED)         ? "is encrypted"
            : (c->flags & ~(uint32_t)FLAGS_KNOWN) ? "has flags that are not known"
            : c->method != 0 ? "is compressed. Neither torch nor DDUF compresses: "
                               "pack the file again with zip -0"
                             : NULL;
    if (fault) {
        return refuse_record(source, c, e, fault);
    }
    uint64_t *wanted[3] = {c->size == AS_ZIP_MOST_32 ? &c->size : NULL,
                           c->packed == AS_ZIP_MOST_32 ? &c->packed : NULL,
                           c->header == AS_ZIP_MOST_32 ? &c->header : NULL};
    int code = read_extra(source, c, c->name + c->name_length, extra, wanted, e);
    if (code == AS_OK && c->size != c->packed) {
        code = refuse_record(source, c, e, "is stored, but claims two different sizes");
    }
    return code;
}

static bool is_zero_or(uint64_t value, uint64_t expected)
{
    return value == 0 || value == expected;
}

/* What the local header says must be what the directory says. */
static int compare_local(const as_source *source, const central *c, const char *bytes,
                         size_t extra_length, as_error *e)
{
    uint64_t packed = as_zip_get_32(bytes, 18);
    uint64_t size = as_zip_get_32(bytes, 22);
    uint32_t crc = as_zip_get_32(bytes, 14);
    if (as_zip_get_16(bytes, 6) != c->flags || as_zip_get_16(bytes, 8) != c->method ||
        as_zip_get_16(bytes, 26) != c->name_length ||
        memcmp(bytes + AS_ZIP_LOCAL_BYTES, c->name, c->name_length) != 0) {
        return refuse_record(source, c, e,
                             "has another name, method or flags in its local header than in the "
                             "directory");
    }
    uint64_t *wanted[3] = {size == AS_ZIP_MOST_32 ? &size : NULL,
                           packed == AS_ZIP_MOST_32 ? &packed : NULL, NULL};
    int code =
        read_extra(source, c, bytes + AS_ZIP_LOCAL_BYTES + c->name_length, extra_length, wanted, e);
    if (code != AS_OK) {
        return code;
    }
    /* With a descriptor the header may leave open what only that knows. */
    bool open = (c->flags & AS_ZIP_FLAG_DESCRIPTOR) != 0;
    bool agrees =
        open ? is_zero_or(size, c->size) && is_zero_or(packed, c->size) && is_zero_or(crc, c->crc)
             : size == c->size && packed == c->size && crc == c->crc;
    return agrees ? AS_OK
                  : refuse_record(source, c, e,
                                  "has another size or CRC in its local header than in the "
                                  "directory");
}

/* The local header of a record that may take up [c->header, next) → where its payload lies. */
static int read_local(const as_source *source, const central *c, uint64_t next, as_zip_entry *out,
                      as_error *e)
{
    static const char overlaps[] = "reaches into the next record or the directory";
    if (next < c->header || next - c->header < AS_ZIP_LOCAL_BYTES) {
        return refuse_record(source, c, e, overlaps);
    }
    char small[LOCAL_PIECE];
    uint64_t room = next - c->header;
    size_t got = room < sizeof small ? (size_t)room : sizeof small;
    int code = source->read(source, c->header, small, got, e);
    if (code != AS_OK) {
        return code;
    }
    if (as_zip_get_32(small, 0) != AS_ZIP_LOCAL) {
        return refuse_record(source, c, e, "has no local header");
    }
    size_t extra = as_zip_get_16(small, 28);
    size_t length = AS_ZIP_LOCAL_BYTES + as_zip_get_16(small, 26) + extra;
    if (length > room || c->size > room - length) {
        return refuse_record(source, c, e, overlaps);
    }
    char *large = NULL;
    if (length > got) {
        large = malloc(length);
        code = large ? source->read(source, c->header, large, length, e) : as_fail_nomem(e);
    }
    code = code == AS_OK ? compare_local(source, c, large ? large : small, extra, e) : code;
    free(large);
    out->header = c->header;
    out->begin = c->header + length;
    out->end = out->begin + c->size;
    return code;
}

/* The descriptor behind a payload, if there must be one. */
static int check_descriptor(const as_source *source, const central *c, uint64_t at, uint64_t next,
                            as_error *e)
{
    if (!(c->flags & AS_ZIP_FLAG_DESCRIPTOR)) {
        return AS_OK;
    }
    unsigned char bytes[AS_ZIP_DESCRIPTOR_64_BYTES];
    uint64_t room = next - at;
    size_t got = room < sizeof bytes ? (size_t)room : sizeof bytes;
    int code = source->read(source, at, bytes, got, e);
    if (code != AS_OK) {
        return code;
    }
    bool is_there = got >= AS_ZIP_DESCRIPTOR_BYTES &&
                    as_zip_get_32(bytes, 0) == AS_ZIP_DESCRIPTOR &&
                    as_zip_get_32(bytes, 4) == c->crc;
    bool narrow =
        is_there && as_zip_get_32(bytes, 8) == c->size && as_zip_get_32(bytes, 12) == c->size;
    bool wide = is_there && got == sizeof bytes && as_zip_get_64(bytes, 8) == c->size &&
                as_zip_get_64(bytes, 16) == c->size;
    return narrow || wide ? AS_OK
                          : refuse_record(source, c, e,
                                          "has no data descriptor that agrees with the directory");
}

typedef struct span {
    uint64_t header;
    size_t entry;
} span;

static int compare_spans(const void *left, const void *right)
{
    const span *a = left;
    const span *b = right;
    return (a->header > b->header) - (a->header < b->header);
}

/* Checks each record against the one that follows it in the file. `bytes`: the directory. */
static int check_records(const as_source *source, const as_zip *z, const as_zip_directory *d,
                         const char *bytes, const size_t *places, as_error *e)
{
    size_t count = as_zip_count(z);
    as_zip_entry *entries = (as_zip_entry *)(void *)z->entries.data;
    span *spans = malloc((count + 1) * sizeof *spans);
    if (!spans) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        spans[i] = (span){.header = entries[i].header, .entry = i};
    }
    qsort(spans, count, sizeof *spans, compare_spans);
    spans[count].header = d->begin;
    int code = AS_OK;
    if (spans[0].header != 0) {
        code = as_zip_refuse(source, e, "bytes lie before its first record");
    }
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        central c = {.name = ""};
        size_t taken = 0;
        as_zip_entry *entry = &entries[spans[i].entry];
        size_t at = places[spans[i].entry];
        uint64_t next = spans[i + 1].header < d->begin ? spans[i + 1].header : d->begin;
        code = read_central(source, bytes + at, (size_t)d->size - at, &c, &taken, e);
        code = code == AS_OK ? read_local(source, &c, next, entry, e) : code;
        code = code == AS_OK ? check_descriptor(source, &c, entry->end, next, e) : code;
    }
    free(spans);
    return code;
}

/* Directory → entries, their payloads not yet known; places[i]: where the central header lies. */
static int read_entries(const as_source *source, as_zip *z, const as_zip_directory *d,
                        const char *bytes, as_buffer *places, as_error *e)
{
    size_t size = (size_t)d->size;
    size_t at = 0;
    int code = AS_OK;
    while (code == AS_OK && at < size) {
        central c = {.name = ""};
        size_t taken = 0;
        code = read_central(source, bytes + at, size - at, &c, &taken, e);
        if (code != AS_OK) {
            break;
        }
        as_zip_entry entry = {.header = c.header,
                              .name_at = z->names.size,
                              .name_length = c.name_length,
                              .crc = c.crc};
        code = as_buffer_append(&z->names, c.name, c.name_length, e);
        code = code == AS_OK ? as_buffer_char(&z->names, '\0', e) : code;
        code = code == AS_OK ? as_buffer_append(&z->entries, &entry, sizeof entry, e) : code;
        code = code == AS_OK ? as_buffer_append(places, &at, sizeof at, e) : code;
        at += taken;
    }
    if (code == AS_OK && as_zip_count(z) != d->count) {
        code = as_zip_refuse(source, e,
                             "its directory has another number of records than its end says");
    }
    return code;
}

static int map_names(const as_source *source, as_zip *z, as_error *e)
{
    for (size_t i = 0; i < as_zip_count(z); i++) {
        size_t before;
        const char *name = as_zip_name(z, i);
        if (as_name_map_find(&z->map, name, &before)) {
            return as_fail(e, AS_FORMAT, 0, "%s: the zip file has two records %s", source->name,
                           as_quote(name, strlen(name)).text);
        }
        int code = as_name_map_add(&z->map, name, i, e);
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

int as_zip_read(const as_source *source, as_zip *out, as_error *e)
{
    *out = AS_ZIP_INIT;
    as_zip_directory d;
    int code = as_zip_read_end(source, &d, e);
    if (code != AS_OK) {
        return code;
    }
    as_buffer places = AS_BUFFER_INIT;
    char *bytes = malloc((size_t)d.size + 1);
    if (!bytes) {
        return as_fail_nomem(e);
    }
    code = source->read(source, d.begin, bytes, (size_t)d.size, e);
    code = code == AS_OK ? read_entries(source, out, &d, bytes, &places, e) : code;
    const size_t *at = (const size_t *)(const void *)places.data;
    if (code == AS_OK && at) {
        code = check_records(source, out, &d, bytes, at, e);
    } else if (code == AS_OK && d.begin != 0) {
        code = as_zip_refuse(source, e, "bytes lie before its directory, which has no records");
    }
    code = code == AS_OK ? map_names(source, out, e) : code;
    free(bytes);
    as_buffer_free(&places);
    if (code != AS_OK) {
        as_zip_free(out);
    }
    return code;
}

const as_zip_entry *as_zip_find(const as_zip *z, const char *name)
{
    size_t i;
    return as_name_map_find(&z->map, name, &i) ? as_zip_entry_at(z, i) : NULL;
}

int as_zip_payload(const as_source *source, const as_zip *z, const as_zip_entry *entry,
                   uint64_t most, as_buffer *out, as_error *e)
{
    uint64_t size = entry->end - entry->begin;
    const char *name = z->names.data + entry->name_at;
    if (size > most) {
        return as_fail(e, AS_LIMIT, 0, "%s: record %s has %llu bytes; %llu is the most",
                       source->name, as_quote(name, entry->name_length).text,
                       (unsigned long long)size, (unsigned long long)most);
    }
    void *place;
    int code = as_buffer_extend(out, (size_t)size, &place, e);
    code = code == AS_OK && size > 0 ? source->read(source, entry->begin, place, (size_t)size, e)
                                     : code;
    if (code == AS_OK && as_crc32(0, place, (size_t)size) != entry->crc) {
        code = as_fail(e, AS_CORRUPT, 0,
                       "%s: record %s is damaged: its bytes have another CRC-32 than the zip file "
                       "says. Fetch or save the file again",
                       source->name, as_quote(name, entry->name_length).text);
    }
    return code;
}

void as_zip_free(as_zip *z)
{
    as_buffer_free(&z->entries);
    as_buffer_free(&z->names);
    as_name_map_free(&z->map);
    *z = AS_ZIP_INIT;
}
