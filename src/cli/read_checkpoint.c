/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/read_checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "series/shards.h"
#include "commit/view.h"
#include "format/checkpoint.h"

/* ------------------------------------------------------------------- reading */

/* Reads a file's table. If an index names the file, one that is not there makes the checkpoint
 * bad. */
static int read_file(as_view *v, const char *name, const char *index, as_table *out,
                     const as_log *log, as_error *e)
{
    const char *path = as_view_path(v);
    bool single = as_view_single(v) != NULL;
    const char *joint = single || path[strlen(path) - 1] == '/' ? "" : "/";
    as_buffer what = AS_BUFFER_INIT;
    int code = as_buffer_format(&what, e, "%s%s%s", path, joint, single ? "" : name);
    if (code != AS_OK) {
        return code;
    }
    as_error why = AS_ERROR_INIT;
    code = as_shard_read(v, name, what.data, out, log, &why);
    if (index && (code == AS_NOT_FOUND || code == AS_INVALID)) {
        code = as_fail(e, AS_FORMAT, 0, "%s names a file that cannot be read: %s", index,
                       as_error_text(&why));
    } else {
        code = as_error_pass(e, &why);
    }
    as_error_clear(&why);
    as_buffer_free(&what);
    return code;
}

static int add_entry(as_contents *out, const as_table *t, size_t i, size_t file, as_error *e)
{
    const as_entry *entry = as_table_entry(t, i);
    int code =
        as_tensors_add(&out->tensors, as_table_name(t, i), entry->name_length, entry->dtype,
                       (int)entry->ndim, as_table_shape(t, i), (uint32_t)file, entry->begin, e);
    if (code != AS_OK) {
        as_error_prefix(e, "%s", out->files.items[file]);
    }
    return code;
}

/* Tensors in the order of the index. */
static int follow_index(as_contents *out, const as_checkpoint *c, as_shard *shards, as_error *e)
{
    const as_index *x = &c->index;
    int code = AS_OK;
    for (size_t i = 0; i < as_index_count(x) && code == AS_OK; i++) {
        const as_index_entry *line = as_index_entry_at(x, i);
        as_shard *s = &shards[line->file];
        size_t entry = as_shard_take(s, as_index_name(x, i), line->name_length);
        if (entry == as_table_count(&s->table)) {
            return as_fail(e, AS_FORMAT, 0, "%s says that tensor %s is in %s, but it is not there",
                           c->index_name, as_quote(as_index_name(x, i), line->name_length).text,
                           out->files.items[line->file]);
        }
        code = add_entry(out, &s->table, entry, line->file, e);
    }
    return code;
}

static void warn_of_unnamed(const as_contents *out, const as_shard *shards, const as_log *log)
{
    for (size_t f = 0; f < out->files.count; f++) {
        const as_table *t = &shards[f].table;
        size_t first = 0;
        size_t unnamed = as_shard_unused(&shards[f], &first);
        if (unnamed > 0) {
            as_quoted name =
                as_quote(as_table_name(t, first), as_table_entry(t, first)->name_length);
            as_log_say(log, AS_LOG_WARNING,
                       "%s: left out, since %s does not name %s: %zu tensor%s, such as %s",
                       out->files.items[f], out->index_name, unnamed == 1 ? "it" : "them", unnamed,
                       unnamed == 1 ? "" : "s", name.text);
        }
    }
}

static int read_shards(as_contents *out, as_view *v, const as_checkpoint *c, as_shard *shards,
                       as_progress *progress, const as_log *log, as_error *e)
{
    int code = AS_OK;
    for (size_t f = 0; f < as_checkpoint_file_count(c) && code == AS_OK; f++) {
        const char *name = as_checkpoint_file(c, f);
        code = read_file(v, name, c->index_name, &shards[f].table, log, e);
        int64_t size = (int64_t)shards[f].table.file_size;
        if (code == AS_OK) {
            code = as_names_add(&out->files, name, e);
        }
        if (code == AS_OK) {
            code = as_buffer_append(&out->sizes, &size, sizeof size, e);
        }
        if (code == AS_OK && c->index_name) {
            code = as_shard_sort(&shards[f], e);
        }
        if (progress) {
            as_progress_update((int64_t)f + 1, (int64_t)as_checkpoint_file_count(c), progress);
        }
    }
    if (code != AS_OK) {
        return code;
    }
    if (c->index_name) {
        code = follow_index(out, c, shards, e);
        if (code == AS_OK) {
            warn_of_unnamed(out, shards, log);
        }
        return code;
    }
    for (size_t i = 0; i < as_table_count(&shards[0].table) && code == AS_OK; i++) {
        code = add_entry(out, &shards[0].table, i, 0, e);
    }
    return code;
}

