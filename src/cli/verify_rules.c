/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verify_rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "commit/folder.h"
#include "tensor/dtype.h"

/* ---------------------------------------------------------------- single files */

static int check_metadata(as_check *c, const char *file, const as_table *t)
{
    const as_pair *format = as_pairs_find(&t->metadata, "format", strlen("format"));
    if (!t->has_metadata) {
        return as_findings_warn(
            c->findings, c->e, file, NULL,
            "the header has no __metadata__; older transformers cannot load it");
    }
    if (!format) {
        return as_findings_warn(
            c->findings, c->e, file, NULL,
            "__metadata__ has no \"format\"; huggingface_hub refuses to load it");
    }
    if (strcmp(format->value, "pt") != 0 && strcmp(format->value, "mlx") != 0) {
        return as_findings_warn(
            c->findings, c->e, file, NULL,
            "its \"format\" is %s; huggingface_hub loads only \"pt\" and \"mlx\"",
            as_quote(format->value, format->value_length).text);
    }
    return AS_OK;
}

/* What the format allows, but torch cannot take: it keeps two F4 elements in one of its own. */
static int check_dimensions(as_check *c, const char *file, const as_table *t)
{
    int code = AS_OK;
    for (size_t i = 0; i < as_table_count(t) && code == AS_OK; i++) {
        const as_entry *x = as_table_entry(t, i);
        if (x->dtype == AS_F4 && x->ndim > 0 && as_table_shape(t, i)[x->ndim - 1] % 2 != 0) {
            code = as_findings_warn(c->findings, c->e, file, as_table_name(t, i),
                                    "the last dimension of F4 is odd, which torch cannot load");
        }
    }
    return code;
}

/* Reads a file's table; what breaks a rule is a finding. *good: it could be read. */
static int check_file(as_check *c, const char *file, as_table *out, bool *good)
{
    as_findings_log warnings = {.findings = c->findings, .file = file, .e = c->e};
    as_log log = as_findings_as_log(&warnings);
    as_error why = AS_ERROR_INIT;
    int code = as_shard_read(c->view, file, file, out, &log, &why);
    *good = code == AS_OK;
    if (code == AS_FORMAT || code == AS_INVALID) {
        code = as_findings_take(c->findings, c->e, file, &why);
    } else if (code == AS_NOT_FOUND) {
        code = as_findings_fault(c->findings, c->e, file, NULL,
                                 "the index names this file, but it is not there");
    } else if (code != AS_OK) {
        code = as_error_pass(c->e, &why);
    }
    as_error_clear(&why);
    if (*good) {
        code = check_metadata(c, file, out);
        code = code == AS_OK ? check_dimensions(c, file, out) : code;
    }
    return code != AS_OK ? code : c->e->code;
}

/* -------------------------------------------------------------------- the index */

/* Another file that holds the tensor, or NULL. */
static const char *find_elsewhere(const as_check *c, const char *name, size_t length)
{
    for (size_t f = 0; f < c->found.files.count; f++) {
        const as_shard *s = &c->shards[f];
        if (c->good[f] && as_shard_find(s, name, length) < as_table_count(&s->table)) {
            return c->found.files.items[f];
        }
    }
    return NULL;
}

static int check_line(as_check *c, size_t i)
{
    const as_index *x = &c->checkpoint.index;
    const as_index_entry *line = as_index_entry_at(x, i);
    as_shard *s = &c->shards[line->file];
    if (!c->good[line->file]) {
        return AS_OK; /* told before */
    }
    const char *name = as_index_name(x, i);
    size_t entry = as_shard_take(s, name, line->name_length);
    if (entry < as_table_count(&s->table)) {
        const as_entry *t = as_table_entry(&s->table, entry);
        c->found.tensors++;
        c->found.bytes += (int64_t)(t->end - t->begin);
        return AS_OK;
    }
    c->found.complete = false;
    const char *other = find_elsewhere(c, name, line->name_length);
    if (other) {
        return as_findings_fault(c->findings, c->e, c->found.files.items[line->file], name,
                                 "the index says that it is here, but it is in %s", other);
    }
    return as_findings_fault(c->findings, c->e, c->found.files.items[line->file], name,
                             "the index says that it is here, but it is in no file");
}

