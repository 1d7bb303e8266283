/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/gds.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "device/cuda_channel.h"
#include "io/pool.h"
#include "transfer/blocks.h"
#include "transfer/buffers.h"
#include "transfer/gds_trial.h"

/* ---- a device ---- */

static bool push(const as_gds_device *d)
{
    return as_channel_of(d->device)->cuda->context_push(d->context) == AS_CU_SUCCESS;
}

/* It is popped in any case: a failure is that of something else. */
static void pop(const as_gds_device *d)
{
    as_cu_context old;
    const as_cuda *cuda = as_channel_of(d->device)->cuda;
    (void)cuda->context_pop(&old);
}

static void close_area(as_gds_device *d)
{
    /* What was allocated in a context that is gone is gone with it, and may be another's by now. */
    if (d->area.allocation && !as_channel_of(d->device)->gone && push(d)) {
        as_gds_area_close(&d->area, d->answer.cufile, as_channel_of(d->device)->cuda);
        pop(d);
    }
    d->area = (as_gds_area){0};
    d->spare_count = 0;
    d->step = 0;
}

/* As many buffers as there are slots; where memory is short, fewer. */
static bool open_area(as_gds_device *d, int64_t block_bytes, as_error *e)
{
    int64_t step = (int64_t)as_pool_step((size_t)block_bytes) + AS_GDS_ALIGN;
    if (step == d->step) {
        return true;
    }
    close_area(d);
    if (!push(d)) {
        (void)as_fail(e, AS_CUDA, 0, "cuCtxPushCurrent: the context of %s is of no use",
                      d->device->name);
        return false;
    }
    as_error first = AS_ERROR_INIT;
    for (int count = as_transfer_slots(block_bytes); count > 0 && !d->area.allocation; count /= 2) {
        as_error trouble = AS_ERROR_INIT;
        if (as_gds_area_open(&d->area, d->answer.cufile, as_channel_of(d->device)->cuda,
                             (size_t)(count * step), &trouble) == AS_OK) {
            d->step = step;
            for (int i = count - 1; i >= 0; i--) {
                d->spare[d->spare_count++] = i;
            }
        }
        (void)as_error_pass(&first, &trouble);
    }
    pop(d);
    if (!d->area.allocation) {
        (void)as_error_pass(e, &first);
    }
    as_error_clear(&first);
    return d->area.allocation != 0;
}

as_cu_pointer as_gds_take(as_gds_device *d, int *number)
{
    if (d->spare_count == 0) {
        return 0;
    }
    *number = d->spare[--d->spare_count];
    return d->area.base + (as_cu_pointer)(*number * d->step);
}

void as_gds_give(as_gds_device *d, int number)
{
    d->spare[d->spare_count++] = number;
}

/* ---- all of them ---- */

/* Devices whose context is gone, and with it their memory: cuFile lets go of it, or does so when it
 * is to take the same addresses anew (gds_area.c). */
static void forget_gone(as_gds *g)
{
    for (int i = g->count; i > 0; i--) {
        if (as_channel_of(g->devices[i - 1].device)->gone) {
            g->devices[i - 1] = g->devices[g->count - 1];
            g->count--;
        }
    }
}

static as_gds_device *find_device(as_gds *g, const as_device *device, as_error *e)
{
    for (int i = 0; i < g->count; i++) {
        if (g->devices[i].device == device) {
            return &g->devices[i];
        }
    }
    as_gds_device *grown = realloc(g->devices, ((size_t)g->count + 1) * sizeof *grown);
    if (!grown) {
        (void)as_fail_nomem(e);
        return NULL;
    }
    g->devices = grown;
    grown[g->count] = (as_gds_device){.device = device, .context = as_channel_of(device)->context};
    return &g->devices[g->count++];
}

static void probe(as_gds_device *d, enum as_gds_wish wish, const char *folder, dev_t file_system)
{
    bool same = d->known && d->wish == wish && d->for_save == (folder != NULL) &&
                (!folder || d->file_system == file_system);
    if (same) {
        return;
    }
    const as_channel *c = as_channel_of(d->device);
    as_gds_question q = {.wish = wish,
                         .cuda = c->cuda,
                         .context = d->context,
                         .device = c->handle,
                         .folder = folder};
    const as_cufile *before = d->answer.cufile;
    as_gds_answer answer;
    as_gds_probe(&q, &answer);
    if (before && !answer.cufile) {
        close_area(d); /* while it is known how */
    }
    d->answer = answer;
    d->known = true;
    d->wish = wish;
    d->for_save = folder != NULL;
    d->file_system = file_system;
}

