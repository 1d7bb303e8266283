/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verify_bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/quote.h"
#include "commit/folder.h"
#include "tensor/dtype.h"

enum {
    NAMES_TOLD = 3,     /* tensors in a text */
    NAMES_LISTED = 1000 /* in the JSON */
};

const as_table *as_bytes_table(const as_bytes *b, const char *file)
{
    for (size_t i = 0; i < b->table_count; i++) {
        if (strcmp(b->tables[i].file, file) == 0) {
            return b->tables[i].table;
        }
    }
    return NULL;
}

/* ---- what is read ---- */

static int add(as_bytes *b, const as_look_file *file, const as_manifest_file *saved, as_error *e)
{
    int code = as_buffer_append(&b->files, file, sizeof *file, e);
    if (code == AS_OK) {
        code = as_name_map_add(&b->listed, file->name, as_bytes_count(b) - 1, e);
    }
    return code == AS_OK ? as_buffer_append(&b->saved, (const void *)&saved, sizeof(void *), e)
                         : code;
}

/* A file that the manifest has sums of. */
static int add_saved(as_bytes *b, as_view *v, const as_manifest_part *p,
                     const as_manifest_file *saved, as_error *e)
{
    as_look_file file = {.name = saved->name,
                         .sums = saved->sums,
                         .saved_size = saved->size,
                         .block_bytes = p->block_size};
    int code = as_shard_size(v, saved->name, &file.size, e);
    if (code != AS_OK) {
        return code;
    }
    const as_table *table = b->options->deep ? as_bytes_table(b, saved->name) : NULL;
    if (file.size == saved->size) {
        file.table = table;
        return add(b, &file, saved, e);
    }
    if (saved->role == AS_ROLE_EXTRA) {
        return AS_OK; /* edited, which has been told */
    }
    /* That it has another size has been told. What of it should be as it was is compared all the
     * same, and what is lost is looked for elsewhere. */
    if (!b->options->against) {
        int64_t blocks = as_max_i64(as_min_i64(file.size, saved->size), 0) / p->block_size;
        file.saved_size = blocks * p->block_size;
    }
    code = file.saved_size > 0 ? add(b, &file, saved, e) : AS_OK;
    if (code == AS_OK && table) {
        file = (as_look_file){.name = saved->name, .size = file.size, .table = table};
        code = add(b, &file, NULL, e);
    }
    return code;
}

/* Of a path that is a file, that file alone. */
static bool is_asked_for(const as_view *v, const char *name)
{
    const char *single = as_view_single(v);
    return !single || strcmp(name, single) == 0;
}

static int list_part(as_bytes *b, as_findings *f, as_view *v, const as_manifest_part *p,
                     const char **unknown, as_error *e)
{
    if (strcmp(p->checksum, AS_CHECKSUM_NONE) == 0) {
        return AS_OK;
    }
    if (strcmp(p->checksum, AS_CHECKSUM_NAME) != 0) {
        return as_findings_warn(f, e, AS_MANIFEST_NAME, NULL,
                                "its checksums of part %s are of the kind %s, which this allshard "
                                "does not know: they were not compared",
                                as_quote(p->part, strlen(p->part)).text,
                                as_quote(p->checksum, strlen(p->checksum)).text);
    }
    int code = AS_OK;
    for (size_t i = 0; i < p->file_count && code == AS_OK; i++) {
        const as_manifest_file *saved = &p->files[i];
        /* A config that several parts brought along is listed once. */
        if (saved->sums && is_asked_for(v, saved->name) &&
            !as_name_map_find(&b->listed, saved->name, NULL)) {
            *unknown = NULL;
            code = add_saved(b, v, p, saved, e);
        }
    }
    return code;
}

