/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/manifest.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "commit/folder.h"
#include "commit/manifest_sums.h"
#include "commit/seal.h"

static const char *const role_names[] = {
    [AS_ROLE_SHARD] = "shard", [AS_ROLE_INDEX] = "index", [AS_ROLE_EXTRA] = "extra"};

enum { ROLE_COUNT = 3 };

static int bad(const char *what, const char *part, const char *field, as_error *e)
{
    return as_fail(e, AS_FORMAT, 0, "%s: part \"%s\": \"%s\" is missing or not what it should be",
                   what, part, field);
}

static bool take_count(const json_t *object, const char *field, int64_t *out)
{
    const json_t *number = json_object_get(object, field);
    *out = json_integer_value(number);
    return json_is_integer(number) && *out >= 0;
}

static bool take_text(const json_t *object, const char *field, const char **out)
{
    *out = json_string_value(json_object_get(object, field));
    return *out != NULL;
}

static bool take_role(const json_t *object, enum as_role *out)
{
    const char *text = json_string_value(json_object_get(object, "role"));
    for (int i = 0; text && i < ROLE_COUNT; i++) {
        if (strcmp(text, role_names[i]) == 0) {
            *out = (enum as_role)i;
            return true;
        }
    }
    return false;
}

/* The checksums of a file's blocks, if they are told: as many as it has blocks. */
static int take_sums(const json_t *entry, const char *what, const as_manifest_part *p,
                     as_manifest_file *f, as_error *e)
{
    const json_t *text = json_object_get(entry, "checksums");
    if (!text) {
        return AS_OK;
    }
    uint64_t *sums = NULL;
    as_error own = AS_ERROR_INIT;
    int code = json_is_string(text)
                   ? as_sums_from_text(json_string_value(text), json_string_length(text), &sums,
                                       &f->sum_count, &own)
                   : AS_FORMAT;
    f->sums = sums;
    as_error_clear(&own);
    if (code == AS_NOMEM) {
        return as_fail_nomem(e);
    }
    bool fits = code == AS_OK && p->block_size > 0 &&
                f->sum_count == (size_t)as_ceil_div(f->size, p->block_size);
    return fits ? AS_OK : bad(what, p->part, "checksums", e);
}

static int take_files(const json_t *array, const char *what, as_manifest_part *p, as_error *e)
{
    size_t count = json_array_size(array);
    if (!json_is_array(array)) {
        return bad(what, p->part, "files", e);
    }
    as_manifest_file *files = calloc(count ? count : 1, sizeof *files);
    if (!files) {
        return as_fail_nomem(e);
    }
    p->files = files;
    p->file_count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(array, i);
        if (!take_text(entry, "name", &files[i].name) || !as_name_is_plain(files[i].name) ||
            !take_count(entry, "size", &files[i].size) || !take_role(entry, &files[i].role)) {
            return bad(what, p->part, "files", e);
        }
        int code = take_sums(entry, what, p, &files[i], e);
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

/* A text that may be left out. */
static bool take_option(const json_t *object, const char *field, const char **out)
{
    const json_t *text = json_object_get(object, field);
    *out = json_string_value(text);
    return !text || *out;
}

static int take_writers(const json_t *array, const char *what, as_manifest_part *p, as_error *e)
{
    if (!array) {
        return AS_OK;
    }
    size_t count = json_array_size(array);
    int64_t *writers = calloc(count ? count : 1, sizeof *writers);
    if (!writers) {
        return as_fail_nomem(e);
    }
    p->writers = writers;
    p->writer_count = count;
    bool good = json_is_array(array);
    for (size_t i = 0; good && i < count; i++) {
        const json_t *number = json_array_get(array, i);
        writers[i] = json_integer_value(number);
        good = json_is_integer(number) && writers[i] >= 0;
    }
    return good ? AS_OK : bad(what, p->part, "writers", e);
}

static int take_part(const char *name, const json_t *object, const char *what, as_manifest_part *p,
                     as_error *e)
{
    p->part = name;
    const json_t *step = json_object_get(object, "step");
    p->has_step = step != NULL;
    p->step = json_integer_value(step);
    if (step && !json_is_integer(step)) {
        return bad(what, name, "step", e);
    }
    const json_t *index = json_object_get(object, "index");
    p->index = json_string_value(index);
    if (!json_is_null(index) && (!p->index || !as_name_is_plain(p->index))) {
        return bad(what, name, "index", e);
    }
    const struct {
        const char *field;
        const char **out;
    } texts[] = {{"pattern", &p->pattern}, {"created", &p->created}, {"checksum", &p->checksum}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!take_text(object, texts[i].field, texts[i].out)) {
            return bad(what, name, texts[i].field, e);
        }
    }
    const struct {
        const char *field;
        int64_t *out;
    } counts[] = {{"world_size", &p->world_size},
                  {"block_size", &p->block_size},
                  {"total_size", &p->total_size},
                  {"tensor_count", &p->tensor_count}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (!take_count(object, counts[i].field, counts[i].out)) {
            return bad(what, name, counts[i].field, e);
        }
    }
    if (!take_option(object, "engine", &p->engine) ||
        !take_option(object, "engine_reason", &p->engine_reason)) {
        return bad(what, name, "engine", e);
    }
    int code = take_files(json_object_get(object, "files"), what, p, e);
    return code == AS_OK ? take_writers(json_object_get(object, "writers"), what, p, e) : code;
}

