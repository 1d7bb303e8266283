/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_find.h"

#include <string.h>

#include "device/cuda_pointer.h"
#include "tensor/geometry.h"

/* Why CUDA is not at work in this process, if that is what the code says. */
static const char *sleep_reason(as_cu_result result)
{
    switch (result) {
    case AS_CU_NOT_INITIALIZED:
        return "the program has loaded libcuda.so.1, but not initialised CUDA";
    case AS_CU_DEINITIALIZED:
        return "CUDA is being shut down in this process";
    case AS_CU_STUB_LIBRARY:
        return "libcuda.so.1 is the toolkit's stub";
    case AS_CU_NO_DEVICE:
        return "there is no device of CUDA";
    default:
        return NULL;
    }
}

/* Without CUDA at work no memory of devices can be there. Another call has to say so too: that all
 * memory is the host's is not believed of one that fails by itself. */
static int look_failed(const as_cuda *cuda, const char *call, as_cu_result result,
                       const void *pointer, const char **asleep, as_error *e)
{
    as_cu_context current = NULL;
    const char *reason = asleep ? sleep_reason(result) : NULL;
    if (reason && cuda->context_current(&current) == result) {
        *asleep = reason;
        return AS_OK;
    }
    return as_cuda_fail(e, cuda, call, result, "where %p lies", pointer);
}

int as_cuda_ordinal(const as_cuda *cuda, as_cu_context context, int *out, as_error *e)
{
    as_cu_device device = 0;
    as_cu_context popped = NULL;
    as_cu_result result = cuda->context_push(context);
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuCtxPushCurrent", result, "to learn a context's device");
    }
    result = cuda->context_device(&device);
    as_cu_result last = cuda->context_pop(&popped);
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuCtxGetDevice", result, "to learn a context's device");
    }
    if (last != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuCtxPopCurrent", last, "to leave a context as it was");
    }
    *out = device; /* a CUdevice is its ordinal: what cuDeviceGet gives for it */
    return AS_OK;
}

/* Managed memory that is on no device now has none to tell of: that of its context, or the first. */
static int find_ordinal(const as_cuda *cuda, as_allocation *a, as_error *e)
{
    as_cu_context context = a->owner;
    as_cu_result result = context ? AS_CU_SUCCESS : cuda->context_current(&context);
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuCtxGetCurrent", result, "for managed memory of no device");
    }
    a->ordinal = 0;
    return context ? as_cuda_ordinal(cuda, context, &a->ordinal, e) : AS_OK;
}

int as_cuda_look(const as_cuda *cuda, const void *pointer, as_allocation *out, const char **asleep,
                 as_error *e)
{
    unsigned type = 0;
    unsigned managed = 0;
    as_allocation a = {.ordinal = -1};
    int attributes[] = {AS_CU_POINTER_MEMORY_TYPE,    AS_CU_POINTER_IS_MANAGED,
                        AS_CU_POINTER_DEVICE_ORDINAL, AS_CU_POINTER_CONTEXT,
                        AS_CU_POINTER_RANGE_START,    AS_CU_POINTER_RANGE_SIZE};
    void *values[] = {&type, &managed, &a.ordinal, (void *)&a.owner, &a.start, &a.bytes};
    if (asleep) {
        *asleep = NULL;
    }
    *out = (as_allocation){.ordinal = -1};
    const char *call = NULL;
    as_cu_result result = as_cuda_pointer(cuda, sizeof attributes / sizeof *attributes, attributes,
                                          values, (as_cu_pointer)(uintptr_t)pointer, &call);
    if (result != AS_CU_SUCCESS) {
        return look_failed(cuda, call, result, pointer, asleep, e);
    }
    if (type == AS_CU_MEMORY_ARRAY) {
        return as_fail(
            e, AS_INVALID, 0,
            "%p is in a CUDA array, whose bytes lie in no order that is known: copy it to "
            "linear memory",
            pointer);
    }
    a.on_device = managed || type == AS_CU_MEMORY_DEVICE || type == AS_CU_MEMORY_UNIFIED;
    int code = a.on_device && a.ordinal < 0 ? find_ordinal(cuda, &a, e) : AS_OK;
    *out = a;
    return code;
}

