/* SPDX-License-Identifier: Apache-2.0
 * Memory of the host that is page-locked while the context lives.
 */
#include "device/devices_parts.h"

/* What was registered here, and is to be undone; what others have registered is not. */
typedef struct as_registered {
    char *base;
    as_cu_context context;
} as_registered;

static as_registered *registered_at(const as_devices *d, size_t i)
{
    return (as_registered *)(void *)d->registered.data + i;
}

static size_t registered_count(const as_devices *d)
{
    return d->registered.size / sizeof(as_registered);
}

/* The last of them. What fails here has no one to be told to: the copies are over. */
static void unregister_last(as_devices *d)
{
    as_cu_context popped;
    const as_registered *r = registered_at(d, registered_count(d) - 1);
    /* Its memory may go away: what fails is tried once more, or without. */
    as_cu_result pushed = d->cuda->context_push(r->context);
    if (pushed != AS_CU_SUCCESS) {
        pushed = d->cuda->context_push(r->context);
    }
    (void)d->cuda->host_unregister(r->base);
    if (pushed == AS_CU_SUCCESS) {
        (void)d->cuda->context_pop(&popped);
    }
    d->registered.size -= sizeof *r;
}

void as_devices_unpin(as_devices *d, as_pin *pin)
{
    if (d && pin->base) {
        (void)as_pins_remove(&d->pins, pin->base);
    }
    for (size_t i = 0; d && pin->base && i < registered_count(d); i++) {
        as_registered *r = registered_at(d, i);
        as_registered *last = registered_at(d, registered_count(d) - 1);
        if (r->base == pin->base) {
            as_registered swap = *r;
            *r = *last;
            *last = swap;
            unregister_last(d);
            break;
        }
    }
    *pin = (as_pin){0};
}

/* Does somebody else's registration, which is there, cover all of it? */
static bool is_covered(const as_devices *d, const char *base, size_t bytes)
{
    unsigned type = 0;
    as_cu_pointer start = 0;
    size_t size = 0;
    int attributes[] = {AS_CU_POINTER_MEMORY_TYPE, AS_CU_POINTER_RANGE_START,
                        AS_CU_POINTER_RANGE_SIZE};
    void *values[] = {&type, &start, &size};
    as_cu_pointer at = (as_cu_pointer)(uintptr_t)base;
    return d->cuda->pointer_attributes(3, attributes, values, at) == AS_CU_SUCCESS &&
           type == AS_CU_MEMORY_HOST && start <= at && size >= bytes && at - start <= size - bytes;
}

/* *ours: it was registered, and is to be undone. */
static int register_pages(const as_devices *d, as_cu_context context, char *base, size_t bytes,
                          bool *ours, as_error *e)
{
    as_cu_context popped;
    as_cu_result result = d->cuda->context_push(context);
    if (result != AS_CU_SUCCESS) {
        return as_cuda_fail(e, d->cuda, "cuCtxPushCurrent", result, "to page-lock %zu bytes",
                            bytes);
    }
    result = d->cuda->host_register(base, bytes, AS_CU_REGISTER_PORTABLE);
    *ours = result == AS_CU_SUCCESS;
    if (result == AS_CU_ALREADY_REGISTERED && is_covered(d, base, bytes)) {
        result = AS_CU_SUCCESS;
    }
    (void)d->cuda->context_pop(&popped); /* what fails here fails in the copies, too */
    return result == AS_CU_SUCCESS
               ? AS_OK
               : as_cuda_fail(e, d->cuda, "cuMemHostRegister", result,
                              "%zu bytes are not page-locked, their copies go through buffers",
                              bytes);
}

static const as_channel *first_channel(const as_homes *h)
{
    for (size_t i = 0; h && h->of && i < h->count; i++) {
        if (!h->of[i]->is_host) {
            return as_channel_of(h->of[i]);
        }
    }
    return NULL;
}

void as_devices_pin(as_devices *d, const as_homes *h, as_pin *pin, char *base, size_t bytes)
{
    if (d && pin->base && !as_pins_cover(&d->pins, pin->base, pin->bytes)) {
        *pin = (as_pin){0}; /* forgotten with the context that it was pinned in */
    }
    if (pin->base != base || pin->bytes != bytes) {
        as_devices_unpin(d, pin);
    }
    const as_channel *channel = first_channel(h);
    if (!d || !channel || pin->base || bytes == 0) {
        return;
    }
    bool ours = false;
    as_registered r = {.base = base, .context = channel->context};
    as_error trouble = AS_ERROR_INIT;
    (void)as_buffer_reserve(&d->registered, sizeof r, &trouble); /* first: it cannot fail then */
    (void)as_pins_add(&d->pins, base, bytes, &trouble);
    if (trouble.code == AS_OK) {
        as_pins_keep(base, bytes);
        (void)register_pages(d, r.context, base, bytes, &ours, &trouble);
    }
    if (ours) {
        (void)as_buffer_append(&d->registered, &r, sizeof r, &trouble);
    }
    if (trouble.code == AS_OK) {
        *pin = (as_pin){.base = base, .bytes = bytes};
    } else {
        (void)as_pins_remove(&d->pins, base);
        (void)as_error_pass(&d->unpinned, &trouble);
    }
}

/* cppcheck-suppress constParameter; a handle */
void as_devices_forget_pins(as_devices *d, as_cu_context context)
{
    for (size_t i = registered_count(d); i > 0; i--) {
        as_registered *r = registered_at(d, i - 1);
        if (r->context == context) {
            (void)d->cuda->host_unregister(r->base); /* should that not be over with its context */
            (void)as_pins_remove(&d->pins, r->base);
            *r = *registered_at(d, registered_count(d) - 1);
            d->registered.size -= sizeof *r;
        }
    }
}

void as_devices_unpin_all(as_devices *d)
{
    while (registered_count(d) > 0) {
        unregister_last(d);
    }
    as_buffer_free(&d->registered);
    as_pins_free(&d->pins);
}
