/* SPDX-License-Identifier: Apache-2.0
 * Lays out a zip file of stored records, byte for byte as torch or Python's zipfile writes it. The
 * bytes of a record are known now (they become literals) or come later: then their place is kept,
 * and their CRC-32 is a late literal.
 */
#ifndef ALLSHARD_FORMAT_ZIP_WRITE_H
#define ALLSHARD_FORMAT_ZIP_WRITE_H

#include "base/buffer.h"
#include "format/format.h"

enum as_zip_style {
    /* torch's writer (caffe2/serialize/inline_container.cc and its miniz): payloads aligned by an
     * extra field "FB", CRC and sizes in a data descriptor behind the payload and in the central
     * directory, always a zip64 end. */
    AS_ZIP_TORCH,
    /* CPython's zipfile (3.11.4 and later) with ZipFile.open(…, force_zip64=True): nothing aligned,
     * CRC in the local header, zip64 sizes there, a zip64 end only where it is needed. */
    AS_ZIP_PYTHON,
    /* The same up to 3.10 and 3.11.3: local headers with sizes of 32 bits besides (gh-103861). */
    AS_ZIP_PYTHON_3_11_3,
};

/* What lies around a zip's records, as it grows. */
typedef struct as_zip_writer {
    int style;          /* enum as_zip_style */
    uint64_t align;     /* of payloads */
    uint64_t at;        /* bytes of the file so far */
    as_buffer open;     /* the end of those, not yet a literal */
    as_buffer literals; /* as_literal[] */
    as_buffer records;  /* for the central directory */
    as_buffer names;    /* of those, one behind the other */
} as_zip_writer;

/* `align`: a power of two up to 2^15 at which payloads begin (torch's is 64); Python's styles
 * take 1 alone. */
void as_zip_begin(as_zip_writer *w, int style, uint64_t align);

/* Each adds a record; the name is copied. *offset (if not NULL): where its payload begins.
 * AS_NOMEM; AS_LIMIT for a name beyond 65535 bytes or a file beyond 2^63. The caller sees to it
 * that names are UTF-8 and differ. After an error only as_zip_drop is left. */
int as_zip_add_bytes(as_zip_writer *w, const char *name, size_t name_length, const void *bytes,
                     size_t size, uint64_t *offset, as_error *e);
int as_zip_add_room(as_zip_writer *w, const char *name, size_t name_length, uint64_t size,
                    uint64_t *offset, as_error *e);

/* A whole file with a layout of its own as a record: its literals, none of them late, move by
 * *offset and into the zip's; `inner` is left empty. */
int as_zip_add_file(as_zip_writer *w, const char *name, size_t name_length, as_file_layout *inner,
                    uint64_t *offset, as_error *e);

/* Adds directory and end, hands everything over, and leaves the writer as as_zip_drop does. */
int as_zip_end(as_zip_writer *w, as_file_layout *out, as_error *e);

void as_zip_drop(as_zip_writer *w);

#endif
