/* SPDX-License-Identifier: Apache-2.0 */
#include "format/index.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_pull.h"
#include "base/quote.h"
#include "format/repeats.h"

#define LARGEST_INDEX (UINT64_C(4) << 30)

/* Stands for the file of a tensor whose value is no string. */
#define NO_FILE UINT32_MAX

/* One reading. Until all is read an entry's `file` is the number of a run: neighbours mostly lie in
 * one file, so its name is kept once for all of them. A later member of the same
 * name replaces an earlier one, as in a Python dict. */
typedef struct reader {
    const as_source *source;
    as_index *index;
    uint64_t at; /* next byte for the JSON parser */
    as_json *json;
    as_json_token token;
    bool has_map;       /* the last weight_map is an object */
    int map_kind;       /* what it is instead */
    as_buffer runs;     /* size_t[]: places in run_names */
    as_buffer run_ends; /* size_t[]: places behind their last byte */
    as_buffer run_names;
} reader;

static int fill(void *self, void *bytes, size_t capacity, size_t *count, as_error *e)
{
    reader *r = self;
    uint64_t left = r->source->size - r->at;
    *count = left < capacity ? (size_t)left : capacity;
    int code = r->source->read(r->source, r->at, bytes, *count, e);
    r->at += *count;
    return code;
}

static int next(reader *r, as_error *e)
{
    return as_json_next(r->json, &r->token, e);
}

static size_t run_count(const reader *r)
{
    return r->runs.size / sizeof(size_t);
}

/* A file name as it stands in the index. */
static void run_text(const void *list, size_t i, const char **text, size_t *length)
{
    const reader *r = list;
    size_t begin = ((const size_t *)(const void *)r->runs.data)[i];
    *text = r->run_names.data + begin;
    *length = ((const size_t *)(const void *)r->run_ends.data)[i] - begin;
}

/* The same without a leading "./": two spellings are one file. */
static void run_file(const void *list, size_t i, const char **text, size_t *length)
{
    run_text(list, i, text, length);
    while (*length > 2 && (*text)[0] == '.' && (*text)[1] == '/') {
        *text += 2;
        *length -= 2;
        while (*length > 1 && (*text)[0] == '/') {
            *text += 1;
            *length -= 1;
        }
    }
}

/* The number of a run with the token's text: the last one, or a new one. */
static int find_run(reader *r, uint32_t *run, as_error *e)
{
    size_t count = run_count(r);
    if (count > 0) {
        const char *text;
        size_t length;
        run_text(r, count - 1, &text, &length);
        if (length == r->token.length && memcmp(text, r->token.text, length) == 0) {
            *run = (uint32_t)(count - 1);
            return AS_OK;
        }
    }
    if (count >= NO_FILE) {
        return as_fail(e, AS_LIMIT, 0, "the index names too many files");
    }
    size_t begin = r->run_names.size;
    int code = as_buffer_append(&r->run_names, r->token.text, r->token.length, e);
    /* A NUL keeps the text's address valid when all names are empty. */
    code = code == AS_OK ? as_buffer_char(&r->run_names, '\0', e) : code;
    size_t end = begin + r->token.length;
    code = code == AS_OK ? as_buffer_append(&r->runs, &begin, sizeof begin, e) : code;
    code = code == AS_OK ? as_buffer_append(&r->run_ends, &end, sizeof end, e) : code;
    *run = (uint32_t)count;
    return code;
}

/* A member of the weight_map, its name read. */
static int read_mapping(reader *r, as_error *e)
{
    as_index *x = r->index;
    if (as_index_count(x) >= NO_FILE || r->token.length >= UINT32_MAX) {
        return as_fail(e, AS_LIMIT, 0, "the index has too many tensors or too long a name");
    }
    as_index_entry entry = {
        .name_at = x->names.size, .name_length = (uint32_t)r->token.length, .file = NO_FILE};
    int code = as_buffer_append(&x->names, r->token.text, r->token.length, e);
    code = code == AS_OK ? as_buffer_char(&x->names, '\0', e) : code;
    code = code == AS_OK ? next(r, e) : code;
    if (code == AS_OK && r->token.kind == AS_JSON_STRING) {
        code = find_run(r, &entry.file, e);
    } else if (code == AS_OK) {
        code = as_json_skip(r->json, &r->token, e);
    }
    return code == AS_OK ? as_buffer_append(&x->entries, &entry, sizeof entry, e) : code;
}

