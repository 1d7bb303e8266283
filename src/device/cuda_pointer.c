/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_pointer.h"

typedef struct question {
    const as_cuda *cuda;
    unsigned count;
    int *attributes;
    void **values;
    as_cu_pointer pointer;
    const char *call; /* what was called last */
} question;

static as_cu_result ask(question *q)
{
    q->call = "cuPointerGetAttributes";
    return q->cuda->pointer_attributes(q->count, q->attributes, q->values, q->pointer);
}

/* With the context, which is retained, current. */
static as_cu_result ask_with(question *q, as_cu_context context)
{
    as_cu_context popped = NULL;
    q->call = "cuCtxPushCurrent";
    as_cu_result r = q->cuda->context_push(context);
    if (r != AS_CU_SUCCESS) {
        return r;
    }
    r = ask(q);
    as_cu_result last = q->cuda->context_pop(&popped);
    if (r == AS_CU_SUCCESS && last != AS_CU_SUCCESS) {
        q->call = "cuCtxPopCurrent";
        r = last;
    }
    return r;
}

/* In the primary context of a device; *active: it is. */
static as_cu_result ask_device(question *q, int ordinal, int *active)
{
    as_cu_device device = 0;
    as_cu_context context = NULL;
    unsigned flags = 0;
    *active = 0;
    q->call = "cuDeviceGet";
    as_cu_result r = q->cuda->device_get(&device, ordinal);
    if (r == AS_CU_SUCCESS) {
        q->call = "cuDevicePrimaryCtxGetState";
        r = q->cuda->primary_state(device, &flags, active);
    }
    if (r != AS_CU_SUCCESS || !*active) {
        return r;
    }
    q->call = "cuDevicePrimaryCtxRetain"; /* there is no other way to its handle */
    r = q->cuda->primary_retain(&context, device);
    if (r == AS_CU_SUCCESS) {
        r = ask_with(q, context);
        (void)q->cuda->primary_release(device);
    }
    return r;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the driver's function is so */
as_cu_result as_cuda_pointer(const as_cuda *cuda, unsigned count, int *attributes, void **values,
                             as_cu_pointer pointer, const char **call)
{
    question q = {.cuda = cuda,
                  .count = count,
                  .attributes = attributes,
                  .values = values,
                  .pointer = pointer};
    as_cu_result r = ask(&q);
    if (r == AS_CU_INVALID_CONTEXT || r == AS_CU_CONTEXT_DESTROYED) {
        int devices = 0;
        const unsigned *type = values[0];
        q.call = "cuDeviceGetCount";
        r = cuda->device_count(&devices);
        for (int i = 0; r == AS_CU_SUCCESS && i < devices && !*type; i++) {
            int active;
            r = ask_device(&q, i, &active);
        }
    }
    *call = q.call;
    return r;
}
