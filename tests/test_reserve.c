/* SPDX-License-Identifier: Apache-2.0
 * Memory that is had once: its pages are there at once, by however many threads; it grows without
 * being had twice; and what the system refuses leaves nothing behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "io/reserve.h"

#include <cmocka.h>

enum {
    MIB = 1 << 20,
    HUGE = 2 * MIB,
    ODD = 70 * MIB + 12345,
    ADVICE_POPULATE_WRITE = 23,
    ADVICE_COLLAPSE = 25
};

static as_sys good;

static int keep_table(void **state)
{
    (void)state;
    good = as_sys_table;
    return 0;
}

static int restore_table(void **state)
{
    (void)state;
    as_sys_table = good;
    return 0;
}

static size_t page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t paged(size_t bytes)
{
    return (bytes + page() - 1) / page() * page();
}

/* Pages of the range that are in memory; -1: not all of it is mapped. */
static long resident(char *at, size_t bytes)
{
    size_t pages = bytes / page();
    unsigned char *in = calloc(pages + 1, 1);
    assert_non_null(in);
    long count = 0;
    if (mincore(at, bytes, in) != 0) {
        assert_int_equal(errno, ENOMEM);
        count = -1;
    }
    for (size_t i = 0; count >= 0 && i < pages; i++) {
        count += in[i] & 1;
    }
    free(in);
    return count;
}

/* A reserve of that size: every page is there, zero, and can be written to. */
static void check_new(as_reserve *r, size_t bytes)
{
    assert_int_equal(r->bytes, paged(bytes));
    assert_int_equal((uintptr_t)r->base % (r->bytes >= HUGE ? HUGE : page()), 0);
    assert_int_equal(resident(r->base, r->bytes), r->bytes / page());
    for (size_t i = 0; i < r->bytes; i += page() / 2) {
        assert_int_equal(r->base[i], 0);
    }
    memset(r->base, 0x5a, r->bytes);
}

static const size_t sizes[] = {1,       4095,          4096,           4097,
                               MIB,     HUGE - 1,      HUGE,           HUGE + 1,
                               5 * MIB, 32 * MIB - 64, 32 * MIB + 100, 71 * MIB + 12345};
enum { SIZES = (int)(sizeof sizes / sizeof *sizes) };

static void test_sizes(void **state)
{
    static const int threads[] = {-1, 3, 1000};
    (void)state;
    as_error e = AS_ERROR_INIT;
    for (int i = 0; i < SIZES; i++) {
        for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
            as_reserve r = {0};
            size_t touched = 99;
            assert_int_equal(as_reserve_fit(&r, sizes[i], threads[k], &touched, &e), AS_OK);
            assert_int_equal(touched, r.bytes);
            check_new(&r, sizes[i]);
            char *was = r.base;
            size_t bytes = r.bytes;
            as_reserve_free(&r);
            assert_null(r.base);
            assert_int_equal(r.bytes, 0);
            assert_int_equal(resident(was, bytes), -1);
        }
    }
    as_reserve none = {0};
    assert_int_equal(as_reserve_fit(&none, 0, 4, NULL, &e), AS_OK);
    assert_null(none.base);
    as_reserve_free(&none);
    as_reserve_free(&none);
}

/* What is large enough stays, with what is in it. */
static void test_kept(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_reserve r = {0};
    size_t touched = 0;
    assert_int_equal(as_reserve_fit(&r, 9 * MIB, 2, &touched, &e), AS_OK);
    char *was = r.base;
    r.base[9 * MIB - 1] = 42;
    for (size_t bytes = 9 * MIB; bytes > 0; bytes /= 3) {
        touched = 1;
        assert_int_equal(as_reserve_fit(&r, bytes, 2, &touched, &e), AS_OK);
        assert_int_equal(touched, 0);
        assert_ptr_equal(r.base, was);
        assert_int_equal(r.bytes, 9 * MIB);
        assert_int_equal(r.base[9 * MIB - 1], 42);
    }
    assert_int_equal(as_reserve_fit(&r, 9 * MIB + 1, 2, &touched, &e), AS_OK);
    assert_int_equal(touched, 9 * MIB + page());
    check_new(&r, 9 * MIB + 1);
    as_reserve_free(&r);
}

