/* SPDX-License-Identifier: Apache-2.0
 * The part of a load's loop that hands bytes on: parcels to other ranks, and those that come.
 */
#include <stdatomic.h>

#include "transfer/loader.h"

static int send_parcel(as_loader *l, as_reading *r, as_parcel_slot *p, int to, bool near,
                       as_error *e)
{
    const as_transfer *t = l->transfer;
    int code = AS_OK;
    p->peer = to;
    if (near) { /* the answer's receive first, so that it can leave */
        p->from = r;
        r->lent++;
        code =
            as_comm_receive(t->comm, to, AS_TAG_TAKEN + (int)(p - l->out), NULL, 0, &p->taken, e);
    }
    return code == AS_OK
               ? as_comm_send(t->comm, to, AS_TAG_PARCEL, p->buffer, p->size, &p->message, e)
               : code;
}

int as_loader_send(as_loader *l, bool *moved, as_error *e)
{
    int k = 0;
    for (int i = 0; i < l->reading_count; i++) {
        as_reading *r = &l->readings[i];
        while (r->busy && r->delivery) {
            while (k < l->parcel_count && l->out[k].buffer) {
                k++;
            }
            if (k == l->parcel_count) {
                return AS_OK;
            }
            as_parcel_slot *p = &l->out[k];
            bool near = false;
            int to = -1;
            *p = (as_parcel_slot){.buffer = as_pool_take(&l->parcels)};
            if (e->code == AS_OK) {
                (void)as_delivery_next(r->delivery, p->buffer, AS_TAG_TAKEN + k, &to, &p->size,
                                       &near, e);
            }
            *moved = true;
            if (e->code != AS_OK || to < 0) {
                as_pool_give(&l->parcels, p->buffer);
                p->buffer = NULL;
                as_delivery_close(r->delivery);
                r->delivery = NULL;
                as_loader_settle(l, r, e);
                break;
            }
            int code = send_parcel(l, r, p, to, near, e);
            if (code != AS_OK) {
                return code;
            }
        }
    }
    return AS_OK;
}

static void take_back(as_loader *l, as_parcel_slot *p, as_error *e)
{
    as_reading *r = p->from;
    as_pool_give(&l->parcels, p->buffer);
    *p = (as_parcel_slot){0};
    if (r) {
        /* The window may be filled anew only when its readers are through: this pairs with the
         * release fence of the receiver. */
        atomic_thread_fence(memory_order_acquire);
        r->lent--;
        as_loader_settle(l, r, e);
    }
}

int as_loader_finish_sends(as_loader *l, bool *left, bool *moved, as_error *e)
{
    *left = false;
    for (int i = 0; i < l->parcel_count; i++) {
        as_parcel_slot *p = &l->out[i];
        bool done = false;
        if (!p->buffer) {
            continue;
        }
        int code = as_comm_test(l->transfer->comm, &p->message, &done, e);
        if (code == AS_OK && done) {
            code = as_comm_test(l->transfer->comm, &p->taken, &done, e);
        }
        if (code != AS_OK) {
            return code;
        }
        if (done) {
            take_back(l, p, e);
            *moved = true;
        }
        *left = *left || !done;
    }
    return AS_OK;
}

/* Begins to receive a parcel, if one is there. */
static int look_for_parcel(as_loader *l, as_parcel_slot *p, bool *there, as_error *e)
{
    as_comm *c = l->transfer->comm;
    int code = as_comm_probe(c, AS_TAG_PARCEL, there, &p->peer, &p->size, e);
    if (code == AS_OK && *there) {
        p->buffer = as_pool_take(&l->parcels);
        code = as_comm_receive(c, p->peer, AS_TAG_PARCEL, p->buffer, p->size, &p->message, e);
    }
    return code;
}

/* An incoming parcel takes its next step: it has come, its copies have ended, or the answer to it is
 * through. */
static int move_on(as_loader *l, as_parcel_slot *p, as_error *e)
{
    if (!p->answering && !p->copying) {
        (void)as_parcel_take(l->transfer, p->peer, p->buffer, p->size, &p->tag, &p->copies, e);
    }
    p->copying = p->copies.under_way > 0;
    if (p->copying) {
        return AS_OK;
    }
    (void)as_copying_check(l->transfer, &p->copies, e);
    if (!p->answering && p->tag >= 0) {
        p->answering = true;
        /* All has been read before the message that gives the window back. */
        atomic_thread_fence(memory_order_release);
        return as_comm_send(l->transfer->comm, p->peer, p->tag, NULL, 0, &p->message, e);
    }
    as_pool_give(&l->parcels, p->buffer);
    *p = (as_parcel_slot){0};
    return AS_OK;
}

int as_loader_receive(as_loader *l, bool *left, bool *moved, as_error *e)
{
    bool there = true;
    *left = false;
    for (int i = 0; i < l->parcel_count; i++) {
        as_parcel_slot *p = &l->in[i];
        bool done = false;
        int code = AS_OK;
        if (!p->buffer && there) {
            code = look_for_parcel(l, p, &there, e);
        }
        if (code == AS_OK && p->buffer && p->copying) {
            done = p->copies.under_way == 0;
        } else if (code == AS_OK && p->buffer) {
            code = as_comm_test(l->transfer->comm, &p->message, &done, e);
        }
        if (code == AS_OK && done) {
            code = move_on(l, p, e);
            *moved = true;
        }
        if (code != AS_OK) {
            return code;
        }
        *left = *left || p->buffer;
    }
    return AS_OK;
}
