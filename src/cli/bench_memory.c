/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_room.h"

/* ------------------------------------------------------------------ the device */

int as_bench_memory_read(const char *device, int *number, as_error *e)
{
    *number = -1;
    if (!device || strcmp(device, "cuda") == 0) {
        return AS_OK;
    }
    char *end = NULL;
    long value = strncmp(device, "cuda:", 5) == 0 && device[5] >= '0' && device[5] <= '9'
                     ? strtol(device + 5, &end, 10)
                     : -1;
    if (value < 0 || value > INT16_MAX || *end) {
        return as_fail(e, AS_INVALID, 0, "--device %s is neither cuda nor cuda:0, cuda:1, …",
                       device);
    }
    *number = (int)value;
    return AS_OK;
}

static int choose(as_bench_memory *m, int number, int before, as_error *e)
{
    int count = 0;
    as_cu_result r = m->cuda->device_count(&count);
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, m->cuda, "cuDeviceGetCount", r, "--device");
    }
    if (count == 0 || number >= count) {
        return as_fail(e, AS_INVALID, 0, "--device cuda:%d: this host has %d device%s",
                       number < 0 ? 0 : number, count, count == 1 ? "" : "s");
    }
    int ordinal = number < 0 ? before % count : number;
    char name[96] = "";
    r = m->cuda->device_get(&m->device, ordinal);
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, m->cuda, "cuDeviceGet", r, "device %d", ordinal);
    }
    r = m->cuda->device_name(name, sizeof name, m->device);
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, m->cuda, "cuDeviceGetName", r, "device %d", ordinal);
    }
    (void)snprintf(m->name, sizeof m->name, "cuda:%d (%s)", ordinal, name);
    return AS_OK;
}

static int enter(as_bench_memory *m, as_error *e)
{
    as_cu_result r = m->cuda->primary_retain(&m->context, m->device);
    if (r != AS_CU_SUCCESS) {
        m->context = NULL;
        return as_cuda_fail(e, m->cuda, "cuDevicePrimaryCtxRetain", r, "%s", m->name);
    }
    r = m->cuda->context_push(m->context);
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, m->cuda, "cuCtxPushCurrent", r, "%s", m->name);
    }
    return AS_OK;
}

int as_bench_memory_open(as_bench_memory *m, const char *device, as_world *w, as_error *e)
{
    *m = (as_bench_memory){0};
    if (!device) {
        return AS_OK;
    }
    int number = -1;
    int before = 0;
    int count = 0;
    const char *reason = "";
    int code = as_world_alike(w, 0, &before, &count, e);
    if (code != AS_OK) {
        return code;
    }
    if (as_bench_memory_read(device, &number, e) == AS_OK) {
        m->cuda = as_cuda_library(AS_CUDA_ON, &reason);
        if (!m->cuda) {
            (void)as_fail(e, AS_CUDA, 0, "--device %s: %s", device, reason);
        } else if (choose(m, number, before, e) == AS_OK) {
            (void)enter(m, e);
        }
    }
    return as_world_agree(w, e);
}

void as_bench_memory_close(as_bench_memory *m)
{
    if (m->cuda && m->context) {
        as_cu_context old = NULL;
        (void)m->cuda->context_pop(&old);
        (void)m->cuda->primary_release(m->device);
    }
    m->context = NULL;
    m->cuda = NULL;
}

/* ---------------------------------------------------------------------- memory */

void *as_bench_memory_take(const as_bench_memory *m, int64_t align, int64_t bytes, as_error *e)
{
    if (!m->cuda) {
        void *memory = NULL;
        if (posix_memalign(&memory, (size_t)align, (size_t)bytes) != 0) {
            (void)as_fail_nomem(e);
            return NULL;
        }
        return memory;
    }
    /* Allocations of the driver begin at a multiple of 512 bytes at the least, large ones of
     * 2 MiB; what is smaller is small enough to lie anywhere. */
    as_cu_pointer memory = 0;
    as_cu_result r = m->cuda->memory_alloc(&memory, (size_t)bytes);
    if (r != AS_CU_SUCCESS) {
        (void)as_cuda_fail(e, m->cuda, "cuMemAlloc", r, "%lld bytes on %s", (long long)bytes,
                           m->name);
        return NULL;
    }
    return (void *)(uintptr_t)memory;
}

void as_bench_memory_give(const as_bench_memory *m, void *memory)
{
    if (!m->cuda) {
        free(memory);
    } else if (memory) {
        (void)m->cuda->memory_free((as_cu_pointer)(uintptr_t)memory);
    }
}

int as_bench_memory_wait(const as_bench_memory *m, as_error *e)
{
    as_cu_result r = m->cuda ? m->cuda->stream_synchronize(NULL) : AS_CU_SUCCESS;
    return r == AS_CU_SUCCESS ? AS_OK
                              : as_cuda_fail(e, m->cuda, "cuStreamSynchronize", r, "%s", m->name);
}

int as_bench_memory_put(const as_bench_memory *m, void *to, const void *from, int64_t bytes,
                        as_error *e)
{
    if (!m->cuda) {
        memcpy(to, from, (size_t)bytes);
        return AS_OK;
    }
    as_cu_result r =
        m->cuda->copy_to_device((as_cu_pointer)(uintptr_t)to, from, (size_t)bytes, NULL);
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, m->cuda, "cuMemcpyHtoDAsync", r, "%lld bytes to %s",
                            (long long)bytes, m->name);
    }
    return as_bench_memory_wait(m, e);
}

int as_bench_memory_fetch(const as_bench_memory *m, void *to, const void *from, int64_t bytes,
                          as_error *e)
{
    if (!m->cuda) {
        memcpy(to, from, (size_t)bytes);
        return AS_OK;
    }
    as_cu_result r = m->cuda->copy_to_host(to, (as_cu_pointer)(uintptr_t)from, (size_t)bytes, NULL);
    return r == AS_CU_SUCCESS ? AS_OK
                              : as_cuda_fail(e, m->cuda, "cuMemcpyDtoHAsync", r,
                                             "%lld bytes from %s", (long long)bytes, m->name);
}

int as_bench_memory_get(const as_bench_memory *m, void *to, const void *from, int64_t bytes,
                        as_error *e)
{
    int code = as_bench_memory_fetch(m, to, from, bytes, e);
    return code == AS_OK ? as_bench_memory_wait(m, e) : code;
}

int as_bench_memory_pin(const as_bench_memory *m, void *host, int64_t bytes, as_error *e)
{
    if (!m->cuda || bytes == 0) {
        return AS_OK;
    }
    as_cu_result r = m->cuda->host_register(host, (size_t)bytes, AS_CU_REGISTER_PORTABLE);
    return r == AS_CU_SUCCESS ? AS_OK
                              : as_cuda_fail(e, m->cuda, "cuMemHostRegister", r,
                                             "%lld bytes to compare with", (long long)bytes);
}

void as_bench_memory_unpin(const as_bench_memory *m, void *host)
{
    if (m->cuda && host) {
        (void)m->cuda->host_unregister(host);
    }
}
