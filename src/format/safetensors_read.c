/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "base/utf8.h"
#include "format/repeats.h"
#include "format/safetensors.h"
#include "tensor/dtype.h"

enum {
    LENGTH_BYTES = 8,
    PIECE = 64 * 1024,  /* of the header, when it is checked for UTF-8 */
    MOST_WARNINGS = 10, /* of one kind; a hostile file could cause millions */
};

const char *as_safetensors_verdict_name(int verdict)
{
    static const char *const names[] = {
#define VERDICT_NAME(name, text) #text,
        AS_SAFETENSORS_VERDICTS(VERDICT_NAME)
#undef VERDICT_NAME
    };
    return verdict >= 0 && verdict <= AS_SAFETENSORS_FAILED ? names[verdict] : "?";
}

/* One reading: what goes wrong sets the verdict. */
typedef struct reader {
    const as_source *source;
    as_table *table;
    const as_log *log;
    uint64_t header_end;
    uint64_t at; /* next byte of the header for the JSON parser */
    int verdict;
} reader;

static int fill(void *self, void *bytes, size_t capacity, size_t *count, as_error *e)
{
    reader *r = self;
    uint64_t left = r->header_end - r->at;
    *count = left < capacity ? (size_t)left : capacity;
    int code = r->source->read(r->source, r->at, bytes, *count, e);
    r->at += *count;
    return code;
}

/* Refuses the file: "name: reason (InvalidOffset); what to do". Takes `reason` over. */
static int refuse(reader *r, int verdict, as_error *reason, as_error *e)
{
    r->verdict = verdict;
    int code =
        as_fail(e, AS_FORMAT, 0,
                "%s: %s (%s). The file is damaged, cut short or no safetensors file: "
                "fetch or save it again",
                r->source->name, as_error_text(reason), as_safetensors_verdict_name(verdict));
    as_error_clear(reason);
    return code;
}

static int read_length(reader *r, as_error *e)
{
    as_error reason = AS_ERROR_INIT;
    uint64_t size = r->source->size;
    if (size < LENGTH_BYTES) {
        (void)as_fail(&reason, AS_FORMAT, 0,
                      "it has %llu bytes, too few for the 8 that a header begins with",
                      (unsigned long long)size);
        return refuse(r, AS_SAFETENSORS_HEADER_TOO_SMALL, &reason, e);
    }
    unsigned char bytes[LENGTH_BYTES];
    int code = r->source->read(r->source, 0, bytes, sizeof bytes, e);
    if (code != AS_OK) {
        return code;
    }
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
        length = length << 8 | bytes[i];
    }
    if (length > AS_SAFETENSORS_LONGEST_HEADER) {
        (void)as_fail(&reason, AS_FORMAT, 0,
                      "it claims a header of %llu bytes; 100000000 is the most",
                      (unsigned long long)length);
        return refuse(r, AS_SAFETENSORS_HEADER_TOO_LARGE, &reason, e);
    }
    if (length > size - LENGTH_BYTES) {
        (void)as_fail(&reason, AS_FORMAT, 0,
                      "it claims a header of %llu bytes, but has only %llu bytes in all",
                      (unsigned long long)length, (unsigned long long)size);
        return refuse(r, AS_SAFETENSORS_HEADER_LENGTH, &reason, e);
    }
    r->at = LENGTH_BYTES;
    r->header_end = LENGTH_BYTES + length;
    return AS_OK;
}

/* Whether the header is UTF-8 from end to end. */
static int check_utf8(const reader *r, bool *good, as_error *e)
{
    char *piece = malloc(PIECE);
    if (!piece) {
        return as_fail_nomem(e);
    }
    as_utf8 utf8 = AS_UTF8_INIT;
    int code = AS_OK;
    *good = true;
    for (uint64_t at = LENGTH_BYTES; code == AS_OK && *good && at < r->header_end; at += PIECE) {
        size_t count = r->header_end - at < PIECE ? (size_t)(r->header_end - at) : PIECE;
        code = r->source->read(r->source, at, piece, count, e);
        *good = code == AS_OK && as_utf8_feed(&utf8, piece, count);
    }
    *good = *good && as_utf8_complete(&utf8);
    free(piece);
    return code;
}