static int read_weight_map(reader *r, as_error *e)
{
    as_index *x = r->index;
    x->entries.size = 0;
    x->names.size = 0;
    r->runs.size = 0;
    r->run_ends.size = 0;
    r->run_names.size = 0;
    int code = next(r, e);
    r->map_kind = r->token.kind;
    r->has_map = r->token.kind == AS_JSON_OBJECT;
    if (code != AS_OK || !r->has_map) {
        return code == AS_OK ? as_json_skip(r->json, &r->token, e) : code;
    }
    while ((code = next(r, e)) == AS_OK && r->token.kind == AS_JSON_KEY) {
        code = read_mapping(r, e);
        if (code != AS_OK) {
            return code;
        }
    }
    return code;
}

/* A member of metadata, its name read: a string is kept, of numbers only total_size. */
static int read_meta(reader *r, as_error *e)
{
    static const char total_size[] = "total_size";
    as_pairs *pairs = &r->index->metadata;
    bool is_total = r->token.length == strlen(total_size) &&
                    memcmp(r->token.text, total_size, r->token.length) == 0;
    int code = as_pairs_append(pairs, r->token.text, r->token.length, "", 0, e);
    code = code == AS_OK ? next(r, e) : code;
    if (code != AS_OK) {
        return code;
    }
    if (is_total) {
        r->index->has_total_size = r->token.is_u64 && r->token.u64 <= INT64_MAX;
        r->index->total_size = r->index->has_total_size ? (int64_t)r->token.u64 : 0;
    }
    if (r->token.kind == AS_JSON_STRING) {
        return as_pairs_value_last(pairs, r->token.text, r->token.length, e);
    }
    pairs->count--;
    return as_json_skip(r->json, &r->token, e);
}

static int read_metadata(reader *r, as_error *e)
{
    as_pairs_free(&r->index->metadata);
    r->index->has_total_size = false;
    int code = next(r, e);
    if (code != AS_OK || r->token.kind != AS_JSON_OBJECT) {
        /* huggingface_hub never looks at it. */
        return code == AS_OK ? as_json_skip(r->json, &r->token, e) : code;
    }
    while ((code = next(r, e)) == AS_OK && r->token.kind == AS_JSON_KEY) {
        code = read_meta(r, e);
        if (code != AS_OK) {
            return code;
        }
    }
    return code;
}

static bool is_key(const as_json_token *t, const char *key)
{
    return t->length == strlen(key) && memcmp(t->text, key, t->length) == 0;
}

static int read_root(reader *r, as_error *e)
{
    int code = next(r, e);
    if (code == AS_OK && r->token.kind != AS_JSON_OBJECT) {
        return as_fail(e, AS_FORMAT, 0, "it is %s, not an object",
                       as_json_kind_name(r->token.kind));
    }
    while (code == AS_OK && (code = next(r, e)) == AS_OK && r->token.kind == AS_JSON_KEY) {
        if (is_key(&r->token, "weight_map")) {
            code = read_weight_map(r, e);
        } else if (is_key(&r->token, "metadata")) {
            code = read_metadata(r, e);
        } else {
            code = as_json_skip(r->json, &r->token, e);
        }
    }
    code = code == AS_OK ? next(r, e) : code; /* nothing may follow */
    if (code == AS_OK && !r->has_map) {
        code = r->map_kind == AS_JSON_END
                   ? as_fail(e, AS_FORMAT, 0, "it has no weight_map")
                   : as_fail(e, AS_FORMAT, 0, "its weight_map is %s, not an object",
                             as_json_kind_name(r->map_kind));
    }
    return code;
}

static void name_text(const void *list, size_t i, const char **text, size_t *length)
{
    const as_index *x = list;
    *text = as_index_name(x, i);
    *length = as_index_entry_at(x, i)->name_length;
}

/* A name that stands more than once keeps its first place and its last file. */
static int drop_repeats(as_index *x, const char *source_name, const as_log *log, as_error *e)
{
    size_t count = as_index_count(x);
    uint32_t *first;
    int code = as_repeats_find(x, count, name_text, &first, e);
    if (code != AS_OK || !first) {
        return code;
    }
    as_index_entry *entries = (as_index_entry *)(void *)x->entries.data;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (first[i] != i) {
            entries[first[i]].file = entries[i].file;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (first[i] == i) {
            entries[kept++] = entries[i];
        }
    }
    x->entries.size = kept * sizeof *entries;
    free(first);
    as_log_say(log, AS_LOG_WARNING,
               "%s: %zu names stand in the weight_map more than once; the last file of each counts",
               source_name, count - kept);
    return AS_OK;
}

