/* SPDX-License-Identifier: Apache-2.0 */
#include "format/zip_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/crc32.h"
#include "base/utf8.h"
#include "format/zip.h"

enum {
    UNIX = 3 << 8,
    MADE_BY_TORCH = 0x031e,
    NEEDED_45 = 45, /* version 4.5: zip64 */
    NEEDED_20 = 20,
    DATE_1980 = 0x0021, /* 1 January, where zip's time begins */
    MODE_0600 = 0x01800000,
};

/* CPython's ZIP64_LIMIT: it keeps clear of readers that take 32 bits as signed. */
#define PYTHON_LIMIT UINT64_C(0x7fffffff)

typedef struct record {
    uint64_t header; /* offset of the local header */
    uint64_t payload;
    uint64_t size;
    size_t name_at;
    uint32_t name_length;
    uint32_t crc;    /* unless late */
    uint32_t needed; /* Python's: version */
    bool late;
    bool is_ascii;
} record;

void as_zip_begin(as_zip_writer *w, int style, uint64_t align)
{
    *w = (as_zip_writer){.style = style, .align = align};
}

void as_zip_drop(as_zip_writer *w)
{
    as_literal *literals = (as_literal *)(void *)w->literals.data;
    for (size_t i = 0; i < w->literals.size / sizeof *literals; i++) {
        free(literals[i].bytes);
    }
    as_buffer_free(&w->literals);
    as_buffer_free(&w->open);
    as_buffer_free(&w->records);
    as_buffer_free(&w->names);
}

/* Moves the file's end on by bytes that are not the writer's. */
static int pass(as_zip_writer *w, uint64_t size, as_error *e)
{
    if (!as_add_u64(w->at, size, &w->at) || w->at > INT64_MAX) {
        return as_fail(e, AS_LIMIT, 0, "the records of one zip file take more than 2^63 bytes");
    }
    return AS_OK;
}

static int put(as_zip_writer *w, const void *bytes, size_t size, as_error *e)
{
    int code = as_buffer_append(&w->open, bytes, size, e);
    return code == AS_OK ? pass(w, size, e) : code;
}

/* A number of `bytes` bytes, little-endian. */
static int put_number(as_zip_writer *w, uint64_t value, int bytes, as_error *e)
{
    unsigned char text[8];
    for (int i = 0; i < bytes; i++) {
        text[i] = (unsigned char)(value >> (8 * i) & 0xff);
    }
    return put(w, text, (size_t)bytes, e);
}

/* Numbers one behind the other: of 2, 4 or 8 bytes, as `sizes` has it ("244"). */
static int put_numbers(as_zip_writer *w, const char *sizes, const uint64_t *values, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; sizes[i] && code == AS_OK; i++) {
        code = put_number(w, values[i], sizes[i] - '0', e);
    }
    return code;
}

/* What was put since the last literal becomes one. */
static int close_literal(as_zip_writer *w, as_error *e)
{
    if (w->open.size == 0) {
        return AS_OK;
    }
    as_literal l = {.offset = w->at - w->open.size, .size = w->open.size};
    /* Trimmed: a file can have hundreds of thousands. */
    l.bytes = malloc(w->open.size);
    if (!l.bytes) {
        return as_fail_nomem(e);
    }
    memcpy(l.bytes, w->open.data, w->open.size);
    int code = as_buffer_append(&w->literals, &l, sizeof l, e);
    if (code != AS_OK) {
        free(l.bytes);
    }
    w->open.size = 0;
    return code;
}

/* The CRC of a record's payload, now or later. */
static int put_crc(as_zip_writer *w, const record *r, as_error *e)
{
    if (!r->late) {
        return put_number(w, r->crc, AS_LATE_BYTES, e);
    }
    int code = close_literal(w, e);
    if (code != AS_OK) {
        return code;
    }
    as_literal l = {.offset = w->at,
                    .size = AS_LATE_BYTES,
                    .bytes = calloc(1, AS_LATE_BYTES),
                    .late = true,
                    .sum_of = r->payload,
                    .sum_size = r->size};
    if (!l.bytes) {
        return as_fail_nomem(e);
    }
    code = as_buffer_append(&w->literals, &l, sizeof l, e);
    if (code != AS_OK) {
        free(l.bytes);
        return code;
    }
    return pass(w, AS_LATE_BYTES, e);
}

