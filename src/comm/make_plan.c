/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/make_plan.h"

#include <string.h>

/* The name that a fault of `root` refers to; an empty buffer if to none. Collective. */
static int fetch_name(as_comm *c, as_planner *p, const as_fault *fault, int k, as_buffer *out)
{
    int holder = fault->rank[k];
    as_error e = AS_ERROR_INIT;
    if (holder < 0) {
        return AS_OK;
    }
    if (as_comm_rank(c) == holder) {
        const char *name = as_planner_name(p, fault->label[k]);
        (void)as_buffer_append(out, name, strlen(name) + 1, NULL);
    }
    int code = as_comm_bcast_buffer(c, holder, out, &e);
    as_error_clear(&e);
    return code;
}

/* Puts the tensors' names into an error that all ranks have agreed on. Collective. If MPI or
 * memory fail on the way the text stays without them. */
static void name_tensors(as_comm *c, as_planner *p, as_error *e)
{
    as_fault fault = p->fault;
    as_error trouble = AS_ERROR_INIT;
    as_buffer names[AS_FAULT_NAMES] = {AS_BUFFER_INIT, AS_BUFFER_INIT};
    int code = as_comm_bcast(c, e->rank, &fault, sizeof fault, &trouble);
    for (int k = 0; k < AS_FAULT_NAMES && code == AS_OK; k++) {
        code = fetch_name(c, p, &fault, k, &names[k]);
    }
    as_fault_fill(e, names[0].data, names[1].data);
    for (int k = 0; k < AS_FAULT_NAMES; k++) {
        as_buffer_free(&names[k]);
    }
    as_error_clear(&trouble);
}

int as_make_plan(as_comm *c, as_planner *p, as_error *e)
{
    as_mail mail = {0};
    if (e->code == AS_OK) {
        (void)as_mail_init(&mail, as_comm_size(c), e);
    }
    int code = as_comm_agree(c, e);
    if (code != AS_OK) {
        as_mail_free(&mail);
        return code; /* from before the plan: no names to put in */
    }
    enum as_planner_move move = AS_MOVE_EXCHANGE;
    while (code == AS_OK && move != AS_MOVE_DONE) {
        (void)as_planner_next(p, &mail, &move, e);
        switch (move) {
        case AS_MOVE_EXCHANGE:
            code = as_comm_exchange(c, &mail, e);
            break;
        case AS_MOVE_SHARE:
            code = as_comm_share(c, &mail, e);
            break;
        default:
            code = as_comm_agree(c, e);
            break;
        }
    }
    /* An error without a rank is MPI's own: then nothing more can be asked of others. */
    if (code != AS_OK && !as_comm_is_lost(code) && e->rank >= 0) {
        name_tensors(c, p, e);
    }
    as_mail_free(&mail);
    return code;
}
