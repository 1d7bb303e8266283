/* SPDX-License-Identifier: Apache-2.0 */
#include "device/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/quote.h"
#include "device/cuda_find.h"
#include "device/devices_parts.h"

int as_devices_open(as_devices **out, enum as_cuda_wish wish, as_error *e)
{
    *out = NULL;
    if (wish == AS_CUDA_OFF) {
        return AS_OK;
    }
    const char *reason = NULL;
    if (wish == AS_CUDA_ON && !as_cuda_library(wish, &reason)) {
        return as_fail(
            e, AS_CUDA, 0,
            "%s; with the option cuda (ALLSHARD_CUDA) at auto or off this goes on without", reason);
    }
    as_devices *d = calloc(1, sizeof *d);
    if (!d) {
        return as_fail_nomem(e);
    }
    d->unpinned = AS_ERROR_INIT;
    d->awake = wish == AS_CUDA_ON;
    *out = d;
    return AS_OK;
}

void as_devices_meanwhile(as_devices *d, const as_meanwhile *meanwhile)
{
    if (d) {
        d->meanwhile = *meanwhile;
    }
}

void as_homes_free(as_homes *h)
{
    free((void *)h->of);
    *h = (as_homes){0};
}

/* NULL: none so far. What no context owns may be reached in any of its device's. */
static as_reached *known_channel(const as_devices *d, const as_allocation *a)
{
    for (int i = 0; i < d->count; i++) {
        const as_channel *c = d->reached[i].channel;
        if (c->gone) {
            continue;
        }
        if (a->owner ? c->context == a->owner : c->ordinal == a->ordinal) {
            return &d->reached[i];
        }
    }
    return NULL;
}

static int add_channel(as_devices *d, const as_allocation *a, as_error *e)
{
    as_reached *grown = realloc(d->reached, ((size_t)d->count + 1) * sizeof *grown);
    if (!grown) {
        return as_fail_nomem(e);
    }
    d->reached = grown;
    as_cu_context context;
    bool retained;
    int code = as_cuda_context(d->cuda, a, &context, &retained, e);
    if (code != AS_OK) {
        return code;
    }
    as_reached r = {0};
    code = as_channel_open(&r.channel, d->cuda, context, a->ordinal, retained, &d->pins, e);
    if (code == AS_OK) {
        r.channel->meanwhile = &d->meanwhile;
        d->reached[d->count++] = r;
    } else if (retained) {
        (void)d->cuda->primary_release(a->ordinal);
    }
    return code;
}

/* Pieces may have lain in memory that went with its context: CUDA does not know it any more, and the
 * host never had it. Better an error than to be killed. */
static int check_host(const char *pointer, as_error *e)
{
    char byte;
    struct iovec to = {.iov_base = &byte, .iov_len = 1};
    struct iovec from = {.iov_base = (void *)(uintptr_t)pointer, .iov_len = 1};
    if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) < 0 && errno == EFAULT) {
        return as_fail(
            e, AS_INVALID, 0,
            "%p is no memory of a device, and none that this process can read: was it "
            "freed, or its CUDA context destroyed, or the device reset (cudaDeviceReset)?",
            (const void *)pointer);
    }
    return AS_OK;
}

/* The device of a piece; the host's if its memory is no device's, or it is empty. */
static int find_home(as_devices *d, const as_state *s, size_t i, const as_device **out, as_error *e)
{
    as_allocation a;
    as_reach reach;
    const char *pointer = as_state_piece(s, i)->data;
    *out = &as_device_host;
    int code = as_cuda_reach(s, i, &reach, e);
    if (code != AS_OK || reach.after == 0) {
        return code;
    }
    code = as_cuda_look(d->cuda, pointer, &a, d->awake ? NULL : &d->asleep, e);
    if (code != AS_OK || d->asleep || !a.on_device) {
        return code == AS_OK && !d->asleep ? check_host(pointer, e) : code;
    }
    d->awake = true;
    code = as_cuda_check(d->cuda, &a, pointer, &reach, e);
    if (code == AS_OK && !known_channel(d, &a)) {
        code = add_channel(d, &a, e);
    }
    if (code == AS_OK) {
        as_reached *r = known_channel(d, &a);
        r->used = true;
        *out = &r->channel->device;
    }
    return code;
}

static int set_home(as_homes *h, size_t count, size_t i, const as_device *home, as_error *e)
{
    if (!h->of) {
        h->of = malloc(count * sizeof *h->of);
        if (!h->of) {
            return as_fail_nomem(e);
        }
        h->count = count;
        for (size_t k = 0; k < count; k++) {
            h->of[k] = &as_device_host;
        }
    }
    h->of[i] = home;
    return AS_OK;
}

/* "cuda:0, cuda:1", by their numbers; several contexts of a device are one. */
static void tell_names(as_devices *d)
{
    size_t length = 0;
    d->names[0] = '\0';
    for (int last = -1;;) {
        const as_channel *next = NULL;
        for (int i = 0; i < d->count; i++) {
            const as_channel *c = d->reached[i].channel;
            if (d->reached[i].used && c->ordinal > last && (!next || c->ordinal < next->ordinal)) {
                next = c;
            }
        }
        if (!next) {
            return;
        }
        last = next->ordinal;
        int n = snprintf(d->names + length, (size_t)AS_DEVICES_NAMES - length, "%scuda:%d",
                         length ? ", " : "", last);
        length += n > 0 ? (size_t)n : 0;
        if (length >= (size_t)AS_DEVICES_NAMES) {
            return;
        }
    }
}

