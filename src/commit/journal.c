/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "commit/folder.h"
#include "commit/seal.h"

static const char version_key[] = "allshard_journal";

enum { VERSION = 1, FOLDERS_VERSION = 2, LARGEST_JOURNAL = 64 << 20 };

static int copy_sorted(const as_names *from, as_names *to, as_error *e)
{
    for (size_t i = 0; i < from->count; i++) {
        int code = as_names_add(to, from->items[i], e);
        if (code != AS_OK) {
            return code;
        }
    }
    as_names_sort(to);
    return AS_OK;
}

/* Plain names, none twice. */
static int check_names(const as_names *sorted, const char *what, as_error *e)
{
    for (size_t i = 0; i < sorted->count; i++) {
        if (!as_name_is_plain(sorted->items[i])) {
            return as_fail(e, AS_INVALID, 0, "%s: \"%s\" is no name that a save could move", what,
                           sorted->items[i]);
        }
        if (i > 0 && strcmp(sorted->items[i - 1], sorted->items[i]) == 0) {
            return as_fail(e, AS_INVALID, 0, "%s: the name \"%s\" is there twice", what,
                           sorted->items[i]);
        }
    }
    return AS_OK;
}

/* Fills the sorted copies and checks both lists. */
static int finish_lists(as_journal *j, const char *what, as_error *e)
{
    int code = copy_sorted(&j->incoming, &j->incoming_sorted, e);
    if (code == AS_OK) {
        code = copy_sorted(&j->outgoing, &j->outgoing_sorted, e);
    }
    if (code == AS_OK) {
        code = check_names(&j->incoming_sorted, what, e);
    }
    return code == AS_OK ? check_names(&j->outgoing_sorted, what, e) : code;
}

static int make_incoming(as_journal *j, const char *const *names, const int64_t *sizes,
                         size_t count, as_error *e)
{
    j->sizes = calloc(count ? count : 1, sizeof *j->sizes);
    if (!j->sizes) {
        return as_fail_nomem(e);
    }
    /* Twice over the names: first all others, then the indexes. */
    for (int indexes = 0; indexes < 2; indexes++) {
        for (size_t i = 0; i < count; i++) {
            if (as_name_is_index(names[i]) == (indexes == 1)) {
                j->sizes[j->incoming.count] = sizes[i];
                int code = as_names_add(&j->incoming, names[i], e);
                if (code != AS_OK) {
                    return code;
                }
            }
        }
    }
    return AS_OK;
}

static int compare_pointed(const void *a, const void *b)
{
    const char *const *left = *(const char *const *const *)a;
    const char *const *right = *(const char *const *const *)b;
    int order = strcmp(*left, *right);
    /* Equal names keep their order, so that the first one stays. */
    return order ? order : (left > right) - (left < right);
}

/* Marks in `drop` each name that stands in the list before. */
static int find_repeats(const char *const *names, size_t count, bool *drop, as_error *e)
{
    const char *const **places = calloc(count, sizeof *places);
    if (!places) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        places[i] = &names[i];
    }
    qsort(places, count, sizeof *places, compare_pointed);
    for (size_t i = 1; i < count; i++) {
        drop[places[i] - names] = strcmp(*places[i - 1], *places[i]) == 0;
    }
    free(places);
    return AS_OK;
}

static int make_outgoing(as_journal *j, const char *const *names, size_t count, as_error *e)
{
    if (count == 0) {
        return AS_OK;
    }
    bool *drop = calloc(count, sizeof *drop);
    if (!drop) {
        return as_fail_nomem(e);
    }
    int code = find_repeats(names, count, drop, e);
    for (int indexes = 1; indexes >= 0; indexes--) {
        for (size_t i = 0; code == AS_OK && i < count; i++) {
            if (!drop[i] && as_name_is_index(names[i]) == (indexes == 1)) {
                code = as_names_add(&j->outgoing, names[i], e);
            }
        }
    }
    free(drop);
    return code;
}

