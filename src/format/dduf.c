/* SPDX-License-Identifier: Apache-2.0 */
#include "format/dduf.h"

#include <string.h>

#include "base/json_pull.h"
#include "base/quote.h"
#include "base/utf8.h"

/* Of model_index.json, which has a line for each part of a pipeline. */
#define LONGEST_INDEX (UINT64_C(16) << 20)

/* What the rules are checked on, both ways. `code`: of a broken rule. */
typedef struct rules {
    const char *file; /* for error texts; "" when a file is laid out */
    int code;
    as_name_map names;   /* of entries */
    as_name_map folders; /* that the index names */
    as_buffer keys;      /* their text, each followed by a NUL */
} rules;

static int refuse(const rules *r, as_error *e, const char *name, size_t length, const char *reason)
{
    return as_fail(e, r->code, 0, "%s%sentry %s %s", r->file, r->file[0] ? ": " : "",
                   as_quote(name, length).text, reason);
}

static int refuse_index(const rules *r, as_error *e, const char *reason)
{
    return as_fail(e, r->code, 0, "%s%s" AS_DDUF_INDEX " %s", r->file, r->file[0] ? ": " : "",
                   reason);
}

static bool ends_in(const char *name, size_t length, const char *end)
{
    size_t count = strlen(end);
    return length >= count && memcmp(name + length - count, end, count) == 0;
}

/* huggingface_hub takes a name without a dot for one with nothing before it; here it is refused,
 * and so is a name that leads elsewhere. */
static int check_name(const rules *r, const char *name, size_t length, as_error *e)
{
    static const char *const extensions[] = {".json", ".model", ".safetensors", ".txt"};
    const char *slash = memchr(name, '/', length);
    size_t folder = slash ? (size_t)(slash - name) : 0;
    const char *base = slash ? slash + 1 : name;
    size_t base_length = length - (size_t)(base - name);
    bool known = false;
    for (size_t i = 0; i < sizeof extensions / sizeof extensions[0]; i++) {
        known = known || ends_in(name, length, extensions[i]);
    }
    if (!known) {
        return refuse(r, e, name, length,
                      "is none of .json, .model, .safetensors and .txt, which "
                      "a DDUF file may hold");
    }
    if (memchr(name, '\\', length)) {
        return refuse(r, e, name, length, "has a backslash in its name; a DDUF file has \"/\"");
    }
    if (memchr(name, '\0', length) || !as_utf8_valid(name, length)) {
        return refuse(r, e, name, length, "has a name that is not UTF-8");
    }
    if (memchr(base, '/', base_length)) {
        return refuse(r, e, name, length, "lies deeper than one folder");
    }
    if ((slash && folder == 0) || base_length == 0 ||
        (folder <= 2 && folder > 0 && memcmp(name, "..", folder) == 0)) {
        return refuse(r, e, name, length, "has a name that leads elsewhere");
    }
    return AS_OK;
}

/* The members of the object under way → r->keys. */
static int parse_members(rules *r, as_json *json, as_error *e)
{
    as_json_token token;
    int code = as_json_next(json, &token, e);
    if (code == AS_OK && token.kind != AS_JSON_OBJECT) {
        return as_fail(e, AS_FORMAT, 0, "it is %s, not an object", as_json_kind_name(token.kind));
    }
    while (code == AS_OK && (code = as_json_next(json, &token, e)) == AS_OK &&
           token.kind == AS_JSON_KEY) {
        if (!memchr(token.text, '\0', token.length)) { /* else it is no folder's name */
            code = as_buffer_append(&r->keys, token.text, token.length + 1, e);
        }
        code = code == AS_OK ? as_json_skip(json, &token, e) : code;
    }
    /* Nothing but whitespace behind it. */
    return code == AS_OK ? as_json_next(json, &token, e) : code;
}

static int parse_index(rules *r, const char *bytes, size_t size, as_error *e)
{
    if (size > LONGEST_INDEX) {
        return as_fail(e, AS_LIMIT, 0, AS_DDUF_INDEX " has more than 16 MiB");
    }
    as_json *json;
    as_json_memory t = {.at = bytes, .left = size};
    int code = as_json_open(&json, as_json_fill_memory, &t, AS_JSON_PYTHON, e);
    if (code != AS_OK) {
        return code;
    }
    as_error reason = AS_ERROR_INIT;
    code = parse_members(r, json, &reason);
    as_json_close(json);
    if (code == AS_FORMAT) {
        code = refuse_index(r, e, as_error_text(&reason));
        as_error_clear(&reason);
        return code;
    }
    (void)as_error_pass(e, &reason);
    for (size_t at = 0; code == AS_OK && at < r->keys.size; at += strlen(r->keys.data + at) + 1) {
        code = as_name_map_add(&r->folders, r->keys.data + at, 0, e);
    }
    return code;
}

