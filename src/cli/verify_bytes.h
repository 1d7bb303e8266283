/* SPDX-License-Identifier: Apache-2.0
 * The bytes of a checkpoint (verify.c): which files are read and compared with what, and what the
 * reading found, told as findings.
 */
#ifndef ALLSHARD_CLI_VERIFY_BYTES_H
#define ALLSHARD_CLI_VERIFY_BYTES_H

#include "base/name_map.h"
#include "cli/look.h"
#include "cli/verify.h"
#include "format/table.h"

/* A file whose table could be read. */
typedef struct as_named_table {
    const char *file;
    const as_table *table;
} as_named_table;

/* All of rank 0. */
typedef struct as_bytes {
    const as_verify_options *options;
    const as_named_table *tables; /* borrowed */
    size_t table_count;
    as_buffer files; /* as_look_file[] */
    as_buffer saved; /* const as_manifest_file *[]: what the manifest says of each; NULL: nothing */
    as_name_map listed; /* the names of `files` */
    as_looked looked;
} as_bytes;

static inline size_t as_bytes_count(const as_bytes *b)
{
    return b->files.size / sizeof(as_look_file);
}

static inline const as_look_file *as_bytes_file(const as_bytes *b, size_t i)
{
    return (const as_look_file *)(const void *)b->files.data + i;
}

/* The table of a file; NULL if it could not be read, or is none of tensors. */
const as_table *as_bytes_table(const as_bytes *b, const char *file);

/* Lists what is to be read. *unknown: why nothing is compared with checksums; NULL: something
 * is. The list borrows from `found` and the tables. */
int as_bytes_list(as_bytes *b, const char **unknown, as_findings *f, as_view *v,
                  const as_verified *found, as_error *e);

/* A fault for each run of bad blocks, a warning for each tensor with NaN or infinities. `replica`
 * has a word about each run (may be NULL; may hold NULL). */
int as_bytes_tell(const as_bytes *b, const as_names *replica, as_findings *f, as_error *e);

void as_bytes_free(as_bytes *b);

#endif
