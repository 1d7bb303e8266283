/* SPDX-License-Identifier: Apache-2.0 */
#include "series/folder_name.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "commit/names.h"
#include "series/latest.h"
#include "series/words.h"

enum {
    LONGEST_TEXT = 255, /* bytes that a name can have */
    LONGEST_STEP = 19,  /* digits of 2^63 − 1 */
};

enum kind { TEXT, STEP, FIELD };

typedef struct piece {
    enum kind kind;
    as_buffer text; /* TEXT: as it stands in names; FIELD: its name; NUL-terminated */
    int width;      /* STEP: digits at least */
} piece;

struct as_folder_pattern {
    as_buffer pieces; /* piece[] */
};

static piece *piece_at(const as_folder_pattern *p, size_t i)
{
    return (piece *)(void *)p->pieces.data + i;
}

static size_t piece_count(const as_folder_pattern *p)
{
    return p->pieces.size / sizeof(piece);
}

/* --------------------------------------------------------------------- making */

static int refuse(const char *pattern, const char *reason, as_error *e)
{
    return as_fail(e, AS_PATTERN, 0,
                   "the pattern %s of checkpoints' names %s; write one such as "
                   "\"" AS_DEFAULT_FOLDER_NAME "\" or \"epoch{epoch}_step{step:06}\"",
                   as_quote(pattern, strlen(pattern)).text, reason);
}

static int add_piece(as_folder_pattern *p, enum kind kind, piece **out, as_error *e)
{
    void *place;
    int code = as_buffer_extend(&p->pieces, sizeof(piece), &place, e);
    if (code == AS_OK) {
        *out = place;
        **out = (piece){.kind = kind, .text = AS_BUFFER_INIT};
    }
    return code;
}

static int add_text(as_folder_pattern *p, char c, as_error *e)
{
    size_t count = piece_count(p);
    piece *last = count > 0 ? piece_at(p, count - 1) : NULL;
    if (!last || last->kind != TEXT) {
        int code = add_piece(p, TEXT, &last, e);
        if (code != AS_OK) {
            return code;
        }
    }
    int code = as_buffer_char(&last->text, c, e);
    return code == AS_OK && !as_buffer_string(&last->text) ? as_fail_nomem(e) : code;
}

/* "06" or "06d", as Python has it: the width, 1 to 18; 0: it is something else. */
static int read_width(const char *format, size_t length)
{
    int width = 0;
    size_t digits = length > 0 && format[length - 1] == 'd' ? length - 1 : length;
    if (digits < 2 || digits > 3 || format[0] != '0') {
        return 0;
    }
    for (size_t i = 1; i < digits; i++) {
        if (format[i] < '0' || format[i] > '9' || (i == 1 && format[i] == '0')) {
            return 0;
        }
        width = width * 10 + (format[i] - '0');
    }
    return width < LONGEST_STEP ? width : 0;
}

/* Is a piece of that kind and name there already? */
static bool has_field(const as_folder_pattern *p, enum kind kind, const char *name, size_t length)
{
    for (size_t i = 0; i < piece_count(p); i++) {
        const piece *one = piece_at(p, i);
        if (one->kind == kind && (kind == STEP || (one->text.size == length &&
                                                   memcmp(one->text.data, name, length) == 0))) {
            return true;
        }
    }
    return false;
}

/* What stands between braces, [inside, inside + length). */
static int add_field(as_folder_pattern *p, const char *pattern, const char *inside, size_t length,
                     as_error *e)
{
    const char *colon = memchr(inside, ':', length);
    size_t name_length = colon ? (size_t)(colon - inside) : length;
    bool is_step = name_length == strlen("step") && memcmp(inside, "step", name_length) == 0;
    enum kind kind = is_step ? STEP : FIELD;
    size_t count = piece_count(p);
    int width = 1;
    if (colon) {
        width = is_step ? read_width(colon + 1, length - name_length - 1) : 0;
        if (width == 0) {
            return refuse(pattern,
                          "has a format that is not known: only {step} can have one, {step:06} "
                          "with 1 to 18 digits",
                          e);
        }
    }
    if (count > 0 && piece_at(p, count - 1)->kind != TEXT) {
        return refuse(pattern, "has fields with no text between them", e);
    }
    if (has_field(p, kind, inside, name_length)) {
        return refuse(pattern, is_step ? "has {step} twice" : "has a field twice", e);
    }
    piece *one;
    int code = add_piece(p, kind, &one, e);
    if (code != AS_OK) {
        return code;
    }
    one->width = width;
    if (is_step) {
        return AS_OK;
    }
    code = as_buffer_append(&one->text, inside, name_length, e);
    if (code == AS_OK && !as_buffer_string(&one->text)) {
        code = as_fail_nomem(e);
    }
    as_error own = AS_ERROR_INIT;
    if (code == AS_OK && as_field_check(one->text.data ? one->text.data : "", "x", &own) != AS_OK) {
        code = refuse(pattern,
                      "has a field whose name is not 1 to 64 letters, digits and '_' (a plain "
                      "brace is written {{)",
                      e);
    }
    as_error_clear(&own);
    return code;
}