/* A folder must be in the index and hold a file that tells what it is. */
static int check_folder(const rules *r, const char *name, size_t length, as_error *e)
{
    static const char *const wanted[] = {"config.json", "tokenizer_config.json",
                                         "preprocessor_config.json", "scheduler_config.json"};
    const char *slash = memchr(name, '/', length);
    if (!slash) {
        return AS_OK;
    }
    as_buffer path = AS_BUFFER_INIT;
    size_t folder = (size_t)(slash - name);
    int code = as_buffer_append(&path, name, folder, e);
    const char *string = code == AS_OK ? as_buffer_string(&path) : NULL;
    code = code == AS_OK && !string ? as_fail_nomem(e) : code;
    if (code == AS_OK && !as_name_map_find(&r->folders, string, NULL)) {
        code = refuse(r, e, name, length, "lies in a folder that " AS_DDUF_INDEX " does not name");
    }
    bool found = false;
    for (size_t i = 0; code == AS_OK && !found && i < sizeof wanted / sizeof wanted[0]; i++) {
        path.size = folder;
        code = as_buffer_format(&path, e, "/%s", wanted[i]);
        string = code == AS_OK ? as_buffer_string(&path) : NULL;
        code = code == AS_OK && !string ? as_fail_nomem(e) : code;
        found = code == AS_OK && as_name_map_find(&r->names, string, NULL);
    }
    if (code == AS_OK && !found) {
        code = refuse(r, e, name, length,
                      "lies in a folder without config.json, tokenizer_config.json, "
                      "preprocessor_config.json or scheduler_config.json");
    }
    as_buffer_free(&path);
    return code;
}

static void rules_free(rules *r)
{
    as_name_map_free(&r->names);
    as_name_map_free(&r->folders);
    as_buffer_free(&r->keys);
}

/* ---- writing ---- */

/* Names with a NUL behind each → *text; checks each and the whole. */
static int check_entries(rules *r, const as_dduf_entry *entries, size_t count, as_buffer *copies,
                         as_error *e)
{
    const as_dduf_entry *index = NULL;
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = check_name(r, entries[i].name, entries[i].name_length, e);
        code = code == AS_OK ? as_buffer_append(copies, entries[i].name, entries[i].name_length, e)
                             : code;
        code = code == AS_OK ? as_buffer_char(copies, '\0', e) : code;
    }
    size_t at = 0;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        const char *name = copies->data + at;
        if (as_name_map_find(&r->names, name, NULL)) {
            return refuse(r, e, name, strlen(name), "is there twice");
        }
        code = as_name_map_add(&r->names, name, i, e);
        index = strcmp(name, AS_DDUF_INDEX) == 0 ? &entries[i] : index;
        at += entries[i].name_length + 1;
    }
    if (code == AS_OK && (!index || !index->bytes)) {
        return refuse_index(r, e, "is missing, which says what the folders of a DDUF file are");
    }
    code = code == AS_OK ? parse_index(r, index->bytes, (size_t)index->size, e) : code;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = check_folder(r, entries[i].name, entries[i].name_length, e);
    }
    return code;
}

static int add_entry(as_zip_writer *w, as_dduf_entry *x, as_error *e)
{
    if (x->file) {
        x->size = x->file->file_size;
        return as_zip_add_file(w, x->name, x->name_length, x->file, &x->offset, e);
    }
    return x->bytes ? as_zip_add_bytes(w, x->name, x->name_length, x->bytes, (size_t)x->size,
                                       &x->offset, e)
                    : as_zip_add_room(w, x->name, x->name_length, x->size, &x->offset, e);
}

int as_dduf_layout(as_dduf_entry *entries, size_t count, int style, as_file_layout *out,
                   as_error *e)
{
    *out = (as_file_layout){0};
    rules r = {.file = "", .code = AS_INVALID};
    as_buffer copies = AS_BUFFER_INIT;
    int code = check_entries(&r, entries, count, &copies, e);
    rules_free(&r);
    as_buffer_free(&copies);
    as_zip_writer w;
    as_zip_begin(&w, style, 1);
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = add_entry(&w, &entries[i], e);
    }
    code = code == AS_OK ? as_zip_end(&w, out, e) : code;
    as_zip_drop(&w);
    return code;
}

/* ---- reading ---- */

int as_dduf_read(const as_source *source, as_zip *out, as_error *e)
{
    int code = as_zip_read(source, out, e);
    if (code != AS_OK) {
        return code;
    }
    rules r = {.file = source->name, .code = AS_FORMAT};
    const as_zip_entry *index = as_zip_find(out, AS_DDUF_INDEX);
    as_buffer bytes = AS_BUFFER_INIT;
    for (size_t i = 0; i < as_zip_count(out) && code == AS_OK; i++) {
        code = check_name(&r, as_zip_name(out, i), as_zip_entry_at(out, i)->name_length, e);
        code = code == AS_OK ? as_name_map_add(&r.names, as_zip_name(out, i), i, e) : code;
    }
    if (code == AS_OK && !index) {
        code = refuse_index(&r, e, "is missing: this is no DDUF file");
    }
    code = code == AS_OK ? as_zip_payload(source, out, index, LONGEST_INDEX, &bytes, e) : code;
    code = code == AS_OK ? parse_index(&r, bytes.data, bytes.size, e) : code;
    for (size_t i = 0; i < as_zip_count(out) && code == AS_OK; i++) {
        code = check_folder(&r, as_zip_name(out, i), as_zip_entry_at(out, i)->name_length, e);
    }
    as_buffer_free(&bytes);
    rules_free(&r);
    if (code != AS_OK) {
        as_zip_free(out);
    }
    return code;
}

static int read_part(const as_source *source, uint64_t offset, void *bytes, size_t count,
                     as_error *e)
{
    const as_dduf_part *part = source->self;
    if (offset > source->size || count > source->size - offset) {
        return as_fail(e, AS_FORMAT, 0, "%s: the entry ends where %zu more bytes were expected",
                       source->name, count);
    }
    return part->source->read(part->source, part->begin + offset, bytes, count, e);
}

as_source as_dduf_entry_source(as_dduf_part *part, const as_source *source,
                               const as_zip_entry *entry, const char *name)
{
    *part = (as_dduf_part){.source = source, .begin = entry->begin};
    return (as_source){
        .read = read_part, .self = part, .size = entry->end - entry->begin, .name = name};
}
