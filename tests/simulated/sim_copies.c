/* SPDX-License-Identifier: Apache-2.0
 * Copies of the simulated driver: what is wrong with them is found when they are asked for and again
 * when they run.
 */
#include "sim_state.h"

#include <stdlib.h>
#include <string.h>

enum { SCRIBBLE = 0xe7 };

/* ---- memory of the host ---- */

/* Page-locked for the device? Else *locked is false. A range that is so in part is refused. */
static int look_at_host(const char *call, uint64_t address, size_t bytes, bool *locked)
{
    const sim_memory *m = sim_memory_at(address);
    if (m && m->kind == SIM_DEVICE) {
        return SIM_NOTE(AS_CU_INVALID_VALUE, "%s: %#llx, device memory, given as the host's", call,
                        (unsigned long long)address);
    }
    if (!sim_is_mapped(address, bytes)) {
        return SIM_NOTE(AS_CU_ILLEGAL_ADDRESS, "%s: %zu bytes of the host at %#llx are not mapped",
                        call, bytes, (unsigned long long)address);
    }
    *locked = m && ((m->flags & AS_CU_REGISTER_PORTABLE) || m->context == sim_current());
    if (m && bytes > m->base + m->bytes - address) {
        return SIM_NOTE(AS_CU_INVALID_VALUE,
                        "%s: %zu bytes of the host at %#llx lie in page-locked memory in part",
                        call, bytes, (unsigned long long)address);
    }
    return 0;
}

/* Of the rows; every byte has its part. By words, as megabytes are looked at. */
static uint64_t sum_of(const sim_copy *c)
{
    uint64_t sum = 0;
    for (size_t y = 0; y < c->from.height; y++) {
        const char *row = (const char *)(uintptr_t)(c->from.address + y * c->from.pitch);
        for (size_t x = 0; x < c->from.width; x += sizeof(uint64_t)) {
            uint64_t word = 0;
            size_t left = c->from.width - x;
            memcpy(&word, row + x, left < sizeof word ? left : sizeof word);
            sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
            sum ^= sum >> 32;
        }
    }
    return sum;
}

static char *row_to(const sim_copy *c, size_t y)
{
    return (char *)(uintptr_t)(c->to.address + y * c->to.pitch);
}

/* Each byte is the one before it, and the first is right. */
static bool is_scribbled(const sim_copy *c)
{
    for (size_t y = 0; y < c->to.height; y++) {
        const char *row = row_to(c, y);
        if ((unsigned char)row[0] != SCRIBBLE || memcmp(row, row + 1, c->to.width - 1) != 0) {
            return false;
        }
    }
    return true;
}

static int stage(sim_copy *c)
{
    c->staged = malloc(c->to.width * c->to.height);
    for (size_t y = 0; c->staged && y < c->to.height; y++) {
        memcpy(c->staged + y * c->to.width,
               (const void *)(uintptr_t)(c->from.address + y * c->from.pitch), c->to.width);
    }
    return c->staged ? 0 : AS_CU_OUT_OF_MEMORY;
}

/* What is read later must stay as it is, unless something under way writes it first; who reads too
 * early what is written later finds nonsense, unless something under way needs what is there. */
static int prepare(const char *call, sim_copy *c)
{
    sim_area *from = &c->from;
    sim_area *to = &c->to;
    int code = 0;
    if (!from->device) {
        code = look_at_host(call, from->address, sim_reach(from), &from->locked);
        if (!code && !from->locked) {
            sim_count_pageable();
            code = stage(c);
        } else if (!code && !sim_under_way(from, true)) {
            c->summed = true;
            c->sum = sum_of(c);
        }
    }
    if (!code && !to->device) {
        code = look_at_host(call, to->address, sim_reach(to), &to->locked);
        if (!code && !to->locked) {
            sim_count_pageable();
        }
        if (!code && !sim_under_way(to, false)) {
            for (size_t y = 0; y < c->to.height; y++) {
                memset(row_to(c, y), SCRIBBLE, c->to.width);
            }
            c->scribbled = true;
        }
    }
    return code;
}

