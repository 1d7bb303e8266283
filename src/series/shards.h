/* SPDX-License-Identifier: Apache-2.0
 * The files of a checkpoint with their tables, and the look-up of tensors in them.
 */
#ifndef ALLSHARD_SERIES_SHARDS_H
#define ALLSHARD_SERIES_SHARDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "commit/view.h"
#include "format/table.h"

typedef struct as_shard {
    as_table table;
    size_t *by_name; /* entries sorted by name; heap, by as_shard_sort */
    bool *used;      /* entries that as_shard_take found; heap, by as_shard_sort */
} as_shard;

/* as_view_open_file, for names out of a file: one that cannot be a file's, or a link that leads
 * nowhere, is AS_NOT_FOUND like any other that is not there. */
int as_shard_open(as_view *v, const char *name, int *fd, as_error *e);

/* The bytes of a file; −1 if there is none of that name, or something that is no file. AS_SYSTEM,
 * AS_BUSY. */
int as_shard_size(as_view *v, const char *name, int64_t *size, as_error *e);

/* Reads the table of a file by all rules of its format. `what` names it in texts. AS_NOT_FOUND,
 * AS_FORMAT, AS_INVALID (the name leads out of the folder), AS_SYSTEM. */
int as_shard_read(as_view *v, const char *name, const char *what, as_table *out, const as_log *log,
                  as_error *e);

/* Prepares look-ups. */
int as_shard_sort(as_shard *s, as_error *e);

/* The entry of that name; as_table_count if there is none. After as_shard_sort. */
size_t as_shard_find(const as_shard *s, const char *name, size_t length);

/* The same, and marks the entry as used. */
size_t as_shard_take(as_shard *s, const char *name, size_t length);

/* How many entries are not marked as used, and the first of them. After as_shard_sort. */
size_t as_shard_unused(const as_shard *s, size_t *first);

/* An array of shards, which may be NULL. */
void as_shards_free(as_shard *shards, size_t count);

#endif