static int check_total_size(as_check *c)
{
    const as_index *x = &c->checkpoint.index;
    const char *file = c->checkpoint.index_name;
    if (!x->has_total_size) {
        return as_findings_warn(
            c->findings, c->e, file, NULL,
            "it has no metadata.total_size; transformers may refuse to load it");
    }
    if (c->found.complete && x->total_size != c->found.bytes) {
        return as_findings_warn(c->findings, c->e, file, NULL,
                                "its total_size is %lld, but the tensors take %lld bytes",
                                (long long)x->total_size, (long long)c->found.bytes);
    }
    return AS_OK;
}

/* Tensors in the files that the index does not name: one warning for each file. */
static int check_unnamed(as_check *c, size_t f)
{
    const as_table *t = &c->shards[f].table;
    size_t first = 0;
    size_t unnamed = as_shard_unused(&c->shards[f], &first);
    if (unnamed == 0) {
        return AS_OK;
    }
    return as_findings_warn(c->findings, c->e, c->found.files.items[f], as_table_name(t, first),
                            unnamed == 1 ? "the index does not name this tensor of the file"
                                         : "the index does not name this and %zu more tensors of "
                                           "the file",
                            unnamed - 1);
}

static int check_index(as_check *c)
{
    int code = AS_OK;
    for (size_t i = 0; i < as_index_count(&c->checkpoint.index) && code == AS_OK; i++) {
        code = check_line(c, i);
    }
    for (size_t f = 0; f < c->found.files.count && code == AS_OK; f++) {
        code = c->good[f] ? check_unnamed(c, f) : AS_OK;
    }
    return code == AS_OK ? check_total_size(c) : code;
}

/* ------------------------------------------------------------------ everything */

static int check_files(as_check *c)
{
    size_t count = as_checkpoint_file_count(&c->checkpoint);
    c->shards = calloc(count + 1, sizeof *c->shards);
    c->good = calloc(count + 1, sizeof *c->good);
    if (!c->shards || !c->good) {
        return as_fail_nomem(c->e);
    }
    int code = AS_OK;
    c->found.complete = true;
    for (size_t f = 0; f < count && code == AS_OK; f++) {
        const char *name = as_checkpoint_file(&c->checkpoint, f);
        code = as_names_add(&c->found.files, name, c->e);
        if (code == AS_OK) {
            code = check_file(c, name, &c->shards[f].table, &c->good[f]);
        }
        c->found.complete = c->found.complete && c->good[f];
        if (code == AS_OK && c->good[f]) {
            code = as_shard_sort(&c->shards[f], c->e);
        }
        as_progress_update((int64_t)f + 1, (int64_t)count, c->progress);
    }
    if (code != AS_OK || c->checkpoint.index_name) {
        return code == AS_OK ? check_index(c) : code;
    }
    const as_table *t = &c->shards[0].table;
    for (size_t i = 0; i < as_table_count(t); i++) {
        c->found.tensors++;
        c->found.bytes += (int64_t)(as_table_entry(t, i)->end - as_table_entry(t, i)->begin);
    }
    return AS_OK;
}

static int note_table(as_check *c, const char *file, const as_table *table)
{
    as_named_table one = {.file = file, .table = table};
    return as_buffer_append(&c->tables, &one, sizeof one, c->e);
}

/* A shard of another part of the manifest: its own rules; the index of that part is left to its
 * checksum. */
static int check_other(as_check *c, const char *name)
{
    int64_t size = -1;
    bool good = false;
    as_table *t = &c->others[c->other_files.count].table;
    int code = as_shard_size(c->view, name, &size, c->e);
    if (code != AS_OK || size < 0 || as_findings_has_fault(c->findings, name)) {
        return code; /* told before */
    }
    code = as_names_add(&c->other_files, name, c->e);
    code = code == AS_OK ? check_file(c, name, t, &good) : code;
    for (size_t i = 0; good && i < as_table_count(t); i++) {
        c->other_tensors++;
        c->other_bytes += (int64_t)(as_table_entry(t, i)->end - as_table_entry(t, i)->begin);
    }
    return good && code == AS_OK ? note_table(c, c->other_files.items[c->other_files.count - 1], t)
                                 : code;
}

/* Unless one checkpoint was asked for, the other parts that the manifest knows are checked too. */
static int check_others(as_check *c)
{
    const as_manifest *m = &c->found.manifest;
    size_t count = 0;
    int code = AS_OK;
    if (!c->found.part || c->found.pattern) {
        return AS_OK;
    }
    for (size_t i = 0; i < m->part_count; i++) {
        count += m->parts[i].file_count;
    }
    c->others = calloc(count + 1, sizeof *c->others);
    if (!c->others) {
        return as_fail_nomem(c->e);
    }
    for (size_t i = 0; i < m->part_count; i++) {
        const as_manifest_part *p = &m->parts[i];
        for (size_t k = 0; p != c->found.part && k < p->file_count && code == AS_OK; k++) {
            code = p->files[k].role == AS_ROLE_SHARD ? check_other(c, p->files[k].name) : AS_OK;
        }
    }
    return code;
}

