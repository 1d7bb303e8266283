/* SPDX-License-Identifier: Apache-2.0
 * The JSON of a safetensors header → entries of a table, with the rules of
 * the reference reader's types (serde: struct, enum, tuple, map).
 */
#include <string.h>

#include "base/quote.h"
#include "format/safetensors.h"
#include "tensor/dtype.h"

enum field { DTYPE, SHAPE, OFFSETS, FIELDS };

static const char *const field_names[FIELDS] = {"dtype", "shape", "data_offsets"};

typedef struct parser {
    as_json *json;
    as_table *table;
    as_json_token token; /* read last */
    as_entry entry;      /* the tensor under way; begin and end count from the data's start */
    bool has[FIELDS];
} parser;

static int next(parser *p, as_error *e)
{
    return as_json_next(p->json, &p->token, e);
}

/* The name of the tensor under way, for error texts. */
static as_quoted name_of(const parser *p)
{
    return as_quote(p->table->names.data + p->entry.name_at, p->entry.name_length);
}

static int refuse(const parser *p, as_error *e, const char *reason)
{
    return as_fail(e, AS_FORMAT, 0, "tensor %s: %s", name_of(p).text, reason);
}

/* The value under way is of the wrong kind. */
static int refuse_kind(const parser *p, as_error *e, const char *what, const char *wanted)
{
    return as_fail(e, AS_FORMAT, 0, "tensor %s: %s is %s, not %s", name_of(p).text, what,
                   as_json_kind_name(p->token.kind), wanted);
}

/* "F32", or serde's other form of it, {"F32": null}. */
static int parse_dtype(parser *p, as_error *e)
{
    bool object = p->token.kind == AS_JSON_OBJECT;
    int code = object ? next(p, e) : AS_OK;
    if (code != AS_OK) {
        return code;
    }
    if (p->token.kind != (object ? AS_JSON_KEY : AS_JSON_STRING)) {
        return object ? refuse(p, e, "dtype is an empty object")
                      : refuse_kind(p, e, "dtype", "a string");
    }
    p->entry.dtype = as_dtype_from_name(p->token.text, p->token.length);
    if (p->entry.dtype == AS_DTYPE_NONE) {
        as_quoted dtype = as_quote(p->token.text, p->token.length);
        return as_fail(e, AS_FORMAT, 0, "tensor %s: there is no dtype %s", name_of(p).text,
                       dtype.text);
    }
    if (object) {
        code = next(p, e);
        if (code == AS_OK && p->token.kind != AS_JSON_NULL) {
            code = refuse_kind(p, e, "the value inside dtype", "null");
        }
        code = code == AS_OK ? next(p, e) : code;
        if (code == AS_OK && p->token.kind != AS_JSON_OBJECT_END) {
            code = refuse(p, e, "dtype is an object with more than one member");
        }
    }
    return code;
}

/* An array of plain whole numbers: into the table's shapes, or, with `pair`, exactly two. */
static int parse_numbers(parser *p, const char *what, uint64_t *pair, as_error *e)
{
    if (p->token.kind != AS_JSON_ARRAY) {
        return refuse_kind(p, e, what, "an array");
    }
    uint32_t count = 0;
    int code;
    while ((code = next(p, e)) == AS_OK && p->token.kind != AS_JSON_ARRAY_END) {
        if (!p->token.is_u64) {
            return as_fail(e, AS_FORMAT, 0,
                           "tensor %s: %s holds something other than a plain whole number of 0 to "
                           "2^64-1",
                           name_of(p).text, what);
        }
        if (!pair) {
            code = as_buffer_append(&p->table->shapes, &p->token.u64, sizeof p->token.u64, e);
        } else if (count < 2) {
            pair[count] = p->token.u64;
        }
        if (code != AS_OK) {
            return code;
        }
        count++;
    }
    if (code == AS_OK && pair && count != 2) {
        code = refuse(p, e, "data_offsets must hold two numbers");
    }
    p->entry.ndim = pair ? p->entry.ndim : count;
    return code;
}

/* The value whose first token was read is that of a field. */
static int parse_field(parser *p, int field, as_error *e)
{
    uint64_t offsets[2] = {0, 0};
    int code;
    switch (field) {
    case DTYPE:
        return parse_dtype(p, e);
    case SHAPE:
        p->entry.shape_at = p->table->shapes.size / sizeof(uint64_t);
        return parse_numbers(p, field_names[SHAPE], NULL, e);
    default:
        code = parse_numbers(p, field_names[OFFSETS], offsets, e);
        p->entry.begin = offsets[0];
        p->entry.end = offsets[1];
        return code;
    }
}

static int field_of_key(const as_json_token *t)
{
    for (int f = 0; f < FIELDS; f++) {
        if (strlen(field_names[f]) == t->length &&
            memcmp(field_names[f], t->text, t->length) == 0) {
            return f;
        }
    }
    return FIELDS;
}

static int parse_member(parser *p, as_error *e)
{
    int field = field_of_key(&p->token);
    if (field == FIELDS) {
        return as_json_skip(p->json, &p->token, e);
    }
    if (p->has[field]) {
        return refuse(p, e, "a field stands twice");
    }
    p->has[field] = true;
    int code = next(p, e);
    return code == AS_OK ? parse_field(p, field, e) : code;
}

