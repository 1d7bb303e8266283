/* SPDX-License-Identifier: Apache-2.0
 * Reads what torch.save wrote before 1.6: five pickles (a magic number, a version, facts about the
 * machine, the object, the keys of its storages), then each storage: its elements' number, as 8
 * bytes, and its bytes (torch/serialization.py, _legacy_load).
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "format/pickle_torch.h"
#include "format/torch.h"

enum { VERSION = 1001, COUNT_BYTES = 8, TAR_MAGIC_AT = 257 };

static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

static int refuse(const as_pickle *p, as_error *e, const char *reason)
{
    return as_fail(e, AS_FORMAT, 0, "%s: %s", p->source->name, reason);
}

/* Before 0.1.10 it was a tar file. */
static int check_tar(const as_pickle *p, as_error *e)
{
    char text[5];
    if (p->source->size < TAR_MAGIC_AT + sizeof text) {
        return AS_OK;
    }
    int code = p->source->read(p->source, TAR_MAGIC_AT, text, sizeof text, e);
    if (code == AS_OK && memcmp(text, "ustar", sizeof text) == 0) {
        code = refuse(p, e,
                      "a tar file, as torch wrote before 0.1.10 (2017). Load it with torch "
                      "and save it again");
    }
    return code;
}

static int read_magic(as_pickle *p, as_error *e)
{
    as_error reason = AS_ERROR_INIT;
    as_pickle_value v = {0};
    int code = as_pickle_run(p, &v, &reason);
    bool good = code == AS_OK && v.kind == AS_PICKLE_LONG && v.length == sizeof magic - 1 &&
                memcmp(as_pickle_text(p, &v), magic, v.length) == 0;
    if (!good && (code == AS_OK || code == AS_FORMAT)) {
        as_error_clear(&reason);
        return refuse(p, e,
                      "not a file of torch.save: it is neither a zip file nor begins with the "
                      "pickle of the form before that");
    }
    (void)as_error_pass(e, &reason);
    return code;
}

/* Version, and a dict that says that the machine was little-endian. */
static int read_facts(as_pickle *p, as_error *e)
{
    as_pickle_value v;
    int code = as_pickle_run(p, &v, e);
    if (code == AS_OK && (v.kind != AS_PICKLE_INT || v.number != VERSION)) {
        return refuse(p, e, "it is of another version of the form before zip files than 1001");
    }
    code = code == AS_OK ? as_pickle_run(p, &v, e) : code;
    if (code != AS_OK) {
        return code;
    }
    uint32_t c = v.kind == AS_PICKLE_DICT ? as_pickle_node_at(p, v.number)->first : 0;
    while (c) {
        const as_pickle_cell *key = as_pickle_cell_at(p, c);
        const as_pickle_cell *value = as_pickle_cell_at(p, key->next);
        if (as_pickle_is_string(p, &key->value, "little_endian") &&
            value->value.kind == AS_PICKLE_BOOL && value->value.number == 1) {
            return AS_OK;
        }
        c = value->next;
    }
    return refuse(p, e,
                  "it does not say that it is little-endian: others are not read. Load it with "
                  "torch and save it again");
}

/* One storage at *at, which moves behind it. */
static int find_storage(const as_pickle *p, const as_pickle_value *key, as_storage *ranges,
                        uint64_t *at, as_error *e)
{
    const as_source *source = p->source;
    char text[257];
    size_t i;
    if (key->kind != AS_PICKLE_STRING || key->length >= sizeof text) {
        return refuse(p, e, "the keys of its storages are no strings");
    }
    memcpy(text, as_pickle_text(p, key), key->length);
    text[key->length] = '\0';
    if (strlen(text) != key->length || !as_name_map_find(&p->keys, text, &i) ||
        ranges[i].begin != 0) {
        return as_fail(e, AS_FORMAT, 0, "%s: storage %s is of no tensor, or there twice",
                       source->name, as_quote(text, key->length).text);
    }
    unsigned char count[COUNT_BYTES];
    if (source->size - *at < sizeof count) {
        return refuse(p, e, "it is cut short: a storage is missing. Fetch or save it again");
    }
    int code = source->read(source, *at, count, sizeof count, e);
    if (code != AS_OK) {
        return code;
    }
    uint64_t numel = 0;
    for (int b = COUNT_BYTES - 1; b >= 0; b--) {
        numel = numel << 8 | count[b];
    }
    const as_pickle_storage *s = as_pickle_storage_at(p, i);
    uint64_t bytes;
    *at += sizeof count;
    if (numel != s->numel ||
        !as_mul_u64(numel, (uint64_t)as_pickle_globals[s->class].bytes, &bytes)) {
        return as_fail(e, AS_FORMAT, 0, "%s: storage %s has %llu elements by the pickle, but %llu",
                       source->name, as_quote(text, key->length).text, (unsigned long long)s->numel,
                       (unsigned long long)numel);
    }
    if (bytes > source->size - *at) {
        return refuse(p, e,
                      "it is cut short: a storage reaches past its end. Fetch or save it "
                      "again");
    }
    ranges[i] = (as_storage){.begin = *at, .end = *at + bytes};
    *at += bytes;
    return AS_OK;
}

static int find_storages(as_pickle *p, const as_pickle_value *keys, as_storage *ranges,
                         const as_log *log, as_error *e)
{
    uint32_t count = keys->kind == AS_PICKLE_LIST ? as_pickle_node_at(p, keys->number)->count : 0;
    if (keys->kind != AS_PICKLE_LIST || count != as_pickle_storage_count(p)) {
        return refuse(p, e, "its list of storages is not that of its tensors");
    }
    uint64_t at = p->at;
    int code = AS_OK;
    uint32_t c = as_pickle_node_at(p, keys->number)->first;
    while (c && code == AS_OK) {
        const as_pickle_cell *cell = as_pickle_cell_at(p, c);
        code = find_storage(p, &cell->value, ranges, &at, e);
        c = cell->next;
    }
    if (code == AS_OK && at != p->source->size) {
        as_log_say(log, AS_LOG_WARNING,
                   "%s: %llu bytes follow the last storage; they are not looked at",
                   p->source->name, (unsigned long long)(p->source->size - at));
    }
    return code;
}

int as_torch_read_legacy(const as_source *source, as_table *out, const as_log *log, as_error *e)
{
    *out = AS_TABLE_INIT;
    as_pickle p;
    as_pickle_value root;
    as_pickle_value keys;
    as_pickle_open(&p, source, "its pickles", 0, source->size);
    int code = check_tar(&p, e);
    code = code == AS_OK ? read_magic(&p, e) : code;
    code = code == AS_OK ? read_facts(&p, e) : code;
    code = code == AS_OK ? as_pickle_run(&p, &root, e) : code;
    code = code == AS_OK ? as_pickle_run(&p, &keys, e) : code;
    as_storage *ranges = calloc(as_pickle_storage_count(&p) + 1, sizeof *ranges);
    if (!ranges) {
        code = as_fail_nomem(e);
    } else {
        code = code == AS_OK ? find_storages(&p, &keys, ranges, log, e) : code;
        code = code == AS_OK ? as_torch_table(&p, &root, ranges, out, log, e) : code;
    }
    free(ranges);
    as_pickle_close(&p);
    if (code == AS_OK) {
        out->file_size = source->size;
    } else {
        as_table_free(out);
    }
    return code;
}