static int parse_header(reader *r, as_error *e)
{
    as_json *json;
    int code = as_json_open(&json, fill, r, AS_JSON_SERDE, e);
    if (code != AS_OK) {
        return code;
    }
    as_error reason = AS_ERROR_INIT;
    code = as_safetensors_parse(json, r->table, &reason);
    bool is_refusal = code == AS_FORMAT && !as_json_fill_failed(json);
    as_json_close(json);
    if (!is_refusal) {
        if (code != AS_OK && e) {
            as_error_move(e, &reason);
        }
        as_error_clear(&reason);
        return code;
    }
    /* The reference looks at the encoding first, whatever else is wrong. Only a header that is
     * refused needs that look: outside of strings JSON takes ASCII alone. */
    bool is_utf8 = true;
    code = check_utf8(r, &is_utf8, e);
    if (code != AS_OK) {
        as_error_clear(&reason);
        return code;
    }
    if (!is_utf8) {
        as_error_clear(&reason);
        (void)as_fail(&reason, AS_FORMAT, 0, "its header is not UTF-8 text");
        return refuse(r, AS_SAFETENSORS_HEADER, &reason, e);
    }
    as_error_prefix(&reason, "its header breaks a rule");
    return refuse(r, AS_SAFETENSORS_DESERIALIZATION, &reason, e);
}

static void name_text(const void *list, size_t i, const char **text, size_t *length)
{
    const as_table *t = list;
    *text = as_table_name(t, i);
    *length = as_table_entry(t, i)->name_length;
}

/* Drops all but the last entry of each name, as the reference's map does. */
static int drop_repeats(reader *r, as_error *e)
{
    as_table *t = r->table;
    size_t count = as_table_count(t);
    uint32_t *first;
    int code = as_repeats_find(t, count, name_text, &first, e);
    if (code != AS_OK || !first) {
        return code;
    }
    as_entry *entries = (as_entry *)(void *)t->entries.data;
    size_t repeats = 0;
    for (size_t i = 0; i < count; i++) {
        if (first[i] == i) {
            continue;
        }
        if (++repeats <= MOST_WARNINGS) {
            as_log_say(r->log, AS_LOG_WARNING,
                       "%s: tensor %s stands in the header more than once; the last entry counts",
                       r->source->name, as_quote(as_table_name(t, i), entries[i].name_length).text);
        }
        entries[first[i]] = entries[i];
    }
    if (repeats > MOST_WARNINGS) {
        as_log_say(r->log, AS_LOG_WARNING, "%s: %zu more entries stand for names that came before",
                   r->source->name, repeats - MOST_WARNINGS);
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (first[i] == i) {
            entries[kept++] = entries[i];
        }
    }
    t->entries.size = kept * sizeof *entries;
    free(first);
    return AS_OK;
}

static int unique_metadata(const reader *r, as_error *e)
{
    as_pairs *metadata = &r->table->metadata;
    size_t count = metadata->count;
    int code = as_pairs_unique(metadata, e);
    if (code == AS_OK && metadata->count < count) {
        as_log_say(r->log, AS_LOG_WARNING,
                   "%s: " AS_SAFETENSORS_METADATA
                   " holds a key more than once; its last value counts",
                   r->source->name);
    }
    return code;
}

static int compare_entries(const void *left, const void *right)
{
    const as_entry *a = left;
    const as_entry *b = right;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    if (a->end != b->end) {
        return a->end < b->end ? -1 : 1;
    }
    /* Names lie in the order of the header. */
    return (a->name_at > b->name_at) - (a->name_at < b->name_at);
}

static void sort_entries(as_table *t)
{
    size_t count = as_table_count(t);
    /* Most headers are in order: sorting them would cost memory for nothing. */
    for (size_t i = 1; i < count; i++) {
        if (compare_entries(as_table_entry(t, i - 1), as_table_entry(t, i)) > 0) {
            qsort(t->entries.data, count, sizeof(as_entry), compare_entries);
            return;
        }
    }
}

