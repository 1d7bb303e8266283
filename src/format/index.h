/* SPDX-License-Identifier: Apache-2.0
 * The index of a sharded checkpoint, model.safetensors.index.json: tensor → file.
 */
#ifndef ALLSHARD_FORMAT_INDEX_H
#define ALLSHARD_FORMAT_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "format/format.h"
#include "format/pairs.h"

typedef struct as_index_entry {
    size_t name_at;       /* place of the tensor's name in as_index.names */
    uint32_t name_length; /* bytes */
    uint32_t file;        /* number of its file, 0… in the order of first mention */
} as_index_entry;

typedef struct as_index {
    as_buffer entries;    /* as_index_entry[], in the order of the weight_map */
    as_buffer names;      /* each followed by a NUL. UTF-8; Python's lone surrogates as WTF-8 */
    as_buffer files;      /* size_t[]: place of each file's name in file_names */
    as_buffer file_names; /* each followed by a NUL; no NUL inside */
    as_pairs metadata;    /* members of "metadata" whose value is a string */
    bool has_total_size;  /* metadata.total_size is a whole number of 0…2^63−1 */
    int64_t total_size;   /* what other writers put there differs: never trust it */
} as_index;

#define AS_INDEX_INIT ((as_index){0})

static inline size_t as_index_count(const as_index *x)
{
    return x->entries.size / sizeof(as_index_entry);
}

static inline const as_index_entry *as_index_entry_at(const as_index *x, size_t i)
{
    return (const as_index_entry *)(const void *)x->entries.data + i;
}

/* NUL-terminated; use name_length where the name may hold NUL bytes itself. */
static inline const char *as_index_name(const as_index *x, size_t i)
{
    return x->names.data + as_index_entry_at(x, i)->name_at;
}

static inline size_t as_index_file_count(const as_index *x)
{
    return x->files.size / sizeof(size_t);
}

/* The name of file `file`, relative to the index's folder. */
static inline const char *as_index_file(const as_index *x, size_t file)
{
    return x->file_names.data + ((const size_t *)(const void *)x->files.data)[file];
}

/* Reads an index as Python's json.load does (a name twice: the last file counts, at the place of
 * the first; `log` gets a warning) and checks every file name by as_index_check_file with
 * `extension` (".safetensors"). AS_FORMAT with the reason; AS_LIMIT beyond 2^32−2
 * tensors or 4 GiB. *out is overwritten; after an error it holds nothing. */
int as_index_read(const as_source *source, const char *extension, as_index *out, const as_log *log,
                  as_error *e);

void as_index_free(as_index *x);

/* Whether a file name from an index may be opened: huggingface_hub's rule, which reads it as a
 * Windows path on every system: no drive, no root, no ".." part; it must end in `extension`;
 * besides, no NUL. AS_FORMAT with the reason (the file name in it, the index's name not). */
int as_index_check_file(const char *name, size_t length, const char *extension, as_error *e);

/* Warns, once, if two files of the index have names that differ in the case of ASCII letters only.
 * AS_NOMEM. */
int as_index_warn_case(const as_index *x, const char *source_name, const as_log *log, as_error *e);

/* Writing, byte for byte as Python's json.dump(…, indent=2) does. An index is
 * begin, lines…, end, put behind one another; the lines of different shards may come
 * from different ranks.
 *
 * `pairs` are the user's metadata (NULL: none); a pair total_size takes the number's place. */
int as_index_write_begin(as_buffer *b, int64_t total_size, const as_pairs *pairs, as_error *e);

/* One line of the weight_map. `first`: the very first one of the index, which has no comma before
 * it. AS_INVALID if a name is not UTF-8. */
int as_index_write_line(as_buffer *b, bool first, const char *name, size_t name_length,
                        const char *file, as_error *e);

/* `empty`: there was no line at all. */
int as_index_write_end(as_buffer *b, bool empty, as_error *e);

#endif
