/* SPDX-License-Identifier: Apache-2.0
 * Messages between all ranks, in memory: what a step of a plan takes and gives.
 */
#ifndef ALLSHARD_PLAN_MAIL_H
#define ALLSHARD_PLAN_MAIL_H

#include <stddef.h>

#include "base/buffer.h"

typedef struct as_mail {
    int size;        /* ranks */
    as_buffer *out;  /* [size]: what goes to each rank; emptied by an exchange */
    as_buffer share; /* what goes to all ranks; emptied by a sharing */
    as_buffer in;    /* what came, by ascending rank of the sender */
    size_t *in_at;   /* [size + 1]: where each sender's bytes begin in `in` */
} as_mail;

int as_mail_init(as_mail *m, int size, as_error *e);
void as_mail_free(as_mail *m);

#endif
