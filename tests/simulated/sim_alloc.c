/* SPDX-License-Identifier: Apache-2.0
 * The simulated driver's calls that allocate memory, page-lock it and tell what a pointer is.
 */
#include "sim_state.h"

#include <string.h>

static int allocate(enum sim_memory_kind kind, size_t bytes, uint64_t *base)
{
    sim_context *c = sim_current();
    sim_memory *m = NULL;
    int code = sim_memory_new(kind, c->device, c, bytes, &m);
    if (!code) {
        m->flags = AS_CU_REGISTER_PORTABLE; /* of SIM_HOST: every device sees it */
        *base = m->base;
    }
    return code;
}

as_cu_result cu_memory_alloc(as_cu_pointer *out, size_t bytes)
{
    int code = sim_enter("cuMemAlloc", SIM_CURRENT);
    return sim_leave(code ? code : allocate(SIM_DEVICE, bytes, out));
}

as_cu_result cu_managed_alloc(as_cu_pointer *out, size_t bytes, unsigned flags)
{
    int code = sim_enter("cuMemAllocManaged", SIM_CURRENT);
    if (!code && flags != 1 && flags != 2) { /* CU_MEM_ATTACH_GLOBAL, _HOST */
        code = AS_CU_INVALID_VALUE;
    }
    return sim_leave(code ? code : allocate(SIM_MANAGED, bytes, out));
}

static int allocate_host(void **out, size_t bytes)
{
    uint64_t base = 0;
    int code = allocate(SIM_HOST, bytes, &base);
    *out = (void *)(uintptr_t)base;
    return code;
}

as_cu_result cu_host_alloc(void **out, size_t bytes, unsigned flags)
{
    int code = sim_enter("cuMemHostAlloc", SIM_CURRENT);
    (void)flags;
    return sim_leave(code ? code : allocate_host(out, bytes));
}

as_cu_result cu_host_alloc_plain(void **out, size_t bytes)
{
    int code = sim_enter("cuMemAllocHost", SIM_CURRENT);
    return sim_leave(code ? code : allocate_host(out, bytes));
}

/* The memory that begins there; a fault if copies still reach it, and they end first. */
static int give_up(uint64_t address, bool host, const char *call)
{
    sim_memory *m = sim_memory_at(address);
    bool right = m && m->base == address && (host ? m->kind == SIM_HOST : m->kind <= SIM_MANAGED);
    if (!right) {
        return SIM_NOTE(AS_CU_INVALID_VALUE, "%s: %#llx is not the beginning of an allocation",
                        call, (unsigned long long)address);
    }
    sim_area area = sim_range(!host, m->base, m->bytes);
    if (sim_under_way(&area, false)) {
        sim_note_rule("%s: %#llx while a copy to or from it is under way", call,
                      (unsigned long long)address);
        sim_wait_area(&area);
    }
    sim_memory_drop(m);
    return 0;
}

as_cu_result cu_memory_free(as_cu_pointer memory)
{
    int told = sim_enter("cuMemFree", SIM_CURRENT);
    int code = sim_current() && memory ? give_up(memory, false, "cuMemFree") : 0;
    return sim_leave(told ? told : code);
}

as_cu_result cu_host_free(void *memory)
{
    int told = sim_enter("cuMemFreeHost", SIM_CURRENT);
    int code = sim_current() ? give_up((uintptr_t)memory, true, "cuMemFreeHost") : 0;
    return sim_leave(told ? told : code);
}

/* ---- page-locked memory of the program ---- */

static int lock_memory(uint64_t address, size_t bytes, unsigned flags)
{
    sim_context *c = sim_current();
    if (sim_unsafe()) {
        return sim_unsafe();
    }
    if (bytes == 0 || address == 0 || flags > 15) {
        return AS_CU_INVALID_VALUE;
    }
    if (!sim_is_mapped(address, bytes)) {
        return SIM_NOTE(AS_CU_INVALID_VALUE, "cuMemHostRegister: %zu bytes at %#llx are not mapped",
                        bytes, (unsigned long long)address);
    }
    if (sim_memory_overlaps(address, bytes)) {
        return AS_CU_ALREADY_REGISTERED;
    }
    return sim_memory_add(&(sim_memory){.kind = SIM_REGISTERED,
                                        .base = address,
                                        .bytes = bytes,
                                        .device = c->device,
                                        .context = c,
                                        .flags = flags,
                                        .real = (char *)(uintptr_t)address});
}

