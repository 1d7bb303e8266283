/* SPDX-License-Identifier: Apache-2.0
 * What every file format offers: a list of tensors → the table of a new file and
 * the literal bytes around the tensors; an existing file → its table. A format
 * moves no tensor data.
 */
#ifndef ALLSHARD_FORMAT_FORMAT_H
#define ALLSHARD_FORMAT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "format/pairs.h"
#include "format/table.h"

/* Where a format reads a file from: a file, or memory in tests. */
typedef struct as_source {
    /* Reads exactly `count` bytes at `offset`; AS_SYSTEM or AS_FORMAT, with the
     * source's name in the text, if it cannot. */
    int (*read)(const struct as_source *source, uint64_t offset, void *bytes, size_t count,
                as_error *e);
    const void *self;
    uint64_t size;    /* bytes of the file */
    const char *name; /* for error texts */
} as_source;

/* `bytes` and `name` are borrowed. */
as_source as_source_memory(const void *bytes, size_t size, const char *name);

/* The descriptor stays the caller's. The size is taken by fstat; a folder or a
 * device is AS_FORMAT. `fd` must outlive the source (self points to it). */
int as_source_file(as_source *out, const int *fd, const char *name, as_error *e);

/* One tensor of a file to be laid out. Names and shapes are borrowed. */
typedef struct as_format_tensor {
    const char *name;
    size_t name_length;
    const uint64_t *shape; /* ndim dimensions, in elements of the dtype */
    int ndim;
    int dtype;
    uint64_t bytes;
    uint64_t offset; /* out: first byte, counted from the start of the file */
} as_format_tensor;

/* Bytes that are not tensor data, at a fixed place of the file.
 *
 * A late literal has a value that depends on data which the layout does not know: it is the CRC-32
 * (base/crc32.h) of a range of the same file, its 4 bytes little-endian, zeros until
 * as_literal_patch. The range may hold tensor data and literals, but no late one. Whoever writes
 * the file sums the range's bytes in parts, wherever they pass by, joins the sums in file order
 * (as_crc32_join), and patches before the file is synced; several literals may be late for the same
 * range, which then needs to be summed once. */
typedef struct as_literal {
    uint64_t offset;
    uint64_t size;
    char *bytes; /* heap, owned by the layout */
    bool late;
    uint64_t sum_of;   /* late: where the range begins, counted from the start of the file */
    uint64_t sum_size; /* late: its bytes, > 0 */
} as_literal;

enum { AS_LATE_BYTES = 4 };

/* Gives a late literal its value. */
void as_literal_patch(as_literal *l, uint32_t crc);

typedef struct as_file_layout {
    as_literal *literals; /* ascending by offset */
    size_t literal_count;
    uint64_t file_size;
} as_file_layout;

void as_file_layout_free(as_file_layout *l);

typedef struct as_format {
    const char *name;      /* "safetensors" */
    const char *extension; /* ".safetensors" */

    /* Lays out a new file: sets each tensor's offset (the array keeps its order)
     * and fills *out. `metadata` NULL: the file has none; an empty list is written
     * as an empty one. AS_LIMIT if the format's own limit is passed, AS_INVALID
     * for a tensor that the format cannot hold; then *out holds nothing. `align`: a power of two;
     * the first tensor begins at a multiple of it, and padding that the format ignores lies
     * before it. 0: as the format's own writer has it. */
    int (*layout)(as_format_tensor *tensors, size_t count, const as_pairs *metadata, int64_t align,
                  as_file_layout *out, as_error *e);

    /* Reads and checks the table of a file by every rule of the format, in
     * bounded memory. AS_FORMAT with the reason if a rule is broken. Departures
     * that the reference reader accepts (a name twice, …) go to `log` as
     * warnings. Entries come sorted by (begin, end), then by place in the header.
     * *out is overwritten; after an error it holds nothing. */
    int (*read)(const as_source *source, as_table *out, const as_log *log, as_error *e);
} as_format;

extern const as_format as_format_safetensors;

/* The format of a file name by its extension (case counts); NULL if none. */
const as_format *as_format_by_name(const char *file_name);

#endif
