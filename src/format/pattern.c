/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pattern.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "format/format.h"
#include "format/index.h"

static const char field[] = "{suffix}";
static const char index_extension[] = ".index.json";

enum {
    DIGITS = 5,       /* at least, of a shard's number */
    MOST_DIGITS = 18, /* of a number that is recognized: below 2^63 */
};

/* A pattern with its braces worked out. */
typedef struct rendering {
    as_buffer text; /* NUL-terminated */
    size_t first;   /* place of the first suffix */
    int suffixes;
} rendering;

static int refuse(const char *pattern, const char *reason, as_error *e)
{
    return as_fail(e, AS_PATTERN, 0,
                   "the file name pattern %s %s; write one such as \"model{suffix}.safetensors\"",
                   as_quote(pattern, strlen(pattern)).text, reason);
}

/* Appends what the pattern has at `at`; returns the place behind it. */
static int render_piece(const char *pattern, size_t *at, const char *suffix, rendering *r,
                        as_error *e)
{
    char c = pattern[*at];
    if (c == '{' && strncmp(pattern + *at, field, strlen(field)) == 0) {
        r->first = r->suffixes++ == 0 ? r->text.size : r->first;
        *at += strlen(field);
        return as_buffer_append(&r->text, suffix, strlen(suffix), e);
    }
    if (c == '{' || c == '}') {
        if (pattern[*at + 1] != c) {
            return refuse(pattern,
                          c == '{' ? "has a brace that begins something other than {suffix} (a "
                                     "plain brace is written {{)"
                                   : "has a closing brace without an opening one (a plain brace "
                                     "is written }})",
                          e);
        }
        (*at)++;
    }
    (*at)++;
    return as_buffer_char(&r->text, c, e);
}

/* The caller frees r->text, also after an error. */
static int render(const char *pattern, const char *suffix, rendering *r, as_error *e)
{
    *r = (rendering){.text = AS_BUFFER_INIT};
    size_t at = 0;
    int code = AS_OK;
    while (code == AS_OK && pattern[at] != '\0') {
        code = render_piece(pattern, &at, suffix, r, e);
    }
    if (code == AS_OK && r->suffixes == 0) {
        code = refuse(pattern,
                      "has no {suffix}, so that all shards would have one and the same name", e);
    }
    return code == AS_OK && !as_buffer_string(&r->text) ? as_fail_nomem(e) : code;
}

/* Hands the text over and frees the rest. */
static int take_text(rendering *r, int code, char **out)
{
    *out = NULL;
    if (code == AS_OK) {
        *out = r->text.data;
        r->text = AS_BUFFER_INIT;
    }
    as_buffer_free(&r->text);
    return code;
}

static int name_with(const char *pattern, const char *suffix, char **out, as_error *e)
{
    rendering r;
    int code = render(pattern, suffix, &r, e);
    return take_text(&r, code, out);
}

/* Whether a name that the pattern gives can be written and read back. `more`: bytes that
 * are put behind it. */
static int check_name(const char *pattern, const char *name, size_t more, as_error *e)
{
    if (strchr(name, '/')) {
        return refuse(pattern, "names a file in another folder", e);
    }
    const as_format *format = as_format_by_name(name);
    if (!format) {
        return refuse(pattern, "has an extension of no known format", e);
    }
    if (strlen(name) == strlen(format->extension)) {
        return refuse(pattern, "has nothing before the extension", e);
    }
    if (strlen(name) + more > NAME_MAX) {
        return refuse(pattern, "makes names longer than the 255 bytes that file systems take", e);
    }
    if (as_index_check_file(name, strlen(name), format->extension, NULL) != AS_OK) {
        return refuse(pattern,
                      "makes names that no reader takes from an index, as they are special on "
                      "Windows (a drive or a root)",
                      e);
    }
    return AS_OK;
}

int as_pattern_check(const char *pattern, as_error *e)
{
    if (!as_utf8_valid(pattern, strlen(pattern))) {
        return refuse(pattern, "is not UTF-8", e);
    }
    char *single;
    char *shard = NULL;
    int code = name_with(pattern, "", &single, e);
    code = code == AS_OK ? name_with(pattern, "-00001-of-00002", &shard, e) : code;
    code = code == AS_OK ? check_name(pattern, single, strlen(index_extension), e) : code;
    code = code == AS_OK ? check_name(pattern, shard, 0, e) : code;
    free(single);
    free(shard);
    return code;
}