/* Gives the run a file number if it has none: checks its name and keeps it. */
static int number_file(reader *r, uint32_t run, const char *extension, uint32_t *number,
                       as_error *e)
{
    if (*number != NO_FILE) {
        return AS_OK;
    }
    as_index *x = r->index;
    const char *text;
    size_t length;
    run_text(r, run, &text, &length);
    int code = as_index_check_file(text, length, extension, e);
    run_file(r, run, &text, &length);
    /* What stands behind a "./" may be what could not stand at the beginning: ".//C:a". */
    code = code == AS_OK ? as_index_check_file(text, length, extension, e) : code;
    size_t place = x->file_names.size;
    *number = (uint32_t)as_index_file_count(x);
    code = code == AS_OK ? as_buffer_append(&x->file_names, text, length, e) : code;
    code = code == AS_OK ? as_buffer_char(&x->file_names, '\0', e) : code;
    return code == AS_OK ? as_buffer_append(&x->files, &place, sizeof place, e) : code;
}

/* Runs → files, numbered as the entries mention them. numbers[] is work space, first[] as
 * as_repeats_find gives it. */
static int number_entries(reader *r, const char *extension, const uint32_t *first,
                          uint32_t *numbers, as_error *e)
{
    as_index *x = r->index;
    as_index_entry *entries = (as_index_entry *)(void *)x->entries.data;
    for (size_t i = 0; i < run_count(r); i++) {
        numbers[i] = NO_FILE;
    }
    for (size_t i = 0; i < as_index_count(x); i++) {
        uint32_t run = entries[i].file;
        if (run == NO_FILE) {
            return as_fail(e, AS_FORMAT, 0, "the file of tensor %s is no string",
                           as_quote(as_index_name(x, i), entries[i].name_length).text);
        }
        run = first ? first[run] : run;
        int code = number_file(r, run, extension, &numbers[run], e);
        if (code != AS_OK) {
            return code;
        }
        entries[i].file = numbers[run];
    }
    return AS_OK;
}

static int number_files(reader *r, const char *extension, as_error *e)
{
    uint32_t *first;
    int code = as_repeats_find(r, run_count(r), run_file, &first, e);
    if (code != AS_OK) {
        return code;
    }
    uint32_t *numbers = malloc((run_count(r) + 1) * sizeof *numbers);
    code = numbers ? number_entries(r, extension, first, numbers, e) : as_fail_nomem(e);
    free(numbers);
    free(first);
    return code;
}

int as_index_read(const as_source *source, const char *extension, as_index *out, const as_log *log,
                  as_error *e)
{
    *out = AS_INDEX_INIT;
    if (source->size > LARGEST_INDEX) {
        return as_fail(e, AS_LIMIT, 0, "%s: an index of more than 4 GiB is not read", source->name);
    }
    reader r = {.source = source, .index = out};
    as_error reason = AS_ERROR_INIT;
    bool named = false; /* the error's text begins with the file's name */
    int code = as_json_open(&r.json, fill, &r, AS_JSON_PYTHON, &reason);
    if (code == AS_OK) {
        code = read_root(&r, &reason);
        named = as_json_fill_failed(r.json);
        as_json_close(r.json);
    }
    code = code == AS_OK ? as_pairs_unique(&out->metadata, &reason) : code;
    code = code == AS_OK ? drop_repeats(out, source->name, log, &reason) : code;
    code = code == AS_OK ? number_files(&r, extension, &reason) : code;
    code = code == AS_OK ? as_index_warn_case(out, source->name, log, &reason) : code;
    as_buffer_free(&r.runs);
    as_buffer_free(&r.run_ends);
    as_buffer_free(&r.run_names);
    if (code != AS_OK) {
        as_index_free(out);
        if (code == AS_FORMAT && !named) {
            as_error_prefix(&reason, "%s: the index is bad", source->name);
        }
        if (e) {
            as_error_move(e, &reason);
        }
        as_error_clear(&reason);
    }
    return code;
}

void as_index_free(as_index *x)
{
    as_buffer_free(&x->entries);
    as_buffer_free(&x->names);
    as_buffer_free(&x->files);
    as_buffer_free(&x->file_names);
    as_pairs_free(&x->metadata);
    *x = AS_INDEX_INIT;
}