int as_bytes_list(as_bytes *b, const char **unknown, as_findings *f, as_view *v,
                  const as_verified *found, as_error *e)
{
    int code = AS_OK;
    *unknown = b->options->no_checksums ? "checksums were not compared, as asked"
               : !found->has_manifest   ? "there is no manifest with checksums"
               : !found->part && as_view_single(v)
                   ? "the manifest does not mention this file"
                   : "the manifest has no checksums to compare with";
    if (found->part && !b->options->no_checksums) {
        code = list_part(b, f, v, found->part, unknown, e);
        for (size_t i = 0; i < found->manifest.part_count && code == AS_OK; i++) {
            const as_manifest_part *p = &found->manifest.parts[i];
            if (p != found->part && !found->pattern) {
                code = list_part(b, f, v, p, unknown, e);
            }
        }
    }
    for (size_t i = 0; b->options->deep && i < b->table_count && code == AS_OK; i++) {
        as_look_file file = {.name = b->tables[i].file, .table = b->tables[i].table};
        if (!as_name_map_find(&b->listed, file.name, NULL)) {
            code = as_shard_size(v, file.name, &file.size, e);
            code = code == AS_OK ? add(b, &file, NULL, e) : code;
        }
    }
    return code;
}

/* ---- what was found ---- */

/* What of a file a run is: its bytes, and the entries of its table that have some of them. */
typedef struct stretch {
    int64_t begin;
    int64_t end;
    bool header; /* it has some bytes of the header, too */
    size_t first;
    size_t count;
} stretch;

static stretch find_stretch(const as_look_file *file, const as_look_run *run, const as_table *t)
{
    int64_t block = file->sums ? file->block_bytes : 4 << 20;
    int64_t span = file->sums ? file->saved_size : file->size;
    stretch s = {.begin = run->first * block};
    s.end = run->first + run->count > span / block ? span : (run->first + run->count) * block;
    s.header = t && s.begin < (int64_t)t->data_begin;
    for (size_t i = 0; t && i < as_table_count(t); i++) {
        const as_entry *x = as_table_entry(t, i);
        if (x->end > x->begin && (int64_t)x->begin < s.end && (int64_t)x->end > s.begin) {
            s.first = s.count ? s.first : i;
            s.count = i - s.first + 1;
        }
    }
    return s;
}

/* Entries without bytes lie between the others: they are not meant. */
static bool has_bytes(const as_table *t, size_t i)
{
    return as_table_entry(t, i)->end > as_table_entry(t, i)->begin;
}

static size_t count_tensors(const as_table *t, const stretch *s)
{
    size_t count = 0;
    for (size_t i = s->first; t && i < s->first + s->count; i++) {
        count += has_bytes(t, i);
    }
    return count;
}

/* ": tensors "a", "b" and 3 more"; nothing for one tensor alone, which the finding names. */
static int write_place(as_buffer *out, const as_table *t, const stretch *s, size_t tensors,
                       as_error *e)
{
    int code = AS_OK;
    if (s->header) {
        code = as_buffer_format(out, e, tensors ? ": the header, and tensor%s" : ": the header%s",
                                tensors > 1 ? "s" : "");
    } else if (tensors > 1) {
        code = as_buffer_format(out, e, ": tensors");
    } else {
        return AS_OK;
    }
    size_t told = 0;
    for (size_t i = s->first; i < s->first + s->count && told < NAMES_TOLD && code == AS_OK; i++) {
        if (has_bytes(t, i)) {
            as_quoted name = as_quote(as_table_name(t, i), as_table_entry(t, i)->name_length);
            code = as_buffer_format(out, e, "%s %s", told ? "," : "", name.text);
            told++;
        }
    }
    if (tensors > told && code == AS_OK) {
        code = as_buffer_format(out, e, " and %zu more", tensors - told);
    }
    return code;
}