/* ---- threads ---- */

static int made;
static int make_most;

static int make_some(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *user)
{
    if (made >= make_most) {
        return EAGAIN;
    }
    made++;
    return good.pthread_create(out, how, run, user);
}

/* As many as are asked for, no more than there is work for, and without those that cannot be made. */
static void test_threads(void **state)
{
    static const struct {
        size_t bytes;
        int threads;
        int most;
        int made; /* beside the calling one */
    } cases[] = {
        {100 * MIB, 1, 99, 0}, {100 * MIB, 3, 99, 2}, {100 * MIB, 99, 99, 3}, {100 * MIB, 4, 0, 0},
        {100 * MIB, 4, 1, 1},  {32 * MIB, 8, 99, 0},  {33 * MIB, 8, 99, 1},   {1, 64, 99, 0},
    };
    (void)state;
    as_sys_table.pthread_create = make_some;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        as_error e = AS_ERROR_INIT;
        as_reserve r = {0};
        made = 0;
        make_most = cases[i].most;
        assert_int_equal(as_reserve_fit(&r, cases[i].bytes, cases[i].threads, NULL, &e), AS_OK);
        assert_int_equal(made, cases[i].made);
        check_new(&r, cases[i].bytes);
        as_reserve_free(&r);
    }
}

/* ---- what the system refuses ---- */

static size_t address_space(void)
{
    char line[100] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    assert_int_equal(fclose(file), 0);
    return strtoull(line, NULL, 10) * page();
}

static void test_too_large(void **state)
{
    static const size_t bytes[] = {SIZE_MAX,        SIZE_MAX - 4094, SIZE_MAX - 4095,
                                   SIZE_MAX - HUGE, SIZE_MAX / 2,    SIZE_MAX / 4};
    (void)state;
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        as_error e = AS_ERROR_INIT;
        as_reserve r = {0};
        size_t touched = 7;
        assert_int_equal(as_reserve_fit(&r, 100, 1, NULL, &e), AS_OK);
        assert_int_equal(as_reserve_fit(&r, bytes[i], 4, &touched, &e), AS_NOMEM);
        assert_int_equal(touched, 0);
        assert_null(r.base);
        assert_int_equal(r.bytes, 0);
        char number[64];
        (void)snprintf(number, sizeof number, "cannot have %zu bytes of memory", bytes[i]);
        assert_non_null(strstr(as_error_text(&e), number));
        assert_non_null(strstr(as_error_text(&e), "Cannot allocate memory"));
        as_error_clear(&e);
    }
}

/* Within a limit of address space: what fits is had, though it is not aligned where there is no
 * room for that; it grows where old and new together would not fit; a refusal leaves nothing. */
static void test_limit(void **state)
{
    enum { SPARE = 128 * MIB };
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_reserve r = {0};
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit tight = before;
    tight.rlim_cur = address_space() + SPARE;
    if (tight.rlim_cur > before.rlim_max || setrlimit(RLIMIT_AS, &tight) != 0) {
        skip();
    }
    /* One thread: another's stack would need address space too. */
    int first = as_reserve_fit(&r, SPARE / 2, 1, NULL, &e);
    int grown = as_reserve_fit(&r, SPARE / 4 * 3, 1, NULL, &e);
    size_t bytes = r.bytes;
    int most = as_reserve_fit(&r, SPARE - MIB, 1, NULL, &e);
    as_error refused = AS_ERROR_INIT;
    int over = as_reserve_fit(&r, SPARE + MIB, 1, NULL, &refused);
    char *none = r.base;
    int again = as_reserve_fit(&r, SPARE / 2, 1, NULL, &e);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(first, AS_OK);
    assert_int_equal(grown, AS_OK);
    assert_int_equal(bytes, SPARE / 4 * 3);
    assert_int_equal(most, AS_OK);
    assert_int_equal(over, AS_NOMEM);
    assert_null(none);
    assert_int_equal(again, AS_OK);
    check_new(&r, SPARE / 2);
    as_reserve_free(&r);
    as_error_clear(&refused);
}

