/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/node.h"
#include "transfer/buffers.h"

void as_session_close(as_session *s)
{
    as_lanes_close(&s->lanes, as_comm_verdict(s->comm) != NULL);
    (void)as_devices_check(s->devices, NULL);
    as_gds_close(s->gds);
    as_devices_close(s->devices); /* the arena, which it may have page-locked, is unmapped below */
    free(s->meters);
    free(s->nodes);
    as_arena_close(s->arena);
    as_trace_close(s->meter.trace);
    as_comm_free(s->comm);
    *s = (as_session){0};
}

/* Within the loops that move bytes, which say themselves when nothing is waited for any more. */
static int look_meanwhile(void *user, int64_t moved, as_error *e)
{
    const as_session *s = user;
    if (!as_comm_watches(s->comm)) {
        return AS_OK;
    }
    as_comm_storage(s->comm, true, -1 - moved); /* no number that the loops tell */
    return as_comm_look(s->comm, e);
}

void as_session_watch(as_session *s)
{
    as_devices_meanwhile(s->devices, &(as_meanwhile){.look = look_meanwhile, .user = s});
}

void as_session_begin(as_session *s, enum as_operation operation)
{
    free(s->meters);
    s->meters = NULL;
    s->operation = operation;
    s->meter = (as_meter){.trace = s->meter.trace};
}

int as_session_buffers(as_session *s, int64_t block_bytes, as_error *e)
{
    if (s->arena_block < block_bytes) {
        as_devices_unpin(s->devices, &s->arena_pin); /* it will be another one */
    }
    int code = as_transfer_arena(&s->arena, &s->arena_block, s->comm, s->memory, block_bytes, e);
    s->meter.tally.memory = s->arena ? (int64_t)as_arena_bytes(s->arena) : 0;
    return code;
}

int as_session_find(as_session *s, const as_state *state, void *stream, as_homes *out, as_error *e)
{
    if (!s->devices || e->code != AS_OK) {
        return e->code;
    }
    s->moved = as_devices_bytes(s->devices);
    int code = as_devices_find(s->devices, state, out, e);
    if (code == AS_OK && out->of) {
        code = as_devices_begin(s->devices, out, stream, e);
    }
    if (code == AS_OK && out->of) {
        as_devices_pin(s->devices, out, &s->arena_pin, as_arena_base(s->arena),
                       as_arena_bytes(s->arena));
    }
    return code;
}

void as_session_found(as_session *s, as_homes *homes, as_meter *m)
{
    const char *reason = NULL;
    (void)snprintf(m->device, sizeof m->device, "%s", as_devices_note(s->devices, &reason));
    (void)snprintf(m->device_reason, sizeof m->device_reason, "%s", reason);
    m->tally.bytes_device += as_devices_bytes(s->devices) - s->moved;
    s->moved = as_devices_bytes(s->devices);
    as_homes_free(homes);
}

int as_session_nodes(as_session *s, const int32_t **nodes, as_error *e)
{
    if (!s->nodes) { /* the same on all ranks: they found it together, or not */
        int32_t *found = calloc((size_t)as_comm_size(s->comm), sizeof *found);
        if (!found) {
            (void)as_fail_nomem(e);
        }
        int code = as_comm_agree(s->comm, e);
        if (code == AS_OK) {
            code = as_comm_nodes(s->comm, found, e);
        }
        if (code != AS_OK) {
            free(found);
            return code;
        }
        s->nodes = found;
    }
    *nodes = s->nodes;
    return AS_OK;
}

void as_session_gather(as_session *s)
{
    int size = as_comm_size(s->comm);
    as_error e = AS_ERROR_INIT;
    as_mail mail = {0};
    if (as_mail_init(&mail, size, &e) == AS_OK) {
        (void)as_buffer_append(&mail.out[0], &s->meter, sizeof s->meter, &e);
    }
    free(s->meters);
    s->meters = NULL;
    if (as_comm_rank(s->comm) == 0 && e.code == AS_OK) {
        s->meters = calloc((size_t)size, sizeof *s->meters);
        (void)(s->meters ? AS_OK : as_fail_nomem(&e));
    }
    int code = as_comm_agree(s->comm, &e);
    if (code == AS_OK) {
        code = as_comm_exchange(s->comm, &mail, &e);
    }
    if (code == AS_OK && s->meters) {
        memcpy(s->meters, mail.in.data, (size_t)size * sizeof *s->meters);
    } else {
        free(s->meters);
        s->meters = NULL;
    }
    as_mail_free(&mail);
    as_error_clear(&e);
}

void as_meters_engine(const as_meter *own, const as_meter *meters, int ranks, const char **engine,
                      const char **reason)
{
    const as_meter *first = own;
    *engine = first->engine;
    *reason = first->engine_reason;
    for (int r = 0; meters && r < ranks; r++) {
        const as_meter *m = &meters[r];
        if (!m->engine[0]) {
            continue; /* had nothing to move */
        }
        if (!first->engine[0]) {
            first = m;
            *engine = m->engine;
            *reason = m->engine_reason;
        } else if (strcmp(first->engine, m->engine) != 0) {
            *engine = "mixed";
            *reason = m->engine_reason;
        }
    }
}

const as_meter *as_session_meter(const as_session *s, int rank)
{
    if (rank == as_comm_rank(s->comm)) {
        return &s->meter; /* the main process's goes on after the gathering */
    }
    return s->meters && rank >= 0 && rank < as_comm_size(s->comm) ? &s->meters[rank] : NULL;
}