int as_pattern_name(const char *pattern, uint64_t shard, uint64_t count, char **out, as_error *e)
{
    char suffix[64] = "";
    if (count > 1) {
        (void)snprintf(suffix, sizeof suffix, "-%05llu-of-%05llu", (unsigned long long)shard,
                       (unsigned long long)count);
    }
    return name_with(pattern, suffix, out, e);
}

int as_pattern_index_name(const char *pattern, char **out, as_error *e)
{
    rendering r;
    int code = render(pattern, "", &r, e);
    if (code == AS_OK) {
        /* With its NUL, as the text is handed over. */
        code = as_buffer_append(&r.text, index_extension, sizeof index_extension, e);
    }
    return take_text(&r, code, out);
}

static size_t count_digits(const char *text)
{
    size_t count = 0;
    while (text[count] >= '0' && text[count] <= '9') {
        count++;
    }
    return count;
}

/* The number of `length` digits; false if it is not written as a shard's number is. */
static bool read_number(const char *text, size_t length, uint64_t *number)
{
    if (length < DIGITS || length > MOST_DIGITS || (length > DIGITS && text[0] == '0')) {
        return false;
    }
    *number = 0;
    for (size_t i = 0; i < length; i++) {
        *number = *number * 10 + (uint64_t)(text[i] - '0');
    }
    return true;
}

/* Whether the pattern gives `name` with the suffix that lies at `at` in it. */
static int try_suffix(const char *pattern, const char *name, size_t at, size_t length, bool *same,
                      as_error *e)
{
    char suffix[64];
    (void)snprintf(suffix, sizeof suffix, "%.*s", (int)length, name + at);
    char *made;
    int code = name_with(pattern, suffix, &made, e);
    *same = code == AS_OK && strcmp(made, name) == 0;
    free(made);
    return code;
}

/* Looks for a suffix at `at`. Digits that follow {suffix} in the pattern could belong to either:
 * every length of the second number is tried. */
static int match_shard(const char *pattern, const char *name, size_t at, int *kind, uint64_t *shard,
                       uint64_t *count, as_error *e)
{
    static const char of[] = "-of-";
    const char *first = name + at + 1;
    size_t first_digits = name[at] == '-' ? count_digits(first) : 0;
    if (!read_number(first, first_digits, shard) ||
        strncmp(first + first_digits, of, strlen(of)) != 0) {
        return AS_OK;
    }
    const char *second = first + first_digits + strlen(of);
    int code = AS_OK;
    for (size_t digits = count_digits(second); code == AS_OK && digits >= DIGITS; digits--) {
        bool same = false;
        if (read_number(second, digits, count)) {
            code = try_suffix(pattern, name, at, (size_t)(second + digits - (name + at)), &same, e);
        }
        if (same) {
            *kind = AS_PATTERN_SHARD;
            break;
        }
    }
    return code;
}

int as_pattern_match(const char *pattern, const char *name, int *kind, uint64_t *shard,
                     uint64_t *count, as_error *e)
{
    *kind = AS_PATTERN_NONE;
    *shard = 0;
    *count = 0;
    rendering single;
    int code = render(pattern, "", &single, e);
    if (code == AS_OK) {
        size_t length = single.text.size;
        if (strncmp(name, single.text.data, length) == 0 &&
            (name[length] == '\0' || strcmp(name + length, index_extension) == 0)) {
            *kind = name[length] == '\0' ? AS_PATTERN_SINGLE : AS_PATTERN_INDEX;
        } else if (strncmp(name, single.text.data, single.first) == 0) {
            code = match_shard(pattern, name, single.first, kind, shard, count, e);
        }
    }
    as_buffer_free(&single.text);
    return code;
}

int as_pattern_default(const char *part, char **out, as_error *e)
{
    as_buffer b = AS_BUFFER_INIT;
    int code = AS_OK;
    for (const char *c = part; code == AS_OK && *c; c++) {
        /* Braces of the part's own name stand for themselves. */
        code = *c == '{' || *c == '}' ? as_buffer_char(&b, *c, e) : AS_OK;
        code = code == AS_OK ? as_buffer_char(&b, *c, e) : code;
    }
    if (code == AS_OK) {
        code = as_buffer_format(&b, e, "%s%s", field, as_format_safetensors.extension);
    }
    *out = NULL;
    if (code == AS_OK) {
        *out = b.data;
    } else {
        as_buffer_free(&b);
    }
    return code;
}
