/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * How CUDA's driver is found: not before the program has it, or it is asked for; all functions or
 * none; why there is none; and errors that name call and code. The driver is the simulated one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cuda_library.h"
#include "support_simulated.h"

#include <cmocka.h>

enum { THREADS = 8, TURNS = 200, MOST_CODE = 1100 };

static bool is_loaded(void)
{
    return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD) != NULL;
}

/* ---- before the program has it; these come first ---- */

static void nothing_is_loaded_unasked(void **state)
{
    (void)state;
    const char *reason = NULL;
    assert_null(as_cuda_library(AS_CUDA_OFF, &reason));
    assert_non_null(strstr(reason, "off"));
    assert_null(as_cuda_library(AS_CUDA_AUTO, &reason));
    assert_non_null(strstr(reason, "the program has not loaded libcuda.so.1"));
    assert_false(is_loaded());
}

static void nothing_is_called_unasked(void **state)
{
    (void)state;
    const char *reason = "";
    assert_null(as_cuda_lacking());
    assert_true(is_loaded());
    assert_non_null(as_cuda_library(AS_CUDA_AUTO, &reason));
    assert_null(reason);
    assert_null(as_cuda_library(AS_CUDA_OFF, &reason));
    assert_int_equal(simulated()->calls(NULL), 0);
}

static void functions_are_those_of_the_driver(void **state)
{
    (void)state;
    const char *reason = "";
    const as_cuda *cuda = as_cuda_library(AS_CUDA_AUTO, &reason);
    const as_cuda *right = &simulated()->cuda;
    assert_non_null(cuda);
#define SAME(member, symbol, parameters) assert_true(cuda->member == right->member);
    AS_CUDA_FUNCTIONS(SAME)
#undef SAME
}

/* ---- cuInit ---- */

static void initialising_fails(void **state)
{
    (void)state;
    const sim_library *sim = simulated();
    int tried = 0;
    for (int code = 1; code < MOST_CODE; code++) {
        const char *reason = NULL;
        const char *name = NULL;
        char number[16];
        (void)snprintf(number, sizeof number, "%d", code);
        sim->inject("cuInit", 1, code);
        assert_null(as_cuda_library(AS_CUDA_ON, &reason));
        sim->reset();
        bool known = sim->cuda.error_name(code, &name) == AS_CU_SUCCESS;
        /* Texts are kept for good, but not without end. */
        if (code == AS_CU_STUB_LIBRARY) {
            assert_non_null(strstr(reason, "stub"));
        } else if (tried < 64) {
            assert_non_null(strstr(reason, known ? name : "error "));
            assert_non_null(strstr(reason, number));
            assert_non_null(strstr(reason, "cuInit: "));
            tried++;
        } else {
            assert_non_null(strstr(reason, "libcuda.so.1"));
        }
    }
    const char *reason = "";
    assert_non_null(as_cuda_library(AS_CUDA_ON, &reason));
    assert_null(reason);
    int64_t calls = sim->calls(NULL);
    assert_non_null(as_cuda_library(AS_CUDA_AUTO, &reason));
    assert_int_equal(sim->calls(NULL), calls);
}

static void *look(void *found)
{
    for (int i = 0; i < TURNS; i++) {
        const char *reason = NULL;
        const as_cuda *cuda = as_cuda_library(i % 2 ? AS_CUDA_AUTO : AS_CUDA_ON, &reason);
        const as_cuda **first = found;
        if (!cuda || (*first && *first != cuda)) {
            *first = NULL;
            return NULL;
        }
        *first = cuda;
    }
    return NULL;
}

static void threads_get_the_same_table(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    const as_cuda *found[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, look, &found[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_non_null(found[i]);
        assert_ptr_equal(found[i], found[0]);
    }
}

/* ---- errors ---- */

static void errors_name_call_and_code(void **state)
{
    (void)state;
    const as_cuda *cuda = &simulated()->cuda;
    int known = 0;
    for (int code = 1; code < MOST_CODE; code++) {
        char want[256];
        const char *name = NULL;
        const char *text = NULL;
        as_error e = AS_ERROR_INIT;
        int result = as_cuda_fail(&e, cuda, "cuMemAlloc", code, "%d bytes on %s", 17, "cuda:3");
        assert_int_equal(result, code == AS_CU_OUT_OF_MEMORY ? AS_NOMEM : AS_CUDA);
        assert_int_equal(e.code, result);
        if (cuda->error_name(code, &name) == AS_CU_SUCCESS) {
            assert_int_equal(cuda->error_text(code, &text), AS_CU_SUCCESS);
            (void)snprintf(want, sizeof want, "cuMemAlloc: %s (%d, %s): 17 bytes on cuda:3", name,
                           code, text);
            known++;
        } else {
            (void)snprintf(want, sizeof want, "cuMemAlloc: error %d: 17 bytes on cuda:3", code);
        }
        size_t length = strlen(want);
        assert_memory_equal(as_error_text(&e), want, length);
        bool hint = strstr(as_error_text(&e), "the program itself") != NULL;
        assert_int_equal(hint, code >= 700 && code <= 719 && code != AS_CU_ALREADY_REGISTERED &&
                                   code != AS_CU_NOT_REGISTERED && code != AS_CU_CONTEXT_DESTROYED);
        bool ended = strstr(as_error_text(&e), "destroyed the CUDA context") != NULL;
        assert_int_equal(ended, code == AS_CU_CONTEXT_DESTROYED || code == AS_CU_INVALID_CONTEXT ||
                                    code == AS_CU_INVALID_HANDLE);
        as_error_clear(&e);
    }
    assert_true(known > 20);
    assert_int_equal(as_cuda_fail(NULL, cuda, "cuInit", 999, "%s", ""), AS_CUDA);
}

static as_cu_result refuse(as_cu_result code, const char **text)
{
    (void)code, (void)text;
    return AS_CU_INVALID_VALUE;
}

static as_cu_result tell_nothing(as_cu_result code, const char **text)
{
    (void)code;
    *text = NULL;
    return AS_CU_SUCCESS;
}

static void names_of_codes_may_be_lacking(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        as_error e = AS_ERROR_INIT;
        as_cuda cuda = simulated()->cuda;
        *(i < 2 ? &cuda.error_name : &cuda.error_text) = i % 2 ? refuse : tell_nothing;
        (void)as_cuda_fail(&e, &cuda, "cuInit", 304, "why");
        assert_string_equal(as_error_text(&e),
                            i < 2 ? "cuInit: error 304: why"
                                  : "cuInit: CUDA_ERROR_OPERATING_SYSTEM (304): why");
        as_error_clear(&e);
    }
}