/* The devices that pieces lie on: those that work, and why another does not. */
static int look_at_devices(as_gds *g, const as_transfer *t, const char *folder, dev_t file_system,
                           as_error *e)
{
    for (int i = 0; i < g->count; i++) {
        g->devices[i].works = false;
    }
    forget_gone(g);
    const as_device *last = NULL;
    for (size_t i = 0; i < t->homes->count; i++) {
        const as_device *home = as_home(t->homes, i);
        if (home->is_host || home == last) {
            continue;
        }
        last = home;
        as_gds_device *d = find_device(g, home, e);
        if (!d) {
            return e->code;
        }
        if (d->works) {
            continue;
        }
        as_error trouble = AS_ERROR_INIT;
        probe(d, g->wish, folder, file_system);
        d->works = d->answer.cufile && open_area(d, t->plan->block_bytes, &trouble);
        if (!d->works && !g->reason[0]) {
            (void)snprintf(g->reason, sizeof g->reason, "%s",
                           trouble.code ? as_error_text(&trouble) : d->answer.reason);
        }
        as_error_clear(&trouble);
    }
    return AS_OK;
}

static bool use_devices(as_gds *g, as_transfer *t)
{
    for (int i = 0; i < g->count; i++) {
        const as_gds_device *d = &g->devices[i];
        if (d->works) {
            g->options = (as_gds_options){.other = t->engine,
                                          .cuda = as_channel_of(d->device)->cuda,
                                          .cufile = d->answer.cufile,
                                          .context = d->context};
            g->reason[0] = '\0';
            t->engine = &as_engine_gds;
            t->engine_options.gds = &g->options;
            t->gds = g;
            return true;
        }
    }
    return false;
}

int as_gds_prepare(as_gds **out, as_transfer *t, enum as_gds_wish wish, const char *folder,
                   as_error *e)
{
    bool any = t->homes && t->homes->of;
    if (wish == AS_GDS_OFF || (wish == AS_GDS_AUTO && !any)) {
        return AS_OK;
    }
    if (!*out) {
        *out = calloc(1, sizeof **out);
        if (!*out) {
            return as_fail_nomem(e);
        }
    }
    as_gds *g = *out;
    g->wish = wish;
    g->reason[0] = '\0';
    if (!any) {
        (void)snprintf(g->reason, sizeof g->reason, "no piece lies on a device");
        return AS_OK;
    }
    int64_t blocks = as_block_walk_bytes(as_block_walk_begin(t->plan, 0)) / t->plan->block_bytes;
    if (wish == AS_GDS_AUTO && blocks < AS_GDS_TRIAL_LEAST) {
        (void)snprintf(g->reason, sizeof g->reason, "not tried for fewer than %d blocks",
                       (int)AS_GDS_TRIAL_LEAST);
        return AS_OK;
    }
    struct stat status = {0};
    if (folder && as_sys_table.fstatat(AT_FDCWD, folder, &status, 0) != 0) {
        status.st_dev = 0; /* the trial tells why */
    }
    int code = look_at_devices(g, t, folder, status.st_dev, e);
    if (code == AS_OK) {
        (void)use_devices(g, t);
    }
    return code;
}

static void tell(as_meter *m, const char *why)
{
    char text[sizeof m->engine_reason + 256];
    (void)snprintf(text, sizeof text, "GPU-direct: %s; %s", why, m->engine_reason);
    as_meter_reason(m, text);
}

/* Every save may have the same to say: it is said once. */
static void say(as_gds *g, enum as_gds_wish wish, const as_log *log, const char *text)
{
    static const char name[] = "GPU-direct";
    char line[sizeof g->told];
    bool named = strncmp(text, name, sizeof name - 1) == 0;
    (void)snprintf(line, sizeof line, "%s%s%s", named ? "" : name, named ? "" : ": ", text);
    if (strcmp(g->told, line) != 0) {
        memcpy(g->told, line, sizeof line);
        as_log_say(log, wish == AS_GDS_ASKED ? AS_LOG_INFO : AS_LOG_DEBUG, "%s", line);
    }
}

void as_gds_explain(as_gds *g, enum as_gds_wish wish, as_meter *m, const as_log *log)
{
    /* Who has nothing on devices and did not ask need not read of it. */
    bool asked = wish == AS_GDS_ASKED || (wish == AS_GDS_AUTO && m->device[0]);
    if (!g || !asked || !m->engine[0]) {
        return;
    }
    if (g->reason[0]) {
        tell(m, g->reason);
        say(g, wish, log, g->reason);
    } else if (strcmp(m->engine, "gds") == 0) {
        say(g, wish, log, m->engine_reason[0] ? m->engine_reason : "used");
    } else {
        say(g, wish, log, m->engine_reason);
    }
}

void as_gds_explain_nonblocking(enum as_gds_wish wish, as_meter *m)
{
    if (wish == AS_GDS_ASKED && m->engine[0]) {
        tell(m, "nonblocking saves write from the host's memory");
    }
}

void as_gds_close(as_gds *g)
{
    for (int i = 0; g && i < g->count; i++) {
        close_area(&g->devices[i]);
    }
    if (g) {
        free(g->devices);
    }
    free(g);
}

const as_engine_type *as_gds_host_engine(const as_transfer *t)
{
    return t->engine_options.gds ? t->engine_options.gds->other : t->engine;
}
