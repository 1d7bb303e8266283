/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes what reads sizes and numbers that people write.
 */
#include "base/size.h"
#include "cli/args.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    as_error e = AS_ERROR_INIT;
    int64_t bytes = -7;
    int code = as_size_parse(text, &bytes, &e);
    MUST(code == AS_OK || code == AS_SIZE);
    fuzz_end(code, &e);
    if (code == AS_OK) {
        /* A bare number is bytes. */
        char again[32];
        int64_t same = 0;
        (void)snprintf(again, sizeof again, "%lld", (long long)bytes);
        MUST(as_size_parse(again, &same, &e) == AS_OK && same == bytes);
    }
    code = as_args_memory(text, "--memory", &bytes, &e);
    MUST(code == AS_INVALID || (code == AS_OK && bytes >= 0));
    fuzz_end(code, &e);
    code = as_args_number(text, "--ranks", 1, INT32_MAX, &bytes, &e);
    MUST(code == AS_INVALID || (code == AS_OK && bytes >= 1 && bytes <= INT32_MAX));
    fuzz_end(code, &e);
    int mode = 0;
    code = as_args_mode(text, &mode, &e);
    MUST(code == AS_INVALID || (code == AS_OK && mode >= 1 && mode <= 0777));
    fuzz_end(code, &e);
    free(text);
    return 0;
}
