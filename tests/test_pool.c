/* SPDX-License-Identifier: Apache-2.0
 * Buffers carved from given memory, and checksums that are taken in pieces, and
 * when the caller's memory is as good as a buffer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/pool.h"
#include "transfer/buffers.h"
#include "base/checksum.h"

#include <cmocka.h>

/* Each on a page, none over another, all inside of the memory. */
static void test_places(void **state)
{
    enum { LIMIT = 5, BYTES = AS_POOL_PAGE + 1 };
    (void)state;
    char *memory = NULL;
    as_error e = AS_ERROR_INIT;
    as_pool p;
    char *taken[LIMIT];
    size_t step = as_pool_step(BYTES);
    assert_int_equal(step, 2 * AS_POOL_PAGE);
    assert_int_equal(as_pool_step(1), AS_POOL_PAGE);
    assert_int_equal(as_pool_step(AS_POOL_PAGE), AS_POOL_PAGE);
    assert_int_equal(posix_memalign((void **)&memory, AS_POOL_PAGE, LIMIT * step), 0);
    assert_int_equal(as_pool_init(&p, memory, BYTES, LIMIT, &e), AS_OK);
    for (int i = 0; i < LIMIT; i++) {
        taken[i] = as_pool_take(&p);
        assert_ptr_equal(taken[i], memory + (size_t)i * step);
        memset(taken[i], i, BYTES);
    }
    assert_null(as_pool_take(&p));
    for (int i = 0; i < LIMIT; i++) {
        assert_int_equal(taken[i][0], i);
        assert_int_equal(taken[i][BYTES - 1], i);
    }
    as_pool_free(&p);
    assert_null(as_pool_take(&p));
    free(memory);
}

/* What was given back last comes first, so that few buffers are in use if few are needed. */
static void test_order(void **state)
{
    (void)state;
    char *memory = NULL;
    as_error e = AS_ERROR_INIT;
    as_pool p;
    assert_int_equal(posix_memalign((void **)&memory, AS_POOL_PAGE, 3 * (size_t)AS_POOL_PAGE), 0);
    assert_int_equal(as_pool_init(&p, memory, 64, 3, &e), AS_OK);
    char *a = as_pool_take(&p);
    char *b = as_pool_take(&p);
    as_pool_give(&p, a);
    as_pool_give(&p, NULL);
    assert_ptr_equal(as_pool_take(&p), a);
    as_pool_give(&p, a);
    as_pool_give(&p, b);
    assert_ptr_equal(as_pool_take(&p), b);
    as_pool_free(&p);
    free(memory);
}

static void test_sums(void **state)
{
    enum { BYTES = 100003 };
    static const size_t steps[] = {1, 63, 64, 1000, 99999, BYTES};
    (void)state;
    static unsigned char bytes[BYTES];
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * 2654435761U >> 13);
    }
    as_checksum_stream *s = NULL;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_checksum_open(&s, &e), AS_OK);
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
        as_checksum_begin(s);
        for (size_t at = 0; at < BYTES; at += steps[k]) {
            as_checksum_add(s, bytes + at, BYTES - at < steps[k] ? BYTES - at : steps[k]);
        }
        assert_true(as_checksum_end(s) == as_checksum(bytes, BYTES));
    }
    as_checksum_close(s);
    as_checksum_close(NULL);
    /* The published value of XXH3's 64 bits for no bytes at all. */
    assert_true(as_checksum(NULL, 0) == UINT64_C(0x2d06800538d394c2));
}

/* Memory that an engine with O_DIRECT would have to copy is not written from, nor read into. */
static void test_congruent(void **state)
{
    (void)state;
    char *page = (char *)(uintptr_t)(1 << 20);
    as_transfer t = {.engine_options = {.direct = true}};
    assert_true(as_transfer_congruent(&t, page, 0));
    assert_true(as_transfer_congruent(&t, page + 72, 3 * 4096 + 72));
    assert_false(as_transfer_congruent(&t, page + 72, 0));
    assert_false(as_transfer_congruent(&t, page, 512));
    t.engine_options.memory_align = 512;
    assert_true(as_transfer_congruent(&t, page, 512));
    assert_false(as_transfer_congruent(&t, page, 8));
    t.engine_options.direct = false;
    assert_true(as_transfer_congruent(&t, page, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_congruent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