static int read_view(as_contents *out, as_view *v, const char *pattern, as_progress *progress,
                     const as_log *log, as_error *e)
{
    as_checkpoint c = AS_CHECKPOINT_INIT;
    as_opener opener = as_view_opener(v);
    int code = as_checkpoint_resolve(&opener, pattern, &c, log, e);
    if (code != AS_OK) {
        return code;
    }
    size_t count = as_checkpoint_file_count(&c);
    as_shard *shards = calloc(count + 1, sizeof *shards);
    if (c.index_name) {
        out->index_name = strdup(c.index_name);
    }
    if (!shards || (c.index_name && !out->index_name)) {
        code = as_fail_nomem(e);
    } else {
        code = read_shards(out, v, &c, shards, progress, log, e);
    }
    as_shards_free(shards, count);
    as_checkpoint_free(&c);
    return code;
}

int as_contents_read(as_contents *out, const char *path, const char *pattern, as_progress *progress,
                     const as_log *log, as_error *e)
{
    enum { TRIES = 5 };
    int code = AS_OK;
    for (int i = 0; i < TRIES; i++) {
        *out = AS_CONTENTS_INIT;
        as_view *v = NULL;
        as_error now = AS_ERROR_INIT;
        code = as_view_open(&v, path, &now);
        if (code == AS_OK) {
            code = read_view(out, v, pattern, progress, log, &now);
            /* What looks bad may be one checkpoint while another takes its place. */
            as_error change = AS_ERROR_INIT;
            if (as_view_check(v, &change) == AS_BUSY) {
                as_error_move(&now, &change);
                code = AS_BUSY;
            }
            as_error_clear(&change);
            as_view_close(v);
        }
        if (code != AS_BUSY || i + 1 == TRIES) {
            (void)as_error_pass(e, &now);
            break;
        }
        as_error_clear(&now);
        as_contents_free(out);
    }
    if (code != AS_OK) {
        as_contents_free(out);
    }
    return code;
}

/* ------------------------------------------------------------------- sharing */

/* Each string with its NUL. */
static int pack_names(const as_names *names, as_buffer *b, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < names->count && code == AS_OK; i++) {
        code = as_buffer_append(b, names->items[i], strlen(names->items[i]) + 1, e);
    }
    return code;
}

static int unpack_names(const as_buffer *b, as_names *names, as_error *e)
{
    int code = AS_OK;
    for (size_t at = 0; at < b->size && code == AS_OK; at += strlen(b->data + at) + 1) {
        code = as_names_add(names, b->data + at, e);
    }
    return code;
}

int as_contents_share(as_contents *out, as_world *w, const char *path, const char *pattern,
                      const as_log *log, as_error *e)
{
    *out = AS_CONTENTS_INIT;
    as_buffer files = AS_BUFFER_INIT;
    as_buffer index = AS_BUFFER_INIT; /* its name, empty if there is none */
    if (w->rank == 0 && as_contents_read(out, path, pattern, NULL, log, e) == AS_OK) {
        (void)pack_names(&out->files, &files, e);
        const char *name = out->index_name ? out->index_name : "";
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): after AS_OK nothing of it has been freed */
        (void)as_buffer_append(&index, name, strlen(name) + 1, e);
    }
    int code = as_world_agree(w, e);
    as_buffer *const parts[] = {
        &out->tensors.rows, &out->tensors.names, &out->tensors.shapes, &out->sizes, &files, &index};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && code == AS_OK; i++) {
        code = as_world_bcast(w, 0, parts[i], e);
    }
    if (code == AS_OK && w->rank != 0) {
        for (size_t i = 0; i < as_tensors_count(&out->tensors); i++) {
            out->tensors.bytes += as_tensors_row(&out->tensors, i)->bytes;
            out->tensors.numel += as_tensors_row(&out->tensors, i)->numel;
        }
        (void)unpack_names(&files, &out->files, e);
        out->index_name = index.data[0] ? strdup(index.data) : NULL;
        if (index.data[0] && !out->index_name) {
            (void)as_fail_nomem(e);
        }
    }
    as_buffer_free(&files);
    as_buffer_free(&index);
    code = code == AS_OK ? as_world_agree(w, e) : code;
    if (code != AS_OK) {
        as_contents_free(out);
    }
    return code;
}

void as_contents_free(as_contents *c)
{
    as_tensors_free(&c->tensors);
    as_names_free(&c->files);
    as_buffer_free(&c->sizes);
    free(c->index_name);
    *c = AS_CONTENTS_INIT;
}
