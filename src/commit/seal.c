/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/seal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char key[] = "checksum";

enum { DIGITS = 16 };

/* The checksum of the object, which must not hold one itself. */
static int digest(const json_t *object, char text[DIGITS + 1], as_error *e)
{
    char *compact = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    if (!compact) {
        return as_fail_nomem(e);
    }
    (void)snprintf(text, DIGITS + 1, "%016" PRIx64,
                   (uint64_t)XXH3_64bits(compact, strlen(compact)));
    free(compact);
    return AS_OK;
}

int as_seal(json_t *object, as_buffer *out, as_error *e)
{
    (void)json_object_del(object, key);
    char text[DIGITS + 1];
    int code = digest(object, text, e);
    if (code != AS_OK) {
        return code;
    }
    if (json_object_set_new(object, key, json_string(text)) < 0) {
        return as_fail_nomem(e);
    }
    char *pretty = json_dumps(object, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    if (!pretty) {
        return as_fail_nomem(e);
    }
    code = as_buffer_append(out, pretty, strlen(pretty), e);
    if (code == AS_OK) {
        code = as_buffer_char(out, '\n', e);
    }
    free(pretty);
    return code;
}

int as_unseal(const char *bytes, size_t count, const char *what, json_t **out, as_error *e)
{
    *out = NULL;
    json_error_t fault;
    json_t *object = json_loadb(bytes ? bytes : "", count, JSON_REJECT_DUPLICATES, &fault);
    if (!object) {
        return as_fail(e, AS_FORMAT, 0, "%s: not JSON: line %d: %s", what, fault.line, fault.text);
    }
    char expected[DIGITS + 1] = "";
    const char *told = json_string_value(json_object_get(object, key));
    char kept[DIGITS + 1] = "";
    if (told && strlen(told) == DIGITS) {
        memcpy(kept, told, sizeof kept);
    }
    (void)json_object_del(object, key);
    int code = digest(object, expected, e);
    if (code == AS_OK && strcmp(kept, expected) != 0) {
        code = as_fail(e, AS_FORMAT, 0, "%s: its checksum is %s: the file is damaged or was edited",
                       what, kept[0] ? "wrong" : "missing");
    }
    if (code != AS_OK) {
        json_decref(object);
        return code;
    }
    *out = object;
    return AS_OK;
}
