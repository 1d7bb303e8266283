/* SPDX-License-Identifier: Apache-2.0
 * Where cuFile is looked for, what is said if it is not there, and what its codes are called. Since a
 * process looks once, each case is a run of this program by itself ("look").
 * simulated: cuda
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/cufile_library.h"

static char self[1024];
static char folder[1024]; /* of the simulated libraries */

/* ---- the run that looks ---- */

static int look(void)
{
    const char *reason;
    const as_cufile *c = as_cufile_library(&reason);
    const char *again;
    if (as_cufile_library(&again) != c || again != reason) {
        (void)puts("the second look differs");
        return 0;
    }
    if (!c) {
        (void)puts(reason);
        return 0;
    }
    bool all = c->driver_close != NULL;
#define LOOK_AT(member, result, symbol, parameters) all = all && c->member;
    AS_CUFILE_FUNCTIONS(LOOK_AT)
#undef LOOK_AT
    /* Nothing is called before somebody asks: without a driver the library says so. */
    as_cufile_error r = {.code = 0};
    if (c->driver_close) {
        r = c->driver_close();
    }
    (void)printf("found, %s, %d\n", all ? "all" : "not all", r.code);
    return 0;
}

/* What it says, with that environment. */
static void run(const char *library_path, const char *wish, char said[512])
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(ends[1], 1);
        (void)close(ends[0]);
        (void)(library_path ? setenv("LD_LIBRARY_PATH", library_path, 1)
                            : unsetenv("LD_LIBRARY_PATH"));
        (void)(wish ? setenv("ALLSHARD_CUFILE", wish, 1) : unsetenv("ALLSHARD_CUFILE"));
        (void)execl(self, self, "look", (char *)NULL);
        _exit(9);
    }
    (void)close(ends[1]);
    size_t size = 0;
    ssize_t n;
    while ((n = read(ends[0], said + size, 511 - size)) > 0) {
        size += (size_t)n;
    }
    said[size] = '\0';
    said[strcspn(said, "\n")] = '\0';
    (void)close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- tests ---- */

static void test_found(void **state)
{
    (void)state;
    char said[512];
    char path[1100];
    run(folder, NULL, said);
    assert_string_equal(said, "found, all, 5001");
    run(folder, "", said); /* as if it were not set */
    assert_string_equal(said, "found, all, 5001");
    (void)snprintf(path, sizeof path, "%s/libcufile.so.0", folder);
    run(NULL, path, said);
    assert_string_equal(said, "found, all, 5001");
}

