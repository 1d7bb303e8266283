/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/mail.h"

#include <stdlib.h>

int as_mail_init(as_mail *m, int size, as_error *e)
{
    *m = (as_mail){.size = size};
    m->out = calloc((size_t)size, sizeof *m->out);
    m->in_at = calloc((size_t)size + 1, sizeof *m->in_at);
    if (!m->out || !m->in_at) {
        as_mail_free(m);
        return as_fail_nomem(e);
    }
    return AS_OK;
}

void as_mail_free(as_mail *m)
{
    for (int rank = 0; m->out && rank < m->size; rank++) {
        as_buffer_free(&m->out[rank]);
    }
    free(m->out);
    free(m->in_at);
    as_buffer_free(&m->share);
    as_buffer_free(&m->in);
    *m = (as_mail){0};
}
