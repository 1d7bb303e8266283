/* SPDX-License-Identifier: Apache-2.0
 * Memory of the simulated devices: what there is of it, where, and whose.
 *
 * Device memory is two mappings: one that the program has the address of and cannot touch, and the
 * simulation's own, which holds the bytes. The former stay reserved when memory is freed. Managed
 * memory and that of cuMemHostAlloc is one mapping, which becomes untouchable when it is freed.
 */
#include "sim_state.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, GRAIN = 512, REMEMBERED = 4096 };

typedef struct range {
    uint64_t base;
    uint64_t end;
} range;

static sim_memory **memories;
static size_t count;
static size_t room;
static range freed[REMEMBERED]; /* the last ones */
static size_t freed_count;
static uint64_t let_go[REMEMBERED]; /* what was page-locked when its context ended */
static size_t let_go_count;
static unsigned long long ids;
static atomic_uint_fast64_t changes; /* of `memories`, for what translations remember */

static uint64_t end_of(const sim_memory *m)
{
    return m->base + m->bytes;
}

sim_memory *sim_memory_at(uint64_t address)
{
    for (size_t i = 0; i < count; i++) {
        if (address >= memories[i]->base && address < end_of(memories[i])) {
            return memories[i];
        }
    }
    return NULL;
}

bool sim_memory_overlaps(uint64_t address, size_t bytes)
{
    for (size_t i = 0; i < count; i++) {
        if (memories[i]->base < address + bytes && address < end_of(memories[i])) {
            return true;
        }
    }
    return false;
}

int sim_memory_add(const sim_memory *m)
{
    if (count == room) {
        size_t more = room * 2 + 64;
        sim_memory **list = realloc(memories, more * sizeof *list);
        if (!list) {
            return AS_CU_OUT_OF_MEMORY;
        }
        memories = list;
        room = more;
    }
    sim_memory *kept = malloc(sizeof *kept);
    if (!kept) {
        return AS_CU_OUT_OF_MEMORY;
    }
    *kept = *m;
    kept->id = ++ids;
    memories[count++] = kept;
    (void)atomic_fetch_add(&changes, 1);
    return 0;
}

static void *map(size_t bytes, int protection)
{
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* A page that cannot be touched lies on both sides, and the end of the memory is the beginning of
 * one where the 512 bytes that the driver aligns to allow it. */
int sim_memory_new(enum sim_memory_kind kind, int device, sim_context *context, size_t bytes,
                   sim_memory **out)
{
    if (bytes == 0 || bytes > SIM_DEVICE_BYTES - (size_t)sim_memory_allocated(device)) {
        return bytes ? AS_CU_OUT_OF_MEMORY : AS_CU_INVALID_VALUE;
    }
    sim_memory m = {.kind = kind, .device = device, .context = context, .bytes = bytes};
    size_t inner = (bytes + PAGE - 1) / PAGE * PAGE;
    size_t lead = kind == SIM_HOST ? 0 : (inner - bytes) / GRAIN * GRAIN;
    m.mapped = inner + (size_t)2 * PAGE;
    m.map[0] = map(m.mapped, PROT_NONE);
    if (!m.map[0]) {
        return AS_CU_OUT_OF_MEMORY;
    }
    char *begin = (char *)m.map[0] + PAGE;
    m.base = (uintptr_t)begin + lead;
    if (kind == SIM_DEVICE) {
        m.map[1] = map(m.mapped, PROT_READ | PROT_WRITE);
        m.real = m.map[1] ? (char *)m.map[1] + PAGE + lead : NULL;
    } else if (mprotect(begin, inner, PROT_READ | PROT_WRITE) == 0) {
        m.real = begin + lead;
    }
    if (!m.real || sim_memory_add(&m) != 0) {
        (void)munmap(m.map[0], m.mapped);
        if (m.map[1]) {
            (void)munmap(m.map[1], m.mapped);
        }
        return AS_CU_OUT_OF_MEMORY;
    }
    *out = memories[count - 1];
    return 0;
}

void sim_memory_drop(sim_memory *m)
{
    size_t i = 0;
    while (memories[i] != m) {
        i++;
    }
    memories[i] = memories[--count];
    (void)atomic_fetch_add(&changes, 1);
    if (m->map[0]) {
        freed[freed_count % REMEMBERED] = (range){m->base, end_of(m)};
        freed_count += 1;
        /* A new mapping in its place: what it held is given back, and it can't be touched. */
        (void)mmap(m->map[0], m->mapped, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    }
    if (m->map[1]) {
        (void)munmap(m->map[1], m->mapped);
    }
    free(m);
}

bool sim_memory_was_let_go(uint64_t address)
{
    for (size_t i = 0; i < REMEMBERED; i++) {
        if (let_go[i] == address) {
            let_go[i] = 0;
            return true;
        }
    }
    return false;
}

void sim_memory_drop_of(const sim_context *context)
{
    for (size_t i = count; i > 0; i--) {
        if (memories[i - 1]->context == context) {
            if (memories[i - 1]->kind == SIM_REGISTERED) {
                let_go[let_go_count++ % REMEMBERED] = memories[i - 1]->base;
            }
            sim_memory_drop(memories[i - 1]);
        }
    }
}

int64_t sim_memory_live(enum sim_memory_kind kind, bool bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (memories[i]->kind == kind) {
            n += bytes ? (int64_t)memories[i]->bytes : 1;
        }
    }
    return n;
}

size_t sim_memory_allocated(int device)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const sim_memory *m = memories[i];
        n +=
            m->device == device && (m->kind == SIM_DEVICE || m->kind == SIM_MANAGED) ? m->bytes : 0;
    }
    return n;
}