static int take_all(json_t *root, const char *what, as_manifest *m, as_error *e)
{
    int64_t version;
    if (!take_count(root, AS_MANIFEST_KEY, &version)) {
        return as_fail(e, AS_FORMAT, 0, "%s: this is not a manifest of allshard", what);
    }
    if (version != AS_MANIFEST_VERSION) {
        return as_fail(e, AS_FORMAT, 0,
                       "%s: written by a newer allshard (manifest version %lld); use that one",
                       what, (long long)version);
    }
    json_t *parts = json_object_get(root, "parts");
    const char *text = json_string_value(json_object_get(root, "version"));
    if (!text || !json_is_object(parts)) {
        return as_fail(e, AS_FORMAT, 0, "%s: \"%s\" is missing or not what it should be", what,
                       text ? "parts" : "version");
    }
    m->checkpoint = json_object_get(root, AS_MANIFEST_CHECKPOINT);
    if (m->checkpoint && !json_is_object(m->checkpoint)) {
        return as_fail(e, AS_FORMAT, 0, "%s: \"%s\" is not what it should be", what,
                       AS_MANIFEST_CHECKPOINT);
    }
    m->version = text;
    size_t count = json_object_size(parts);
    m->parts = calloc(count ? count : 1, sizeof *m->parts);
    if (!m->parts) {
        return as_fail_nomem(e);
    }
    const char *name;
    json_t *object;
    json_object_foreach(parts, name, object)
    {
        int code = take_part(name, object, what, &m->parts[m->part_count++], e);
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

int as_manifest_from_bytes(const char *bytes, size_t count, const char *what, as_manifest *out,
                           as_error *e)
{
    json_t *root;
    int code = as_unseal(bytes, count, what, &root, e);
    if (code != AS_OK) {
        return code;
    }
    as_manifest m = {.tree = root};
    code = take_all(root, what, &m, e);
    if (code != AS_OK) {
        as_manifest_free(&m);
        return code;
    }
    *out = m;
    return AS_OK;
}

const as_manifest_part *as_manifest_find(const as_manifest *m, const char *part)
{
    for (size_t i = 0; i < m->part_count; i++) {
        if (strcmp(m->parts[i].part, part) == 0) {
            return &m->parts[i];
        }
    }
    return NULL;
}

void as_manifest_free(as_manifest *m)
{
    for (size_t i = 0; i < m->part_count; i++) {
        /* Made by take_sums, take_files and take_writers; const only for those who read. */
        for (size_t k = 0; m->parts[i].files && k < m->parts[i].file_count; k++) {
            free((void *)m->parts[i].files[k].sums);
        }
        free((void *)m->parts[i].files);
        free((void *)m->parts[i].writers);
    }
    free(m->parts);
    json_decref(m->tree);
    *m = AS_MANIFEST_INIT;
}

/* 0, or -1 without memory. */
static int set_sums(json_t *entry, const as_manifest_file *f)
{
    as_buffer text = AS_BUFFER_INIT;
    if (!f->sums) {
        (void)json_object_del(entry, "checksums");
        return 0;
    }
    int failed = as_sums_to_text(&text, f->sums, f->sum_count, NULL) != AS_OK;
    if (!failed) {
        failed = json_object_set_new(entry, "checksums",
                                     json_stringn(text.data ? text.data : "", text.size)) < 0;
    }
    as_buffer_free(&text);
    return failed ? -1 : 0;
}

static json_t *files_to_json(const as_manifest_part *p)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < p->file_count; i++) {
        const as_manifest_file *f = &p->files[i];
        json_t *entry = json_pack("{s:s,s:I,s:s}", "name", f->name, "size", (json_int_t)f->size,
                                  "role", role_names[f->role]);
        if (!entry || set_sums(entry, f) < 0) {
            json_decref(entry);
            entry = NULL;
        }
        if (!entry || json_array_append_new(array, entry) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *writers_to_json(const as_manifest_part *p)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < p->writer_count; i++) {
        if (json_array_append_new(array, json_integer(p->writers[i])) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

/* NULL without memory, or if a text is not UTF-8. */
static json_t *part_to_json(const as_manifest_part *p)
{
    json_t *object = json_object();
    if (!object) {
        return NULL;
    }
    int failed = 0;
    if (p->has_step) {
        failed |= json_object_set_new(object, "step", json_integer(p->step));
    }
    failed |= json_object_set_new(object, "pattern", json_string(p->pattern));
    failed |= json_object_set_new(object, "index", p->index ? json_string(p->index) : json_null());
    failed |= json_object_set_new(object, "created", json_string(p->created));
    failed |= json_object_set_new(object, "world_size", json_integer(p->world_size));
    failed |= json_object_set_new(object, "block_size", json_integer(p->block_size));
    failed |= json_object_set_new(object, "checksum", json_string(p->checksum));
    if (p->engine && p->engine_reason) {
        failed |= json_object_set_new(object, "engine", json_string(p->engine));
        failed |= json_object_set_new(object, "engine_reason", json_string(p->engine_reason));
    }
    failed |= json_object_set_new(object, "total_size", json_integer(p->total_size));
    failed |= json_object_set_new(object, "tensor_count", json_integer(p->tensor_count));
    failed |= json_object_set_new(object, "files", files_to_json(p));
    if (p->writers) {
        failed |= json_object_set_new(object, "writers", writers_to_json(p));
    }
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* The new part's file of that name; NULL if it has none. */
static const as_manifest_file *file_of(const as_manifest_part *p, const char *name)
{
    for (size_t i = 0; i < p->file_count; i++) {
        if (strcmp(p->files[i].name, name) == 0) {
            return &p->files[i];
        }
    }
    return NULL;
}

/* Do the checksums of the new part's files hold for another part too? */
static bool same_blocks(const json_t *object, const as_manifest_part *new_part)
{
    const char *name = json_string_value(json_object_get(object, "checksum"));
    return name && strcmp(name, new_part->checksum) == 0 &&
           json_integer_value(json_object_get(object, "block_size")) == new_part->block_size;
}

/* What this save does to the files of another part; `touched` are the names that it
 * brings or takes. A small file that several parts
 * bring along (config.json) is shared: its size is updated. *lost: data of the other
 * part goes, so that its entry describes nothing any more. */
static int adjust_part(json_t *object, const as_manifest_part *new_part, const as_names *touched,
                       bool *lost, as_error *e)
{
    json_t *files = json_object_get(object, "files");
    *lost = false;
    for (size_t i = 0; !*lost && i < json_array_size(files); i++) {
        json_t *entry = json_array_get(files, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *role = json_string_value(json_object_get(entry, "role"));
        if (!name || !role || !as_names_find(touched, name)) {
            continue;
        }
        const as_manifest_file *now = file_of(new_part, name);
        *lost = !now || strcmp(role, role_names[AS_ROLE_EXTRA]) != 0;
        /* Its blocks are those of the other part, whose size may not be the same. */
        if (*lost) {
            continue;
        }
        as_manifest_file plain = *now;
        if (!same_blocks(object, new_part)) {
            plain.sums = NULL;
        }
        if (json_object_set_new(entry, "size", json_integer(now->size)) < 0 ||
            set_sums(entry, &plain) < 0) {
            return as_fail_nomem(e);
        }
    }
    return AS_OK;
}

/* What of the old manifest stays, in *root. */
static int keep_parts(const as_manifest_part *part, const char *old, size_t old_size,
                      const as_names *touched, const as_log *log, json_t *root, as_error *e)
{
    json_t *parts = json_object_get(root, "parts");
    as_error own = AS_ERROR_INIT;
    as_manifest m = AS_MANIFEST_INIT;
    int code = as_manifest_from_bytes(old, old_size, AS_MANIFEST_NAME, &m, &own);
    if (code == AS_FORMAT) {
        as_log_say(log, AS_LOG_WARNING, "%s; the old manifest is replaced", as_error_text(&own));
        as_error_clear(&own);
        return AS_OK;
    }
    json_t *kept = code == AS_OK ? json_object_get(m.tree, "parts") : NULL;
    for (size_t i = 0; code == AS_OK && i < m.part_count; i++) {
        const char *name = m.parts[i].part;
        json_t *object = json_object_get(kept, name);
        bool lost = false;
        if (strcmp(name, part->part) != 0) {
            code = adjust_part(object, part, touched, &lost, &own);
        }
        if (code == AS_OK && lost) {
            as_log_say(
                log, AS_LOG_WARNING,
                "this save takes the place of files of part \"%s\": its entry in the manifest "
                "is dropped",
                name);
        } else if (code == AS_OK && json_object_set(parts, name, object) < 0) {
            code = as_fail_nomem(&own);
        }
    }
    if (code == AS_OK && m.checkpoint &&
        json_object_set(root, AS_MANIFEST_CHECKPOINT, m.checkpoint) < 0) {
        (void)as_fail_nomem(&own);
    }
    as_manifest_free(&m);
    return as_error_pass(e, &own);
}

int as_manifest_to_bytes(const as_manifest_part *part, const char *version, const char *old,
                         size_t old_size, const as_names *gone, const as_log *log, as_buffer *out,
                         as_error *e)
{
    json_t *root = json_pack("{s:i,s:s,s:{}}", AS_MANIFEST_KEY, AS_MANIFEST_VERSION, "version",
                             version, "parts");
    if (!root) {
        return as_fail_nomem(e);
    }
    json_t *parts = json_object_get(root, "parts");
    as_names touched = AS_NAMES_INIT;
    int code = AS_OK;
    for (size_t i = 0; gone && code == AS_OK && i < gone->count; i++) {
        code = as_names_add(&touched, gone->items[i], e);
    }
    for (size_t i = 0; code == AS_OK && i < part->file_count; i++) {
        code = as_names_add(&touched, part->files[i].name, e);
    }
    as_names_sort(&touched);
    if (code == AS_OK && old) {
        code = keep_parts(part, old, old_size, &touched, log, root, e);
    }
    if (code == AS_OK && json_object_set_new(parts, part->part, part_to_json(part)) < 0) {
        code =
            as_fail(e, AS_INVALID, 0,
                    "%s: part \"%s\" cannot be described: a name in it is not UTF-8, or memory is "
                    "out",
                    AS_MANIFEST_NAME, part->part);
    }
    if (code == AS_OK) {
        code = as_seal(root, out, e);
    }
    as_names_free(&touched);
    json_decref(root);
    return code;
}