as_cu_result cu_host_register(void *memory, size_t bytes, unsigned flags)
{
    int code = sim_enter("cuMemHostRegister", SIM_CURRENT);
    return sim_leave(code ? code : lock_memory((uintptr_t)memory, bytes, flags));
}

static int unlock_memory(uint64_t address)
{
    sim_memory *m = sim_memory_at(address);
    if (!m && sim_memory_was_let_go(address)) {
        return AS_CU_NOT_REGISTERED;
    }
    if (!m || m->kind != SIM_REGISTERED || m->base != address) {
        return SIM_NOTE(AS_CU_NOT_REGISTERED, "cuMemHostUnregister: %#llx is not registered",
                        (unsigned long long)address);
    }
    sim_area area = sim_range(false, m->base, m->bytes);
    if (sim_under_way(&area, false)) {
        sim_note_rule("cuMemHostUnregister: %#llx while a copy to or from it is under way",
                      (unsigned long long)address);
        sim_wait_area(&area);
    }
    if (!sim_is_mapped(m->base, m->bytes)) {
        sim_note_rule("cuMemHostUnregister: %#llx was unmapped while it was registered",
                      (unsigned long long)address);
    }
    sim_memory_drop(m);
    return 0;
}

as_cu_result cu_host_unregister(void *memory)
{
    int told = sim_enter("cuMemHostUnregister", SIM_CURRENT);
    int code = sim_current() ? unlock_memory((uintptr_t)memory) : 0;
    return sim_leave(told ? told : code);
}

/* ---- what a pointer is ---- */

static int tell(const sim_memory *m, int attribute, void *value)
{
    bool device = m && (m->kind == SIM_DEVICE || m->kind == SIM_MANAGED);
    switch (attribute) {
    case AS_CU_POINTER_CONTEXT: {
        as_cu_context context = m && m->context ? m->context->object.handle : NULL;
        memcpy(value, &context, sizeof context);
        return 0;
    }
    case AS_CU_POINTER_MEMORY_TYPE: {
        unsigned type = !m ? 0 : device ? AS_CU_MEMORY_DEVICE : AS_CU_MEMORY_HOST;
        memcpy(value, &type, sizeof type);
        return 0;
    }
    case AS_CU_POINTER_BUFFER_ID: {
        unsigned long long id = m ? m->id : 0;
        memcpy(value, &id, sizeof id);
        return 0;
    }
    case AS_CU_POINTER_IS_MANAGED: {
        unsigned managed = m && m->kind == SIM_MANAGED;
        memcpy(value, &managed, sizeof managed);
        return 0;
    }
    case AS_CU_POINTER_DEVICE_ORDINAL: {
        int ordinal = m ? m->device : -2; /* CU_DEVICE_INVALID */
        memcpy(value, &ordinal, sizeof ordinal);
        return 0;
    }
    case AS_CU_POINTER_RANGE_START: {
        as_cu_pointer start = m ? m->base : 0;
        memcpy(value, &start, sizeof start);
        return 0;
    }
    case AS_CU_POINTER_RANGE_SIZE: {
        size_t size = m ? m->bytes : 0;
        memcpy(value, &size, sizeof size);
        return 0;
    }
    default:
        return SIM_NOTE(AS_CU_INVALID_VALUE, "cuPointerGetAttributes: attribute %d is not known",
                        attribute);
    }
}

as_cu_result cu_pointer_attributes(unsigned count, int *attributes, void **values,
                                   as_cu_pointer pointer)
{
    int code =
        sim_enter("cuPointerGetAttributes", sim_pointers_are_strict() ? SIM_CURRENT : SIM_INIT);
    if (!code && (count == 0 || !attributes || !values)) {
        code = AS_CU_INVALID_VALUE;
    }
    for (unsigned i = 0; !code && i < count; i++) {
        code = tell(sim_memory_at(pointer), attributes[i], values[i]);
    }
    return sim_leave(code);
}