int as_devices_check(as_devices *d, as_error *e)
{
    int code = AS_OK;
    for (int i = 0; d && i < d->count; i++) {
        as_channel *c = d->reached[i].channel;
        bool gone = false;
        int checked = as_channel_check(c, &gone, code == AS_OK ? e : NULL);
        code = code == AS_OK ? checked : code;
        if (gone && !c->gone) {
            as_devices_forget_pins(d, c->context);
            as_channel_give_up(c);
        }
    }
    return code;
}

int as_devices_find(as_devices *d, const as_state *s, as_homes *out, as_error *e)
{
    as_homes_free(out);
    if (!d) {
        return AS_OK;
    }
    as_error_clear(&d->unpinned);
    for (int i = 0; i < d->count; i++) {
        d->reached[i].used = false;
    }
    size_t count = as_state_count(s);
    d->cuda = as_cuda_library(AS_CUDA_AUTO, &d->asleep);
    int code = as_devices_check(d, e);
    for (size_t i = 0; i < count && code == AS_OK && !d->asleep; i++) {
        const as_device *home = NULL;
        code = find_home(d, s, i, &home, e);
        if (code == AS_OK && !home->is_host) {
            code = set_home(out, count, i, home, e);
        }
        if (code != AS_OK) {
            as_error_prefix(e, "tensor %s",
                            as_quote(as_state_name(s, i), strlen(as_state_name(s, i))).text);
        }
    }
    tell_names(d);
    if (code != AS_OK) {
        as_homes_free(out);
    }
    return code;
}

static bool is_home(const as_homes *h, const as_channel *c)
{
    for (size_t i = 0; i < h->count; i++) {
        if (h->of[i] == &c->device) {
            return true;
        }
    }
    return false;
}

/* The ordinal of a stream's device; of the calling thread's own stream that of the current context,
 * −1 if there is none. */
static int stream_device(const as_channel *c, as_cu_stream stream, int *out, as_error *e)
{
    const as_cuda *cuda = c->cuda;
    as_cu_context context = NULL;
    const char *call = "cuCtxGetCurrent";
    as_cu_result result;
    *out = -1;
    if (stream == AS_CU_STREAM_PER_THREAD) {
        result = cuda->context_current(&context);
    } else {
        int code = as_channel_push(c, e); /* some context has to be the current one */
        if (code != AS_OK) {
            return code;
        }
        call = "cuStreamGetCtx";
        result = cuda->stream_context(stream, &context);
        code = as_channel_pop(c, result == AS_CU_SUCCESS ? e : NULL);
        if (result == AS_CU_SUCCESS && code != AS_OK) {
            return code;
        }
    }
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, call, result, "the device of cuda_stream (%p)",
                            (void *)stream);
    }
    return context ? as_cuda_ordinal(cuda, context, out, e) : AS_OK;
}

/* Every channel waits for the caller's stream, whose work may reach into memory of other devices;
 * those of other devices for their legacy stream as well. */
int as_devices_begin(as_devices *d, const as_homes *h, void *stream, as_error *e)
{
    as_cu_stream callers = stream ? (as_cu_stream)stream : AS_CU_STREAM_LEGACY;
    int own = -1;
    bool known = callers == AS_CU_STREAM_LEGACY;
    int code = AS_OK;
    for (int i = 0; d && h && h->of && i < d->count && code == AS_OK; i++) {
        as_channel *c = d->reached[i].channel;
        if (!is_home(h, c)) {
            continue;
        }
        if (!known) {
            code = stream_device(c, callers, &own, e);
            known = true;
        }
        if (code == AS_OK) {
            code = as_channel_follow(c, callers, e);
        }
        if (code == AS_OK && callers != AS_CU_STREAM_LEGACY && c->ordinal != own) {
            code = as_channel_follow(c, AS_CU_STREAM_LEGACY, e);
        }
    }
    return code;
}

void as_devices_step(as_devices *d, bool *moved, as_error *e)
{
    for (int i = 0; d && i < d->count; i++) {
        as_channel_step(d->reached[i].channel, false, moved, e);
    }
}

bool as_devices_busy(const as_devices *d)
{
    for (int i = 0; d && i < d->count; i++) {
        const as_channel *c = d->reached[i].channel;
        if (c->under_way > 0 || c->ended) {
            return true;
        }
    }
    return false;
}

void as_devices_close(as_devices *d)
{
    if (!d) {
        return;
    }
    /* All end before any memory is unpinned: copies may be of one device, the pin of another. */
    for (int i = 0; i < d->count; i++) {
        bool moved = false;
        while (d->reached[i].channel->under_way > 0) {
            as_channel_step(d->reached[i].channel, true, &moved, NULL);
        }
    }
    (void)as_devices_check(d, NULL);
    as_devices_unpin_all(d);
    for (int i = 0; i < d->count; i++) {
        as_channel_close(d->reached[i].channel);
    }
    free(d->reached);
    as_error_clear(&d->unpinned);
    free(d);
}

const char *as_devices_note(const as_devices *d, const char **reason)
{
    *reason = "";
    if (!d) {
        (void)as_cuda_library(AS_CUDA_OFF, reason);
        return "";
    }
    if (!d->names[0]) {
        *reason = d->asleep ? d->asleep : "no piece lies in device memory";
        return "";
    }
    if (d->unpinned.code != AS_OK) {
        *reason = as_error_text(&d->unpinned);
        return d->names;
    }
    for (int i = 0; i < d->count; i++) {
        if (d->reached[i].used && d->reached[i].channel->reason) {
            *reason = d->reached[i].channel->reason;
        }
    }
    return d->names;
}

int64_t as_devices_bytes(const as_devices *d)
{
    int64_t sum = 0;
    for (int i = 0; d && i < d->count; i++) {
        sum += d->reached[i].channel->moved;
    }
    return sum;
}