static int write_text(as_buffer *out, const as_look_file *file, const as_look_run *run,
                      const stretch *s, as_error *e)
{
    int code = as_buffer_format(out, e, "bytes %" PRId64 " to %" PRId64, s->begin, s->end - 1);
    if (run->count > 1 && code == AS_OK) {
        code = as_buffer_format(out, e, " (%" PRId64 " blocks)", run->count);
    }
    if (code != AS_OK) {
        return code;
    }
    if (run->kind == AS_LOOK_UNREAD) {
        return as_buffer_format(out, e, " cannot be read%s%s", run->sys_errno ? ": " : "",
                                run->sys_errno ? strerror((int)run->sys_errno) : "");
    }
    if (run->kind == AS_LOOK_LOST) {
        return as_buffer_format(out, e, " are lost");
    }
    code = as_buffer_format(out, e, " are not those that were saved");
    if (run->count == 1 && code == AS_OK) {
        code =
            as_buffer_format(out, e, " (" AS_CHECKSUM_NAME " %016" PRIx64 ", found %016" PRIx64 ")",
                             file->sums[run->first], run->found);
    }
    return code;
}

static json_t *json_of_run(const as_look_file *file, const as_look_run *run, const stretch *s,
                           const as_table *t, size_t tensors)
{
    static const char *const kinds[] = {
        [AS_LOOK_DIFFERS] = "differs", [AS_LOOK_UNREAD] = "unreadable", [AS_LOOK_LOST] = "lost"};
    json_t *names = json_array();
    size_t end = t ? s->first + s->count : s->first;
    for (size_t i = s->first; i < end && json_array_size(names) < NAMES_LISTED; i++) {
        if (has_bytes(t, i) &&
            json_array_append_new(
                names, as_json_text(as_table_name(t, i), as_table_entry(t, i)->name_length)) != 0) {
            break; /* no memory: the packing below fails as well */
        }
    }
    char saved[17] = "";
    char found[17] = "";
    if (run->kind == AS_LOOK_DIFFERS && run->count == 1) {
        (void)snprintf(saved, sizeof saved, "%016" PRIx64, file->sums[run->first]);
        (void)snprintf(found, sizeof found, "%016" PRIx64, run->found);
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:b, s:o, s:I, s:o, s:o}", "kind", kinds[run->kind],
                     "begin", (json_int_t)s->begin, "end", (json_int_t)s->end, "blocks",
                     (json_int_t)run->count, "header", s->header, "tensors", names, "tensor_count",
                     (json_int_t)tensors, "saved", saved[0] ? json_string(saved) : json_null(),
                     "found", found[0] ? json_string(found) : json_null());
}

static int tell_run(const as_bytes *b, const as_look_run *run, const char *replica, as_findings *f,
                    as_error *e)
{
    const as_look_file *file = as_bytes_file(b, (size_t)run->file);
    const as_table *t = as_bytes_table(b, file->name);
    stretch s = find_stretch(file, run, t);
    size_t tensors = count_tensors(t, &s);
    const char *one = t && tensors == 1 && !s.header ? as_table_name(t, s.first) : NULL;
    as_buffer text = AS_BUFFER_INIT;
    int code = write_text(&text, file, run, &s, e);
    if (code == AS_OK && t) {
        code = write_place(&text, t, &s, tensors, e);
    }
    if (code == AS_OK && replica) {
        code = as_buffer_format(&text, e, "; %s", replica);
    }
    if (code == AS_OK) {
        code = as_findings_fault(f, e, file->name, one, "%s", text.data);
    }
    if (code == AS_OK) {
        code = as_findings_more(f, json_of_run(file, run, &s, t, tensors), e);
    }
    as_buffer_free(&text);
    return code;
}