int as_journal_make(as_journal *out, const char *const *incoming, const int64_t *sizes,
                    size_t incoming_count, const char *const *outgoing, size_t outgoing_count,
                    as_error *e)
{
    as_journal j = AS_JOURNAL_INIT;
    int code = make_incoming(&j, incoming, sizes, incoming_count, e);
    if (code == AS_OK) {
        code = make_outgoing(&j, outgoing, outgoing_count, e);
    }
    if (code == AS_OK) {
        code = finish_lists(&j, "the list of files to commit", e);
    }
    if (code != AS_OK) {
        as_journal_free(&j);
        return code;
    }
    *out = j;
    return AS_OK;
}

/* A JSON string; a failure tells bad UTF-8 from a lack of memory. */
static int name_to_json(const char *name, json_t **out, as_error *e)
{
    *out = json_string(name);
    if (*out) {
        return AS_OK;
    }
    json_t *probe = json_string("");
    if (!probe) {
        return as_fail_nomem(e);
    }
    json_decref(probe);
    return as_fail(e, AS_INVALID, 0, "the file name \"%s\" is not UTF-8; rename the file", name);
}

static int fill_incoming(const as_journal *j, json_t *array, as_error *e)
{
    for (size_t i = 0; i < j->incoming.count; i++) {
        json_t *name;
        int code = name_to_json(j->incoming.items[i], &name, e);
        if (code != AS_OK) {
            return code;
        }
        json_t *entry = j->folders
                            ? json_pack("{s:o}", "name", name)
                            : json_pack("{s:o,s:I}", "name", name, "size", (json_int_t)j->sizes[i]);
        if (!entry || json_array_append_new(array, entry) < 0) {
            return as_fail_nomem(e);
        }
    }
    return AS_OK;
}

static int fill_outgoing(const as_journal *j, json_t *array, as_error *e)
{
    for (size_t i = 0; i < j->outgoing.count; i++) {
        json_t *name;
        int code = name_to_json(j->outgoing.items[i], &name, e);
        if (code != AS_OK) {
            return code;
        }
        if (json_array_append_new(array, name) < 0) {
            return as_fail_nomem(e);
        }
    }
    return AS_OK;
}

int as_journal_to_bytes(const as_journal *j, as_buffer *out, as_error *e)
{
    json_t *object = json_pack("{s:i,s:[],s:[]}", version_key,
                               j->folders ? FOLDERS_VERSION : VERSION, "incoming", "outgoing");
    if (!object || (j->folders && json_object_set_new(object, "folders", json_true()) < 0)) {
        json_decref(object);
        return as_fail_nomem(e);
    }
    int code = fill_incoming(j, json_object_get(object, "incoming"), e);
    if (code == AS_OK) {
        code = fill_outgoing(j, json_object_get(object, "outgoing"), e);
    }
    if (code == AS_OK) {
        code = as_seal(object, out, e);
    }
    json_decref(object);
    if (code == AS_OK && out->size > LARGEST_JOURNAL) {
        code =
            as_fail(e, AS_LIMIT, 0, "the journal of this save would have %zu bytes, more than %d",
                    out->size, LARGEST_JOURNAL);
    }
    return code;
}

static int bad_shape(const char *what, const char *which, as_error *e)
{
    return as_fail(e, AS_FORMAT, 0, "%s: \"%s\" is missing or not what it should be", what, which);
}

/* Which the version must agree with: who knows the first alone takes all names for files. */
static int read_kind(const json_t *object, int64_t version, const char *what, as_journal *j,
                     as_error *e)
{
    const json_t *folders = json_object_get(object, "folders");
    j->folders = version == FOLDERS_VERSION;
    bool good = j->folders ? json_is_true(folders) : !folders;
    return good ? AS_OK : bad_shape(what, "folders", e);
}

static bool size_is_good(const as_journal *j, const json_t *size)
{
    return j->folders ? !size : json_is_integer(size) && json_integer_value(size) >= 0;
}

