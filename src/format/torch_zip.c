/* SPDX-License-Identifier: Apache-2.0
 * Reads what torch.save writes since 1.6: a zip file with one pickle and a record for each storage.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32.h"
#include "base/checked.h"
#include "base/quote.h"
#include "format/pickle_torch.h"
#include "format/torch.h"
#include "format/zip_read.h"

enum {
    LONGEST_WORD = 64, /* of a record that holds one word */
    OLDEST_VERSION = 1,
    NEWEST_VERSION = 10, /* torch's kMaxSupportedFileFormatVersion */
};

typedef struct reader {
    const as_source *source;
    as_zip zip;
    char *folder; /* heap; that all records lie in, with its slash */
} reader;

/* The record of that name in the folder; *out NULL if there is none. */
static int find(const reader *r, const char *name, const char *more, const as_zip_entry **out,
                as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int code = as_buffer_format(&path, e, "%s%s%s", r->folder, name, more);
    const char *text = code == AS_OK ? as_buffer_string(&path) : NULL;
    code = code == AS_OK && !text ? as_fail_nomem(e) : code;
    *out = code == AS_OK ? as_zip_find(&r->zip, text) : NULL;
    as_buffer_free(&path);
    return code;
}

/* torch takes the folder of the first record. */
static int find_folder(reader *r, as_error *e)
{
    const char *name = as_zip_count(&r->zip) > 0 ? as_zip_name(&r->zip, 0) : "";
    const char *slash = strchr(name, '/');
    if (!slash) {
        return as_fail(e, AS_FORMAT, 0,
                       "%s: a zip file, but not one of torch.save: its records do not lie in a "
                       "folder",
                       r->source->name);
    }
    r->folder = strndup(name, (size_t)(slash - name) + 1);
    return r->folder ? AS_OK : as_fail_nomem(e);
}

/* The text of a short record, NUL behind it. *found: it is there. */
static int read_word(const reader *r, const char *name, char word[LONGEST_WORD + 1], bool *found,
                     as_error *e)
{
    const as_zip_entry *entry;
    int code = find(r, name, "", &entry, e);
    *found = code == AS_OK && entry;
    if (!*found) {
        return code;
    }
    as_buffer text = AS_BUFFER_INIT;
    code = as_zip_payload(r->source, &r->zip, entry, LONGEST_WORD, &text, e);
    if (code == AS_OK) {
        memcpy(word, text.size > 0 ? text.data : "", text.size);
        word[text.size] = '\0';
    }
    as_buffer_free(&text);
    return code;
}

static int check_version(const reader *r, as_error *e)
{
    char word[LONGEST_WORD + 1];
    bool found;
    int code = read_word(r, "version", word, &found, e);
    if (code == AS_OK && !found) {
        code = read_word(r, ".data/version", word, &found, e);
    }
    if (code != AS_OK) {
        return code;
    }
    char *end = word;
    long version = found && word[0] >= '0' && word[0] <= '9' ? strtol(word, &end, 10) : 0;
    if (!found || (*end != '\0' && strcmp(end, "\n") != 0) || version < OLDEST_VERSION ||
        version > NEWEST_VERSION) {
        return as_fail(
            e, AS_FORMAT, 0,
            "%s: its record \"version\" is missing, or says that it is of another format "
            "than versions 1 to 10 of torch.save's",
            r->source->name);
    }
    return AS_OK;
}

static int check_byteorder(const reader *r, as_error *e)
{
    char word[LONGEST_WORD + 1];
    bool found;
    int code = read_word(r, "byteorder", word, &found, e);
    if (code != AS_OK || !found || strcmp(word, "little") == 0) {
        return code;
    }
    return as_fail(e, AS_FORMAT, 0,
                   "%s: its record \"byteorder\" says %s: only little-endian files are read. Load "
                   "it with torch and save it again on a little-endian machine",
                   r->source->name, as_quote(word, strlen(word)).text);
}

