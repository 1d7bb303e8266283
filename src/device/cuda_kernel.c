/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_kernel.h"

#include <stdio.h>

#include "device/pack_args.h"

/* Threads of a block: enough to fill a device of any age, few enough for the registers of each. */
enum { BLOCK = 256 };

#ifdef ALLSHARD_HAVE_KERNEL
/* Of the file that cmake/AllshardKernel.cmake makes; the image is text that ends with a 0. */
extern const char as_kernel_ptx[];
extern const char as_kernel_how[];
const char *as_kernel_image = as_kernel_ptx;
#else
static const char as_kernel_how[] = ALLSHARD_NO_KERNEL;
const char *as_kernel_image = NULL;
#endif

bool as_kernel_built(const char **reason)
{
    *reason = as_kernel_how;
#ifdef ALLSHARD_HAVE_KERNEL
    return true;
#else
    return false;
#endif
}

/* Notes what the driver said. */
static void refused(as_kernel *k, const as_cuda *cuda, const char *call, as_cu_result result)
{
    as_error e = AS_ERROR_INIT;
    (void)as_cuda_fail(&e, cuda, call, result, "the pack kernel, built by %s", as_kernel_how);
    (void)snprintf(k->text, sizeof k->text, "%s", as_error_text(&e));
    as_error_clear(&e);
    as_kernel_unload(k, cuda);
    k->reason = k->text;
}

void as_kernel_load(as_kernel *k, const as_cuda *cuda)
{
    *k = (as_kernel){.reason = as_kernel_how};
    if (!as_kernel_image) {
        return;
    }
    as_cu_result result = cuda->module_load(&k->module, as_kernel_image);
    if (result != AS_CU_SUCCESS) {
        k->module = NULL;
        refused(k, cuda, "cuModuleLoadData", result);
        return;
    }
    result = cuda->module_function(&k->pack, k->module, "as_pack");
    if (result == AS_CU_SUCCESS) {
        result = cuda->module_function(&k->unpack, k->module, "as_unpack");
    }
    if (result != AS_CU_SUCCESS) {
        refused(k, cuda, "cuModuleGetFunction", result);
        return;
    }
    k->reason = NULL;
}

void as_kernel_unload(as_kernel *k, const as_cuda *cuda)
{
    if (k->module) {
        /* It can say no more than that the context is gone, and the module with it. */
        (void)cuda->module_unload(k->module);
        k->module = NULL;
        k->reason = "it was unloaded";
    }
}

bool as_kernel_can(const as_kernel *k, const as_geometry *g, int64_t low, int64_t high)
{
    as_pack_part part;
    return k->module && as_pack_part_of(g, low, high, &part);
}

static int launch(as_cu_function function, const char *name, const as_cuda *cuda,
                  const as_geometry *g, as_cu_pointer memory, int64_t low, int64_t high,
                  as_cu_pointer packed, as_cu_stream stream, as_error *e)
{
    as_pack_part part;
    if (!as_pack_part_of(g, low, high, &part)) {
        return as_fail(e, AS_INTERNAL, 0, "the pack kernel was to cast a part of an element");
    }
    while (part.at < part.end) {
        as_pack_args args;
        int64_t bytes = as_pack_args_make(g, part, memory, packed, AS_PACK_MOST, &args);
        void *parameters[] = {&args};
        as_cu_result result = cuda->launch(function, (args.count + BLOCK - 1) / BLOCK, 1, 1, BLOCK,
                                           1, 1, 0, stream, parameters, NULL);
        if (result != AS_CU_SUCCESS) {
            return as_cuda_fail(e, cuda, "cuLaunchKernel", result, "%s, %u units of %d bytes", name,
                                args.count, args.packed_bytes);
        }
        part.at += bytes;
        packed += (uint64_t)bytes;
    }
    return AS_OK;
}

int as_kernel_pack(const as_kernel *k, const as_cuda *cuda, const as_geometry *g,
                   as_cu_pointer memory, int64_t low, int64_t high, as_cu_pointer packed,
                   as_cu_stream stream, as_error *e)
{
    return launch(k->pack, "as_pack", cuda, g, memory, low, high, packed, stream, e);
}

int as_kernel_unpack(const as_kernel *k, const as_cuda *cuda, const as_geometry *g,
                     as_cu_pointer memory, int64_t low, int64_t high, as_cu_pointer packed,
                     as_cu_stream stream, as_error *e)
{
    return launch(k->unpack, "as_unpack", cuda, g, memory, low, high, packed, stream, e);
}
