/* SPDX-License-Identifier: Apache-2.0 */
#include "series/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/quote.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "format/index.h"
#include "series/shards.h"

static const char weights_end[] = ".safetensors";
static const char index_end[] = ".safetensors.index.json";

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name);
    size_t tail = strlen(end);
    return length > tail && strcmp(name + length - tail, end) == 0;
}

static int full_name(const as_view *v, const char *name, as_buffer *out, as_error *e)
{
    int code = as_buffer_format(out, e, "%s/%s", as_view_path(v), name);
    return code == AS_OK && !as_buffer_string(out) ? as_fail_nomem(e) : code;
}

/* ------------------------------------------------------------- one checkpoint */

/* What is counted of an index's tensors, or of those of a single file. */
typedef struct tally {
    int64_t tensors;
    int64_t bytes;
} tally;

static void count_entry(tally *t, const as_table *table, size_t i)
{
    const as_entry *entry = as_table_entry(table, i);
    t->tensors++;
    t->bytes += (int64_t)(entry->end - entry->begin);
}

static int read_table(as_view *v, const char *name, as_table *out, as_error *e)
{
    as_buffer what = AS_BUFFER_INIT;
    int code = full_name(v, name, &what, e);
    code = code == AS_OK ? as_shard_read(v, name, what.data, out, NULL, e) : code;
    as_buffer_free(&what);
    return code;
}

static int check_single(as_view *v, const char *name, tally *t, as_error *e)
{
    as_table table = AS_TABLE_INIT;
    int code = read_table(v, name, &table, e);
    for (size_t i = 0; code == AS_OK && i < as_table_count(&table); i++) {
        count_entry(t, &table, i);
    }
    as_table_free(&table);
    return code;
}

static int read_index(as_view *v, const char *name, as_index *out, as_error *e)
{
    as_buffer what = AS_BUFFER_INIT;
    as_source source;
    int fd = -1;
    int code = full_name(v, name, &what, e);
    code = code == AS_OK ? as_shard_open(v, name, &fd, e) : code;
    code = code == AS_OK ? as_source_file(&source, &fd, what.data, e) : code;
    code = code == AS_OK ? as_index_read(&source, weights_end, out, NULL, e) : code;
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_buffer_free(&what);
    return code;
}

/* The lines of an index, by file. */
typedef struct lines {
    size_t *first; /* of each file, in `order`; the end behind the last; heap */
    size_t *order; /* numbers of lines; heap */
} lines;

static int sort_lines(const as_index *x, lines *out, as_error *e)
{
    size_t files = as_index_file_count(x);
    size_t count = as_index_count(x);
    out->first = calloc(files + 2, sizeof *out->first);
    out->order = calloc(count + 1, sizeof *out->order);
    if (!out->first || !out->order) {
        return as_fail_nomem(e);
    }
    /* Counted two places on, so that after the second pass each file's begin is in its place. */
    for (size_t i = 0; i < count; i++) {
        out->first[as_index_entry_at(x, i)->file + 2]++;
    }
    for (size_t f = 2; f < files + 2; f++) {
        out->first[f] += out->first[f - 1];
    }
    for (size_t i = 0; i < count; i++) {
        out->order[out->first[as_index_entry_at(x, i)->file + 1]++] = i;
    }
    return AS_OK;
}

/* The tensors that the index says are in file `f`. */
static int check_file(as_view *v, const char *name, const as_index *x, const lines *l, size_t f,
                      tally *t, as_error *e)
{
    as_shard *shard = calloc(1, sizeof *shard);
    if (!shard) {
        return as_fail_nomem(e);
    }
    int code = read_table(v, as_index_file(x, f), &shard->table, e);
    code = code == AS_OK ? as_shard_sort(shard, e) : code;
    for (size_t i = l->first[f]; code == AS_OK && i < l->first[f + 1]; i++) {
        const as_index_entry *line = as_index_entry_at(x, l->order[i]);
        const char *tensor = as_index_name(x, l->order[i]);
        size_t entry = as_shard_find(shard, tensor, line->name_length);
        if (entry == as_table_count(&shard->table)) {
            code = as_fail(e, AS_FORMAT, 0, "%s/%s: tensor %s is not in \"%s\"", as_view_path(v),
                           name, as_quote(tensor, line->name_length).text, as_index_file(x, f));
        } else {
            count_entry(t, &shard->table, entry);
        }
    }
    as_shards_free(shard, 1);
    return code;
}