/* ---- the calls' common part ---- */

static int look_at_device(const char *call, int device, const sim_area *area, char **real)
{
    return sim_device_range(device, area->address, sim_reach(area), call, real);
}

/* Puts the copy into the stream; `wait`: as functions without a stream do. */
static int ask(const char *call, sim_copy *c, as_cu_stream stream, bool wait)
{
    sim_stream *s = NULL;
    char *real = NULL;
    int code = sim_use_stream(stream, call, &s);
    if (code || c->to.width == 0 || c->to.height == 0) {
        return code;
    }
    if (c->from.device) {
        code = look_at_device(call, sim_current()->device, &c->from, &real);
    }
    if (!code && c->to.device) {
        code = look_at_device(call, sim_current()->device, &c->to, &real);
    }
    code = code ? code : prepare(call, c);
    if (code) {
        return code;
    }
    uint64_t number = sim_ask(&(sim_op){.act = SIM_ACT_COPY, .call = call, .copy = *c}, s);
    if (number == 0) {
        free(c->staged);
        return AS_CU_OUT_OF_MEMORY;
    }
    /* To memory that is not page-locked the driver copies before it returns. */
    return wait || (!c->to.device && !c->to.locked) ? sim_wait(s, number) : 0;
}

static sim_area device_at(as_cu_pointer address, size_t bytes)
{
    return sim_range(true, address, bytes);
}

static sim_area host_at(const void *address, size_t bytes)
{
    return sim_range(false, (uintptr_t)address, bytes);
}

as_cu_result cu_copy_to_host(void *to, as_cu_pointer from, size_t bytes, as_cu_stream stream)
{
    int code = sim_enter("cuMemcpyDtoHAsync", SIM_CURRENT);
    sim_copy c = {.from = device_at(from, bytes), .to = host_at(to, bytes)};
    return sim_leave(code ? code : ask("cuMemcpyDtoHAsync", &c, stream, false));
}

as_cu_result cu_copy_to_device(as_cu_pointer to, const void *from, size_t bytes,
                               as_cu_stream stream)
{
    int code = sim_enter("cuMemcpyHtoDAsync", SIM_CURRENT);
    sim_copy c = {.from = host_at(from, bytes), .to = device_at(to, bytes)};
    return sim_leave(code ? code : ask("cuMemcpyHtoDAsync", &c, stream, false));
}

as_cu_result cu_copy_on_device(as_cu_pointer to, as_cu_pointer from, size_t bytes,
                               as_cu_stream stream)
{
    int code = sim_enter("cuMemcpyDtoDAsync", SIM_CURRENT);
    sim_copy c = {.from = device_at(from, bytes), .to = device_at(to, bytes)};
    return sim_leave(code ? code : ask("cuMemcpyDtoDAsync", &c, stream, false));
}

as_cu_result cu_copy_to_host_now(void *to, as_cu_pointer from, size_t bytes)
{
    int code = sim_enter("cuMemcpyDtoH", SIM_CURRENT);
    sim_copy c = {.from = device_at(from, bytes), .to = host_at(to, bytes)};
    return sim_leave(code ? code : ask("cuMemcpyDtoH", &c, NULL, true));
}

as_cu_result cu_copy_to_device_now(as_cu_pointer to, const void *from, size_t bytes)
{
    int code = sim_enter("cuMemcpyHtoD", SIM_CURRENT);
    sim_copy c = {.from = host_at(from, bytes), .to = device_at(to, bytes)};
    return sim_leave(code ? code : ask("cuMemcpyHtoD", &c, NULL, true));
}