/* Takes what the pattern has at *at. */
static int add_next(as_folder_pattern *p, const char *pattern, size_t *at, as_error *e)
{
    char c = pattern[*at];
    if (c == '{' && pattern[*at + 1] != '{') {
        const char *inside = pattern + *at + 1;
        const char *end = strchr(inside, '}');
        if (!end) {
            return refuse(pattern, "has a brace that is not closed (a plain brace is written {{)",
                          e);
        }
        *at = (size_t)(end + 1 - pattern);
        return add_field(p, pattern, inside, (size_t)(end - inside), e);
    }
    if (c == '}' && pattern[*at + 1] != '}') {
        return refuse(
            pattern, "has a closing brace without an opening one (a plain brace is written }})", e);
    }
    if (c == '/') {
        return refuse(pattern, "has a '/': the folders lie in the root itself", e);
    }
    *at += c == '{' || c == '}' ? 2 : 1;
    return add_text(p, c, e);
}

static int check_pieces(const as_folder_pattern *p, const char *pattern, as_error *e)
{
    size_t text = 0;
    size_t fields = 0;
    for (size_t i = 0; i < piece_count(p); i++) {
        const piece *one = piece_at(p, i);
        if (one->kind != TEXT) {
            fields++;
            continue;
        }
        text += one->text.size;
        char first = one->text.data[0];
        if (i > 0 && piece_at(p, i - 1)->kind == STEP && first >= '0' && first <= '9') {
            return refuse(pattern, "has a digit right behind {step}, which could belong to it", e);
        }
    }
    if (fields == 0) {
        return refuse(pattern, "has no field, so that all checkpoints would have one name", e);
    }
    if (text > LONGEST_TEXT) {
        return refuse(pattern, "has more than the 255 bytes that a name can have", e);
    }
    return AS_OK;
}

int as_folder_pattern_make(as_folder_pattern **out, const char *text, as_error *e)
{
    const char *pattern = text ? text : AS_DEFAULT_FOLDER_NAME;
    *out = NULL;
    if (!as_is_line(pattern)) {
        return refuse(pattern, "is not UTF-8, or has a control character", e);
    }
    if (pattern[0] == '.') {
        return refuse(pattern, "begins with '.', which hides folders", e);
    }
    as_folder_pattern *p = calloc(1, sizeof *p);
    if (!p) {
        return as_fail_nomem(e);
    }
    int code = AS_OK;
    for (size_t at = 0; code == AS_OK && pattern[at] != '\0';) {
        code = add_next(p, pattern, &at, e);
    }
    code = code == AS_OK ? check_pieces(p, pattern, e) : code;
    if (code != AS_OK) {
        as_folder_pattern_free(p);
        return code;
    }
    *out = p;
    return AS_OK;
}

void as_folder_pattern_free(as_folder_pattern *p)
{
    if (p) {
        for (size_t i = 0; i < piece_count(p); i++) {
            as_buffer_free(&piece_at(p, i)->text);
        }
        as_buffer_free(&p->pieces);
        free(p);
    }
}

bool as_folder_pattern_has_step(const as_folder_pattern *p)
{
    return has_field(p, STEP, NULL, 0);
}

/* -------------------------------------------------------------------- reading */

/* Digits just as the step is written: no more zeros before it than the width asks for. */
static bool read_step(const char *text, size_t length, int width, int64_t *step)
{
    size_t least = (size_t)width;
    if (length < least || length > LONGEST_STEP || (length > least && text[0] == '0')) {
        return false;
    }
    *step = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(*step, (int64_t)10, step) ||
            __builtin_add_overflow(*step, (int64_t)(text[i] - '0'), step)) {
            return false;
        }
    }
    return true;
}

/* The value of a field, of LONGEST_TEXT bytes at most as the name is. */
static bool take_value(const piece *one, const char *text, size_t length, as_fields *fields)
{
    char value[LONGEST_TEXT + 1];
    memcpy(value, text, length);
    value[length] = '\0';
    if (length == 0 || as_field_check(one->text.data, value, NULL) != AS_OK) {
        return false;
    }
    return !fields || as_fields_set(fields, one->text.data, value, NULL) == AS_OK;
}