/* ---- other files of that name: this program once more, with a folder that it finds first ---- */

static char folder[] = "/tmp/allshard-cuda-library-XXXXXX";

static int fails(const char *what, const char *text)
{
    (void)fprintf(stderr, "%s: %s\n", what, text ? text : "(nothing)");
    return 1;
}

static bool has(const char *text, const char *part)
{
    return text && strstr(text, part);
}

/* It is no library at first: that may change. */
static int child_broken(const char *driver)
{
    const char *reason = NULL;
    char path[sizeof folder + 16];
    (void)snprintf(path, sizeof path, "%s/libcuda.so.1", getenv("ALLSHARD_TEST_FOLDER"));
    if (as_cuda_library(AS_CUDA_AUTO, &reason) || !has(reason, "has not loaded")) {
        return fails("auto", reason);
    }
    if (as_cuda_library(AS_CUDA_ON, &reason) || !has(reason, "libcuda.so.1") ||
        !has(reason, "cannot be loaded")) {
        return fails("no library", reason);
    }
    if (!has(as_cuda_lacking(), "cannot be loaded")) {
        return fails("lacking", as_cuda_lacking());
    }
    if (unlink(path) != 0 || symlink(driver, path) != 0) {
        return fails("symlink", path);
    }
    return as_cuda_library(AS_CUDA_ON, &reason) ? 0 : fails("a driver by now", reason);
}

/* It is a library, but not the driver. */
static int child_other(void)
{
    const char *reason = NULL;
    for (int i = 0; i < 2; i++) {
        if (as_cuda_library(AS_CUDA_ON, &reason) || !has(reason, "libcuda.so.1 has no cuInit")) {
            return fails("on", reason);
        }
        if (as_cuda_library(AS_CUDA_AUTO, &reason) || !has(reason, "has no cuInit")) {
            return fails("auto, loaded by now", reason);
        }
    }
    return has(as_cuda_lacking(), "has no cuInit") ? 0 : fails("lacking", as_cuda_lacking());
}

static void run_child(const char *scene, const char *driver)
{
    char path[4096];
    const char *old = getenv("LD_LIBRARY_PATH");
    (void)snprintf(path, sizeof path, "%s%s%s", folder, old ? ":" : "", old ? old : "");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setenv("LD_LIBRARY_PATH", path, 1);
        (void)setenv("ALLSHARD_TEST_FOLDER", folder, 1);
        (void)execl("/proc/self/exe", "test_cuda_library", scene, driver, (char *)NULL);
        _exit(99);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void other_files_are_no_driver(void **state)
{
    (void)state;
    Dl_info driver;
    Dl_info libc;
    char path[sizeof folder + 16];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/libcuda.so.1", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs("this is no library", f) >= 0 && fclose(f) == 0);
    assert_true(dladdr(dlsym(RTLD_DEFAULT, "getpid"), &libc) != 0);
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    assert_true(dladdr(dlsym(library, "cuInit"), &driver) != 0);
    run_child("broken", driver.dli_fname);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(libc.dli_fname, path), 0);
    run_child("other", "");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        return strcmp(argv[1], "broken") == 0 ? child_broken(argv[2]) : child_other();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_loaded_unasked),
        cmocka_unit_test(nothing_is_called_unasked),
        cmocka_unit_test(functions_are_those_of_the_driver),
        cmocka_unit_test(initialising_fails),
        cmocka_unit_test(threads_get_the_same_table),
        cmocka_unit_test(errors_name_call_and_code),
        cmocka_unit_test(names_of_codes_may_be_lacking),
        cmocka_unit_test(other_files_are_no_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
