/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/filled.h"

#include <stdlib.h>
#include <string.h>

static int point_to_names(const as_buffer *names, as_buffer *out, as_error *e)
{
    int code = AS_OK;
    for (size_t at = 0; at < names->size && code == AS_OK; at += strlen(names->data + at) + 1) {
        const char *name = names->data + at;
        code = as_buffer_append(out, &name, sizeof name, e);
    }
    return code;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_among(const as_buffer *pointers, const char *name)
{
    return pointers->size && bsearch(&name, pointers->data, pointers->size / sizeof(char *),
                                     sizeof(char *), compare_names);
}

int as_filled_check(const as_state *s, const int64_t *filled, const as_buffer *missing, as_error *e)
{
    as_buffer names = AS_BUFFER_INIT;
    int code = point_to_names(missing, &names, e);
    for (size_t i = 0; i < as_state_count(s) && code == AS_OK; i++) {
        as_box box = as_state_box(s, i);
        as_geometry g;
        code = as_geometry_file(&box, &g, e);
        int64_t wanted = code == AS_OK ? as_geometry_bytes(&g) : 0;
        const char *name = as_state_name(s, i);
        if (code == AS_OK && filled[i] != wanted && (filled[i] || !is_among(&names, name))) {
            code = as_fail(e, AS_INTERNAL, 0,
                           "tensor \"%s\": %lld of the %lld bytes of piece %zu came in from the "
                           "checkpoint",
                           name, (long long)filled[i], (long long)wanted, i);
        }
    }
    as_buffer_free(&names);
    return code;
}
