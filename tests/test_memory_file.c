/* SPDX-License-Identifier: Apache-2.0
 * Memory files: who may open one, and what is not taken for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/resource.h>
#include <unistd.h>

#include "io/memory_file.h"

#include <cmocka.h>

enum { MIB = 1 << 20 };

/* A file of that number with another name is not the one that was meant. */
static void test_other_file(void **state)
{
    (void)state;
    as_memory_file f;
    as_memory_file_make(&f, 3 * MIB);
    assert_true(f.fd >= 0 && as_memory_file_open(&f) < 0); /* it could be made smaller */
    assert_true(as_memory_file_fill(&f));
    int fd = as_memory_file_open(&f);
    assert_true(fd >= 0 && ftruncate(fd, MIB) != 0 && close(fd) == 0);
    as_memory_file wrong[] = {f, f, f, f, f};
    wrong[0].token[0]++;
    wrong[1].token[1]--;
    wrong[2].bytes++;
    wrong[3].pid = 1 << 30;
    wrong[4].fd = -1;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_true(as_memory_file_open(&wrong[i]) < 0);
    }
    as_memory_file_close(&f);
    assert_int_equal(f.fd, -1);
}

/* A limit on the size of files holds for these, too: none is made, and no signal ends the program. */
static void test_limit(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    struct rlimit low = {.rlim_cur = MIB, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    as_memory_file f;
    as_memory_file_make(&f, MIB + 1);
    assert_int_equal(f.fd, -1);
    as_memory_file_close(&f);
    as_memory_file_make(&f, MIB);
    assert_true(f.fd >= 0 && as_memory_file_fill(&f));
    as_memory_file_close(&f);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_file),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
