/* SPDX-License-Identifier: Apache-2.0
 * What the fuzz harnesses share. Each fuzz_NAME.c defines LLVMFuzzerTestOneInput for one parser;
 * with clang it is linked to libFuzzer, everywhere else to replay.c, which runs the files of the
 * folder NAME/ through it.
 */
#ifndef ALLSHARD_TESTS_FUZZ_H
#define ALLSHARD_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"

/* The name is libFuzzer's. */
/* NOLINTNEXTLINE(readability-identifier-naming) */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that holds whatever the input is. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Ends a step that may fail: the record and the code say the same, and the text is fit to be
 * shown: one line of UTF-8 without control characters or endless length. */
static inline void fuzz_end(int code, as_error *e)
{
    MUST(code == e->code);
    MUST(code <= 0);
    if (code != AS_OK) {
        const char *text = as_error_text(e);
        size_t length = strlen(text);
        MUST(length > 0 && length < 4096);
        MUST(as_utf8_valid(text, length));
        for (size_t i = 0; i < length; i++) {
            MUST((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
        }
    }
    as_error_clear(e);
}

/* The input as a string; the caller frees. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    MUST(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    return text;
}

#endif