int as_cuda_reach(const as_state *s, size_t i, as_reach *out, as_error *e)
{
    as_box box = as_state_memory_box(s, i);
    as_geometry g;
    int code = as_geometry_memory(&box, &g, e);
    *out = (as_reach){0};
    if (code != AS_OK || g.ndim == 0) {
        return code;
    }
    out->after = 1;
    for (int d = 0; d < g.ndim; d++) {
        /* No sum overflows: as_box_check has found how far strides lead. */
        uint64_t way = (uint64_t)(g.shape[d] - 1);
        if (g.stride[d] < 0) {
            out->before += way * (0 - (uint64_t)g.stride[d]);
        } else {
            out->after += way * (uint64_t)g.stride[d];
        }
    }
    return AS_OK;
}

int as_cuda_check(const as_cuda *cuda, const as_allocation *a, const void *pointer,
                  const as_reach *reach, as_error *e)
{
    as_cu_pointer at = (as_cu_pointer)(uintptr_t)pointer;
    as_cu_pointer start = a->start;
    as_cu_pointer end = a->start + a->bytes;
    /* Memory of no context may be reserved as a whole and mapped in parts, each of which counts as an
     * allocation: what follows without a gap belongs to it. */
    bool goes_on = a->bytes > 0 && a->owner == NULL;
    while (goes_on && (at - start < reach->before || end - at < reach->after)) {
        bool low = at - start < reach->before;
        as_allocation next;
        int code =
            as_cuda_look(cuda, (const void *)(uintptr_t)(low ? start - 1 : end), &next, NULL, e);
        if (code != AS_OK) {
            return code;
        }
        goes_on = next.on_device && !next.owner && next.ordinal == a->ordinal && next.bytes > 0 &&
                  (low ? next.start + next.bytes == start : next.start == end);
        if (goes_on && low) {
            start = next.start;
        } else if (goes_on) {
            end = next.start + next.bytes;
        }
    }
    if (a->bytes == 0 || (at - start >= reach->before && end - at >= reach->after)) {
        return AS_OK;
    }
    return as_fail(
        e, AS_INVALID, 0,
        "it takes %llu bytes of memory, from %llu before its pointer %p on, but the "
        "allocation on cuda:%d that this is in has %llu, from %llu before it on: a wrong "
        "pointer, shape or stride",
        (unsigned long long)(reach->before + reach->after), (unsigned long long)reach->before,
        pointer, a->ordinal, (unsigned long long)(end - start), (unsigned long long)(at - start));
}

int as_cuda_context(const as_cuda *cuda, const as_allocation *a, as_cu_context *out, bool *retained,
                    as_error *e)
{
    as_cu_context current = NULL;
    int ordinal = -1;
    *retained = false;
    *out = a->owner;
    if (a->owner) {
        return AS_OK;
    }
    as_cu_result result = cuda->context_current(&current);
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuCtxGetCurrent", result, "for memory on cuda:%d",
                            a->ordinal);
    }
    if (current) {
        int code = as_cuda_ordinal(cuda, current, &ordinal, e);
        if (code != AS_OK) {
            return code;
        }
    }
    if (ordinal == a->ordinal) {
        *out = current;
        return AS_OK;
    }
    as_cu_device device = 0;
    result = cuda->device_get(&device, a->ordinal);
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuDeviceGet", result, "cuda:%d", a->ordinal);
    }
    result = cuda->primary_retain(out, device);
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuDevicePrimaryCtxRetain", result, "cuda:%d", a->ordinal);
    }
    *retained = true;
    return AS_OK;
}