/* One side of a 2D copy: `address` is that of the memory of the type. */
static int area_of(unsigned type, uint64_t address, size_t x, size_t y, size_t pitch,
                   const as_cu_copy_2d *d, sim_area *out)
{
    if (type != AS_CU_MEMORY_HOST && type != AS_CU_MEMORY_DEVICE) {
        return SIM_NOTE(AS_CU_INVALID_VALUE, "cuMemcpy2DAsync: memory of type %u", type);
    }
    if (pitch < x + d->width || pitch > SIM_MAX_PITCH) {
        return SIM_NOTE(AS_CU_INVALID_VALUE,
                        "cuMemcpy2DAsync: pitch %zu with %zu bytes at x %zu; the greatest is %d",
                        pitch, d->width, x, (int)SIM_MAX_PITCH);
    }
    *out = (sim_area){.device = type == AS_CU_MEMORY_DEVICE,
                      .address = address + y * pitch + x,
                      .pitch = pitch,
                      .width = d->width,
                      .height = d->height};
    return 0;
}

static int ask_2d(const as_cu_copy_2d *d, as_cu_stream stream)
{
    uint64_t from = d->from_type == AS_CU_MEMORY_HOST ? (uintptr_t)d->from_host : d->from_device;
    uint64_t to = d->to_type == AS_CU_MEMORY_HOST ? (uintptr_t)d->to_host : d->to_device;
    sim_copy c = {.staged = NULL};
    int code = area_of(d->from_type, from, d->from_x, d->from_y, d->from_pitch, d, &c.from);
    code = code ? code : area_of(d->to_type, to, d->to_x, d->to_y, d->to_pitch, d, &c.to);
    if (!code && !c.from.device && !c.to.device) {
        code = SIM_NOTE(AS_CU_INVALID_VALUE, "cuMemcpy2DAsync: from the host to the host");
    }
    return code ? code : ask("cuMemcpy2DAsync", &c, stream, false);
}

as_cu_result cu_copy_2d(const as_cu_copy_2d *copy, as_cu_stream stream)
{
    int code = sim_enter("cuMemcpy2DAsync", SIM_CURRENT);
    return sim_leave(code ? code : ask_2d(copy, stream));
}

/* ---- when its turn has come ---- */

/* Is memory of the host that was page-locked still so, and still there? */
static int look_again(const char *call, const sim_area *area)
{
    const sim_memory *m = sim_memory_at(area->address);
    size_t bytes = sim_reach(area);
    if (!sim_is_mapped(area->address, bytes)) {
        return SIM_NOTE(AS_CU_ILLEGAL_ADDRESS,
                        "%s: memory of the host at %#llx was unmapped while the copy was under way",
                        call, (unsigned long long)area->address);
    }
    if (area->locked && (!m || bytes > m->base + m->bytes - area->address)) {
        return SIM_NOTE(AS_CU_ILLEGAL_ADDRESS,
                        "%s: memory of the host at %#llx was unlocked while the copy was under way",
                        call, (unsigned long long)area->address);
    }
    return 0;
}

static int find_area(const sim_op *op, const sim_area *area, char **real)
{
    if (area->device) {
        int device = op->stream->object.context->device;
        return look_at_device(op->call, device, area, real) ? AS_CU_ILLEGAL_ADDRESS : 0;
    }
    *real = (char *)(uintptr_t)area->address;
    return look_again(op->call, area);
}

int sim_run_copy(const sim_op *op)
{
    const sim_copy *c = &op->copy;
    char *from = c->staged;
    char *to = NULL;
    int code = c->staged ? 0 : find_area(op, &c->from, &from);
    code = code ? code : find_area(op, &c->to, &to);
    if (code) {
        return code;
    }
    if (c->summed && sum_of(c) != c->sum) {
        sim_note_rule("%s: memory of the host at %#llx changed before the copy from it ended",
                      op->call, (unsigned long long)c->from.address);
    }
    if (c->scribbled && !is_scribbled(c)) {
        sim_note_rule("%s: memory of the host at %#llx was written before the copy to it ended",
                      op->call, (unsigned long long)c->to.address);
    }
    sim_unlock();
    size_t pitch = c->staged ? c->to.width : c->from.pitch;
    for (size_t y = 0; y < c->to.height; y++) {
        memmove(to + y * c->to.pitch, from + y * pitch, c->to.width);
    }
    sim_lock();
    return 0;
}
