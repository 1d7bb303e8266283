/* SPDX-License-Identifier: Apache-2.0 */
#include "series/fields.h"

#include <stdlib.h>
#include <string.h>

#include "series/words.h"

static bool is_name(const char *name)
{
    size_t length = 0;
    for (; name[length] != '\0'; length++) {
        char c = name[length];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (length >= AS_LONGEST_FIELD_NAME || (!letter && !(c >= '0' && c <= '9') && c != '_')) {
            return false;
        }
    }
    return length > 0 && strcmp(name, "step") != 0;
}

int as_field_check(const char *name, const char *value, as_error *e)
{
    if (!is_name(name)) {
        return as_fail(e, AS_INVALID, 0,
                       "\"%s\" cannot be the name of a field: it must be 1 to %d letters, digits "
                       "and '_' of ASCII, and not \"step\", which has a place of its own",
                       name, AS_LONGEST_FIELD_NAME);
    }
    if (strlen(value) > AS_LONGEST_FIELD || !as_is_line(value)) {
        return as_fail(e, AS_INVALID, 0,
                       "the value of field \"%s\" must be UTF-8 without control characters, of "
                       "%d bytes at most",
                       name, AS_LONGEST_FIELD);
    }
    return AS_OK;
}

static as_field *find(as_fields *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->items[i].name, name) == 0) {
            return &f->items[i];
        }
    }
    return NULL;
}

int as_fields_set(as_fields *f, const char *name, const char *value, as_error *e)
{
    int code = as_field_check(name, value, e);
    if (code != AS_OK) {
        return code;
    }
    as_field *field = find(f, name);
    if (!field && f->count == AS_MOST_FIELDS) {
        return as_fail(e, AS_LIMIT, 0, "field \"%s\" is one too many: there can be %d", name,
                       AS_MOST_FIELDS);
    }
    char *copy = strdup(value);
    if (!copy) {
        return as_fail_nomem(e);
    }
    if (!field) {
        char *key = strdup(name);
        if (!key) {
            free(copy);
            return as_fail_nomem(e);
        }
        field = &f->items[f->count++];
        *field = (as_field){.name = key};
    }
    free(field->value);
    field->value = copy;
    return AS_OK;
}

const char *as_fields_get(const as_fields *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->items[i].name, name) == 0) {
            return f->items[i].value;
        }
    }
    return NULL;
}

void as_fields_free(as_fields *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->items[i].name);
        free(f->items[i].value);
    }
    *f = AS_FIELDS_INIT;
}
