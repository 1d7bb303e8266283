/* SPDX-License-Identifier: Apache-2.0
 * DDUF: a diffusion model's folder as one zip file of stored entries, at most one folder deep,
 * whose model_index.json names the folders (huggingface_hub/serialization/_dduf.py). The rules are
 * checked before anything is written, and when a file is read.
 */
#ifndef ALLSHARD_FORMAT_DDUF_H
#define ALLSHARD_FORMAT_DDUF_H

#include "format/format.h"
#include "format/zip_read.h"
#include "format/zip_write.h"

#define AS_DDUF_INDEX "model_index.json"

/* One entry to be written. Its content is bytes that are there now, a file with a layout of its own
 * (weights that the ranks write), or neither: `size` bytes that come later. Name and bytes are
 * borrowed. */
typedef struct as_dduf_entry {
    const char *name;
    size_t name_length;
    const void *bytes;    /* NULL: see file */
    as_file_layout *file; /* NULL: none. Its literals move into the DDUF's; left empty */
    uint64_t size;        /* unless there is a file */
    uint64_t offset;      /* out: first byte, counted from the start of the DDUF */
} as_dduf_entry;

/* Lays out a DDUF file, byte for byte as huggingface_hub writes these entries in this order on the
 * CPython that `style` stands for (AS_ZIP_PYTHON of zip_write.h: 3.11.4 and later). CRCs of what
 * comes later are late literals. model_index.json must be there as bytes. AS_INVALID if the entries
 * break a rule of the format; AS_LIMIT. */
int as_dduf_layout(as_dduf_entry *entries, size_t count, int style, as_file_layout *out,
                   as_error *e);

/* Reads and checks the directory of a DDUF file, its index and the rules. AS_FORMAT, AS_LIMIT,
 * AS_CORRUPT with the reason. *out is overwritten; after an error it holds nothing. */
int as_dduf_read(const as_source *source, as_zip *out, as_error *e);

/* The bytes of an entry as a source of their own, for a reader of what lies inside; borrows both.
 * */
typedef struct as_dduf_part {
    const as_source *source;
    uint64_t begin;
} as_dduf_part;

as_source as_dduf_entry_source(as_dduf_part *part, const as_source *source,
                               const as_zip_entry *entry, const char *name);

#endif