/* Does the code tell of something wrong with what lies there? */
static bool is_fault(int code)
{
    return code == AS_FORMAT || code == AS_INVALID || code == AS_LIMIT;
}

/* The file that an error of as_checkpoint_resolve is about: its text begins with the index's
 * name, or with the path. */
static int take_resolve_error(as_check *c, const as_error *why)
{
    const char *text = as_error_text(why);
    const char *path = as_view_path(c->view);
    size_t length = strlen(path);
    if (strncmp(text, path, length) == 0 && text[length] == '/') {
        const char *name = text + length + 1;
        const char *end = strstr(name, ": ");
        char *file = strndup(name, end ? (size_t)(end - name) : 0);
        if (!file) {
            return as_fail_nomem(c->e);
        }
        int code = as_findings_fault(c->findings, c->e, file, NULL, "%s", end ? end + 2 : text);
        free(file);
        return code;
    }
    return as_findings_take(c->findings, c->e, path, why);
}

static int check_view(as_check *c)
{
    as_findings_log warnings = {.findings = c->findings, .file = as_view_path(c->view), .e = c->e};
    as_log log = as_findings_as_log(&warnings);
    as_opener opener = as_view_opener(c->view);
    as_error why = AS_ERROR_INIT;
    int code = as_checkpoint_resolve(&opener, c->found.pattern, &c->checkpoint, &log, &why);
    if (code == AS_FORMAT || code == AS_INVALID) {
        code = take_resolve_error(c, &why);
        as_error_clear(&why);
        return code;
    }
    if (code != AS_OK) {
        return as_error_pass(c->e, &why);
    }
    c->found.index_name = c->checkpoint.index_name;
    code = check_files(c);
    for (size_t f = 0; f < c->found.files.count && code == AS_OK; f++) {
        if (c->good[f]) {
            code = note_table(c, c->found.files.items[f], &c->shards[f].table);
        }
    }
    if (code == AS_OK && as_view_single(c->view)) {
        code = as_verify_beside(c->findings, c->view, &c->found, c->e);
    } else if (code == AS_OK) {
        code = as_verify_folder(c->findings, c->view, &c->found, c->e);
        code = code == AS_OK ? check_others(c) : code;
    }
    return code != AS_OK ? code : c->e->code;
}

/* Opens the path; what is wrong with .allshard/ is a fault, and then what lies in place is looked
 * at. c->view stays NULL if that is no checkpoint's file either. */
static int open_view(as_check *c, const char *path)
{
    as_error why = AS_ERROR_INIT;
    int code = as_view_open(&c->view, path, &why);
    if (!is_fault(code)) {
        return as_error_pass(c->e, &why);
    }
    as_error plain = AS_ERROR_INIT;
    if (is_fault(as_view_open_in_place(&c->view, path, &plain))) {
        code = as_findings_take(c->findings, c->e, path, &plain);
    } else if (plain.code != AS_OK) {
        code = as_error_pass(c->e, &plain);
    } else {
        c->in_place = true;
        code = as_findings_fault(c->findings, c->e, AS_META_NAME, NULL,
                                 "%s; all else told here is about the files as they lie in place",
                                 as_error_text(&why));
    }
    as_error_clear(&why);
    as_error_clear(&plain);
    return code;
}

int as_check_rules(as_check *c, const char *path)
{
    int code = open_view(c, path);
    return code == AS_OK && c->view ? check_view(c) : code;
}

void as_check_change(as_check *c)
{
    as_error why = AS_ERROR_INIT;
    if (c->view && as_view_check(c->view, &why) == AS_BUSY) {
        as_error_move(c->e, &why);
    }
    as_error_clear(&why);
}

void as_check_free(as_check *c)
{
    as_shards_free(c->shards, c->found.files.count);
    as_shards_free(c->others, c->other_files.count);
    free(c->good);
    as_buffer_free(&c->tables);
    as_names_free(&c->found.files);
    as_names_free(&c->other_files);
    as_manifest_free(&c->found.manifest);
    as_checkpoint_free(&c->checkpoint);
    as_view_close(c->view);
}