/* Only the name that links take at build time is there. */
static void test_second_name(void **state)
{
    (void)state;
    char said[512];
    char from[1100];
    char scratch[200];
    char name[300];
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(scratch, sizeof scratch, "%s/cufile-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(scratch));
    (void)snprintf(from, sizeof from, "%s/libcufile.so.0", folder);
    (void)snprintf(name, sizeof name, "%s/libcufile.so", scratch);
    assert_int_equal(symlink(from, name), 0);
    run(scratch, NULL, said);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(rmdir(scratch), 0);
    assert_string_equal(said, "found, all, 5001");
}

static void test_not_found(void **state)
{
    (void)state;
    char said[512];
    run(folder, "off", said);
    assert_string_equal(said, "ALLSHARD_CUFILE is \"off\"");
    run(folder, "/nowhere/libcufile.so.0", said);
    assert_non_null(strstr(said, "cuFile cannot be loaded (/nowhere/libcufile.so.0: "));
    run(folder, "libcuda.so.1", said);
    assert_string_equal(said, "libcufile has no function cuFileDriverOpen");
    run("/nowhere", NULL, said);
    if (strcmp(said, "found, all, 5001") != 0) { /* a real one, in the system's folders */
        assert_non_null(strstr(said, "cuFile cannot be loaded (libcufile.so.0: "));
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(as_cufile_name(5001), "CU_FILE_DRIVER_NOT_INITIALIZED");
    assert_string_equal(as_cufile_name(5026), "CU_FILE_DRIVER_ALREADY_OPEN");
    assert_string_equal(as_cufile_name(5045), "CU_FILE_INTERNAL_BUF_REGISTER");
    assert_null(as_cufile_name(0));
    assert_null(as_cufile_name(5999));
    char text[AS_CUFILE_TEXT];
    as_cufile_error r = {.code = 5999};
    assert_string_equal(as_cufile_explain(text, NULL, "cuFileRead", r),
                        "cuFileRead: unknown code (5999)");
    r = (as_cufile_error){.code = AS_CUFILE_CUDA_DRIVER_ERROR, .cuda = 999};
    assert_string_equal(as_cufile_explain(text, NULL, "cuFileBufRegister", r),
                        "cuFileBufRegister: CU_FILE_CUDA_DRIVER_ERROR (5011; CUDA's code 999)");
}

static as_cufile_error cuda_error(int code)
{
    return (as_cufile_error){.code = AS_CUFILE_CUDA_DRIVER_ERROR, .cuda = code};
}

static void test_fail(void **state)
{
    (void)state;
    const char *reason;
    const as_cuda *cuda = as_cuda_library(AS_CUDA_ON, &reason);
    assert_non_null(cuda);
    struct {
        as_cufile_error result;
        int code;
        const char *text;
    } cases[] = {
        {{.code = AS_CUFILE_NVFS_DRIVER_ERROR},
         AS_CUDA,
         "cuFileBufRegister: CU_FILE_NVFS_DRIVER_ERROR (5010): 7 bytes"},
        {{.code = AS_CUFILE_NOMEM}, AS_NOMEM, "cuFileBufRegister: CU_FILE_NOMEM (5043): 7 bytes"},
        {cuda_error(AS_CU_OUT_OF_MEMORY), AS_NOMEM,
         "cuFileBufRegister: CU_FILE_CUDA_DRIVER_ERROR (5011; CUDA_ERROR_OUT_OF_MEMORY 2): 7 "
         "bytes"},
        {cuda_error(AS_CU_INVALID_CONTEXT), AS_CUDA,
         "cuFileBufRegister: CU_FILE_CUDA_DRIVER_ERROR (5011; CUDA_ERROR_INVALID_CONTEXT 201): 7 "
         "bytes"},
        {{.code = AS_CUFILE_IO_ERROR},
         AS_SYSTEM,
         "cuFileBufRegister: CU_FILE_IO_ERROR (5044): 7 bytes: Input/output error"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        as_error e = AS_ERROR_INIT;
        int code = as_cufile_fail(&e, cuda, "cuFileBufRegister", cases[i].result, "%d bytes", 7);
        assert_int_equal(code, cases[i].code);
        assert_string_equal(as_error_text(&e), cases[i].text);
        assert_int_equal(e.sys_errno, code == AS_SYSTEM ? EIO : 0);
        as_error_clear(&e);
    }
}

/* Nothing of this program but "look" and the tests above loads it. */
static void test_not_loaded(void **state)
{
    (void)state;
    assert_null(dlopen("libcufile.so.0", RTLD_NOW | RTLD_NOLOAD));
}

static void find_folder(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    Dl_info info;
    if (!library || !dladdr(dlsym(library, "cuInit"), &info)) {
        (void)fprintf(stderr, "no simulated libcuda.so.1: %s\n", dlerror());
        exit(1);
    }
    (void)snprintf(folder, sizeof folder, "%s", info.dli_fname);
    *strrchr(folder, '/') = '\0';
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "look") == 0) {
        return look();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_loaded),  cmocka_unit_test(test_found),
        cmocka_unit_test(test_second_name), cmocka_unit_test(test_not_found),
        cmocka_unit_test(test_names),       cmocka_unit_test(test_fail),
        cmocka_unit_test(test_not_loaded),
    };
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) {
        return 1;
    }
    find_folder();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