static int read_lists(const json_t *object, const char *what, as_journal *j, as_error *e)
{
    const json_t *incoming = json_object_get(object, "incoming");
    const json_t *outgoing = json_object_get(object, "outgoing");
    if (!json_is_array(incoming)) {
        return bad_shape(what, "incoming", e);
    }
    if (!json_is_array(outgoing)) {
        return bad_shape(what, "outgoing", e);
    }
    size_t count = json_array_size(incoming);
    j->sizes = calloc(count ? count : 1, sizeof *j->sizes);
    if (!j->sizes) {
        return as_fail_nomem(e);
    }
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < count; i++) {
        const json_t *entry = json_array_get(incoming, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *size = json_object_get(entry, "size");
        if (!name || !size_is_good(j, size)) {
            return bad_shape(what, "incoming", e);
        }
        j->sizes[i] = json_integer_value(size);
        code = as_names_add(&j->incoming, name, e);
    }
    for (size_t i = 0; code == AS_OK && i < json_array_size(outgoing); i++) {
        const char *name = json_string_value(json_array_get(outgoing, i));
        if (!name) {
            return bad_shape(what, "outgoing", e);
        }
        code = as_names_add(&j->outgoing, name, e);
    }
    if (code == AS_OK) {
        code = finish_lists(j, what, e);
        /* What is a wrong argument in the making is a broken file here. */
        if (code == AS_INVALID && e) {
            e->code = AS_FORMAT;
        }
        code = code == AS_INVALID ? AS_FORMAT : code;
    }
    return code;
}

int as_journal_from_bytes(const char *bytes, size_t count, const char *what, as_journal *out,
                          as_error *e)
{
    as_error own = AS_ERROR_INIT;
    as_journal j = AS_JOURNAL_INIT;
    json_t *object = NULL;
    int code = as_unseal(bytes, count, what, &object, &own);
    if (code == AS_OK) {
        const json_t *version = json_object_get(object, version_key);
        if (json_integer_value(version) > FOLDERS_VERSION) {
            /* Its checksum is right, so this is no damage, and nobody is to remove it. */
            code = as_fail(e, AS_FORMAT, 0,
                           "%s: the save of a newer allshard was cut off here: its journal is of "
                           "version %lld, and this allshard knows those up to %d only. Nothing was "
                           "changed. Run `allshard recover` of that allshard",
                           what, (long long)json_integer_value(version), FOLDERS_VERSION);
            json_decref(object);
            return code;
        }
        if (!json_is_integer(version) || json_integer_value(version) < VERSION) {
            code = bad_shape(what, version_key, &own);
        } else {
            code = read_kind(object, json_integer_value(version), what, &j, &own);
            code = code == AS_OK ? read_lists(object, what, &j, &own) : code;
        }
    }
    json_decref(object);
    if (code == AS_OK) {
        *out = j;
        as_error_clear(&own);
        return AS_OK;
    }
    as_journal_free(&j);
    if (code == AS_FORMAT) {
        /* A journal is renamed to its name after its fsync: it cannot be torn unless the
         * storage lies, so nobody but a person may decide what to do with the folder. */
        code =
            as_fail(e, AS_FORMAT, 0,
                    "%s. Nothing was changed. Check the storage; then see with `allshard verify` "
                    "whether the checkpoint beside it is good, and if it is, remove the folder "
                    "that holds the journal",
                    as_error_text(&own));
        as_error_clear(&own);
        return code;
    }
    return as_error_pass(e, &own);
}

int as_journal_read(int meta, const char *what, as_journal *out, struct stat *status, bool *found,
                    as_error *e)
{
    as_buffer bytes = AS_BUFFER_INIT;
    int code = as_file_read(meta, AS_JOURNAL_NAME, LARGEST_JOURNAL, what, &bytes, status, found, e);
    if (code == AS_OK && *found) {
        code = as_journal_from_bytes(bytes.data, bytes.size, what, out, e);
    }
    as_buffer_free(&bytes);
    return code;
}

bool as_journal_brings(const as_journal *j, const char *name)
{
    return as_names_find(&j->incoming_sorted, name);
}

bool as_journal_takes(const as_journal *j, const char *name)
{
    return as_names_find(&j->outgoing_sorted, name);
}

void as_journal_free(as_journal *j)
{
    as_names_free(&j->incoming);
    as_names_free(&j->outgoing);
    as_names_free(&j->incoming_sorted);
    as_names_free(&j->outgoing_sorted);
    free(j->sizes);
    *j = AS_JOURNAL_INIT;
}
