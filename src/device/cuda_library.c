/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char library_name[] = "libcuda.so.1";

enum {
    REASON_BYTES = 256,
    MOST_REASONS = 64,
    FIRST_STICKY = 700, /* CUDA_ERROR_ILLEGAL_ADDRESS */
    LAST_STICKY = 719   /* CUDA_ERROR_LAUNCH_FAILED */
};

/* All of it is the whole process's and stays until it ends: other threads may be in the library at
 * any time, and its destructors are not ours to order. */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static as_cuda table;
static bool complete;       /* the table is */
static const char *lacking; /* why it never will be; NULL: nothing is known against it */

/* Texts live as long as the process, so each is kept once; they are few. With the guard. */
static const char *keep(const char *text)
{
    static char kept[MOST_REASONS][REASON_BYTES];
    for (int i = 0; i < MOST_REASONS; i++) {
        if (!kept[i][0]) {
            (void)snprintf(kept[i], sizeof kept[i], "%s", text);
        }
        if (strncmp(kept[i], text, sizeof kept[i] - 1) == 0) {
            return kept[i];
        }
    }
    return "libcuda.so.1 cannot be used, for one reason after the other";
}

typedef struct as_symbol {
    const char *name;
    size_t at; /* of the pointer in as_cuda */
} as_symbol;

static const as_symbol symbols[] = {
#define SYMBOL(member, symbol, parameters) {(symbol), offsetof(as_cuda, member)},
    AS_CUDA_FUNCTIONS(SYMBOL)
#undef SYMBOL
};

/* All or nothing. With the guard. */
static void look_up(void *library)
{
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *function = dlsym(library, symbols[i].name);
        if (!function) {
            char text[REASON_BYTES];
            (void)snprintf(
                text, sizeof text,
                "libcuda.so.1 has no %s: the driver is older than CUDA 10.1, or it is no "
                "driver",
                symbols[i].name);
            lacking = keep(text);
            return;
        }
        memcpy((char *)&table + symbols[i].at, &function, sizeof function);
    }
    complete = true;
}

/* The library is found anew each time until it is there: programs may load it late, and what loads
 * it for them (the runtime, libraries that communicate) mostly does. With the guard. */
static const char *find(bool load)
{
    if (complete || lacking) {
        return lacking;
    }
    void *library = dlopen(library_name, RTLD_LAZY | RTLD_NOLOAD);
    if (!library && !load) {
        return "the program has not loaded libcuda.so.1";
    }
    if (!library) {
        library = dlopen(library_name, RTLD_LAZY | RTLD_LOCAL);
    }
    if (!library) {
        char text[REASON_BYTES];
        const char *why = dlerror();
        (void)snprintf(
            text, sizeof text,
            "the CUDA driver cannot be loaded: %s: there is none on this machine, or it is "
            "not in the container",
            why ? why : "no reason is told");
        return keep(text);
    }
    look_up(library);
    return lacking;
}

/* "CUDA_ERROR_OUT_OF_MEMORY (2, out of memory)"; drivers do not know the codes of later ones. */
static void name_result(char *out, size_t size, const as_cuda *cuda, as_cu_result result)
{
    const char *name = NULL;
    const char *text = NULL;
    if (cuda->error_name(result, &name) != AS_CU_SUCCESS || !name) {
        (void)snprintf(out, size, "error %d", result);
    } else if (cuda->error_text(result, &text) != AS_CU_SUCCESS || !text) {
        (void)snprintf(out, size, "%s (%d)", name, result);
    } else {
        (void)snprintf(out, size, "%s (%d, %s)", name, result, text);
    }
}

/* Why a driver that is there may not begin, and where to look. */
static const char *advice(as_cu_result result)
{
    switch (result) {
    case AS_CU_DEVICE_UNAVAILABLE:
        return "; another process may have the device for itself (nvidia-smi shows its mode)";
    case AS_CU_NO_DEVICE:
        return "; did the job ask for a GPU, and does CUDA_VISIBLE_DEVICES name one?";
    case AS_CU_SYSTEM_NOT_READY:
        return "; on machines with NVSwitch nvidia-fabricmanager has to run";
    case AS_CU_DRIVER_MISMATCH:
        return "; libcuda.so.1 and the kernel's driver are of different versions: reboot, or give "
               "the "
               "container the host's";
    case AS_CU_COMPAT_NOT_SUPPORTED:
        return "; a library of CUDA's compatibility package comes before the driver's: take it out "
               "of LD_LIBRARY_PATH";
    default:
        return "; nvidia-smi and the kernel's log may tell more";
    }
}

/* With the guard: the first call of a process is best made once. */
static const char *initialise(void)
{
    as_cu_result result = table.init(0);
    if (result == AS_CU_SUCCESS) {
        return NULL;
    }
    if (result == AS_CU_STUB_LIBRARY) {
        return "cuInit (34): libcuda.so.1 is the toolkit's stub, which is for linking only: take "
               "its folder out of LD_LIBRARY_PATH";
    }
    char what[REASON_BYTES / 2];
    char text[REASON_BYTES];
    name_result(what, sizeof what, &table, result);
    (void)snprintf(text, sizeof text, "cuInit: %s%s", what, advice(result));
    return keep(text);
}

const as_cuda *as_cuda_library(enum as_cuda_wish wish, const char **reason)
{
    const char *why = "device memory is not looked for (cuda is off)";
    if (wish != AS_CUDA_OFF) {
        (void)pthread_mutex_lock(&guard);
        why = find(wish == AS_CUDA_ON);
        if (!why && wish == AS_CUDA_ON) {
            why = initialise();
        }
        (void)pthread_mutex_unlock(&guard);
    }
    *reason = why;
    return why ? NULL : &table;
}

const char *as_cuda_lacking(void)
{
    (void)pthread_mutex_lock(&guard);
    const char *why = find(true);
    (void)pthread_mutex_unlock(&guard);
    return why;
}

/* What the code may come of, where it is not the call's own fault. */
static const char *origin(as_cu_result result)
{
    switch (result) {
    case AS_CU_DEINITIALIZED:
        return "; the program is about to end: close allshard's context before";
    case AS_CU_CONTEXT_DESTROYED:
        return "; the program has destroyed the CUDA context, or reset its device, meanwhile";
    case AS_CU_INVALID_CONTEXT:
    case AS_CU_INVALID_HANDLE:
        return "; it may be that the program has destroyed the CUDA context or stream, or reset "
               "the "
               "device, meanwhile";
    case AS_CU_ALREADY_REGISTERED:
    case AS_CU_NOT_REGISTERED:
        return "";
    default:
        if (as_cuda_says_captured(result)) {
            return "; a stream is being captured into a graph: end the capture "
                   "(cudaStreamEndCapture) before you save or load";
        }
        /* Devices report what went wrong in a kernel to whoever comes next. */
        return result >= FIRST_STICKY && result <= LAST_STICKY
                   ? "; it may come of work that the program itself gave to the device before"
                   : "";
    }
}

int as_cuda_fail(as_error *e, const as_cuda *cuda, const char *call, as_cu_result result,
                 const char *format, ...)
{
    char what[REASON_BYTES];
    char purpose[REASON_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(purpose, sizeof purpose, format, arguments);
    va_end(arguments);
    name_result(what, sizeof what, cuda, result);
    return as_fail(e, result == AS_CU_OUT_OF_MEMORY ? AS_NOMEM : AS_CUDA, 0, "%s: %s: %s%s", call,
                   what, purpose, origin(result));
}