/* Where the storages lie; checks that each has the size that the pickle has. */
static int find_storages(const reader *r, const as_pickle *p, as_storage *ranges, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < as_pickle_storage_count(p) && code == AS_OK; i++) {
        const as_pickle_storage *s = as_pickle_storage_at(p, i);
        as_quoted key = as_quote(s->key, strlen(s->key));
        const as_zip_entry *entry;
        uint64_t bytes;
        code = find(r, "data/", s->key, &entry, e);
        if (code != AS_OK) {
            break;
        }
        if (!entry) {
            return as_fail(e, AS_FORMAT, 0, "%s: there is no record for storage %s",
                           r->source->name, key.text);
        }
        if (!as_mul_u64(s->numel, (uint64_t)as_pickle_globals[s->class].bytes, &bytes) ||
            bytes != entry->end - entry->begin) {
            return as_fail(e, AS_FORMAT, 0,
                           "%s: storage %s has %llu elements of %s by the pickle, but %llu bytes",
                           r->source->name, key.text, (unsigned long long)s->numel,
                           as_pickle_globals[s->class].name,
                           (unsigned long long)(entry->end - entry->begin));
        }
        ranges[i] = (as_storage){.begin = entry->begin, .end = entry->end};
    }
    return code;
}

/* The pickle has been read whole. */
static int check_text(const as_pickle *p, const as_zip_entry *entry, as_error *e)
{
    if (p->at != entry->end - entry->begin) {
        return as_fail(e, AS_FORMAT, 0, "%s: %s: bytes follow the end of the pickle",
                       p->source->name, p->what);
    }
    if (as_crc32(0, p->text.data, p->at) != entry->crc) {
        return as_fail(e, AS_CORRUPT, 0,
                       "%s: %s is damaged: its bytes have another CRC-32 than the zip file says. "
                       "Fetch or save the file again",
                       p->source->name, p->what);
    }
    return AS_OK;
}

static int read_state(const reader *r, as_table *out, const as_log *log, as_error *e)
{
    const as_zip_entry *entry;
    const as_zip_entry *script;
    int code = find(r, "data.pkl", "", &entry, e);
    code = code == AS_OK ? find(r, "constants.pkl", "", &script, e) : code;
    if (code != AS_OK) {
        return code;
    }
    if (!entry || script) {
        return as_fail(e, AS_FORMAT, 0, "%s: %s", r->source->name,
                       script ? "a TorchScript archive, which holds a program. Save its "
                                "state_dict() with torch.save"
                              : "a zip file, but not one of torch.save: it has no data.pkl");
    }
    as_pickle p;
    as_pickle_value root;
    as_pickle_open(&p, r->source, "data.pkl", entry->begin, entry->end - entry->begin);
    code = as_pickle_run(&p, &root, e);
    code = code == AS_OK ? check_text(&p, entry, e) : code;
    as_storage *ranges = calloc(as_pickle_storage_count(&p) + 1, sizeof *ranges);
    if (!ranges) {
        code = as_fail_nomem(e);
    } else {
        code = code == AS_OK ? find_storages(r, &p, ranges, e) : code;
        code = code == AS_OK ? as_torch_table(&p, &root, ranges, out, log, e) : code;
    }
    free(ranges);
    as_pickle_close(&p);
    return code;
}

int as_torch_read_zip(const as_source *source, as_table *out, const as_log *log, as_error *e)
{
    *out = AS_TABLE_INIT;
    reader r = {.source = source};
    int code = as_zip_read(source, &r.zip, e);
    code = code == AS_OK ? find_folder(&r, e) : code;
    code = code == AS_OK ? check_version(&r, e) : code;
    code = code == AS_OK ? check_byteorder(&r, e) : code;
    code = code == AS_OK ? read_state(&r, out, log, e) : code;
    free(r.folder);
    as_zip_free(&r.zip);
    if (code == AS_OK) {
        out->file_size = source->size;
    } else {
        as_table_free(out);
    }
    return code;
}

int as_torch_read(const as_source *source, as_table *out, const as_log *log, as_error *e)
{
    *out = AS_TABLE_INIT;
    bool is_zip;
    int code = as_zip_sniff(source, &is_zip, e);
    if (code != AS_OK) {
        return code;
    }
    return is_zip ? as_torch_read_zip(source, out, log, e)
                  : as_torch_read_legacy(source, out, log, e);
}
