/* SPDX-License-Identifier: Apache-2.0
 * Copies past the caches: every size and alignment around the steps that they are made in, with
 * nothing written before or behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/copy_away.h"

enum { MOST = 200000, EDGE = 256 };

static void check(char *to, const char *from, size_t shift, size_t skew, size_t bytes)
{
    memset(to, 0x5a, MOST + 2 * (size_t)EDGE);
    char *at = to + EDGE / 2 + shift;
    as_copy_away(at, from + skew, bytes);
    assert_memory_equal(at, from + skew, bytes);
    for (size_t i = 1; i <= EDGE / 2; i++) {
        assert_int_equal(at[-(ptrdiff_t)i], 0x5a);
        assert_int_equal(at[bytes + i - 1], 0x5a);
    }
}

static void copies_are_whole(void **state)
{
    (void)state;
    char *from = malloc(MOST + EDGE);
    char *to = malloc(MOST + 2 * (size_t)EDGE);
    assert_true(from && to);
    for (size_t i = 0; i < MOST + EDGE; i++) {
        from[i] = (char)(i * 2654435761u >> 13);
    }
    static const size_t sizes[] = {0, 1, 63, 64, 4096, 16384, 65535, 65536, 65537, 81920, 131071};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t shift = 0; shift < 128; shift += 1 + shift / 8) {
            check(to, from, shift, (shift * 7 + s) % EDGE, sizes[s]);
        }
    }
    for (size_t bytes = 65000; bytes < MOST - 128; bytes += 1237) {
        check(to, from, bytes % 128, bytes % 61, bytes);
    }
    free(from);
    free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_are_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
