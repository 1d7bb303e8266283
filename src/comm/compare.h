/* SPDX-License-Identifier: Apache-2.0
 * What ranks give to a collective call and should all give alike: is it the same function, and if
 * a value differs, who gave which.
 */
#ifndef ALLSHARD_COMM_COMPARE_H
#define ALLSHARD_COMM_COMPARE_H

#include "base/hash.h"
#include "comm/comm.h"

enum { AS_SHOWN_BYTES = 80 };

/* A value of one rank. */
typedef struct as_value {
    as_hash hash;
    char shown[AS_SHOWN_BYTES]; /* as it is told; NUL-terminated */
} as_value;

/* "all of it" in quotes, or its end if it is too long. NULL is shown as "default". */
void as_value_show_text(as_value *v, const char *text);

/* AS_MISMATCH, `what` followed by who gave which value: `"4GB" on rank 2; "5GB" on ranks 0, 1, 3`.
 * Those of fewer ranks come first. The error is of the lowest rank whose value is not the main
 * process's. Another code if this cannot be told. Collective. */
int as_comm_tell_values(as_comm *c, const char *what, const as_value *mine, as_error *e);

/* Are all ranks in the same function? AS_MISMATCH if not, before anything has been done. `number`
 * is that of this rank's collective calls. Collective. */
int as_comm_meet(as_comm *c, const char *function, int64_t number, as_error *e);

#endif
