/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/clean.h"

#include "format/pattern.h"

int as_clean_list(const char *pattern, const as_names *listing, as_names *outgoing, as_error *e)
{
    for (size_t i = 0; i < listing->count; i++) {
        int kind;
        uint64_t shard;
        uint64_t count;
        int code = as_pattern_match(pattern, listing->items[i], &kind, &shard, &count, e);
        if (code == AS_OK && kind != AS_PATTERN_NONE) {
            code = as_names_add(outgoing, listing->items[i], e);
        }
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}
