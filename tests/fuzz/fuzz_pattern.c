/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes file name patterns. The input is a pattern, a line end, and a name to match with it; what
 * a good pattern makes lies in the folder, and is recognised.
 */
#include "commit/names.h"
#include "format/pattern.h"
#include "fuzz.h"

static void check_name(const char *pattern, char *name, int kind, uint64_t shard, uint64_t count)
{
    as_error e = AS_ERROR_INIT;
    int found;
    uint64_t i = 0;
    uint64_t n = 0;
    MUST(as_name_is_plain(name));
    MUST(as_pattern_match(pattern, name, &found, &i, &n, &e) == AS_OK);
    MUST(found == kind && (kind != AS_PATTERN_SHARD || (i == shard && n == count)));
    free(name);
}

static void use_pattern(const char *pattern, const char *name)
{
    as_error e = AS_ERROR_INIT;
    char *made = NULL;
    MUST(as_pattern_name(pattern, 1, 1, &made, &e) == AS_OK);
    check_name(pattern, made, AS_PATTERN_SINGLE, 0, 0);
    MUST(as_pattern_index_name(pattern, &made, &e) == AS_OK);
    check_name(pattern, made, AS_PATTERN_INDEX, 0, 0);
    MUST(as_pattern_name(pattern, 3, 12345, &made, &e) == AS_OK);
    check_name(pattern, made, AS_PATTERN_SHARD, 3, 12345);
    int kind;
    uint64_t shard;
    uint64_t count;
    int code = as_pattern_match(pattern, name, &kind, &shard, &count, &e);
    MUST(code == AS_OK);
    if (kind == AS_PATTERN_SHARD && shard >= 1 && shard <= count && count > 1) {
        MUST(as_pattern_name(pattern, shard, count, &made, &e) == AS_OK);
        MUST(strcmp(made, name) == 0);
        free(made);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    char *end = strchr(text, '\n');
    const char *name = end ? end + 1 : "model-00001-of-00002.safetensors";
    if (end) {
        *end = '\0';
    }
    as_error e = AS_ERROR_INIT;
    int code = as_pattern_check(text, &e);
    MUST(code == AS_OK || code == AS_PATTERN);
    fuzz_end(code, &e);
    if (code == AS_OK) {
        use_pattern(text, name);
    } else {
        int kind;
        uint64_t shard;
        uint64_t count;
        char *made = NULL;
        code = as_pattern_match(text, name, &kind, &shard, &count, &e);
        fuzz_end(code, &e);
        code = as_pattern_name(text, 1, 1, &made, &e);
        fuzz_end(code, &e);
        free(made);
    }
    /* The text as the name of a part. */
    char *pattern = NULL;
    MUST(as_pattern_default(text, &pattern, &e) == AS_OK);
    code = as_pattern_check(pattern, &e);
    fuzz_end(code, &e);
    if (code == AS_OK) {
        use_pattern(pattern, name);
    }
    free(pattern);
    free(text);
    return 0;
}
