/* SPDX-License-Identifier: Apache-2.0 */
#include "io/cufile_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is known of the process's library once it has been looked for. */
static struct {
    pthread_once_t once;
    as_cufile table;
    bool there;
    char reason[240]; /* why it is not */
} found = {.once = PTHREAD_ONCE_INIT};

static void *look_up(void *library, const char *symbol)
{
    void *function = dlsym(library, symbol);
    if (!function && !found.reason[0]) {
        (void)snprintf(found.reason, sizeof found.reason, "libcufile has no function %s", symbol);
    }
    return function;
}

/* POSIX lets an object pointer of dlsym be a function; ISO C has no conversion for it. */
#define TAKE(target, library, symbol)                                                              \
    do {                                                                                           \
        void *address = look_up(library, symbol);                                                  \
        memcpy(&(target), &address, sizeof address);                                               \
    } while (0)

static void take_functions(void *library)
{
#define TAKE_MEMBER(member, result, symbol, parameters) TAKE(found.table.member, library, symbol);
    AS_CUFILE_FUNCTIONS(TAKE_MEMBER)
#undef TAKE_MEMBER
    found.there = !found.reason[0];
    /* Headers stand the plain name for the newer function since CUDA 12. */
    void *newer = dlsym(library, "cuFileDriverClose_v2");
    void *address = newer ? newer : dlsym(library, "cuFileDriverClose");
    memcpy(&found.table.driver_close, &address, sizeof address);
}

static void *open_library(void)
{
    /* Not from the environment of a program that runs with others' rights. */
    const char *wish = secure_getenv("ALLSHARD_CUFILE");
    if (wish && strcmp(wish, "off") == 0) {
        (void)snprintf(found.reason, sizeof found.reason, "ALLSHARD_CUFILE is \"off\"");
        return NULL;
    }
    const char *const names[] = {"libcufile.so.0", "libcufile.so"};
    bool chosen = wish && *wish;
    for (size_t i = 0; i < (chosen ? 1 : sizeof names / sizeof *names); i++) {
        void *library = dlopen(chosen ? wish : names[i], RTLD_NOW | RTLD_LOCAL);
        if (library) {
            return library;
        }
        if (i == 0) {
            const char *text = dlerror();
            (void)snprintf(found.reason, sizeof found.reason, "cuFile cannot be loaded (%s)",
                           text ? text : "no reason is told");
        }
    }
    return NULL;
}

static void find(void)
{
    void *library = open_library();
    if (library) {
        found.reason[0] = '\0';
        take_functions(library);
    }
}

const as_cufile *as_cufile_library(const char **reason)
{
    (void)pthread_once(&found.once, find);
    *reason = found.there ? NULL : found.reason;
    return found.there ? &found.table : NULL;
}

/* ---- errors ---- */

const char *as_cufile_name(int code)
{
    switch (code) {
#define NAME(name, value)                                                                          \
    case value:                                                                                    \
        return "CU_FILE_" #name;
        AS_CUFILE_CODES(NAME)
#undef NAME
    default:
        return NULL;
    }
}

const char *as_cufile_explain(char text[AS_CUFILE_TEXT], const as_cuda *cuda, const char *call,
                              as_cufile_error result)
{
    const char *name = as_cufile_name(result.code);
    name = name ? name : "unknown code";
    if (result.code != AS_CUFILE_CUDA_DRIVER_ERROR) {
        (void)snprintf(text, AS_CUFILE_TEXT, "%s: %s (%d)", call, name, result.code);
        return text;
    }
    const char *cause = NULL;
    if (!cuda || cuda->error_name(result.cuda, &cause) != AS_CU_SUCCESS || !cause) {
        cause = "CUDA's code";
    }
    (void)snprintf(text, AS_CUFILE_TEXT, "%s: %s (%d; %s %d)", call, name, result.code, cause,
                   result.cuda);
    return text;
}

int as_cufile_fail(as_error *e, const as_cuda *cuda, const char *call, as_cufile_error result,
                   const char *format, ...)
{
    char text[AS_CUFILE_TEXT];
    char what[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    bool no_memory =
        result.code == AS_CUFILE_NOMEM ||
        (result.code == AS_CUFILE_CUDA_DRIVER_ERROR && result.cuda == AS_CU_OUT_OF_MEMORY);
    int code = no_memory ? AS_NOMEM : AS_CUDA;
    int sys_errno = 0;
    if (result.code == AS_CUFILE_IO_ERROR) {
        code = AS_SYSTEM;
        sys_errno = EIO;
    }
    return as_fail(e, code, sys_errno, "%s: %s", as_cufile_explain(text, cuda, call, result), what);
}