static int parse_object(parser *p, as_error *e)
{
    int code;
    while ((code = next(p, e)) == AS_OK && p->token.kind == AS_JSON_KEY) {
        code = parse_member(p, e);
        if (code != AS_OK) {
            return code;
        }
    }
    for (int f = 0; code == AS_OK && f < FIELDS; f++) {
        if (!p->has[f]) {
            code = as_fail(e, AS_FORMAT, 0, "tensor %s: %s is missing", name_of(p).text,
                           field_names[f]);
        }
    }
    return code;
}

/* serde reads a struct from an array as well: its fields in their order. */
static int parse_array(parser *p, as_error *e)
{
    int code = AS_OK;
    for (int f = 0; code == AS_OK && f < FIELDS; f++) {
        code = next(p, e);
        if (code == AS_OK && p->token.kind == AS_JSON_ARRAY_END) {
            return refuse(p, e, "an array must hold dtype, shape and data_offsets");
        }
        code = code == AS_OK ? parse_field(p, f, e) : code;
    }
    code = code == AS_OK ? next(p, e) : code;
    if (code == AS_OK && p->token.kind != AS_JSON_ARRAY_END) {
        code = refuse(p, e, "an array must hold dtype, shape and data_offsets, no more");
    }
    return code;
}

/* A tensor; its name, the token, was read. Shape and name go straight into the table,
 * because a single one of them may be as long as the header. */
static int parse_tensor(parser *p, as_error *e)
{
    as_table *t = p->table;
    memset(p->has, 0, sizeof p->has);
    p->entry = (as_entry){.name_at = t->names.size, .name_length = (uint32_t)p->token.length};
    int code = as_buffer_append(&t->names, p->token.text, p->token.length, e);
    code = code == AS_OK ? as_buffer_char(&t->names, '\0', e) : code;
    code = code == AS_OK ? next(p, e) : code;
    if (code != AS_OK) {
        return code;
    }
    if (p->token.kind == AS_JSON_OBJECT) {
        code = parse_object(p, e);
    } else if (p->token.kind == AS_JSON_ARRAY) {
        code = parse_array(p, e);
    } else {
        code = refuse_kind(p, e, "its description", "an object");
    }
    return code == AS_OK ? as_buffer_append(&t->entries, &p->entry, sizeof p->entry, e) : code;
}

/* The value of __metadata__: null, or an object of strings. */
static int parse_metadata(parser *p, as_error *e)
{
    int code = next(p, e);
    if (code != AS_OK || p->token.kind == AS_JSON_NULL) {
        return code;
    }
    if (p->token.kind != AS_JSON_OBJECT) {
        return as_fail(e, AS_FORMAT, 0, AS_SAFETENSORS_METADATA " is %s, not an object of strings",
                       as_json_kind_name(p->token.kind));
    }
    p->table->has_metadata = true;
    while ((code = next(p, e)) == AS_OK && p->token.kind == AS_JSON_KEY) {
        /* Kept with an empty value until the value is read. */
        code = as_pairs_append(&p->table->metadata, p->token.text, p->token.length, "", 0, e);
        code = code == AS_OK ? next(p, e) : code;
        if (code == AS_OK && p->token.kind != AS_JSON_STRING) {
            as_pair *last = &p->table->metadata.items[p->table->metadata.count - 1];
            code = as_fail(
                e, AS_FORMAT, 0, AS_SAFETENSORS_METADATA ": the value of %s is %s, not a string",
                as_quote(last->key, last->key_length).text, as_json_kind_name(p->token.kind));
        }
        code = code == AS_OK
                   ? as_pairs_value_last(&p->table->metadata, p->token.text, p->token.length, e)
                   : code;
        if (code != AS_OK) {
            return code;
        }
    }
    return code;
}

int as_safetensors_parse(as_json *json, as_table *out, as_error *e)
{
    parser p = {.json = json, .table = out};
    bool seen_metadata = false;
    int code = next(&p, e);
    if (code == AS_OK && p.token.kind != AS_JSON_OBJECT) {
        code = as_fail(e, AS_FORMAT, 0, "it is %s, not an object", as_json_kind_name(p.token.kind));
    }
    while (code == AS_OK && (code = next(&p, e)) == AS_OK && p.token.kind == AS_JSON_KEY) {
        bool is_metadata = p.token.length == strlen(AS_SAFETENSORS_METADATA) &&
                           memcmp(p.token.text, AS_SAFETENSORS_METADATA, p.token.length) == 0;
        if (is_metadata && seen_metadata) {
            return as_fail(e, AS_FORMAT, 0, AS_SAFETENSORS_METADATA " stands twice");
        }
        seen_metadata = seen_metadata || is_metadata;
        code = is_metadata ? parse_metadata(&p, e) : parse_tensor(&p, e);
    }
    /* What follows the object must be the end: the parser sees to it. */
    return code == AS_OK ? next(&p, e) : code;
}