/* Where the value that begins at `from` ends: before the text behind it, which is the first of its
 * kind, or, at the end of the pattern, the end of the name. NULL: nowhere. */
static const char *value_end(const as_folder_pattern *p, size_t i, const char *from)
{
    size_t left = strlen(from);
    if (i + 1 == piece_count(p)) {
        return from + left;
    }
    const as_buffer *text = &piece_at(p, i + 1)->text;
    if (i + 2 < piece_count(p)) {
        return strstr(from, text->data);
    }
    return left >= text->size && strcmp(from + left - text->size, text->data) == 0
               ? from + left - text->size
               : NULL;
}

static bool read_pieces(const as_folder_pattern *p, const char *name, int64_t *step,
                        as_fields *fields)
{
    const char *at = name;
    for (size_t i = 0; i < piece_count(p); i++) {
        const piece *one = piece_at(p, i);
        if (one->kind == TEXT) {
            if (strncmp(at, one->text.data, one->text.size) != 0) {
                return false;
            }
            at += one->text.size;
            continue;
        }
        const char *end = value_end(p, i, at);
        size_t length = end ? (size_t)(end - at) : 0;
        if (!end || (one->kind == STEP ? !read_step(at, length, one->width, step)
                                       : !take_value(one, at, length, fields))) {
            return false;
        }
        at = end;
    }
    return *at == '\0';
}

/* Other things of a series' root have these names. */
static bool is_taken(const char *name)
{
    static const char own[] = "allshard.";
    return strcmp(name, AS_LATEST_NAME) == 0 || strncmp(name, own, strlen(own)) == 0;
}

bool as_folder_pattern_read(const as_folder_pattern *p, const char *name, int64_t *step,
                            as_fields *fields)
{
    as_fields found = AS_FIELDS_INIT;
    int64_t number = -1;
    bool good = as_name_is_plain(name) && name[0] != '.' && !is_taken(name) &&
                read_pieces(p, name, &number, fields ? &found : NULL);
    if (good && fields) {
        as_fields_free(fields);
        *fields = found;
    } else {
        as_fields_free(&found);
    }
    *step = good ? number : -1;
    return good;
}

/* -------------------------------------------------------------------- writing */

static int write_pieces(const as_folder_pattern *p, int64_t step, const as_fields *fields,
                        as_buffer *out, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < piece_count(p); i++) {
        const piece *one = piece_at(p, i);
        const char *value = one->text.data;
        if (one->kind == STEP) {
            code = as_buffer_format(out, e, "%0*" PRId64, one->width, step);
            continue;
        }
        if (one->kind == FIELD) {
            value = fields ? as_fields_get(fields, one->text.data) : NULL;
            if (!value || !*value || strchr(value, '/')) {
                return as_fail(e, AS_INVALID, 0,
                               "the name of the checkpoint's folder has the field {%s}, %s",
                               one->text.data,
                               value && *value ? "whose value must not have a '/'"
                                               : "which the checkpoint does not give");
            }
        }
        code = as_buffer_append(out, value, strlen(value), e);
    }
    return code;
}

int as_folder_pattern_write(const as_folder_pattern *p, int64_t step, const as_fields *fields,
                            as_buffer *out, as_error *e)
{
    size_t before = out->size;
    if (step < 0) {
        return as_fail(e, AS_INVALID, 0, "a checkpoint's step must be 0 or more, not %" PRId64,
                       step);
    }
    int code = write_pieces(p, step, fields, out, e);
    const char *name = code == AS_OK ? as_buffer_string(out) : NULL;
    if (code == AS_OK && !name) {
        code = as_fail_nomem(e);
    }
    int64_t again;
    as_fields back = AS_FIELDS_INIT;
    if (name) {
        name += before;
        bool same = as_folder_pattern_read(p, name, &again, &back) &&
                    (again == step || !as_folder_pattern_has_step(p));
        for (size_t i = 0; same && i < back.count; i++) {
            same = strcmp(back.items[i].value, as_fields_get(fields, back.items[i].name)) == 0;
        }
        if (!same) {
            code = as_fail(e, AS_INVALID, 0,
                           "a checkpoint's folder cannot be named \"%s\": the name is one of those "
                           "that a series needs itself, hidden, longer than 255 bytes, or a field "
                           "in it holds the text that stands behind the field, so that the name "
                           "could not be read",
                           name);
        }
    }
    as_fields_free(&back);
    if (code != AS_OK) {
        out->size = before;
    }
    return code;
}
