/* SPDX-License-Identifier: Apache-2.0
 * Reads the directory of a zip file of stored records. Zip readers differ in what they make of a
 * crooked file, and a file that two programs read differently can hide something from one of them:
 * so what is not clear is refused, even where some reader takes it. In particular there are no
 * bytes before the first record or behind the end, no comment, one disk, no encryption, no
 * compression; local headers, descriptors and the directory agree; records do not overlap; names
 * differ, are UTF-8, relative, with "/" between parts that are neither empty nor "." nor "..".
 */
#ifndef ALLSHARD_FORMAT_ZIP_READ_H
#define ALLSHARD_FORMAT_ZIP_READ_H

#include "base/buffer.h"
#include "base/name_map.h"
#include "format/format.h"

typedef struct as_zip_entry {
    uint64_t header; /* where the local header begins, counted from the start of the file */
    uint64_t begin;  /* first byte of the payload */
    uint64_t end;    /* byte after the last */
    size_t name_at;  /* place of the name in as_zip.names */
    uint32_t name_length;
    uint32_t crc; /* CRC-32 of the payload, as the file has it */
} as_zip_entry;

typedef struct as_zip {
    as_buffer entries; /* as_zip_entry[], in the order of the directory */
    as_buffer names;   /* each followed by a NUL; no NUL inside */
    as_name_map map;   /* name → number of the entry */
} as_zip;

#define AS_ZIP_INIT ((as_zip){0})

static inline size_t as_zip_count(const as_zip *z)
{
    return z->entries.size / sizeof(as_zip_entry);
}

static inline const as_zip_entry *as_zip_entry_at(const as_zip *z, size_t i)
{
    return (const as_zip_entry *)(const void *)z->entries.data + i;
}

static inline const char *as_zip_name(const as_zip *z, size_t i)
{
    return z->names.data + as_zip_entry_at(z, i)->name_at;
}

/* NULL if there is no entry of that name. */
const as_zip_entry *as_zip_find(const as_zip *z, const char *name);

/* Whether the file begins as a zip file does. What fails is the source. */
int as_zip_sniff(const as_source *source, bool *is_zip, as_error *e);

/* Reads and checks the directory and the local headers; of payloads nothing. AS_FORMAT with the
 * reason, AS_LIMIT if the directory is longer than 128 MiB (a million records and more); memory is
 * a few times the directory. *out is overwritten; after an error it holds nothing. */
int as_zip_read(const as_source *source, as_zip *out, as_error *e);

/* The payload of a small entry → *out (appended), its CRC checked. AS_LIMIT with more than `most`
 * bytes. */
int as_zip_payload(const as_source *source, const as_zip *z, const as_zip_entry *entry,
                   uint64_t most, as_buffer *out, as_error *e);

void as_zip_free(as_zip *z);

#endif
