/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the JSON pull parser and the writers of strings, and compares them with jansson. The
 * first byte says how many bytes the parser is given at a time (low bits) and which of
 * its two dialects reads (high bit).
 */
#include <jansson.h>

#include "base/json_pull.h"
#include "base/json_write.h"
#include "fuzz.h"

enum { DEEPEST = 1001, SERDE_DEEPEST = 127 };

typedef struct text {
    const uint8_t *at;
    size_t left;
    size_t step;
} text;

static int fill(void *self, void *bytes, size_t capacity, size_t *count, as_error *e)
{
    text *t = self;
    (void)e;
    *count = t->left < capacity ? t->left : capacity;
    *count = *count < t->step ? *count : t->step;
    if (*count > 0) {
        memcpy(bytes, t->at, *count);
    }
    t->at += *count;
    t->left -= *count;
    return AS_OK;
}

/* A string that was decoded is written by both writers as JSON that jansson decodes to the same. */
static void write_string(const as_json_token *t)
{
    int (*const writers[])(as_buffer *, const char *, size_t, as_error *) = {as_json_write_serde,
                                                                             as_json_write_python};
    bool good = as_utf8_valid(t->text, t->length);
    for (size_t w = 0; w < 2; w++) {
        as_buffer b = AS_BUFFER_INIT;
        as_error e = AS_ERROR_INIT;
        int code = writers[w](&b, t->text, t->length, &e);
        MUST(code == (good ? AS_OK : AS_INVALID));
        if (good) {
            json_error_t fault;
            json_t *read = json_loadb(b.data, b.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
            MUST(json_is_string(read) && json_string_length(read) == t->length);
            MUST(memcmp(json_string_value(read), t->text, t->length) == 0);
            json_decref(read);
        }
        fuzz_end(code, &e);
        as_buffer_free(&b);
    }
}

/* What has been opened: the levels of brackets, which each token must fit. */
typedef struct levels {
    bool object[DEEPEST + 1];
    int depth;
    int deepest;
    bool after_key;
    bool nul_key; /* a name with a NUL, which jansson refuses */
} levels;

static void check_token(levels *l, const as_json_token *t)
{
    bool in_object = l->depth > 0 && l->object[l->depth];
    bool is_end = t->kind == AS_JSON_OBJECT_END || t->kind == AS_JSON_ARRAY_END;
    if (is_end) {
        MUST(l->depth > 0 && in_object == (t->kind == AS_JSON_OBJECT_END) && !l->after_key);
        l->depth--;
        return;
    }
    MUST((t->kind == AS_JSON_KEY) == (in_object && !l->after_key));
    l->after_key = t->kind == AS_JSON_KEY;
    if (t->kind == AS_JSON_OBJECT || t->kind == AS_JSON_ARRAY) {
        MUST(l->depth < DEEPEST);
        l->object[++l->depth] = t->kind == AS_JSON_OBJECT;
        l->deepest = l->depth > l->deepest ? l->depth : l->deepest;
    } else if (t->kind == AS_JSON_KEY || t->kind == AS_JSON_STRING) {
        MUST(t->text && t->text[t->length] == '\0');
        l->nul_key = l->nul_key || (l->after_key && memchr(t->text, '\0', t->length));
        write_string(t);
    }
}

/* Reads to the end. With `skip` every third key's value is skipped. */
static int read_all(const uint8_t *data, size_t size, size_t step, int dialect, bool skip,
                    levels *l, as_error *e)
{
    text t = {.at = data, .left = size, .step = step};
    as_json *json;
    as_json_token token = {.kind = AS_JSON_NULL};
    int code = as_json_open(&json, fill, &t, dialect, e);
    MUST(code == AS_OK);
    size_t count = 0;
    while (code == AS_OK && token.kind != AS_JSON_END) {
        code = as_json_next(json, &token, e);
        if (code == AS_OK && skip && token.kind == AS_JSON_KEY && ++count % 3 == 0) {
            code = as_json_skip(json, &token, e);
        } else if (code == AS_OK && token.kind != AS_JSON_END && !skip) {
            check_token(l, &token);
        }
        MUST(dialect == AS_JSON_PYTHON || code != AS_OK ||
             (token.kind != AS_JSON_STRING && token.kind != AS_JSON_KEY) || skip ||
             as_utf8_valid(token.text, token.length));
    }
    MUST(code != AS_OK || skip || l->depth == 0);
    as_json_close(json);
    return code;
}

/* jansson, another reader of the same language: what one takes and the other does not is for one
 * of the reasons below. */
static void compare(const uint8_t *data, size_t size, int ours, const levels *l)
{
    /* It takes a NUL outside of strings for the end. */
    if (size == 0 || memchr(data, '\0', size)) {
        return;
    }
    json_error_t fault = {.line = 0};
    json_t *theirs = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
    if (theirs) {
        MUST(ours == AS_OK || l->deepest >= SERDE_DEEPEST);
    } else if (ours == AS_OK) {
        /* jansson's numbers have 63 bits, and its names no NUL. */
        MUST(json_error_code(&fault) == json_error_numeric_overflow || l->nul_key);
    }
    json_decref(theirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    size_t step = (size_t)(data[0] & 0x7f) + 1;
    int dialect = data[0] & 0x80 ? AS_JSON_PYTHON : AS_JSON_SERDE;
    data++;
    size--;
    as_error e = AS_ERROR_INIT;
    levels l = {.depth = 0};
    int whole = read_all(data, size, SIZE_MAX, dialect, false, &l, &e);
    if (dialect == AS_JSON_SERDE) {
        compare(data, size, whole, &l);
    }
    fuzz_end(whole, &e);
    /* The same in small bites, and when some values are skipped. */
    levels again = {.depth = 0};
    int small = read_all(data, size, step, dialect, false, &again, &e);
    MUST(small == whole && again.depth == l.depth && again.deepest == l.deepest);
    MUST(again.after_key == l.after_key && again.nul_key == l.nul_key);
    fuzz_end(small, &e);
    int skipped = read_all(data, size, step, dialect, true, &again, &e);
    MUST(skipped == whole);
    fuzz_end(skipped, &e);
    return 0;
}
