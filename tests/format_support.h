/* SPDX-License-Identifier: Apache-2.0
 * What the tests of the format room share: test data, temporary folders, a log that counts.
 */
#ifndef ALLSHARD_TESTS_FORMAT_SUPPORT_H
#define ALLSHARD_TESTS_FORMAT_SUPPORT_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"

/* Checks the code and shows the error's text if it is another one. */
#define ASSERT_CODE(expected, call, e)                                                             \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        if (code_ != (expected) || (e)->code != (expected)) {                                      \
            fail_msg("%s: %s", as_code_name(code_), as_error_text(e));                             \
            abort(); /* not reached, as fail_msg jumps; tells analyzers so */                      \
        }                                                                                          \
    } while (0)

/* The same, and the text must hold `part`. */
#define ASSERT_FAILS(expected, part, call)                                                         \
    do {                                                                                           \
        as_error e_ = AS_ERROR_INIT;                                                               \
        ASSERT_CODE(expected, call, &e_);                                                          \
        if (!strstr(as_error_text(&e_), part)) {                                                   \
            fail_msg("\"%s\" is not in: %s", part, as_error_text(&e_));                            \
        }                                                                                          \
        as_error_clear(&e_);                                                                       \
    } while (0)

/* The path of a file in tests/data/, in a buffer that the next call overwrites. */
static inline const char *data_path(const char *name)
{
    static char path[4096];
    const char *folder = getenv("ALLSHARD_TEST_DATA");
    (void)snprintf(path, sizeof path, "%s/%s", folder ? folder : "tests/data", name);
    return path;
}

/* A file's bytes, NUL behind them; b is freed by the caller. */
static inline void slurp(const char *path, as_buffer *b)
{
    *b = AS_BUFFER_INIT;
    FILE *f = fopen(path, "rb");
    if (!f) {
        fail_msg("cannot open %s", path);
        return;
    }
    char piece[4096];
    size_t count;
    while ((count = fread(piece, 1, sizeof piece, f)) > 0) {
        assert_int_equal(as_buffer_append(b, piece, count, NULL), AS_OK);
    }
    (void)fclose(f);
    assert_non_null(as_buffer_string(b));
}

/* A fresh folder; `path` has room for 64 bytes. */
static inline void make_folder(char *path)
{
    const char *root = getenv("TMPDIR");
    (void)snprintf(path, 64, "%.40s/allshard-XXXXXX", root && strlen(root) <= 40 ? root : "/tmp");
    assert_non_null(mkdtemp(path));
}

/* Writes folder/name. */
static inline void put_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static inline void drop_file(const char *folder, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(remove(path), 0);
}

/* A log that counts warnings and keeps the last text. */
typedef struct warnings {
    int count;
    char last[1024];
} warnings;

static inline void count_warning(int level, const char *text, void *user)
{
    warnings *w = user;
    w->count += level == AS_LOG_WARNING;
    (void)snprintf(w->last, sizeof w->last, "%s", text);
}

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

#endif