static bool is_wide(uint64_t value)
{
    return value >= AS_ZIP_MOST_32;
}

static uint64_t clip_32(uint64_t value)
{
    return is_wide(value) ? AS_ZIP_MOST_32 : value;
}

/* The extra field of torch's miniz: sizes if they are wide, place if it is. 0: there is none. */
static uint64_t torch_extra_bytes(const record *r)
{
    uint64_t values = (is_wide(r->size) ? 16U : 0U) + (is_wide(r->header) ? 8U : 0U);
    return values > 0 ? 4 + values : 0;
}

static int put_torch_extra(as_zip_writer *w, const record *r, as_error *e)
{
    uint64_t bytes = torch_extra_bytes(r);
    int code = AS_OK;
    if (bytes > 0) {
        code = put_numbers(w, "22", (uint64_t[]){AS_ZIP_EXTRA_64, bytes - 4}, e);
    }
    if (code == AS_OK && is_wide(r->size)) {
        code = put_numbers(w, "88", (uint64_t[]){r->size, r->size}, e);
    }
    if (code == AS_OK && is_wide(r->header)) {
        code = put_number(w, r->header, 8, e);
    }
    return code;
}

static const char *name_of(const as_zip_writer *w, const record *r)
{
    return w->names.data + r->name_at;
}

/* Empty records have no descriptor, and a flag less. */
static uint64_t torch_flags(const record *r)
{
    return AS_ZIP_FLAG_UTF8 | (r->size > 0 ? AS_ZIP_FLAG_DESCRIPTOR : 0);
}

static int put_torch_header(as_zip_writer *w, record *r, as_error *e)
{
    uint64_t extra = torch_extra_bytes(r);
    uint64_t start = w->at + AS_ZIP_LOCAL_BYTES + r->name_length + 4 + extra;
    uint64_t pad = (w->align - start % w->align) % w->align;
    r->payload = start + pad;
    int code = put_numbers(w, "422222444",
                           (uint64_t[]){AS_ZIP_LOCAL, 0, torch_flags(r), 0, 0, 0, 0, 0, 0}, e);
    code = code == AS_OK ? put_numbers(w, "22", (uint64_t[]){r->name_length, extra + 4 + pad}, e)
                         : code;
    code = code == AS_OK ? put(w, name_of(w, r), r->name_length, e) : code;
    code = code == AS_OK ? put_torch_extra(w, r, e) : code;
    code = code == AS_OK ? put(w, "FB", 2, e) : code;
    code = code == AS_OK ? put_number(w, pad, 2, e) : code;
    for (uint64_t i = 0; i < pad && code == AS_OK; i++) {
        code = put(w, "Z", 1, e);
    }
    return code;
}

static uint64_t python_flags(const record *r)
{
    return r->is_ascii ? 0 : AS_ZIP_FLAG_UTF8;
}

static int put_python_header(as_zip_writer *w, record *r, as_error *e)
{
    enum { EXTRA = 20 };
    bool wide = w->style == AS_ZIP_PYTHON || r->size > PYTHON_LIMIT;
    uint64_t size = wide ? AS_ZIP_MOST_32 : r->size;
    r->payload = w->at + AS_ZIP_LOCAL_BYTES + r->name_length + EXTRA;
    r->needed = wide ? NEEDED_45 : NEEDED_20;
    int code = put_numbers(
        w, "422222", (uint64_t[]){AS_ZIP_LOCAL, r->needed, python_flags(r), 0, 0, DATE_1980}, e);
    code = code == AS_OK ? put_crc(w, r, e) : code;
    code = code == AS_OK
               ? put_numbers(w, "4422", (uint64_t[]){size, size, r->name_length, EXTRA}, e)
               : code;
    code = code == AS_OK ? put(w, name_of(w, r), r->name_length, e) : code;
    return code == AS_OK
               ? put_numbers(w, "2288", (uint64_t[]){AS_ZIP_EXTRA_64, EXTRA - 4, r->size, r->size},
                             e)
               : code;
}