/* Checks tensor i, whose bytes must begin at `start`. The verdict, and its reason. */
static int check_entry(const as_table *t, size_t i, uint64_t start, as_error *reason)
{
    const as_entry *x = as_table_entry(t, i);
    as_quoted name = as_quote(as_table_name(t, i), x->name_length);
    unsigned long long begin = x->begin;
    unsigned long long end = x->end;
    if (x->begin != start || x->end < x->begin) {
        (void)as_fail(reason, AS_FORMAT, 0, "tensor %s has data_offsets [%llu,%llu]: %s", name.text,
                      begin, end,
                      x->end < x->begin  ? "its end lies before its begin"
                      : x->begin < start ? "it overlaps the tensor before it"
                                         : "there is a hole before it");
        return AS_SAFETENSORS_OFFSET;
    }
    uint64_t numel;
    uint64_t bytes;
    bool whole;
    if (!as_shape_numel(as_table_shape(t, i), (int)x->ndim, &numel) ||
        !as_dtype_bytes(x->dtype, numel, &bytes, &whole)) {
        (void)as_fail(reason, AS_FORMAT, 0, "tensor %s has a shape whose size passes 2^64",
                      name.text);
        return AS_SAFETENSORS_OVERFLOW;
    }
    if (!whole) {
        (void)as_fail(reason, AS_FORMAT, 0,
                      "tensor %s has %llu elements of %s, which do not fill whole bytes", name.text,
                      (unsigned long long)numel, as_dtype_name(x->dtype));
        return AS_SAFETENSORS_MISALIGNED;
    }
    if (x->end - x->begin != bytes) {
        (void)as_fail(reason, AS_FORMAT, 0,
                      "tensor %s needs %llu bytes by its shape and dtype, but has data_offsets "
                      "[%llu,%llu]",
                      name.text, (unsigned long long)bytes, begin, end);
        return AS_SAFETENSORS_INFO;
    }
    return AS_SAFETENSORS_OK;
}

/* Checks the entries, in order of their offsets, against each other and the file's size. */
static int check_entries(reader *r, as_error *e)
{
    as_table *t = r->table;
    size_t count = as_table_count(t);
    uint64_t end = 0;
    as_error reason = AS_ERROR_INIT;
    for (size_t i = 0; i < count; i++) {
        int verdict = check_entry(t, i, end, &reason);
        if (verdict != AS_SAFETENSORS_OK) {
            return refuse(r, verdict, &reason, e);
        }
        end = as_table_entry(t, i)->end;
    }
    uint64_t data = r->source->size - r->header_end;
    if (end != data) {
        (void)as_fail(&reason, AS_FORMAT, 0, "its tensors take %llu bytes, but it has %llu",
                      (unsigned long long)end, (unsigned long long)data);
        return refuse(r, AS_SAFETENSORS_INCOMPLETE, &reason, e);
    }
    as_entry *entries = (as_entry *)(void *)t->entries.data;
    for (size_t i = 0; i < count; i++) {
        entries[i].begin += r->header_end;
        entries[i].end += r->header_end;
    }
    return AS_OK;
}

int as_safetensors_read(const as_source *source, as_table *out, const as_log *log, int *verdict,
                        as_error *e)
{
    *out = AS_TABLE_INIT;
    /* A failure is the reader's own until a rule of the format is found broken. */
    reader r = {.source = source, .table = out, .log = log, .verdict = AS_SAFETENSORS_FAILED};
    int code = read_length(&r, e);
    code = code == AS_OK ? parse_header(&r, e) : code;
    code = code == AS_OK ? drop_repeats(&r, e) : code;
    code = code == AS_OK ? unique_metadata(&r, e) : code;
    if (code == AS_OK) {
        sort_entries(out);
        code = check_entries(&r, e);
    }
    if (code == AS_OK) {
        r.verdict = AS_SAFETENSORS_OK;
        out->data_begin = r.header_end;
        out->file_size = source->size;
    } else {
        as_table_free(out);
    }
    *verdict = r.verdict;
    return code;
}
