/* SPDX-License-Identifier: Apache-2.0
 * The index as Python's json.dump(index, f, indent=2) writes it: no newline at the
 * end, an empty object as {}.
 */
#include <string.h>

#include "base/json_write.h"
#include "base/quote.h"
#include "format/index.h"

static const char total_size_key[] = "total_size";

static int append_text(as_buffer *b, const char *text, as_error *e)
{
    return as_buffer_append(b, text, strlen(text), e);
}

static int write_pair(as_buffer *b, const as_pair *pair, as_error *e)
{
    int code = as_json_write_python(b, pair->key, pair->key_length, e);
    code = code == AS_OK ? append_text(b, ": ", e) : code;
    code = code == AS_OK ? as_json_write_python(b, pair->value, pair->value_length, e) : code;
    if (code == AS_INVALID && e) {
        as_error_prefix(e, "metadata");
    }
    return code;
}

int as_index_write_begin(as_buffer *b, int64_t total_size, const as_pairs *pairs, as_error *e)
{
    const as_pair *own =
        pairs ? as_pairs_find(pairs, total_size_key, strlen(total_size_key)) : NULL;
    int code = append_text(b, "{\n  \"metadata\": {\n    ", e);
    if (code == AS_OK && own) {
        code = write_pair(b, own, e);
    } else if (code == AS_OK) {
        code = as_buffer_format(b, e, "\"%s\": %lld", total_size_key, (long long)total_size);
    }
    for (size_t i = 0; code == AS_OK && pairs && i < pairs->count; i++) {
        if (&pairs->items[i] != own) {
            code = append_text(b, ",\n    ", e);
            code = code == AS_OK ? write_pair(b, &pairs->items[i], e) : code;
        }
    }
    return code == AS_OK ? append_text(b, "\n  },\n  \"weight_map\": {", e) : code;
}

int as_index_write_line(as_buffer *b, bool first, const char *name, size_t name_length,
                        const char *file, as_error *e)
{
    int code = append_text(b, first ? "\n    " : ",\n    ", e);
    code = code == AS_OK ? as_json_write_python(b, name, name_length, e) : code;
    code = code == AS_OK ? append_text(b, ": ", e) : code;
    return code == AS_OK ? as_json_write_python(b, file, strlen(file), e) : code;
}

int as_index_write_end(as_buffer *b, bool empty, as_error *e)
{
    return append_text(b, empty ? "}\n}" : "\n  }\n}", e);
}