bool sim_is_mapped(uint64_t address, size_t bytes)
{
    unsigned char pages[256];
    uint64_t at = address / PAGE * PAGE;
    while (at < address + bytes) {
        uint64_t n = (address + bytes - at + PAGE - 1) / PAGE;
        n = n < sizeof pages ? n : sizeof pages;
        if (mincore((void *)(uintptr_t)at, n * PAGE, pages) != 0) {
            return false;
        }
        at += n * PAGE;
    }
    return true;
}

static bool was_freed(uint64_t address)
{
    for (size_t i = 0; i < REMEMBERED; i++) { /* those that are empty hold no address */
        if (address >= freed[i].base && address < freed[i].end) {
            return true;
        }
    }
    return false;
}

int sim_device_range(int device, uint64_t address, size_t bytes, const char *call, char **real)
{
    const sim_memory *m = sim_memory_at(address);
    if (!m || (m->kind != SIM_DEVICE && m->kind != SIM_MANAGED)) {
        return SIM_NOTE(AS_CU_INVALID_VALUE, "%s: %#llx is %s", call, (unsigned long long)address,
                        was_freed(address) ? "freed memory" : "no device memory");
    }
    if (bytes > end_of(m) - address) {
        return SIM_NOTE(AS_CU_INVALID_VALUE,
                        "%s: %zu bytes at %#llx reach beyond the allocation of %zu at %#llx", call,
                        bytes, (unsigned long long)address, m->bytes, (unsigned long long)m->base);
    }
    if (device >= 0 && m->kind == SIM_DEVICE && m->device != device) {
        return SIM_NOTE(AS_CU_INVALID_VALUE,
                        "%s: %#llx is memory of device %d, the current context is of device %d",
                        call, (unsigned long long)address, m->device, device);
    }
    *real = m->real + (address - m->base);
    return 0;
}

/* ---- for kernels ---- */

/* Of the thread that runs the kernel. */
typedef struct translator {
    int device;
    int failed; /* the code */
    int next;
    uint64_t changes;
    sim_memory known[2]; /* copies of what was found */
} translator;

static _Thread_local translator translation = {.device = -1};

void sim_translate_begin(int device)
{
    translation = (translator){.device = device};
}

int sim_translate_failed(void)
{
    return translation.failed;
}

/* Of the allocation that a recent translation found. NULL: none. */
static void *translate_known(uint64_t address, size_t bytes)
{
    uint64_t now = atomic_load(&changes);
    if (translation.changes != now) {
        memset(translation.known, 0, sizeof translation.known);
        translation.changes = now;
    }
    for (int i = 0; i < 2; i++) {
        const sim_memory *m = &translation.known[i];
        if (address >= m->base && address < end_of(m) && bytes <= end_of(m) - address) {
            return m->real + (address - m->base);
        }
    }
    return NULL;
}

static void *translate(uint64_t address, size_t bytes)
{
    char *real = NULL;
    if (sim_device_range(translation.device, address, bytes, "kernel", &real) != 0) {
        translation.failed = AS_CU_ILLEGAL_ADDRESS;
        return NULL;
    }
    translation.known[translation.next++ % 2] = *sim_memory_at(address);
    return real;
}

void *sim_translate(uint64_t address, size_t bytes)
{
    static _Thread_local uint64_t waste[8];
    void *real = NULL;
    if (bytes > 0 && bytes <= 16 && (bytes & (bytes - 1)) == 0 && address % bytes != 0) {
        sim_lock();
        translation.failed =
            SIM_NOTE(SIM_MISALIGNED, "kernel: %zu bytes at %#llx, which is not aligned", bytes,
                     (unsigned long long)address);
        sim_unlock();
    } else {
        real = translate_known(address, bytes);
    }
    if (!real && translation.failed != SIM_MISALIGNED) {
        sim_lock();
        real = translate(address, bytes);
        sim_unlock();
    }
    return real ? real : memset(waste, 0, sizeof waste);
}

/* ---- for tests ---- */

void sim_read(void *to, uint64_t from, size_t n)
{
    sim_lock();
    char *real = NULL;
    if (n > 0 && sim_device_range(-1, from, n, "sim_read", &real) == 0) {
        memcpy(to, real, n);
    }
    sim_unlock();
}

void sim_write(uint64_t to, const void *from, size_t n)
{
    sim_lock();
    char *real = NULL;
    if (n > 0 && sim_device_range(-1, to, n, "sim_write", &real) == 0) {
        memcpy(real, from, n);
    }
    sim_unlock();
}

uint64_t sim_alloc_unowned(int ordinal, size_t bytes)
{
    sim_lock();
    sim_memory *m = NULL;
    int code = ordinal >= 0 && ordinal < sim_device_count()
                   ? sim_memory_new(SIM_DEVICE, ordinal, NULL, bytes, &m)
                   : SIM_INVALID_DEVICE;
    uint64_t base = code ? 0 : m->base;
    sim_unlock();
    return base;
}