static bool is_ascii(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

/* Opens a record: notes it and puts its local header. */
static int put_header(as_zip_writer *w, record *r, const char *name, size_t name_length,
                      as_error *e)
{
    if (name_length > AS_ZIP_MOST_16) {
        return as_fail(e, AS_LIMIT, 0, "a name in a zip file may have 65535 bytes at most");
    }
    r->header = w->at;
    r->name_at = w->names.size;
    r->name_length = (uint32_t)name_length;
    r->is_ascii = is_ascii(name, name_length);
    int code = as_buffer_append(&w->names, name, name_length, e);
    if (code == AS_OK && w->style != AS_ZIP_TORCH) {
        /* Its CRC stands before it, and its range must be known for that. */
        code = put_python_header(w, r, e);
    } else if (code == AS_OK) {
        code = put_torch_header(w, r, e);
    }
    return code;
}

/* Ends a record whose payload has passed. */
static int put_footer(as_zip_writer *w, const record *r, as_error *e)
{
    int code = AS_OK;
    if (w->style == AS_ZIP_TORCH && r->size > 0) {
        const char *sizes = torch_extra_bytes(r) > 0 ? "88" : "44";
        code = put_number(w, AS_ZIP_DESCRIPTOR, 4, e);
        code = code == AS_OK ? put_crc(w, r, e) : code;
        code = code == AS_OK ? put_numbers(w, sizes, (uint64_t[]){r->size, r->size}, e) : code;
    }
    return code == AS_OK ? as_buffer_append(&w->records, r, sizeof *r, e) : code;
}

int as_zip_add_bytes(as_zip_writer *w, const char *name, size_t name_length, const void *bytes,
                     size_t size, uint64_t *offset, as_error *e)
{
    record r = {.size = size, .crc = as_crc32(0, bytes, size)};
    int code = put_header(w, &r, name, name_length, e);
    code = code == AS_OK ? put(w, bytes, size, e) : code;
    code = code == AS_OK ? put_footer(w, &r, e) : code;
    if (offset) {
        *offset = r.payload;
    }
    return code;
}

int as_zip_add_room(as_zip_writer *w, const char *name, size_t name_length, uint64_t size,
                    uint64_t *offset, as_error *e)
{
    record r = {.size = size, .late = size > 0};
    int code = put_header(w, &r, name, name_length, e);
    if (code == AS_OK && size > 0) {
        code = close_literal(w, e);
        code = code == AS_OK ? pass(w, size, e) : code;
    }
    code = code == AS_OK ? put_footer(w, &r, e) : code;
    if (offset) {
        *offset = r.payload;
    }
    return code;
}

int as_zip_add_file(as_zip_writer *w, const char *name, size_t name_length, as_file_layout *inner,
                    uint64_t *offset, as_error *e)
{
    record r = {.size = inner->file_size, .late = inner->file_size > 0};
    int code = put_header(w, &r, name, name_length, e);
    code = code == AS_OK ? close_literal(w, e) : code;
    size_t bytes = inner->literal_count * sizeof(as_literal);
    code = code == AS_OK ? as_buffer_reserve(&w->literals, bytes, e) : code;
    if (code != AS_OK) {
        return code;
    }
    for (size_t i = 0; i < inner->literal_count; i++) {
        inner->literals[i].offset += r.payload;
    }
    /* There is room, so that nothing is owned twice after an error. */
    (void)as_buffer_append(&w->literals, inner->literals, bytes, e);
    inner->literal_count = 0;
    as_file_layout_free(inner);
    code = pass(w, r.size, e);
    code = code == AS_OK ? put_footer(w, &r, e) : code;
    *offset = r.payload;
    return code;
}

static int put_torch_central(as_zip_writer *w, const record *r, as_error *e)
{
    int code =
        put_numbers(w, "4222222", (uint64_t[]){AS_ZIP_CENTRAL, 0, 0, torch_flags(r), 0, 0, 0}, e);
    code = code == AS_OK ? put_crc(w, r, e) : code;
    code = code == AS_OK
               ? put_numbers(w, "442222244",
                             (uint64_t[]){clip_32(r->size), clip_32(r->size), r->name_length,
                                          torch_extra_bytes(r), 0, 0, 0, 0, clip_32(r->header)},
                             e)
               : code;
    code = code == AS_OK ? put(w, name_of(w, r), r->name_length, e) : code;
    return code == AS_OK ? put_torch_extra(w, r, e) : code;
}

static int put_python_central(as_zip_writer *w, const record *r, as_error *e)
{
    bool big = r->size > PYTHON_LIMIT;
    bool far = r->header > PYTHON_LIMIT;
    uint64_t values = (big ? 16U : 0U) + (far ? 8U : 0U);
    uint64_t size = big ? AS_ZIP_MOST_32 : r->size;
    uint64_t needed = values > 0 ? NEEDED_45 : r->needed;
    int code = put_numbers(
        w, "4222222",
        (uint64_t[]){AS_ZIP_CENTRAL, needed | UNIX, needed, python_flags(r), 0, 0, DATE_1980}, e);
    code = code == AS_OK ? put_crc(w, r, e) : code;
    code = code == AS_OK
               ? put_numbers(w, "442222244",
                             (uint64_t[]){size, size, r->name_length, values > 0 ? 4 + values : 0,
                                          0, 0, 0, MODE_0600, far ? AS_ZIP_MOST_32 : r->header},
                             e)
               : code;
    code = code == AS_OK ? put(w, name_of(w, r), r->name_length, e) : code;
    if (code == AS_OK && values > 0) {
        code = put_numbers(w, "22", (uint64_t[]){AS_ZIP_EXTRA_64, values}, e);
    }
    if (code == AS_OK && big) {
        code = put_numbers(w, "88", (uint64_t[]){r->size, r->size}, e);
    }
    return code == AS_OK && far ? put_number(w, r->header, 8, e) : code;
}

/* The end records for a directory of `count` records at [begin, end). */
static int put_end(as_zip_writer *w, uint64_t count, uint64_t begin, uint64_t end, as_error *e)
{
    bool torch = w->style == AS_ZIP_TORCH;
    uint64_t size = end - begin;
    int code = AS_OK;
    if (torch || count > AS_ZIP_MOST_16 || begin > PYTHON_LIMIT || size > PYTHON_LIMIT) {
        uint64_t made_by = torch ? MADE_BY_TORCH : NEEDED_45;
        code = put_numbers(w, "4822448888",
                           (uint64_t[]){AS_ZIP_END_64, AS_ZIP_END_64_BYTES - 12, made_by, NEEDED_45,
                                        0, 0, count, count, size, begin},
                           e);
        code = code == AS_OK ? put_numbers(w, "4484", (uint64_t[]){AS_ZIP_LOCATOR_64, 0, end, 1}, e)
                             : code;
    }
    uint64_t clipped = count > AS_ZIP_MOST_16 ? AS_ZIP_MOST_16 : count;
    return code == AS_OK ? put_numbers(w, "42222442",
                                       (uint64_t[]){AS_ZIP_END, 0, 0, clipped, clipped,
                                                    clip_32(size), clip_32(begin), 0},
                                       e)
                         : code;
}

int as_zip_end(as_zip_writer *w, as_file_layout *out, as_error *e)
{
    *out = (as_file_layout){0};
    const record *records = (const record *)(const void *)w->records.data;
    size_t count = w->records.size / sizeof *records;
    uint64_t begin = w->at;
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = w->style == AS_ZIP_TORCH ? put_torch_central(w, &records[i], e)
                                        : put_python_central(w, &records[i], e);
    }
    code = code == AS_OK ? put_end(w, count, begin, w->at, e) : code;
    code = code == AS_OK ? close_literal(w, e) : code;
    if (code == AS_OK) {
        out->literals = (as_literal *)(void *)w->literals.data;
        out->literal_count = w->literals.size / sizeof(as_literal);
        out->file_size = w->at;
        w->literals = AS_BUFFER_INIT;
    }
    as_zip_drop(w);
    return code;
}