/* `files` gets the names that the index tells. */
static int check_index(as_view *v, const char *name, as_names *files, tally *t, as_error *e)
{
    as_index x = AS_INDEX_INIT;
    lines l = {0};
    int code = read_index(v, name, &x, e);
    code = code == AS_OK ? sort_lines(&x, &l, e) : code;
    for (size_t f = 0; code == AS_OK && f < as_index_file_count(&x); f++) {
        code = check_file(v, name, &x, &l, f, t, e);
        code = code == AS_OK ? as_names_add(files, as_index_file(&x, f), e) : code;
    }
    free(l.first);
    free(l.order);
    as_index_free(&x);
    as_names_sort(files);
    return code;
}

/* ------------------------------------------------------------ with a manifest */

static int read_manifest(as_view *v, as_inspected *out, as_error *e)
{
    as_buffer what = AS_BUFFER_INIT;
    as_buffer bytes = AS_BUFFER_INIT;
    struct stat status;
    void *place = NULL;
    int fd = -1;
    int code = full_name(v, AS_MANIFEST_NAME, &what, e);
    code = code == AS_OK ? as_shard_open(v, AS_MANIFEST_NAME, &fd, e) : code;
    if (code == AS_OK && as_sys_table.fstat(fd, &status) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot stat this file", what.data);
    }
    if (code == AS_OK && status.st_size > AS_MANIFEST_LARGEST) {
        code = as_fail(e, AS_FORMAT, 0, "%s: %lld bytes are more than a manifest can have",
                       what.data, (long long)status.st_size);
    }
    if (code == AS_OK) {
        code = as_buffer_extend(&bytes, (size_t)status.st_size, &place, e);
    }
    if (code == AS_OK) {
        code = as_read_all(fd, place, (size_t)status.st_size, 0, what.data, e);
    }
    if (code == AS_OK) {
        code = as_manifest_from_bytes(bytes.data ? bytes.data : "", bytes.size, what.data,
                                      &out->manifest, e);
        out->has_manifest = code == AS_OK;
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_buffer_free(&what);
    as_buffer_free(&bytes);
    return code;
}

/* Are the part's files there, as long as they were? */
static int check_sizes(as_view *v, const as_manifest_part *p, as_names *shards, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < p->file_count; i++) {
        const as_manifest_file *f = &p->files[i];
        int64_t size = -1;
        if (f->role == AS_ROLE_EXTRA) {
            continue;
        }
        code = as_shard_size(v, f->name, &size, e);
        if (code == AS_OK && size != f->size) {
            code = size < 0
                       ? as_fail(e, AS_FORMAT, 0, "%s/%s: this file is missing", as_view_path(v),
                                 f->name)
                       : as_fail(e, AS_FORMAT, 0, "%s/%s: %lld bytes, but %lld were saved",
                                 as_view_path(v), f->name, (long long)size, (long long)f->size);
        }
        if (code == AS_OK && f->role == AS_ROLE_SHARD) {
            code = as_names_add(shards, f->name, e);
        }
    }
    as_names_sort(shards);
    return code;
}