/* ---- kernels without MADV_POPULATE_WRITE, and ones that run out of memory meanwhile ---- */

typedef struct refusal {
    int advice;
    int sys_errno; /* for every such call */
    bool shared;
    bool works;
    int code;
    as_reserve reserve;
    as_error error;
} refusal;

static void *refuse(void *user)
{
    refusal *x = user;
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)x->advice, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)x->sys_errno),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof steps / sizeof *steps, .filter = steps};
    /* Of this thread alone, and of those that it makes. */
    x->works = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
               madvise(NULL, 0, x->advice) != 0 && errno == x->sys_errno;
    x->code = x->shared ? as_reserve_fit_shared(&x->reserve, ODD, 3, NULL, &x->error)
                        : as_reserve_fit(&x->reserve, ODD, 3, NULL, &x->error);
    return NULL;
}

static void refuse_with(refusal *x, int advice, int sys_errno, bool shared)
{
    pthread_t thread;
    *x = (refusal){
        .advice = advice, .sys_errno = sys_errno, .shared = shared, .error = AS_ERROR_INIT};
    assert_int_equal(pthread_create(&thread, NULL, refuse, x), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_old_kernel(void **state)
{
    (void)state;
    refusal x;
    refuse_with(&x, ADVICE_POPULATE_WRITE, EINVAL, false);
    assert_int_equal(x.code, AS_OK);
    check_new(&x.reserve, ODD);
    as_reserve_free(&x.reserve);
    if (!x.works) {
        skip();
    }
}

static void test_no_pages(void **state)
{
    static const int numbers[] = {ENOMEM, EFAULT};
    (void)state;
    for (int i = 0; i < 2; i++) {
        size_t before = address_space();
        refusal x;
        refuse_with(&x, ADVICE_POPULATE_WRITE, numbers[i], i > 0);
        if (!x.works) {
            as_reserve_free(&x.reserve);
            skip();
        }
        assert_int_equal(x.code, AS_NOMEM);
        assert_null(x.reserve.base);
        assert_int_equal(x.error.sys_errno, numbers[i]);
        as_error_clear(&x.error);
        assert_true(address_space() < before + 70 * MIB);
    }
}

/* ---- memory that others can map ---- */

/* As another process would; NULL: it cannot. */
static char *map_again(const as_reserve *r)
{
    int fd = r->shared ? as_memory_file_open(&r->file) : -1;
    void *map =
        fd < 0 ? MAP_FAILED : mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(fd < 0 || close(fd) == 0);
    return map == MAP_FAILED ? NULL : map;
}

static bool has_shared(void)
{
    as_error e = AS_ERROR_INIT;
    as_reserve r = {0};
    assert_int_equal(as_reserve_fit_shared(&r, HUGE, 1, NULL, &e), AS_OK);
    bool shared = r.shared;
    as_reserve_free(&r);
    return shared;
}

/* All its pages are there; what is written on one side is there on the other; and it is the
 * system's again when it is freed, though somebody has it mapped still. */
static void test_shared(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    if (!has_shared()) {
        skip();
    }
    for (int i = 0; i < SIZES; i++) {
        as_reserve r = {0};
        size_t touched = 99;
        assert_int_equal(as_reserve_fit_shared(&r, sizes[i], 1 + i % 3, &touched, &e), AS_OK);
        assert_true(r.shared);
        assert_int_equal(touched, r.bytes);
        check_new(&r, sizes[i]);
        size_t bytes = r.bytes;
        char *was = r.base;
        char *other = map_again(&r);
        assert_non_null(other);
        assert_memory_equal(other, r.base, bytes);
        other[bytes - 1] = 42;
        assert_int_equal(r.base[bytes - 1], 42);
        assert_int_equal(as_reserve_fit_shared(&r, sizes[i] / 2, 2, &touched, &e), AS_OK);
        assert_int_equal(touched, 0);
        as_reserve_free(&r);
        assert_false(r.shared);
        assert_int_equal(resident(was, bytes), -1);
        assert_int_equal(resident(other, bytes), 0);
        assert_int_equal(other[bytes - 1], 0);
        assert_int_equal(munmap(other, bytes), 0);
    }
}

/* Without huge pages, or without such files, it is memory of this process alone. */
static void test_not_shared(void **state)
{
    (void)state;
    refusal x;
    refuse_with(&x, ADVICE_COLLAPSE, EINVAL, true);
    assert_int_equal(x.code, AS_OK);
    assert_true(!x.works || !x.reserve.shared);
    check_new(&x.reserve, ODD);
    as_reserve_free(&x.reserve);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    struct rlimit low = {.rlim_cur = MIB, .rlim_max = limit.rlim_max};
    as_error e = AS_ERROR_INIT;
    as_reserve r = {0};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    assert_int_equal(as_reserve_fit_shared(&r, ODD, 2, NULL, &e), AS_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_false(r.shared);
    check_new(&r, ODD);
    as_reserve_free(&r);
}

/* ---- forks, and many rounds ---- */

static int shared_kind;

/* A child has no share in it, and works without; the parent's is as it was. */
static void test_fork(void **state)
{
    as_error e = AS_ERROR_INIT;
    as_reserve r = {0};
    assert_int_equal(*state ? as_reserve_fit_shared(&r, 3 * MIB, 2, NULL, &e)
                            : as_reserve_fit(&r, 3 * MIB, 2, NULL, &e),
                     AS_OK);
    check_new(&r, 3 * MIB);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        unsigned char in[1];
        _exit(mincore(r.base, page(), in) != 0 && errno == ENOMEM ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < r.bytes; i++) {
        assert_int_equal(r.base[i], 0x5a);
    }
    as_reserve_free(&r);
}

/* Lines of /proc/self/maps: neither heads nor tails of the alignment are left. */
static int mappings(void)
{
    int lines = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    assert_non_null(file);
    for (int c; (c = fgetc(file)) != EOF;) {
        lines += c == '\n';
    }
    assert_int_equal(fclose(file), 0);
    return lines;
}

static void test_flat(void **state)
{
    enum { ROUNDS = 40 };
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_reserve r = {0};
    size_t space = 0;
    int lines = 0;
    for (int i = 0; i < ROUNDS; i++) {
        if (i == ROUNDS / 2) { /* the sanitizers and the thread library have had theirs */
            space = address_space();
            lines = mappings();
        }
        for (int k = 0; k < 4; k++) {
            size_t bytes = (size_t)(k + 1) * MIB * 3 / 2 + (size_t)(i % 7) * 4096;
            assert_int_equal(i % 2 ? as_reserve_fit_shared(&r, bytes, 2, NULL, &e)
                                   : as_reserve_fit(&r, bytes, 2, NULL, &e),
                             AS_OK);
        }
        as_reserve_free(&r);
    }
    assert_true(address_space() <= space + MIB);
    assert_true(mappings() <= lines + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_kept),
        cmocka_unit_test_setup_teardown(test_threads, keep_table, restore_table),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_old_kernel),
        cmocka_unit_test(test_no_pages),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_not_shared),
        cmocka_unit_test(test_fork),
        cmocka_unit_test_prestate(test_fork, &shared_kind),
        cmocka_unit_test(test_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