/* "3 NaN (the first is element 17), 2 infinities (…; 1 of them negative)" */
static int tell_special(const as_bytes *b, const as_look_special *x, as_findings *f, as_error *e)
{
    const as_look_file *file = as_bytes_file(b, (size_t)x->file);
    const as_specials *s = &x->specials;
    int64_t infinities = s->plus + s->minus;
    as_buffer text = AS_BUFFER_INIT;
    int code = AS_OK;
    if (s->nan > 0) {
        code = as_buffer_format(&text, e, "%" PRId64 " NaN, the first at element %" PRId64, s->nan,
                                s->first_nan);
    }
    if (infinities > 0 && code == AS_OK) {
        code = as_buffer_format(&text, e,
                                "%s%" PRId64 " infinit%s (%" PRId64 " of them negative), the first "
                                "at element %" PRId64,
                                s->nan > 0 ? "; " : "", infinities, infinities == 1 ? "y" : "ies",
                                s->minus, s->first_infinity);
    }
    if (code == AS_OK) {
        code = as_findings_warn(f, e, file->name, as_table_name(file->table, (size_t)x->entry),
                                "%s", text.data);
    }
    as_buffer_free(&text);
    if (code == AS_OK) {
        json_t *more = json_pack(
            "{s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "kind", "values", "dtype",
            as_dtype_name(as_table_entry(file->table, (size_t)x->entry)->dtype), "nan",
            (json_int_t)s->nan, "positive_infinities", (json_int_t)s->plus, "negative_infinities",
            (json_int_t)s->minus, "first_nan",
            s->first_nan < 0 ? json_null() : json_integer((json_int_t)s->first_nan),
            "first_infinity",
            s->first_infinity < 0 ? json_null() : json_integer((json_int_t)s->first_infinity));
        code = as_findings_more(f, more, e);
    }
    return code;
}

/* Rot spares something; where no block of the shards is as it was saved the manifest is not of these
 * files. */
static int tell_foreign(const as_bytes *b, as_findings *f, as_error *e)
{
    enum { FEWEST = 4 }; /* blocks of which that can be said */
    const as_manifest_file *const *saved = (const as_manifest_file *const *)(void *)b->saved.data;
    const as_look_run *runs = (const as_look_run *)(const void *)b->looked.runs.data;
    int64_t blocks = 0;
    int64_t differing = 0;
    for (size_t i = 0; i < as_bytes_count(b); i++) {
        const as_look_file *file = as_bytes_file(b, i);
        if (saved[i] && saved[i]->role == AS_ROLE_SHARD) {
            blocks += as_ceil_div(file->saved_size, file->block_bytes);
        }
    }
    for (size_t i = 0; i < b->looked.runs.size / sizeof *runs; i++) {
        const as_manifest_file *of = saved[runs[i].file];
        differing +=
            of && of->role == AS_ROLE_SHARD && runs[i].kind == AS_LOOK_DIFFERS ? runs[i].count : 0;
    }
    if (differing < FEWEST || differing < blocks) {
        return AS_OK;
    }
    return as_findings_warn(f, e, AS_MANIFEST_NAME, NULL,
                            "no block of the shards is what it says: it seems to be of another "
                            "checkpoint; if another tool wrote the shards, remove this file");
}

int as_bytes_tell(const as_bytes *b, const as_names *replica, as_findings *f, as_error *e)
{
    const as_look_run *runs = (const as_look_run *)(const void *)b->looked.runs.data;
    size_t count = b->looked.runs.size / sizeof *runs;
    const as_look_special *specials =
        (const as_look_special *)(const void *)b->looked.specials.data;
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        const char *word = replica && i < replica->count ? replica->items[i] : NULL;
        /* That the file is too short has been told; where the rest can be had, not yet. */
        if (runs[i].kind != AS_LOOK_LOST || word) {
            code = tell_run(b, &runs[i], word, f, e);
        }
    }
    if (code == AS_OK) {
        code = tell_foreign(b, f, e);
    }
    for (size_t i = 0; i < b->looked.specials.size / sizeof *specials && code == AS_OK; i++) {
        code = tell_special(b, &specials[i], f, e);
    }
    return code;
}

void as_bytes_free(as_bytes *b)
{
    as_buffer_free(&b->files);
    as_buffer_free(&b->saved);
    as_name_map_free(&b->listed);
    as_looked_free(&b->looked);
    *b = (as_bytes){0};
}