static int check_part(as_view *v, const as_manifest_part *p, as_error *e)
{
    as_names shards = AS_NAMES_INIT;
    as_names named = AS_NAMES_INIT;
    tally t = {0};
    int code = check_sizes(v, p, &shards, e);
    if (code == AS_OK && p->index) {
        code = check_index(v, p->index, &named, &t, e);
    } else if (code == AS_OK && shards.count == 1) {
        code = check_single(v, shards.items[0], &t, e);
    } else if (code == AS_OK) {
        code =
            as_fail(e, AS_FORMAT, 0,
                    "%s/" AS_MANIFEST_NAME ": part \"%s\" has %zu files of weights, but no index",
                    as_view_path(v), p->part, shards.count);
    }
    for (size_t i = 0; code == AS_OK && i < named.count; i++) {
        if (!as_names_find(&shards, named.items[i])) {
            code = as_fail(e, AS_FORMAT, 0, "%s/%s: it names \"%s\", which the manifest does not",
                           as_view_path(v), p->index, named.items[i]);
        }
    }
    if (code == AS_OK && (t.tensors != p->tensor_count || t.bytes != p->total_size)) {
        code = as_fail(e, AS_FORMAT, 0,
                       "%s: part \"%s\" has %lld tensors of %lld bytes, but %lld of %lld bytes "
                       "were saved",
                       as_view_path(v), p->part, (long long)t.tensors, (long long)t.bytes,
                       (long long)p->tensor_count, (long long)p->total_size);
    }
    as_names_free(&shards);
    as_names_free(&named);
    return code;
}

/* --------------------------------------------------------- without a manifest */

/* "…-00001-of-00003.safetensors", as all writers number their shards. */
static bool is_shard_name(const char *name)
{
    static const char form[] = "-ddddd-of-ddddd";
    size_t length = strlen(name) - strlen(weights_end);
    if (length < strlen(form)) {
        return false;
    }
    const char *at = name + length - strlen(form);
    for (size_t i = 0; i < strlen(form); i++) {
        bool digit = at[i] >= '0' && at[i] <= '9';
        if (form[i] == 'd' ? !digit : at[i] != form[i]) {
            return false;
        }
    }
    return true;
}

static int check_all(as_view *v, bool *has_weights, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    as_names named = AS_NAMES_INIT;
    tally t = {0};
    int code = as_view_list(v, &names, e);
    for (size_t i = 0; code == AS_OK && i < names.count; i++) {
        if (ends_in(names.items[i], index_end)) {
            *has_weights = true;
            code = check_index(v, names.items[i], &named, &t, e);
        }
    }
    for (size_t i = 0; code == AS_OK && i < names.count; i++) {
        const char *name = names.items[i];
        if (!ends_in(name, weights_end) || as_names_find(&named, name)) {
            continue;
        }
        *has_weights = true;
        code = is_shard_name(name)
                   ? as_fail(e, AS_FORMAT, 0,
                             "%s/%s: a shard that no index names; the index is missing, or the "
                             "shard was left over",
                             as_view_path(v), name)
                   : check_single(v, name, &t, e);
    }
    as_names_free(&names);
    as_names_free(&named);
    return code;
}

/* ------------------------------------------------------------------------ all */

int as_inspect(as_inspected *out, as_view *v, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    *out = AS_INSPECTED_INIT;
    int code = read_manifest(v, out, &own);
    if (code == AS_NOT_FOUND) {
        as_error_clear(&own);
        code = check_all(v, &out->has_weights, &own);
    }
    for (size_t i = 0; code == AS_OK && i < out->manifest.part_count; i++) {
        code = check_part(v, &out->manifest.parts[i], &own);
    }
    /* What looks bad may be the half of one checkpoint and the half of the next. */
    as_error change = AS_ERROR_INIT;
    if (as_view_check(v, &change) == AS_BUSY) {
        as_error_move(&own, &change);
    }
    as_error_clear(&change);
    return as_error_pass(e, &own);
}

void as_inspected_free(as_inspected *i)
{
    if (i->has_manifest) {
        as_manifest_free(&i->manifest);
    }
    *i = AS_INSPECTED_INIT;
}
